use super::*;
use ::bson::{Bson, RawDocumentBuf, doc};
use proptest::prelude::*;

fn bytes(document: &::bson::Document) -> Vec<u8> {
    ::bson::serialize_to_vec(document).unwrap()
}

fn everything() -> ::bson::Document {
    doc! {
        "double": 1.5, "string": "é", "document": {"a": {"b": []}}, "array": [1, "x", {"y": null}],
        "binary": ::bson::Binary { subtype: ::bson::spec::BinarySubtype::Generic, bytes: vec![1, 2] },
        "undefined": Bson::Undefined, "oid": ::bson::oid::ObjectId::new(), "bool": true,
        "date": ::bson::DateTime::from_millis(1), "null": null,
        "regex": ::bson::Regex { pattern: "^a".try_into().unwrap(), options: "i".try_into().unwrap() },
        "code": Bson::JavaScriptCode("1".into()), "symbol": Bson::Symbol("s".into()),
        "scoped": ::bson::JavaScriptCodeWithScope { code: "1".into(), scope: doc! {"x": 1} },
        "int": 7, "stamp": ::bson::Timestamp { time: 1, increment: 2 }, "long": 1_i64 << 40,
        "decimal": ::bson::Decimal128::from_bytes([0; 16]), "max": Bson::MaxKey, "min": Bson::MinKey,
    }
}

#[test]
fn walks_every_kind_as_the_bson_crate_does() {
    let bytes = bytes(&everything());
    let ours: Vec<_> = Document::parse(&bytes)
        .unwrap()
        .elements()
        .map(|e| (e.name().to_owned(), e.kind as u8))
        .collect();
    let theirs: Vec<_> = RawDocumentBuf::from_bytes(bytes.clone())
        .unwrap()
        .iter()
        .map(|e| e.map(|(k, v)| (k.as_str().to_owned(), v.element_type() as u8)))
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(ours, theirs);
    let raw: usize = Document::parse(&bytes)
        .unwrap()
        .elements()
        .map(|e| e.raw.len())
        .sum();
    assert_eq!(raw + 5, bytes.len());
}

#[test]
fn values_read_as_the_server_reads_them() {
    let bytes = bytes(&doc! {"a": 2.0, "b": 2.5, "c": 3, "d": true, "e": 0, "f": "no", "g": 0_i64});
    let document = Document::parse(&bytes).unwrap();
    let integer = |k| document.find(k).unwrap().as_integer();
    let flag = |k| document.find(k).unwrap().as_flag();
    assert_eq!(
        (integer("a"), integer("b"), integer("c")),
        (Some(2), None, Some(3))
    );
    assert_eq!(
        (flag("d"), flag("e"), flag("f"), flag("b"), flag("g")),
        (Some(true), Some(false), None, Some(true), Some(false))
    );
}

#[test]
fn broken_documents_are_refused() {
    let cases: &[(&[u8], BsonError)] = &[
        (&[], BsonError::Length),
        (&[4, 0, 0, 0], BsonError::Length),
        (&[5, 0, 0, 0, 1], BsonError::Terminator),
        (&[6, 0, 0, 0, 0], BsonError::Length),
        (&[5, 0, 0, 0, 0, 0], BsonError::Length),
        (&[255, 255, 255, 255, 0], BsonError::Length),
        (
            &[8, 0, 0, 0, 0x14, b'a', 0, 0],
            BsonError::UnknownKind(0x14),
        ),
        (&[9, 0, 0, 0, 8, b'a', 0, 2, 0], BsonError::Boolean),
        (&[8, 0, 0, 0, 10, 0xFF, 0, 0], BsonError::Name),
        (&[7, 0, 0, 0, 10, b'a', 0], BsonError::Terminator),
        // A string whose length is 0, and one whose final zero is missing.
        (&[12, 0, 0, 0, 2, b'a', 0, 0, 0, 0, 0, 0], BsonError::Length),
        (
            &[13, 0, 0, 0, 2, b'a', 0, 1, 0, 0, 0, 7, 0],
            BsonError::Terminator,
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(Document::parse(bytes), Err(*error), "{bytes:?}");
    }
}

#[test]
fn nesting_stops_at_the_limit() {
    let nested = |levels: usize| {
        let mut inner = Document::EMPTY.bytes().to_vec();
        for _ in 1..levels {
            let mut writer = crate::writer::Writer::default();
            let mark = writer.begin();
            writer.document(b"a", Document::of_checked(&inner));
            writer.end(mark);
            inner = writer.into_bytes();
        }
        inner
    };
    assert!(Document::parse(&nested(NESTING_MAX)).is_ok());
    assert_eq!(
        Document::parse(&nested(NESTING_MAX + 1)),
        Err(BsonError::Nesting)
    );
}

#[test]
fn repeated_keys_are_found_in_short_and_long_documents() {
    for count in [1, 2, 24, 25, 26, 100] {
        let mut writer = crate::writer::Writer::default();
        let mark = writer.begin();
        for i in 0..count {
            writer.int32(format!("k{i}").as_bytes(), 0);
        }
        let unique = writer.len();
        writer.int32(format!("k{}", count - 1).as_bytes(), 0);
        writer.end(mark);
        let repeated = writer.into_bytes();
        let expected = format!("k{}", count - 1);
        assert_eq!(
            Document::parse(&repeated).unwrap().repeated_key(),
            Some(expected.as_bytes())
        );
        let mut without = repeated[..unique].to_vec();
        without.push(0);
        let length = i32::try_from(without.len()).unwrap().to_le_bytes();
        without[..4].copy_from_slice(&length);
        assert_eq!(Document::parse(&without).unwrap().repeated_key(), None);
    }
}

fn walk(document: Document<'_>) -> usize {
    document
        .elements()
        .map(|e| 1 + e.as_nested().map_or(0, walk))
        .sum()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(document) = Document::parse(&bytes) {
            walk(document);
        }
    }

    #[test]
    fn damaged_documents_never_panic(at in 0_usize..300, byte in any::<u8>(), cut in 0_usize..300) {
        let mut bytes = bytes(&everything());
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut.max(5));
        if let Ok(document) = Document::parse(&bytes) {
            walk(document);
        }
    }

    /// What the official crate reads as damaged beyond use must not pass ours as sound, element by element.
    #[test]
    fn accepted_documents_walk_to_their_last_byte(at in 4_usize..300, byte in any::<u8>()) {
        let mut bytes = bytes(&everything());
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        if let Ok(document) = Document::parse(&bytes) {
            let walked: usize = document.elements().map(|e| e.raw.len()).sum();
            prop_assert_eq!(walked + 5, bytes.len());
        }
    }
}
