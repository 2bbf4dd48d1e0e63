//! OP_COMPRESSED: a message inside a message, by one of three compressors.
//!
//! ```text
//! 0        16                  20                 24            25
//! | header | original opcode   | bytes inside     | compressor  | compressed payload …
//! ```

use std::fmt;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::frame::{DecodeError, Frame, HEADER_BYTES, Malformed, OpCode, header};
use crate::limits::Limits;

/// A way to compress, by MongoDB's names and numbers (OP_COMPRESSED specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compressor {
    /// 1: fast, compresses least.
    Snappy,
    /// 2: slow, everywhere.
    Zlib,
    /// 3: compresses most for its time.
    Zstd,
}

impl Compressor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Snappy, Self::Zlib, Self::Zstd];

    /// Its name in hello.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snappy => "snappy",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }

    /// Its number in OP_COMPRESSED.
    pub fn number(self) -> u8 {
        match self {
            Self::Snappy => 1,
            Self::Zlib => 2,
            Self::Zstd => 3,
        }
    }

    /// The one that hello calls so.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.number() == number)
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the two ends of a connection have agreed on, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compressors([Option<Compressor>; Compressor::ALL.len()]);

impl Compressors {
    /// All of them in order.
    pub fn iter(self) -> impl Iterator<Item = Compressor> {
        self.0.into_iter().flatten()
    }

    /// Whether it is among them.
    pub fn contains(self, compressor: Compressor) -> bool {
        self.0.contains(&Some(compressor))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl FromIterator<Compressor> for Compressors {
    /// One that comes again is passed over.
    fn from_iter<I: IntoIterator<Item = Compressor>>(all: I) -> Self {
        let mut list = Self::default();
        for compressor in all {
            if !list.contains(compressor)
                && let Some(place) = list.0.iter_mut().find(|place| place.is_none())
            {
                *place = Some(compressor);
            }
        }
        list
    }
}

/// Bytes that an OP_COMPRESSED claims to hold, the header left out; 0 where it is too short to say.
pub fn claimed_bytes(frame: &Frame) -> usize {
    let claimed = frame.payload().get(4..8).and_then(<[u8]>::first_chunk);
    let claimed = claimed.map_or(0, |bytes| i32::from_le_bytes(*bytes));
    usize::try_from(claimed).unwrap_or_default()
}

/// Takes the message out of an OP_COMPRESSED: a frame as if it had come plain, and how it was compressed.
///
/// What it claims to become is compared with the limit before room is made, and must be met to the byte. Fails as well on
/// a compressor that was not agreed on, on a message that is compressed twice, and on an opcode that is not spoken; the
/// connection is closed without a word, as mongod does (6.0.5).
pub fn decompress(
    frame: &Frame,
    agreed: Compressors,
    limits: Limits,
) -> Result<(Frame, Compressor), DecodeError> {
    unpack(frame, agreed, limits).map_err(|what| DecodeError {
        request_id: None,
        what,
    })
}

fn unpack(
    frame: &Frame,
    agreed: Compressors,
    limits: Limits,
) -> Result<(Frame, Compressor), Malformed> {
    let (head, data) = frame
        .payload()
        .split_first_chunk::<COMPRESSION_HEAD_BYTES>()
        .ok_or(Malformed::Compression)?;
    let [o0, o1, o2, o3, b0, b1, b2, b3, number] = *head;
    let opcode = i32::from_le_bytes([o0, o1, o2, o3]);
    let claimed = i32::from_le_bytes([b0, b1, b2, b3]);
    let opcode = OpCode::of(opcode)
        .filter(|&opcode| opcode != OpCode::Compressed)
        .ok_or(Malformed::OpCode(opcode))?;
    let compressor = Compressor::of_number(number)
        .filter(|&compressor| agreed.contains(compressor))
        .ok_or(Malformed::Compressor(number))?;
    let bytes = usize::try_from(claimed).map_err(|_| Malformed::Length(claimed))?;
    let length = bytes.saturating_add(HEADER_BYTES);
    if length > limits.message_bytes_max {
        return Err(Malformed::TooLong {
            length,
            max: limits.message_bytes_max,
        });
    }
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&header(length, frame.request_id, frame.response_to, opcode));
    expand(compressor, data, bytes, &mut out).ok_or(Malformed::Compression)?;
    let frame = Frame {
        opcode,
        bytes: Bytes::from(out),
        ..*frame
    };
    Ok((frame, compressor))
}

/// Appends exactly `bytes` bytes to `out`, which has room for them and gets no more.
fn expand(compressor: Compressor, data: &[u8], bytes: usize, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    match compressor {
        Compressor::Snappy => {
            if snap::raw::decompress_len(data).ok()? != bytes {
                return None;
            }
            out.resize(start.saturating_add(bytes), 0);
            let place = out.get_mut(start..)?;
            snap::raw::Decoder::new().decompress(data, place).ok()?;
        }
        Compressor::Zlib => {
            let mut zlib = Decompress::new(true);
            // Writes into the room that there is, and does not make more.
            let status = zlib.decompress_vec(data, out, FlushDecompress::Finish);
            let read = usize::try_from(zlib.total_in()).ok()?;
            if status.ok()? != Status::StreamEnd || read != data.len() {
                return None;
            }
        }
        Compressor::Zstd => {
            let mut payload = Vec::with_capacity(bytes);
            zstd::bulk::Decompressor::new()
                .ok()?
                .decompress_to_buffer(data, &mut payload)
                .ok()?;
            out.extend_from_slice(&payload);
        }
    }
    (out.len().checked_sub(start)? == bytes).then_some(())
}

/// The message as an OP_COMPRESSED, with the same ids. `None` for one that cannot be compressed: send it as it is, which
/// every receiver takes.
pub fn compress(message: &[u8], compressor: Compressor) -> Option<Vec<u8>> {
    let (head, payload) = message.split_first_chunk::<HEADER_BYTES>()?;
    let [_, _, _, _, ids @ .., c0, c1, c2, c3] = *head;
    let bytes = i32::try_from(payload.len()).ok()?;
    let mut out = Vec::with_capacity(room(compressor, payload.len()));
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&ids);
    out.extend_from_slice(&OpCode::Compressed.number().to_le_bytes());
    out.extend_from_slice(&[c0, c1, c2, c3]);
    out.extend_from_slice(&bytes.to_le_bytes());
    out.push(compressor.number());
    shrink(compressor, payload, &mut out)?;
    let length = i32::try_from(out.len()).ok()?;
    out.first_chunk_mut::<4>()?
        .copy_from_slice(&length.to_le_bytes());
    Some(out)
}

/// Bytes that `payload` bytes may take in the worst case, what stands in front of them included.
fn room(compressor: Compressor, payload: usize) -> usize {
    let worst = match compressor {
        Compressor::Snappy => snap::raw::max_compress_len(payload),
        // Stored blocks of at most 16 KiB with five bytes each, and six around all.
        Compressor::Zlib => payload
            .saturating_add(payload.div_ceil(ZLIB_BLOCK_BYTES).saturating_mul(5))
            .saturating_add(ZLIB_FRAME_BYTES),
        Compressor::Zstd => zstd::zstd_safe::compress_bound(payload),
    };
    HEADER_BYTES
        .saturating_add(COMPRESSION_HEAD_BYTES)
        .saturating_add(worst)
}

/// Appends `payload`, compressed, to `out`, which has room for it.
fn shrink(compressor: Compressor, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    match compressor {
        Compressor::Snappy => {
            out.resize(out.capacity(), 0);
            let place = out.get_mut(start..)?;
            let bytes = snap::raw::Encoder::new().compress(payload, place).ok()?;
            out.truncate(start.saturating_add(bytes));
        }
        Compressor::Zlib => {
            let mut zlib = Compress::new(Compression::new(ZLIB_LEVEL), true);
            let status = zlib.compress_vec(payload, out, FlushCompress::Finish);
            if status.ok()? != Status::StreamEnd {
                return None;
            }
        }
        Compressor::Zstd => {
            out.extend(zstd::bulk::compress(payload, ZSTD_LEVEL).ok()?);
        }
    }
    Some(())
}

/// Original opcode, bytes inside, compressor.
const COMPRESSION_HEAD_BYTES: usize = 9;
/// zlib's own default, and that of mongod and of the drivers.
const ZLIB_LEVEL: u32 = 6;
/// zstd's own default, and that of the drivers.
const ZSTD_LEVEL: i32 = 3;
/// The least that the compressor stores in a block of its own.
const ZLIB_BLOCK_BYTES: usize = 16 * 1024;
/// Header, checksum and the last block's head, with some to spare.
const ZLIB_FRAME_BYTES: usize = 64;

#[cfg(test)]
mod tests;
