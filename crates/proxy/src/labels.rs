//! Error labels: what drivers read to know whether to try again.

use mdb_scope::stream_reach;
use mdb_wire::Command;

/// The labels of one error, by MongoDB's names.
pub type Labels = &'static [&'static str];

/// No label.
pub const NONE: Labels = &[];
/// A numbered write, or the end of a transaction: it may be sent again.
pub const RETRYABLE_WRITE: Labels = &["RetryableWriteError"];
/// The same, and it is certain that nothing was written.
pub const RETRYABLE_UNWRITTEN: Labels = &["RetryableWriteError", "NoWritesPerformed"];
/// A statement in a transaction: the whole transaction may be tried again.
pub const TRANSIENT_TRANSACTION: Labels = &["TransientTransactionError"];
/// A change stream: it may be resumed.
pub const RESUMABLE_CHANGE_STREAM: Labels = &["ResumableChangeStreamError"];
/// Refused before anything was done because there is too much to do (MongoDB 8.2): drivers wait and try again.
pub const OVERLOADED: Labels = &["SystemOverloadedError", "RetryableError"];

/// The same of a numbered write, which older drivers try again as well.
const OVERLOADED_WRITE: Labels = &[
    "SystemOverloadedError",
    "RetryableError",
    "RetryableWriteError",
    "NoWritesPerformed",
];
/// The same of the end of a transaction, which may have been tried before.
const OVERLOADED_END: Labels = &[
    "SystemOverloadedError",
    "RetryableError",
    "RetryableWriteError",
];
/// The same of a statement in a transaction, of which older drivers try the whole transaction again.
const OVERLOADED_TRANSACTION: Labels = &[
    "SystemOverloadedError",
    "RetryableError",
    "TransientTransactionError",
];
/// The same of a change stream, which older drivers resume.
const OVERLOADED_STREAM: Labels = &[
    "SystemOverloadedError",
    "RetryableError",
    "ResumableChangeStreamError",
];

/// The labels of an error by which a command was refused, before anything was done, because there is too much to do.
pub fn when_shed(command: &Command<'_>) -> Labels {
    match when_lost(command, true) {
        RETRYABLE_UNWRITTEN => OVERLOADED_WRITE,
        RETRYABLE_WRITE => OVERLOADED_END,
        TRANSIENT_TRANSACTION => OVERLOADED_TRANSACTION,
        RESUMABLE_CHANGE_STREAM => OVERLOADED_STREAM,
        _ => OVERLOADED,
    }
}

/// The labels of an error by which a command was lost on its way. `is_unsent`: provably not a byte of it reached the
/// upstream. A `getMore` does not tell what its cursor is; where it is a change stream's, the caller knows better.
///
/// Drivers of 4.4 and later add no labels to a server's reply, so the proxy must.
pub fn when_lost(command: &Command<'_>, is_unsent: bool) -> Labels {
    let retryable = if is_unsent {
        RETRYABLE_UNWRITTEN
    } else {
        RETRYABLE_WRITE
    };
    if matches!(command.name, b"commitTransaction" | b"abortTransaction") {
        return RETRYABLE_WRITE;
    }
    let (mut is_numbered, mut is_in_transaction) = (false, false);
    for element in command.body.elements() {
        match element.key {
            b"txnNumber" => is_numbered = true,
            b"autocommit" => is_in_transaction = element.as_flag() == Some(false),
            _ => {}
        }
    }
    match (is_in_transaction, is_numbered) {
        (true, _) => TRANSIENT_TRANSACTION,
        (false, true) => retryable,
        (false, false) if stream_reach(command).is_some() => RESUMABLE_CHANGE_STREAM,
        (false, false) => NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;
    use mdb_wire::Document;

    #[test]
    fn labels_follow_what_the_command_was() {
        let stream = doc! {"aggregate": "c", "pipeline": [{"$changeStream": {}}]};
        let reads = doc! {"aggregate": "c", "pipeline": [{"$match": {}}]};
        let in_transaction =
            doc! {"insert": "c", "txnNumber": 1_i64, "autocommit": false, "startTransaction": true};
        // Command, labels after it was sent, labels while it was not.
        let cases = [
            (doc! {"find": "c"}, NONE, NONE),
            (doc! {"getMore": 1_i64}, NONE, NONE),
            (doc! {"insert": "c"}, NONE, NONE),
            (
                doc! {"insert": "c", "txnNumber": 1_i64},
                RETRYABLE_WRITE,
                RETRYABLE_UNWRITTEN,
            ),
            (in_transaction, TRANSIENT_TRANSACTION, TRANSIENT_TRANSACTION),
            (
                doc! {"commitTransaction": 1, "autocommit": false},
                RETRYABLE_WRITE,
                RETRYABLE_WRITE,
            ),
            (stream, RESUMABLE_CHANGE_STREAM, RESUMABLE_CHANGE_STREAM),
            (reads, NONE, NONE),
        ];
        for (body, sent, unsent) in cases {
            let bytes = bson::serialize_to_vec(&body).unwrap();
            let command = Command::inner(Document::parse(&bytes).unwrap(), "db").unwrap();
            assert_eq!(when_lost(&command, false), sent, "{body}");
            assert_eq!(when_lost(&command, true), unsent, "{body}");
            // What newer drivers act on, and behind it what older ones know.
            assert_eq!(when_shed(&command), [OVERLOADED, unsent].concat(), "{body}");
        }
    }
}
