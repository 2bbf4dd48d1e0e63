//! Message decoding: a whole message, header included.

use std::collections::HashSet;

use mdb_wire::compression::{claimed_bytes, compress, decompress};
use mdb_wire::legacy::Query;
use mdb_wire::{
    Command, Compressor, Compressors, Document, Frame, Kind, Limits, Message, OpCode, Writer,
    message, next_frame,
};

/// Decodes a message; what was accepted can be walked to the last byte and written again as it was.
///
/// # Panics
/// Where a promise is broken.
pub fn check(input: &[u8]) {
    bare(input);
    let mut buffer = input.into();
    let frame = match next_frame(&mut buffer, Limits::default()) {
        Ok(Some(frame)) => frame,
        Ok(None) => return,
        Err(error) => {
            assert!(error.code() > 0 && !error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(frame.payload().len(), frame.bytes.len() - 16);
    let frame = match frame.opcode {
        OpCode::Compressed => match unpacked(&frame) {
            Some(frame) => frame,
            None => return,
        },
        _ => frame,
    };
    match frame.opcode {
        OpCode::Query => {
            if let Ok(query) = Query::parse(frame) {
                let _database = query.command_database();
                walk(query.body());
            }
        }
        OpCode::Message => match Message::parse(frame) {
            Ok(message) => decoded(&message),
            Err(error) => assert!(error.code() > 0 && !error.to_string().is_empty()),
        },
        OpCode::Reply | OpCode::GetMore => {}
        OpCode::Compressed => unreachable!("a message is compressed once"),
    }
}

/// The message inside an OP_COMPRESSED: no larger than it claims, no larger than allowed, and the same whichever way it is
/// compressed again.
fn unpacked(frame: &Frame) -> Option<Frame> {
    let limits = Limits {
        message_bytes_max: 1 << 20,
    };
    let all: Compressors = Compressor::ALL.into_iter().collect();
    let (inner, compressor) = match decompress(frame, all, limits) {
        Ok(found) => found,
        Err(error) => {
            assert!(error.request_id.is_none() && !error.to_string().is_empty());
            return None;
        }
    };
    assert!(inner.bytes.len() <= limits.message_bytes_max);
    assert_eq!(inner.payload().len(), claimed_bytes(frame));
    assert_eq!(inner.request_id, frame.request_id);
    let others = all.iter().filter(|c| *c != compressor).collect();
    assert!(decompress(frame, others, limits).is_err());
    for compressor in Compressor::ALL {
        let packed = compress(&inner.bytes, compressor).expect("a message that can be compressed");
        let again = next_frame(&mut packed.as_slice().into(), Limits::default());
        let again = again.expect("a header").expect("a whole message");
        let (again, _) = decompress(&again, all, limits).expect("a message");
        assert_eq!(again.bytes, inner.bytes);
    }
    Some(inner)
}

/// The bytes as a document: the shallow check takes all that the whole one takes.
fn bare(input: &[u8]) {
    let whole = Document::parse(input);
    let shallow = Document::parse_shallow(input);
    if let Ok(document) = whole {
        assert_eq!(document.bytes(), input);
        walk(document);
        assert_eq!(shallow.map(Document::bytes), Ok(input));
    }
    if let Ok(document) = shallow {
        document.elements().for_each(drop);
    }
    if let Ok((document, rest)) = Document::parse_first(input) {
        assert_eq!(document.bytes().len() + rest.len(), input.len());
        assert!(Document::parse(document.bytes()).is_ok());
    }
}

fn decoded(message: &Message) {
    walk(message.body());
    for sequence in message.sequences() {
        let bytes: usize = sequence.documents().map(|d| d.bytes().len()).sum();
        assert_eq!(bytes, sequence.bytes().len());
        sequence.documents().for_each(walk);
    }
    replied(message);
    match Command::parse(message) {
        Ok(command) => {
            let names = command.body.elements().map(|e| e.key);
            let sequences = command.sequences().map(|s| s.name);
            let mut seen = HashSet::new();
            assert!(names.chain(sequences).all(|name| seen.insert(name)));
            assert!(!command.database.is_empty() && command.database.len() <= 63);
            assert_eq!(command.message_bytes(), message.len());
        }
        Err(error) => assert!(error.code() > 0 && !error.to_string().is_empty()),
    }
}

/// A reply that is written can be read.
fn replied(message: &Message) {
    for with_checksum in [false, true] {
        let reply = message::reply(1, 2, message.body().bytes(), with_checksum);
        let mut buffer = reply.as_slice().into();
        let frame = next_frame(&mut buffer, Limits::default()).expect("a header");
        let again = Message::parse(frame.expect("a whole message")).expect("a message");
        assert_eq!(again.body().bytes(), message.body().bytes());
        assert_eq!(again.has_checksum(), with_checksum);
    }
}

fn walk(document: Document<'_>) {
    let mut w = Writer::default();
    let mark = w.begin();
    copy(&mut w, document);
    w.end(mark);
    assert_eq!(w.into_bytes(), document.bytes());
}

fn copy(w: &mut Writer, document: Document<'_>) {
    let mut seen = HashSet::new();
    let repeats = document.elements().any(|e| !seen.insert(e.key));
    assert_eq!(document.repeated_key().is_some(), repeats);
    assert_eq!(document.is_empty(), document.first().is_none());
    for element in document.elements() {
        assert!(document.find(element.name()).is_some());
        let _values = (
            element.as_str(),
            element.as_integer(),
            element.as_flag(),
            element.as_binary(),
            element.as_timestamp(),
        );
        let Some(nested) = element.as_nested() else {
            w.element(&element);
            continue;
        };
        let mark = if element.kind == Kind::Array {
            w.begin_array(element.key)
        } else {
            w.begin_document(element.key)
        };
        copy(w, nested);
        w.end(mark);
    }
}
