//! One message off a stream of bytes: header, length, opcode.

use bytes::{Bytes, BytesMut};

use crate::bson::BsonError;
use crate::limits::{Limits, SECTIONS_MAX};

/// Bytes of a message's header: length, request id, response-to, opcode; four little-endian int32.
pub const HEADER_BYTES: usize = 16;

/// The opcodes that the proxy answers. Every other closes the connection: mongod 4.4 and 5.0 still *execute*
/// the legacy ones, so forwarding one would go round every rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpCode {
    /// `OP_REPLY` (1), the answer to `OP_QUERY`.
    Reply,
    /// `OP_QUERY` (2004), for the hand-shake only.
    Query,
    /// `OP_GET_MORE` (2005): answered with an error, as mongod 5.1+ does.
    GetMore,
    /// `OP_COMPRESSED` (2012): another message, compressed.
    Compressed,
    /// `OP_MSG` (2013).
    Message,
}

impl OpCode {
    pub(crate) fn of(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Reply,
            2004 => Self::Query,
            2005 => Self::GetMore,
            2012 => Self::Compressed,
            2013 => Self::Message,
            _ => return None,
        })
    }

    /// Its number on the wire.
    pub fn number(self) -> i32 {
        match self {
            Self::Reply => 1,
            Self::Query => 2004,
            Self::GetMore => 2005,
            Self::Compressed => 2012,
            Self::Message => 2013,
        }
    }
}

/// A message whose header was read and whose bytes are all there; its content is not checked yet.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What its sender calls it.
    pub request_id: i32,
    /// The message that it answers; 0 for requests.
    pub response_to: i32,
    /// What kind of message it is.
    pub opcode: OpCode,
    /// The whole message, header included.
    pub bytes: Bytes,
}

impl Frame {
    /// What follows the header.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// Why bytes are not a message. The connection cannot go on after any of these; where [`DecodeError::request_id`]
/// knows the request, it is answered first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct DecodeError {
    /// The request that was malformed, if its header could be read and a reply can be expected.
    pub request_id: Option<i32>,
    /// What is wrong with it.
    pub what: Malformed,
}

/// What can be wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Shorter than a header, or negative.
    #[error("a message length of {0} bytes")]
    Length(i32),
    /// Longer than the limit in force.
    #[error("a message of {length} bytes where at most {max} are allowed")]
    TooLong {
        /// Bytes that the header claims.
        length: usize,
        /// Bytes that the limit allows.
        max: usize,
    },
    /// An opcode that is not spoken.
    #[error("opcode {0} is not supported")]
    OpCode(i32),
    /// A required flag bit that is not known.
    #[error("unknown required flag bits 0x{0:04x}")]
    Flags(u32),
    /// The checksum is wrong.
    #[error("the checksum does not match")]
    Checksum,
    /// A section of a kind other than 0 and 1.
    #[error("a section of kind {0}")]
    SectionKind(u8),
    /// The message ends inside a section, or a section's length is wrong.
    #[error("a section does not fit the message")]
    Section,
    /// No body.
    #[error("OP_MSG messages must have a body")]
    NoBody,
    /// A second body.
    #[error("Multiple body sections in message")]
    Bodies,
    /// More sections than any command has.
    #[error("more than {SECTIONS_MAX} sections")]
    Sections,
    /// A compressor that is unknown, or was not agreed on.
    #[error("compressor {0} was not agreed on")]
    Compressor(u8),
    /// What is compressed does not become what it claims to be.
    #[error("a compressed message does not unpack to its length")]
    Compression,
    /// A document that is not well formed.
    #[error("invalid BSON: {0}")]
    Bson(#[from] BsonError),
}

impl DecodeError {
    /// MongoDB's code for it (6.0.5).
    pub fn code(&self) -> i32 {
        match self.what {
            Malformed::Bson(error) => error.code(),
            Malformed::NoBody => 40587,
            Malformed::Bodies => 40430,
            // A security token. Unauthorized.
            Malformed::SectionKind(2) => 13,
            Malformed::SectionKind(_) => 40432,
            // Overflow
            Malformed::Section => 15,
            // ProtocolError: servers close the connection, or have no such limit.
            _ => 17,
        }
    }
}

/// Takes the next whole message off `buffer`, if it is there. Nothing is reserved for a claimed length: the buffer
/// grows as bytes arrive.
pub fn next_frame(buffer: &mut BytesMut, limits: Limits) -> Result<Option<Frame>, DecodeError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let [length, request_id, response_to, opcode] = numbers(header);
    let fail = |what| DecodeError {
        request_id: Some(request_id),
        what,
    };
    let bytes = usize::try_from(length)
        .ok()
        .filter(|&l| l >= HEADER_BYTES)
        .ok_or(DecodeError {
            request_id: None,
            what: Malformed::Length(length),
        })?;
    if bytes > limits.message_bytes_max {
        return Err(fail(Malformed::TooLong {
            length: bytes,
            max: limits.message_bytes_max,
        }));
    }
    let opcode = OpCode::of(opcode).ok_or(DecodeError {
        request_id: None,
        what: Malformed::OpCode(opcode),
    })?;
    if buffer.len() < bytes {
        return Ok(None);
    }
    Ok(Some(Frame {
        request_id,
        response_to,
        opcode,
        bytes: buffer.split_to(bytes).freeze(),
    }))
}

/// Bytes that the message at the start of `buffer` still lacks; 0 while its header is not there.
pub fn missing_bytes(buffer: &[u8]) -> usize {
    let Some(&length) = buffer.first_chunk::<4>() else {
        return 0;
    };
    usize::try_from(i32::from_le_bytes(length))
        .unwrap_or(0)
        .saturating_sub(buffer.len())
}

fn numbers(header: &[u8; HEADER_BYTES]) -> [i32; 4] {
    let mut out = [0; 4];
    for (number, bytes) in out.iter_mut().zip(header.chunks_exact(4)) {
        *number = bytes.try_into().map_or(0, i32::from_le_bytes);
    }
    out
}

/// The header of a message of `length` bytes.
pub fn header(length: usize, request_id: i32, response_to: i32, opcode: OpCode) -> [u8; 16] {
    // No message that long is ever built: documents and batches are limited far below 2 GiB.
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    let mut out = [0; HEADER_BYTES];
    let numbers = [length, request_id, response_to, opcode.number()];
    for (place, number) in out.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        message_bytes_max: 64,
    };

    fn message(length: i32, opcode: i32, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        for number in [length, 7, 0, opcode] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn waits_for_the_last_byte() {
        let whole = message(20, 2013, &[1, 2, 3, 4]);
        for end in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..end]);
            assert!(next_frame(&mut part, LIMITS).unwrap().is_none());
        }
        let mut whole = whole;
        let frame = next_frame(&mut whole, LIMITS).unwrap().unwrap();
        assert_eq!(frame.payload(), [1, 2, 3, 4]);
        assert_eq!(frame.request_id, 7);
        assert!(whole.is_empty());
    }

    #[test]
    fn refuses_lengths_before_the_bytes_are_there() {
        let cases = [
            (15, None, Malformed::Length(15)),
            (-1, None, Malformed::Length(-1)),
            (
                65,
                Some(7),
                Malformed::TooLong {
                    length: 65,
                    max: 64,
                },
            ),
        ];
        for (length, request_id, what) in cases {
            let error = next_frame(&mut message(length, 2013, &[]), LIMITS).unwrap_err();
            assert_eq!(error, DecodeError { request_id, what });
        }
        assert!(
            next_frame(&mut message(64, 2013, &[]), LIMITS)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn legacy_opcodes_are_not_spoken() {
        for opcode in [2001, 2002, 2006, 2007, 2010, 2011, 0, 9999] {
            let error = next_frame(&mut message(16, opcode, &[]), LIMITS).unwrap_err();
            assert_eq!(error.what, Malformed::OpCode(opcode));
            assert_eq!(error.request_id, None);
        }
    }

    #[test]
    fn a_header_reads_back() {
        let mut bytes = BytesMut::from(&header(16, 3, 4, OpCode::Message)[..]);
        let frame = next_frame(&mut bytes, LIMITS).unwrap().unwrap();
        assert_eq!((frame.request_id, frame.response_to), (3, 4));
    }
}
