//! How the process ends.

use std::process::ExitCode;

use crate::signals::EndSignal;

/// How the process ends. Each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// 0: done; for a serving proxy: ended by a signal, after draining.
    Success,
    /// 1: the configuration cannot be used; for a health check: the proxy is not healthy.
    Failure,
    /// 2: the arguments cannot be understood.
    Arguments,
    /// 3: the upstream was not reachable within `--wait-for-upstream`.
    UpstreamUnreachable,
    /// 128 and the number of the signal, as shells do: a second signal ended the drain.
    Interrupted(EndSignal),
}

impl Ending {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Arguments => 2,
            Self::UpstreamUnreachable => 3,
            Self::Interrupted(signal) => 128 + signal.number(),
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending.code())
    }
}
