//! The limits of a conversation, each with its reason.

/// Longest payload in bytes. Holds the longest user name twice (as itself and as authorization
/// identity) with every character escaped, and the longest nonces; drivers send under 200 bytes.
pub const PAYLOAD_BYTES_MAX: usize = 4096;

/// Longest user name in bytes, unescaped. MongoDB sets no limit; this bounds what is hashed for an
/// unauthenticated peer.
pub const USER_NAME_BYTES_MAX: usize = 512;

/// Longest password in bytes, before preparation. Bounds what normalisation may have to chew.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Longest nonce of one side in bytes. Drivers send 24 to 44 characters.
pub const NONCE_BYTES_MAX: usize = 256;

/// Shortest nonce accepted from a driver, in characters: mongod refuses fewer than four.
pub const CLIENT_NONCE_CHARS_MIN: usize = 4;

/// Shortest nonce the proxy adds of its own, on either side, in characters: mongod's own length,
/// 18 random bytes in base64.
pub const SERVER_NONCE_CHARS_MIN: usize = 24;

/// Fewest iterations accepted from the upstream: RFC 5802 section 5.1, and what drivers insist on.
pub const ITERATIONS_MIN: u32 = 4096;

/// Most iterations accepted from the upstream: about a second of work, so that a false server cannot
/// keep the proxy busy for hours with one message.
pub const ITERATIONS_MAX: u32 = 1_000_000;
