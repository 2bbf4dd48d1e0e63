//! The limits of the wire, each with its reason.

/// How deep documents may nest. mongod stops at 200; scoping wraps a filter in at most a few levels more,
/// and 180 leaves them room (mongod 6.0.5 answers deeper documents with code 15).
pub const NESTING_MAX: usize = 180;

/// Bytes of the largest message of a client that has not authenticated. A hand-shake with client metadata
/// and a SCRAM payload takes less than 2 KiB; nobody unknown may make the proxy hold more than this.
pub const UNAUTHENTICATED_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// `maxMessageSizeBytes` of every mongod since 2.6, used until the upstream's own is known.
pub const MESSAGE_BYTES_MAX_DEFAULT: usize = 48_000_000;

/// `maxBsonObjectSize` of every mongod since 2.6, used until the upstream's own is known.
pub const DOCUMENT_BYTES_MAX_DEFAULT: usize = 16_777_216;

/// Sections of one OP_MSG. No command has more than two document sequences (`bulkWrite`).
pub const SECTIONS_MAX: usize = 4;

/// The limits in force on one connection; those of the upstream's hello once a client has authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole message, its header included.
    pub message_bytes_max: usize,
}

impl Limits {
    /// For a client that has not authenticated.
    pub const UNAUTHENTICATED: Self = Self {
        message_bytes_max: UNAUTHENTICATED_MESSAGE_BYTES_MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: MESSAGE_BYTES_MAX_DEFAULT,
        }
    }
}
