//! What is left of the old protocol: the hand-shake by OP_QUERY, and the OP_REPLY that answers it.

use bytes::Bytes;

use crate::bson::Document;
use crate::frame::{DecodeError, Frame, HEADER_BYTES, Malformed, OpCode, header};

/// An OP_QUERY. Node, Go and C drivers open every connection with one that carries `isMaster`.
#[derive(Debug, Clone)]
pub struct Query {
    /// What its sender calls it.
    pub request_id: i32,
    /// Its flags.
    pub flags: u32,
    /// How many documents are asked for: 1 or -1 of a command.
    pub number_to_return: i32,
    bytes: Bytes,
    namespace: std::ops::Range<usize>,
    body: std::ops::Range<usize>,
}

/// Flag 6 of OP_QUERY: the client can take several replies.
pub const EXHAUST: u32 = 1 << 6;

impl Query {
    /// Reads and checks an OP_QUERY: flags, namespace, two numbers, a document, perhaps a projection.
    pub fn parse(frame: Frame) -> Result<Self, DecodeError> {
        let request_id = frame.request_id;
        Self::parse_parts(frame).map_err(|what| DecodeError {
            request_id: Some(request_id),
            what,
        })
    }

    fn parse_parts(frame: Frame) -> Result<Self, Malformed> {
        let start = HEADER_BYTES.saturating_add(4);
        let rest = frame.bytes.get(start..).ok_or(Malformed::Section)?;
        let name = rest
            .iter()
            .position(|&b| b == 0)
            .ok_or(Malformed::Section)?;
        let namespace = start..start.saturating_add(name);
        // The zero byte, numberToSkip and numberToReturn.
        let body_start = namespace.end.saturating_add(9);
        let word = |at: usize| {
            let bytes = frame.bytes.get(at..at.saturating_add(4));
            bytes.and_then(|bytes| bytes.try_into().ok())
        };
        let flags = word(HEADER_BYTES).ok_or(Malformed::Section)?;
        let number_to_return = word(namespace.end.saturating_add(5)).ok_or(Malformed::Section)?;
        let rest = frame.bytes.get(body_start..).ok_or(Malformed::Section)?;
        let (document, rest) = Document::parse_first(rest)?;
        if !rest.is_empty() {
            Document::parse(rest)?;
        }
        let body = body_start..body_start.saturating_add(document.bytes().len());
        Ok(Self {
            request_id: frame.request_id,
            flags: u32::from_le_bytes(flags),
            number_to_return: i32::from_le_bytes(number_to_return),
            namespace,
            body,
            bytes: frame.bytes,
        })
    }

    /// The database, if the query is a command: on `<database>.$cmd`.
    pub fn command_database(&self) -> Option<&str> {
        let namespace = self.bytes.get(self.namespace.clone())?;
        std::str::from_utf8(namespace).ok()?.strip_suffix(".$cmd")
    }

    /// The document.
    pub fn body(&self) -> Document<'_> {
        Document::of_checked(self.bytes.get(self.body.clone()).unwrap_or_default())
    }
}

/// Response flag 1 of OP_REPLY: the query failed.
const QUERY_FAILURE: i32 = 2;
/// Response flag 3 of OP_REPLY: the server knows awaitable cursors; mongod always sets it.
const AWAIT_CAPABLE: i32 = 8;

/// An OP_REPLY with one document.
pub fn reply(request_id: i32, response_to: i32, body: &[u8]) -> Vec<u8> {
    encode(request_id, response_to, AWAIT_CAPABLE, body)
}

/// An OP_REPLY that says that the query failed; `body` holds `$err` and `code`.
pub fn failure(request_id: i32, response_to: i32, body: &[u8]) -> Vec<u8> {
    encode(request_id, response_to, QUERY_FAILURE, body)
}

fn encode(request_id: i32, response_to: i32, flags: i32, body: &[u8]) -> Vec<u8> {
    let length = body.len().saturating_add(HEADER_BYTES).saturating_add(20);
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&header(length, request_id, response_to, OpCode::Reply));
    out.extend_from_slice(&flags.to_le_bytes());
    // Cursor id and starting-from.
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&1_i32.to_le_bytes());
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::next_frame;
    use crate::limits::Limits;
    use bytes::BytesMut;

    fn query(namespace: &str, body: &[u8], tail: &[u8]) -> Frame {
        let mut payload = vec![0; 4];
        payload.extend_from_slice(namespace.as_bytes());
        payload.extend_from_slice(&[0; 9]);
        payload.extend_from_slice(body);
        payload.extend_from_slice(tail);
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&header(16 + payload.len(), 5, 0, OpCode::Query));
        bytes.extend_from_slice(&payload);
        next_frame(&mut bytes, Limits::default()).unwrap().unwrap()
    }

    #[test]
    fn reads_a_handshake() {
        let body = bson::serialize_to_vec(&bson::doc! {"isMaster": 1}).unwrap();
        let query = Query::parse(query("admin.$cmd", &body, &[])).unwrap();
        assert_eq!(query.command_database(), Some("admin"));
        assert_eq!(query.body().first().unwrap().name(), "isMaster");
    }

    #[test]
    fn collections_are_no_commands() {
        let body = Document::EMPTY.bytes();
        let parsed = Query::parse(query("shop.orders", body, &[])).unwrap();
        assert_eq!(parsed.command_database(), None);
    }

    #[test]
    fn broken_ones_are_refused() {
        for end in 0..5 {
            let part = &Document::EMPTY.bytes()[..end];
            assert!(Query::parse(query("admin.$cmd", part, &[])).is_err());
        }
        let junk = Query::parse(query("admin.$cmd", Document::EMPTY.bytes(), &[1]));
        assert_eq!(junk.unwrap_err().request_id, Some(5));
    }

    #[test]
    fn a_reply_has_the_flags_of_mongod() {
        let out = reply(1, 5, Document::EMPTY.bytes());
        assert_eq!(out.len(), 16 + 20 + 5);
        assert_eq!(out[16], 8);
        assert_eq!(failure(1, 5, Document::EMPTY.bytes())[16], 2);
    }
}
