//! The names of log fields. An event spells its fields as these constants do, so that a search finds all of them.

/// Number of the client connection, unique within the process.
pub const CONNECTION: &str = "connection";
/// Address of the client, `host:port`.
pub const CLIENT_ADDRESS: &str = "client_address";
/// Slug of the app.
pub const APP: &str = "app";
/// Name of the command, from the table of commands, or `other`.
pub const COMMAND: &str = "command";
/// `database.collection`.
pub const NAMESPACE: &str = "namespace";
/// Time taken, in whole microseconds.
pub const DURATION_MICROS: &str = "duration_micros";
/// How the command ended: a text of [`crate::labels::CommandOutcome`].
pub const OUTCOME: &str = "outcome";
/// Name of the error code, the server's own.
pub const CODE: &str = "code";
/// Why: a text of one of the enums in [`crate::labels`].
pub const REASON: &str = "reason";
/// The error with its sources, for people who run the proxy; never for clients.
pub const ERROR: &str = "error";
/// Address of the upstream server, `host:port`.
pub const SERVER: &str = "server";
/// Address of the listener, `host:port`.
pub const LISTENER: &str = "listener";

/// Every field name, sorted.
pub const ALL: &[&str] = &[
    APP,
    CLIENT_ADDRESS,
    CODE,
    COMMAND,
    CONNECTION,
    DURATION_MICROS,
    ERROR,
    LISTENER,
    NAMESPACE,
    OUTCOME,
    REASON,
    SERVER,
];

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn names_are_sorted_unlike_and_no_name_of_the_log_line_itself() {
        assert!(ALL.is_sorted_by(|one, next| one < next));
        // The JSON form puts fields beside these.
        for own in ["timestamp", "level", "target", "message", "span", "spans"] {
            assert!(!ALL.contains(&own), "{own}");
        }
    }
}
