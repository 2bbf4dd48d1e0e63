//! What servers say of a document that an index cannot hold, since two of its fields are arrays.

use std::collections::BTreeSet;

use bson::Document;

use super::{first_batch, of_documents};

/// Fields of one document that hold arrays, because of which an index cannot hold it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ParallelArrays([String; 2]);

/// `CannotIndexParallelArrays`.
const PARALLEL_ARRAYS: i64 = 171;

impl ParallelArrays {
    /// Those that a reply speaks of, once each. Seen: 4.4.2, 5.0.4 and 6.0.5 do not name the index, but the last names of the
    /// two fields, as in `cannot index parallel arrays [b] [p]` for `{"a.b": 1, "x.p": 1}`.
    pub(crate) fn of_reply(reply: &[u8]) -> Vec<Self> {
        let reply = Document::from_reader(reply).unwrap_or_default();
        let errors = of_documents(reply.get_array("writeErrors").cloned().unwrap_or_default());
        Self::of_errors(errors.iter().chain([&reply]))
    }

    /// Those that the reply to a `bulkWrite` speaks of, in its first batch.
    pub(crate) fn of_bulk_reply(reply: &[u8]) -> Vec<Self> {
        let reply = Document::from_reader(reply).unwrap_or_default();
        let outcomes = first_batch(&reply);
        Self::of_errors(outcomes.iter().chain([&reply]))
    }

    /// Those that documents with code and text speak of, once each.
    pub(crate) fn of_errors<'e>(errors: impl IntoIterator<Item = &'e Document>) -> Vec<Self> {
        let errors = errors.into_iter();
        let refused = errors.filter(|e| {
            e.get_i32("code")
                .is_ok_and(|c| i64::from(c) == PARALLEL_ARRAYS)
        });
        let texts = refused.filter_map(|error| error.get_str("errmsg").ok());
        let found: BTreeSet<Self> = texts.filter_map(Self::parse).collect();
        found.into_iter().collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let (_, names) = text.split_once("parallel arrays [")?;
        let (one, other) = names.strip_suffix(']')?.split_once("] [")?;
        Some(Self([one.to_owned(), other.to_owned()]))
    }

    /// Whether an index over these fields does not take them.
    pub(super) fn are_refused_by<'k>(&self, fields: impl Iterator<Item = &'k str>) -> bool {
        let [one, other] = &self.0;
        let has = |field: &str, name: &String| field.split('.').any(|part| part == name);
        let fields: Vec<&str> = fields.collect();
        let pairs = fields
            .iter()
            .flat_map(|a| fields.iter().map(move |b| (a, b)));
        let mut pairs = pairs.filter(|(a, b)| a != b);
        pairs.any(|(a, b)| has(a, one) && has(b, other))
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn arrays_are_refused_by_indexes_over_both_fields() {
        let text = |fields: &str| format!("cannot index parallel arrays {fields}");
        let error = |fields: &str| doc! {"code": 171, "errmsg": text(fields)};
        let reply = doc! {"writeErrors": [error("[b] [a]"), error("[b] [a]"), {"code": 11000, "errmsg": text("[x] [y]")}]};
        let bytes = bson::serialize_to_vec(&reply).unwrap();
        let read = ParallelArrays::of_reply(&bytes);
        let expected = [ParallelArrays(["b".to_owned(), "a".to_owned()])];
        assert_eq!(read, expected);
        let outcomes =
            doc! {"cursor": {"firstBatch": [{"ok": 1.0}, error("[b] [a]")]}, "nErrors": 1};
        let bytes = bson::serialize_to_vec(&outcomes).unwrap();
        assert_eq!(ParallelArrays::of_bulk_reply(&bytes), expected);
        let whole = bson::serialize_to_vec(&error("[p] [p]")).unwrap();
        let [same] = <[ParallelArrays; 1]>::try_from(ParallelArrays::of_reply(&whole)).unwrap();
        for (arrays, fields, is_refused) in [
            (&read[0], &["a", "b"][..], true),
            (&read[0], &["x.b", "c", "a.y"], true),
            (&read[0], &["a", "c"], false),
            (&read[0], &["a.b", "c"], false),
            (&same, &["x.p", "y.p"], true),
            (&same, &["x.p"], false),
        ] {
            assert_eq!(
                arrays.are_refused_by(fields.iter().copied()),
                is_refused,
                "{fields:?}"
            );
        }
    }
}
