//! The number of files that the process may open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to what the system allows, and warns if that is less than `wanted`. Shells and services commonly
/// start processes with 1024.
pub(crate) fn raise_limit(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all is `None`.
    if let Some(allowed) = allowed
        && allowed < wanted
    {
        tracing::warn!(
            allowed,
            wanted,
            "the process may open fewer files than its limits of connections ask for"
        );
    }
}
