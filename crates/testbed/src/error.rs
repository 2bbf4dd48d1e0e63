//! What can go wrong with a deployment.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::binary::BinaryError;

/// Why a deployment does not start or does not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// There is no mongod.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// The deployment's files cannot be written.
    #[error("cannot {action} {}: {source}", path.display())]
    Files {
        /// What was attempted.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The operating system refused a port, a thread, a process or a signal.
    #[error("cannot {action}: {source}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// A mongod ended by itself.
    #[error("member {member} ended ({status}); the end of its log:\n{log_tail}")]
    Exited {
        /// The member's index.
        member: usize,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it wrote.
        log_tail: String,
    },
    /// The member was killed or stopped before.
    #[error("member {member} does not run")]
    NotRunning {
        /// The member's index.
        member: usize,
    },
    /// The overall limit passed.
    #[error("waited in vain for {awaited}; the end of the logs:\n{log_tail}")]
    TimedOut {
        /// What should have happened.
        awaited: &'static str,
        /// The last lines that the members concerned wrote.
        log_tail: String,
    },
    /// A server could not be asked.
    #[error("cannot send {command} to {address}: {source}")]
    Unreachable {
        /// The command's name.
        command: String,
        /// The server.
        address: String,
        /// The reason.
        source: io::Error,
    },
    /// A server answered a command of the set-up with an error.
    #[error("{address} refuses {command}: {reply}")]
    Refused {
        /// The command's name.
        command: String,
        /// The server.
        address: String,
        /// Its whole answer.
        reply: Box<bson::Document>,
    },
    /// The driver failed.
    #[error(transparent)]
    Driver(#[from] mongodb::error::Error),
}

/// For `map_err` on file operations.
pub(crate) fn files<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> DeploymentError + 'a {
    move |source| DeploymentError::Files {
        action,
        path: path.to_owned(),
        source,
    }
}

/// For `map_err` on calls to the operating system.
pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> DeploymentError {
    move |source| DeploymentError::System { action, source }
}
