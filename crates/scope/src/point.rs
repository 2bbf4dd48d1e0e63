//! Reads of one document by its `_id`, the most frequent of all. The server's short way for them is only for a filter of the
//! `_id` and nothing else; with the scope field beside it, it looks for a plan each time. Where the command says which index
//! and which part of it to read, it does not look: that saves 15 to 25 µs of about 100 (6.0.5).

use mdb_wire::{Command, Document, Element, Kind};

/// The longest string or binary value for which bounds are written.
const VALUE_BYTES_MAX: usize = 1024;

/// The `_id` that a `find` asks for, if it asks for nothing that bounds would be in the way of.
pub(crate) fn id_of<'a>(command: &Command<'a>) -> Option<Element<'a>> {
    if command.name != b"find" || !command.body.elements().skip(1).all(|e| goes_along(&e)) {
        return None;
    }
    let filter = command.body.find("filter")?.as_document()?;
    let mut fields = filter.elements();
    let id = fields.next().filter(|e| e.key == b"_id")?;
    fields.next().is_none().then_some(id)
}

/// Arguments of a `find` beside which bounds may stand. Not among them: what chooses an index or an order by itself, what shows
/// the index (`returnKey`), a collation, and `apiStrict` (bounds are not in the API's version 1). Nor what may meet a server or
/// a time without the base index: a read preference, a snapshot; nor a transaction, which such a meeting would abort.
fn goes_along(argument: &Element<'_>) -> bool {
    const NAMES: &[&[u8]] = &[
        b"$clusterTime",
        b"$db",
        b"batchSize",
        b"comment",
        b"filter",
        b"limit",
        b"lsid",
        b"maxTimeMS",
        b"projection",
        b"singleBatch",
        b"skip",
    ];
    match argument.key {
        b"$readPreference" => argument.as_document().is_some_and(is_of_primary),
        b"readConcern" => argument.as_document().is_some_and(is_of_now),
        name => NAMES.contains(&name),
    }
}

fn is_of_primary(preference: Document<'_>) -> bool {
    let mode = preference.find("mode");
    mode.and_then(|mode| mode.as_str()) == Some("primary")
}

/// Whether a read concern asks for documents as they are, and not as they were.
fn is_of_now(concern: Document<'_>) -> bool {
    concern.elements().all(|field| match field.key {
        b"level" => field.as_str().is_some_and(|level| level != "snapshot"),
        name => name == b"afterClusterTime",
    })
}

/// The bytes of a value of the same kind that is greater than this one, with nothing between that equals it: where a range ends
/// that holds it. `None` for kinds whose values are not compared as they stand, and where there is no such value.
pub(crate) fn next_value(id: &Element<'_>) -> Option<Vec<u8>> {
    match id.kind {
        Kind::ObjectId => incremented(id.value),
        Kind::Int32 => {
            let next = i32::from_le_bytes(id.value.try_into().ok()?).checked_add(1)?;
            Some(next.to_le_bytes().to_vec())
        }
        Kind::Int64 | Kind::DateTime => {
            let next = i64::from_le_bytes(id.value.try_into().ok()?).checked_add(1)?;
            Some(next.to_le_bytes().to_vec())
        }
        Kind::Double => {
            let value = f64::from_le_bytes(id.value.try_into().ok()?);
            let next = value.next_up();
            (value.is_finite() && next.is_finite()).then(|| next.to_le_bytes().to_vec())
        }
        Kind::String => {
            let text = id.as_string()?;
            let length = i32::try_from(text.len().checked_add(2)?).ok()?;
            let is_short = text.len() <= VALUE_BYTES_MAX;
            is_short.then(|| [&length.to_le_bytes(), text, b"\0\0"].concat())
        }
        Kind::Binary => {
            let (head, bytes) = id.value.split_at_checked(5)?;
            // The old subtype has a second length.
            let is_plain = head.last() != Some(&2) && bytes.len() <= VALUE_BYTES_MAX;
            let next = incremented(bytes).filter(|_| is_plain)?;
            Some([head, &next].concat())
        }
        _ => None,
    }
}

/// The number that follows, of the same length; the first byte counts most.
fn incremented(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, overflows) = byte.overflowing_add(1);
        *byte = sum;
        if !overflows {
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Binary, Bson, DateTime, doc, oid::ObjectId, spec::BinarySubtype};

    fn next(value: impl Into<Bson>) -> Option<Bson> {
        let bytes = bson::serialize_to_vec(&doc! {"_id": value.into()}).unwrap();
        let document = Document::parse(&bytes).unwrap();
        let id = document.first().unwrap();
        let value = next_value(&id)?;
        let mut next = vec![0; 4];
        next.push(id.kind as u8);
        next.extend(b"_id\0");
        next.extend(value);
        next.push(0);
        let length = i32::try_from(next.len()).unwrap();
        next[..4].copy_from_slice(&length.to_le_bytes());
        let mut next: bson::Document = bson::deserialize_from_slice(&next).unwrap();
        next.remove("_id")
    }

    fn binary(subtype: BinarySubtype, bytes: &[u8]) -> Bson {
        let bytes = bytes.to_vec();
        Bson::Binary(Binary { subtype, bytes })
    }

    #[test]
    fn a_range_ends_right_behind_its_value() {
        let generic = BinarySubtype::Generic;
        let cases: Vec<(Bson, Option<Bson>)> = vec![
            (5.into(), Some(6.into())),
            ((-1).into(), Some(0.into())),
            (i32::MAX.into(), None),
            (5_i64.into(), Some(6_i64.into())),
            (i64::MAX.into(), None),
            (1.0.into(), Some(1.000_000_000_000_000_2.into())),
            ((-0.0).into(), Some(5e-324.into())),
            (f64::MAX.into(), None),
            (f64::INFINITY.into(), None),
            (f64::NAN.into(), None),
            ("".into(), Some("\0".into())),
            ("ab".into(), Some("ab\0".into())),
            ("a\0".into(), Some("a\0\0".into())),
            ("x".repeat(1025).into(), None),
            (
                ObjectId::from_bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 255]).into(),
                Some(ObjectId::from_bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]).into()),
            ),
            (ObjectId::from_bytes([255; 12]).into(), None),
            (
                DateTime::from_millis(-1).into(),
                Some(DateTime::from_millis(0).into()),
            ),
            (
                binary(BinarySubtype::Uuid, &[7; 16]),
                Some(binary(
                    BinarySubtype::Uuid,
                    &[[7; 15].as_slice(), &[8]].concat(),
                )),
            ),
            (binary(generic, &[255, 255]), None),
            (binary(generic, &[]), None),
            (binary(BinarySubtype::BinaryOld, &[1]), None),
            (Bson::Null, None),
            (true.into(), None),
            (doc! {"a": 1}.into(), None),
            (doc! {"$gt": 1}.into(), None),
            (
                Bson::RegularExpression(bson::Regex {
                    pattern: "x".try_into().unwrap(),
                    options: "".try_into().unwrap(),
                }),
                None,
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(next(value.clone()), expected, "{value}");
        }
    }
}
