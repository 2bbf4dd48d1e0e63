//! OP_MSG: flags, one body, document sequences, checksum.

use std::ops::Range;

use bytes::Bytes;

use crate::bson::Document;
use crate::frame::{DecodeError, Frame, HEADER_BYTES, Malformed, OpCode, header};
use crate::limits::SECTIONS_MAX;

/// Bit 0: four bytes of CRC-32C follow the sections.
pub const CHECKSUM_PRESENT: u32 = 1;
/// Bit 1: no reply is expected.
pub const MORE_TO_COME: u32 = 1 << 1;
/// Bit 16: the client can take several replies.
pub const EXHAUST_ALLOWED: u32 = 1 << 16;
/// Bits that a receiver must know (0 to 15); the others may be ignored.
const REQUIRED_BITS: u32 = 0xFFFF;
const CHECKSUM_BYTES: usize = 4;
const FLAGS_END: usize = HEADER_BYTES + 4;

/// An OP_MSG whose every byte was checked. Owns one buffer and points into it.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Bytes,
    request_id: i32,
    flags: u32,
    body: Range<usize>,
    sequences: Vec<SequencePlace>,
}

#[derive(Debug, Clone)]
struct SequencePlace {
    name: Range<usize>,
    documents: Range<usize>,
}

/// A document sequence (section kind 1): documents one after another under a name.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    /// The field that the documents stand for, as `documents` of `insert`.
    pub name: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Sequence<'a> {
    /// A sequence of checked documents.
    pub fn documents(self) -> impl Iterator<Item = Document<'a>> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            // Checked when the message was read; checking again only splits.
            let length = rest.first_chunk::<4>().copied()?;
            let length = usize::try_from(i32::from_le_bytes(length)).ok()?;
            let (document, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(Document::of_checked(document))
        })
    }

    /// All documents' bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl Message {
    /// Reads and checks an OP_MSG.
    pub fn parse(frame: Frame) -> Result<Self, DecodeError> {
        let request_id = frame.request_id;
        // A malformed fire-and-forget message gets no reply: its client would take it for the next one's.
        let wants_reply = flags_of(&frame.bytes).is_none_or(|f| f & MORE_TO_COME == 0);
        Self::parse_sections(frame).map_err(|what| {
            // Of what may be damaged, or means something else, not even the request's id can be believed. Servers close
            // the connection (6.0.5).
            let is_doubtful = matches!(what, Malformed::Checksum | Malformed::Flags(_));
            DecodeError {
                request_id: (wants_reply && !is_doubtful).then_some(request_id),
                what,
            }
        })
    }

    fn parse_sections(frame: Frame) -> Result<Self, Malformed> {
        let flags = flags_of(&frame.bytes).ok_or(Malformed::Section)?;
        let unknown = flags & REQUIRED_BITS & !(CHECKSUM_PRESENT | MORE_TO_COME);
        if unknown != 0 {
            return Err(Malformed::Flags(unknown));
        }
        let end = sections_end(&frame.bytes, flags)?;
        let all = frame.bytes.get(..end).ok_or(Malformed::Section)?;
        let mut body = None;
        let mut sequences = Vec::new();
        let mut at = HEADER_BYTES.saturating_add(4);
        while let Some(&kind) = all.get(at) {
            if sequences.len() >= SECTIONS_MAX {
                return Err(Malformed::Sections);
            }
            let start = at.saturating_add(1);
            let rest = all.get(start..).ok_or(Malformed::Section)?;
            let length = match kind {
                0 if body.is_some() => return Err(Malformed::Bodies),
                0 => {
                    let (document, _) = Document::parse_first(rest)?;
                    let length = document.bytes().len();
                    body = Some(start..start.saturating_add(length));
                    length
                }
                1 => {
                    let (place, length) = sequence_place(rest, start)?;
                    sequences.push(place);
                    length
                }
                other => return Err(Malformed::SectionKind(other)),
            };
            at = start.saturating_add(length);
        }
        Ok(Self {
            request_id: frame.request_id,
            flags,
            body: body.ok_or(Malformed::NoBody)?,
            sequences,
            bytes: frame.bytes,
        })
    }

    /// What its sender calls it.
    pub fn request_id(&self) -> i32 {
        self.request_id
    }

    /// Whether its sender expects no reply.
    pub fn more_to_come(&self) -> bool {
        self.flags & MORE_TO_COME != 0
    }

    /// Whether it came with a checksum; its reply then carries one as well.
    pub fn has_checksum(&self) -> bool {
        self.flags & CHECKSUM_PRESENT != 0
    }

    /// Whether its sender can take several replies.
    pub fn exhaust_allowed(&self) -> bool {
        self.flags & EXHAUST_ALLOWED != 0
    }

    /// The body.
    pub fn body(&self) -> Document<'_> {
        Document::of_checked(self.bytes.get(self.body.clone()).unwrap_or_default())
    }

    /// The document sequences in the order in which they came.
    pub fn sequences(&self) -> impl ExactSizeIterator<Item = Sequence<'_>> {
        self.sequences.iter().map(|place| Sequence {
            name: self.bytes.get(place.name.clone()).unwrap_or_default(),
            bytes: self.bytes.get(place.documents.clone()).unwrap_or_default(),
        })
    }

    /// Bytes of the whole message.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a message has a header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

fn flags_of(message: &[u8]) -> Option<u32> {
    let flags = message.get(HEADER_BYTES..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*flags))
}

/// Where the sections end; checks the checksum if there is one.
fn sections_end(message: &[u8], flags: u32) -> Result<usize, Malformed> {
    if flags & CHECKSUM_PRESENT == 0 {
        return Ok(message.len());
    }
    let end = message
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .ok_or(Malformed::Section)?;
    let (covered, checksum) = message.split_at_checked(end).ok_or(Malformed::Section)?;
    if crc32c::crc32c(covered).to_le_bytes() == checksum {
        Ok(end)
    } else {
        Err(Malformed::Checksum)
    }
}

/// Reads a section of kind 1 at the start of `rest`, which begins at `start` of the message.
fn sequence_place(rest: &[u8], start: usize) -> Result<(SequencePlace, usize), Malformed> {
    let size = rest.first_chunk::<4>().ok_or(Malformed::Section)?;
    let size = usize::try_from(i32::from_le_bytes(*size)).map_err(|_| Malformed::Section)?;
    let section = rest.get(4..size).ok_or(Malformed::Section)?;
    let name_length = section
        .iter()
        .position(|&b| b == 0)
        .ok_or(Malformed::Section)?;
    let mut documents = section
        .get(name_length.saturating_add(1)..)
        .ok_or(Malformed::Section)?;
    let name_start = start.saturating_add(4);
    let documents_end = start.saturating_add(size);
    let place = SequencePlace {
        name: name_start..name_start.saturating_add(name_length),
        documents: documents_end.saturating_sub(documents.len())..documents_end,
    };
    while !documents.is_empty() {
        (_, documents) = Document::parse_first(documents)?;
    }
    Ok((place, size))
}

/// An OP_MSG reply with `body`, which must be one whole document.
pub fn reply(request_id: i32, response_to: i32, body: &[u8], with_checksum: bool) -> Vec<u8> {
    let mut out = begin_reply(body.len());
    out.extend_from_slice(body);
    let flags = if with_checksum { CHECKSUM_PRESENT } else { 0 };
    seal_reply(&mut out, request_id, response_to, flags);
    out
}

/// Begins a reply whose one body document is to be appended; [`seal_reply`] ends it.
pub fn begin_reply(body_bytes_hint: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(body_bytes_hint.saturating_add(REPLY_OVERHEAD_BYTES));
    out.extend_from_slice(&[0; HEADER_BYTES]);
    out.extend_from_slice(&[0; 5]);
    out
}

/// Header, flags, section kind and room for a checksum.
const REPLY_OVERHEAD_BYTES: usize = HEADER_BYTES + 4 + 1 + CHECKSUM_BYTES;

/// Writes header, flags and, where [`CHECKSUM_PRESENT`] is among these, checksum of a reply begun by [`begin_reply`].
pub fn seal_reply(message: &mut Vec<u8>, request_id: i32, response_to: i32, flags: u32) {
    let with_checksum = flags & CHECKSUM_PRESENT != 0;
    let extra = if with_checksum { CHECKSUM_BYTES } else { 0 };
    let length = message.len().saturating_add(extra);
    let head = header(length, request_id, response_to, OpCode::Message);
    if let Some(place) = message.first_chunk_mut::<HEADER_BYTES>() {
        *place = head;
    }
    if let Some(place) = message.get_mut(HEADER_BYTES..FLAGS_END) {
        place.copy_from_slice(&flags.to_le_bytes());
    }
    if with_checksum {
        let checksum = crc32c::crc32c(message);
        message.extend_from_slice(&checksum.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
