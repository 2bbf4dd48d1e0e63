//! The outermost check of a reply, and the frames of the proxy's own few commands.
//!
//! ```text
//! 0        4           8            12      16      20     21
//! | length | requestID | responseTo | opcode| flags | kind | document …
//! ```

use bson::RawDocument;
use bytes::Bytes;
use mdb_wire::{Compressor, DecodeError, Frame, Limits, OpCode, compression};

/// Why a reply cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The claimed length is impossible, or above the limit in force.
    #[error("a length of {claimed} bytes, where {REPLY_BYTES_MIN} to {allowed} are possible")]
    Length {
        /// What the header says.
        claimed: i32,
        /// The limit in force.
        allowed: usize,
    },
    /// What is compressed does not unpack, or is compressed in a way that was not agreed on.
    #[error("a compressed reply that cannot be unpacked: {0}")]
    Compression(DecodeError),
    /// Something else than OP_MSG.
    #[error("opcode {0} instead of OP_MSG")]
    OpCode(i32),
    /// The reply to another message.
    #[error("a reply to message {found} instead of {expected}")]
    ResponseTo {
        /// Our message.
        expected: i32,
        /// The message that was answered.
        found: i32,
    },
    /// A flag that was not asked for: a checksum, more replies to come, or an unknown one.
    #[error("unexpected flags {0:#x}")]
    Flags(u32),
    /// Bytes follow the reply, although nothing else was asked.
    #[error("{0} bytes follow the reply")]
    Surplus(usize),
    /// No document where the reply's body should be.
    #[error("the body is not a document")]
    Body,
}

/// What the header of a reply says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Bytes as they come, the header included.
    pub(crate) bytes: usize,
    pub(crate) is_compressed: bool,
}

/// What the header of the reply to `request_id` says.
pub(crate) fn claim(
    header: [u8; HEADER_BYTES],
    request_id: i32,
    reply_bytes_max: usize,
) -> Result<Claim, FrameError> {
    let word = |at: usize| {
        i32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let claimed = word(0);
    let bytes = usize::try_from(claimed)
        .ok()
        .filter(|bytes| (REPLY_BYTES_MIN..=reply_bytes_max).contains(bytes))
        .ok_or(FrameError::Length {
            claimed,
            allowed: reply_bytes_max,
        })?;
    let is_compressed = word(12) == OP_COMPRESSED;
    if word(12) != OP_MSG && !is_compressed {
        return Err(FrameError::OpCode(word(12)));
    }
    if word(8) != request_id {
        return Err(FrameError::ResponseTo {
            expected: request_id,
            found: word(8),
        });
    }
    Ok(Claim {
        bytes,
        is_compressed,
    })
}

/// Bytes that an OP_COMPRESSED claims to hold, by its first [`COMPRESSED_HEAD_BYTES`].
pub(crate) fn claimed_bytes(reply: &[u8]) -> usize {
    let head = reply.get(..COMPRESSED_HEAD_BYTES).unwrap_or(reply);
    compression::claimed_bytes(&compressed(Bytes::copy_from_slice(head)))
}

/// The OP_MSG inside a complete OP_COMPRESSED. It may not be larger than a reply may be that comes plain.
pub(crate) fn unpack(
    reply: Bytes,
    agreed: Option<Compressor>,
    reply_bytes_max: usize,
) -> Result<Bytes, FrameError> {
    let limits = Limits {
        message_bytes_max: reply_bytes_max,
    };
    let agreed = agreed.into_iter().collect();
    let (message, _) = compression::decompress(&compressed(reply), agreed, limits)
        .map_err(FrameError::Compression)?;
    match message.opcode {
        OpCode::Message => Ok(message.bytes),
        other => Err(FrameError::OpCode(other.number())),
    }
}

fn compressed(reply: Bytes) -> Frame {
    Frame {
        request_id: 0,
        response_to: 0,
        opcode: OpCode::Compressed,
        bytes: reply,
    }
}

/// Checks the flags of a complete reply.
pub(crate) fn check_flags(reply: &[u8]) -> Result<(), FrameError> {
    let flags = reply
        .get(HEADER_BYTES..FLAGS_END)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(u32::MAX, u32::from_le_bytes);
    if flags & FLAGS_REQUIRED == 0 {
        Ok(())
    } else {
        Err(FrameError::Flags(flags))
    }
}

/// The OP_MSG of a command of the proxy's own.
pub(crate) fn command(body: &RawDocument, request_id: i32) -> Vec<u8> {
    let bytes = BODY_AT + body.as_bytes().len();
    let mut frame = Vec::with_capacity(bytes);
    let length = i32::try_from(bytes).unwrap_or(i32::MAX);
    for word in [length, request_id, 0, OP_MSG, 0] {
        frame.extend_from_slice(&word.to_le_bytes());
    }
    frame.push(KIND_BODY);
    frame.extend_from_slice(body.as_bytes());
    frame
}

/// The body of a reply that has passed [`claim`] and [`check_flags`].
pub(crate) fn body(reply: &[u8]) -> Result<&RawDocument, FrameError> {
    match reply.get(FLAGS_END..).and_then(<[u8]>::split_first) {
        Some((&KIND_BODY, document)) => {
            RawDocument::from_bytes(document).map_err(|_| FrameError::Body)
        }
        _ => Err(FrameError::Body),
    }
}

/// Length, request id, response to, opcode: four little-endian 32-bit words.
pub(crate) const HEADER_BYTES: usize = 16;
/// Header, opcode, size and compressor of an OP_COMPRESSED.
pub(crate) const COMPRESSED_HEAD_BYTES: usize = HEADER_BYTES + 9;
/// Header, flags, section kind and an empty document.
const REPLY_BYTES_MIN: usize = 26;
const FLAGS_END: usize = 20;
const BODY_AT: usize = 21;
const KIND_BODY: u8 = 0;
const OP_MSG: i32 = 2013;
const OP_COMPRESSED: i32 = 2012;
/// The lower sixteen flags must be understood; none of them is expected in a reply here.
const FLAGS_REQUIRED: u32 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;
    use mdb_wire::compression::compress;

    fn header(words: [i32; 4]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn headers_are_checked_word_by_word() {
        let length = |claimed| FrameError::Length {
            claimed,
            allowed: 1000,
        };
        let plain = |bytes| {
            Ok(Claim {
                bytes,
                is_compressed: false,
            })
        };
        let cases = [
            ([26, 9, 7, 2013], plain(26)),
            ([1000, 9, 7, 2013], plain(1000)),
            ([25, 9, 7, 2013], Err(length(25))),
            ([1001, 9, 7, 2013], Err(length(1001))),
            ([-1, 9, 7, 2013], Err(length(-1))),
            ([26, 9, 7, 1], Err(FrameError::OpCode(1))),
            (
                [26, 9, 7, 2012],
                Ok(Claim {
                    bytes: 26,
                    is_compressed: true,
                }),
            ),
            (
                [26, 7, 8, 2013],
                Err(FrameError::ResponseTo {
                    expected: 7,
                    found: 8,
                }),
            ),
        ];
        for (words, expected) in cases {
            assert_eq!(claim(header(words), 7, 1000), expected, "{words:?}");
        }
    }

    #[test]
    fn flags_that_must_be_understood_are_refused() {
        for (flags, accepted) in [
            (0_u32, true),
            (1, false),
            (2, false),
            (1 << 15, false),
            (1 << 16, true),
        ] {
            let mut reply = command(&bson::rawdoc! { "ok": 1 }, 1);
            reply[16..20].copy_from_slice(&flags.to_le_bytes());
            assert_eq!(check_flags(&reply).is_ok(), accepted, "{flags:#x}");
        }
    }

    #[test]
    fn a_command_can_be_read_back() {
        let document = bson::rawdoc! { "ping": 1, "$db": "admin" };
        let mut frame = command(&document, 42);
        assert_eq!(body(&frame), Ok(&*document));
        frame.copy_within(4..8, 8);
        let header = frame[..HEADER_BYTES].try_into().unwrap();
        assert_eq!(claim(header, 42, 4096).unwrap().bytes, frame.len());
    }

    #[test]
    fn compressed_replies_are_unpacked_within_the_limit() {
        let document = bson::rawdoc! { "ok": 1, "x": "y".repeat(1000) };
        let plain = command(&document, 42);
        for compressor in Compressor::ALL {
            let packed: Bytes = compress(&plain, compressor).unwrap().into();
            let unpack = |agreed, max| unpack(packed.clone(), agreed, max);
            let message = unpack(Some(compressor), plain.len()).unwrap();
            assert_eq!(body(&message), Ok(&*document));
            for (agreed, max) in [
                (Some(compressor), plain.len() - 1),
                (None, plain.len()),
                (Compressor::ALL.into_iter().find(|c| *c != compressor), 4096),
            ] {
                assert!(matches!(
                    unpack(agreed, max),
                    Err(FrameError::Compression(_))
                ));
            }
        }
    }
}
