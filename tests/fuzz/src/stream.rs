//! Splitting a stream into messages: a byte for the limit, a byte for the number of chunk lengths, the lengths, the stream.

use bytes::BytesMut;
use mdb_wire::compression::decompress;
use mdb_wire::frame::{HEADER_BYTES, missing_bytes};
use mdb_wire::{Compressor, DecodeError, Frame, Limits, Message, OpCode, next_frame};

/// What a stream gave: messages, then why it ended, if it did, and what is left.
#[derive(Debug, PartialEq)]
struct Split {
    messages: Vec<Vec<u8>>,
    error: Option<DecodeError>,
    rest: Vec<u8>,
}

/// Splits a stream that arrives in chunks, as it splits the same stream that arrives at once.
///
/// # Panics
/// Where a promise is broken.
pub fn check(input: &[u8]) {
    let Some((&[limit, count], rest)) = input.split_first_chunk() else {
        return;
    };
    let Some((lengths, stream)) = rest.split_at_checked(usize::from(count)) else {
        return;
    };
    let limits = match limit % 3 {
        0 => Limits::default(),
        1 => Limits::UNAUTHENTICATED,
        _ => Limits {
            message_bytes_max: 40,
        },
    };
    let whole = split([stream].into_iter(), limits);
    let chunked = split(chunks(stream, lengths), limits);
    assert_eq!(whole, chunked);
    let joined = [whole.messages.concat(), whole.rest].concat();
    assert_eq!(joined, stream);
}

/// The stream cut into pieces of these lengths, over and over.
fn chunks<'a>(stream: &'a [u8], lengths: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = lengths
            .next()
            .map_or(rest.len(), |&l| usize::from(l).max(1));
        let (chunk, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        Some(chunk)
    })
}

fn split<'a>(chunks: impl Iterator<Item = &'a [u8]>, limits: Limits) -> Split {
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    let mut error = None;
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        while error.is_none() {
            match next_frame(&mut buffer, limits) {
                Ok(Some(frame)) => {
                    assert!(frame.bytes.len() <= limits.message_bytes_max);
                    messages.push(frame.bytes.to_vec());
                    read(frame, limits);
                }
                Ok(None) => {
                    waits(&buffer, limits);
                    break;
                }
                Err(found) => error = Some(found),
            }
        }
    }
    Split {
        messages,
        error,
        rest: buffer.to_vec(),
    }
}

/// The message, unpacked where it is compressed, within the same limit.
fn read(frame: Frame, limits: Limits) {
    let all = Compressor::ALL.into_iter().collect();
    let frame = match frame.opcode {
        OpCode::Compressed => match decompress(&frame, all, limits) {
            Ok((frame, _)) => frame,
            Err(_) => return,
        },
        _ => frame,
    };
    assert!(frame.bytes.len() <= limits.message_bytes_max);
    if frame.opcode == OpCode::Message {
        let _message = Message::parse(frame);
    }
}

/// A buffer that gave no message lacks bytes, and no more than the limit lets it.
fn waits(buffer: &[u8], limits: Limits) {
    let missing = missing_bytes(buffer);
    if buffer.len() >= HEADER_BYTES {
        assert!(missing > 0);
        assert!(buffer.len() + missing <= limits.message_bytes_max);
    }
}
