//! What lists of collections, databases and indexes look like, and which of them a filter takes.

use std::cmp::Ordering;

use crate::control::Entry;
use crate::images;
use crate::namespaces::has_collation;
use bson::{Bson, doc};
use mdb_scope::{AppId, CollectionFacts, Isolation, Refusal, Scope};
use mdb_wire::writer::IndexKey;
use mdb_wire::{Document, Element, Kind, Writer};
use regex::{Regex, RegexBuilder};
use sha2::{Digest, Sha256};

/// Bytes of a compiled pattern of a list filter. Tools send patterns of a few dozen bytes.
const PATTERN_BYTES_MAX: usize = 64 * 1024;

/// The filter of `listCollections` or `listDatabases`: conditions on what an entry shows.
#[derive(Debug)]
pub(crate) struct ListFilter(Vec<Condition>);

#[derive(Debug)]
enum Condition {
    /// A path and what holds of its value.
    Field(String, Test),
    All(Vec<ListFilter>),
    Any(Vec<ListFilter>),
    None(Vec<ListFilter>),
}

#[derive(Debug)]
enum Test {
    Equals(Bson),
    OneOf(Vec<Bson>),
    /// How it compares to a value of the same kind.
    Compares(&'static [Ordering], Bson),
    Matches(Regex),
    Exists(bool),
    Not(Box<Test>),
    Every(Vec<Test>),
}

impl ListFilter {
    /// Reads a command whose fields are conditions, but for the first and those that `is_other`.
    ///
    /// # Errors
    /// 2 for what is not a condition that the proxy can test.
    pub(crate) fn of_fields(
        command: Document<'_>,
        is_other: impl Fn(&Element<'_>) -> bool,
    ) -> Result<Self, Refusal> {
        let conditions = command.elements().skip(1).filter(|e| !is_other(e));
        conditions
            .map(|e| Condition::read(&e))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Reads a filter.
    ///
    /// # Errors
    /// 2 for what is not a condition that the proxy can test.
    pub(crate) fn read(element: Option<Element<'_>>) -> Result<Self, Refusal> {
        let Some(filter) = element.and_then(|e| e.as_document()) else {
            return Ok(Self(Vec::new()));
        };
        filter
            .elements()
            .map(|e| Condition::read(&e))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether it takes whatever there is.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it takes an entry that shows this.
    pub(crate) fn takes(&self, shown: &bson::Document) -> bool {
        self.0.iter().all(|condition| condition.holds(shown))
    }
}

impl Condition {
    fn read(element: &Element<'_>) -> Result<Self, Refusal> {
        let branches = || {
            let array = element.as_array().into_iter().flat_map(Document::elements);
            array
                .map(|branch| ListFilter::read(Some(branch)))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match element.key {
            b"$and" => Self::All(branches()?),
            b"$or" => Self::Any(branches()?),
            b"$nor" => Self::None(branches()?),
            key if key.starts_with(b"$") => {
                return Err(Refusal::bad_value(format!(
                    "'{}' is not available in the filter of a list; filter by what the list shows",
                    element.name()
                )));
            }
            _ => Self::Field(element.name().to_owned(), Test::read(element)?),
        })
    }

    fn holds(&self, shown: &bson::Document) -> bool {
        let takes = |filter: &ListFilter| filter.takes(shown);
        match self {
            Self::All(branches) => branches.iter().all(takes),
            Self::Any(branches) => branches.iter().any(takes),
            Self::None(branches) => !branches.iter().any(takes),
            Self::Field(path, test) => match values_at(shown, path).as_slice() {
                [] => test.holds(None),
                values => values.iter().any(|value| test.holds(Some(value))),
            },
        }
    }
}

impl Test {
    fn read(element: &Element<'_>) -> Result<Self, Refusal> {
        let operators = element.as_document().filter(|document| {
            let first = document.first();
            first.is_some_and(|first| first.key.first() == Some(&b'$'))
        });
        match (element.kind, operators) {
            (Kind::Regex, _) => pattern(element.value),
            (_, Some(operators)) => {
                let options = operators.find("$options").and_then(|o| o.as_str());
                let tests = operators
                    .elements()
                    .filter(|operator| operator.key != b"$options")
                    .map(|operator| Self::operator(&operator, options));
                tests.collect::<Result<_, _>>().map(Self::Every)
            }
            _ => Ok(Self::Equals(literal(element))),
        }
    }

    fn operator(operator: &Element<'_>, options: Option<&str>) -> Result<Self, Refusal> {
        let values = || -> Vec<Bson> {
            let array = operator.as_array().into_iter().flat_map(Document::elements);
            array.map(|value| literal(&value)).collect()
        };
        Ok(match operator.key {
            b"$eq" => Self::Equals(literal(operator)),
            b"$ne" => Self::Not(Box::new(Self::Equals(literal(operator)))),
            b"$not" => Self::Not(Box::new(Self::read(operator)?)),
            b"$in" => Self::OneOf(values()),
            b"$nin" => Self::Not(Box::new(Self::OneOf(values()))),
            b"$gt" => Self::Compares(&[Ordering::Greater], literal(operator)),
            b"$gte" => Self::Compares(&[Ordering::Greater, Ordering::Equal], literal(operator)),
            b"$lt" => Self::Compares(&[Ordering::Less], literal(operator)),
            b"$lte" => Self::Compares(&[Ordering::Less, Ordering::Equal], literal(operator)),
            b"$exists" => Self::Exists(operator.as_flag().unwrap_or(true)),
            b"$regex" => match operator.as_str() {
                Some(text) => matches(text, options.unwrap_or_default())?,
                None => pattern(operator.value)?,
            },
            _ => {
                return Err(Refusal::bad_value(format!(
                    "'{}' is not available in the filter of a list",
                    operator.name()
                )));
            }
        })
    }

    fn holds(&self, value: Option<&Bson>) -> bool {
        match self {
            Self::Equals(expected) => is_same(value, expected),
            Self::OneOf(expected) => expected.iter().any(|e| is_same(value, e)),
            Self::Compares(orders, expected) => value
                .and_then(|value| compare(value, expected))
                .is_some_and(|order| orders.contains(&order)),
            Self::Matches(regex) => value
                .and_then(Bson::as_str)
                .is_some_and(|v| regex.is_match(v)),
            Self::Exists(expected) => value.is_some() == *expected,
            Self::Not(test) => !test.holds(value),
            Self::Every(tests) => tests.iter().all(|test| test.holds(value)),
        }
    }
}

/// The values at a dotted path through documents, and through those of an array.
fn values_at<'d>(document: &'d bson::Document, path: &str) -> Vec<&'d Bson> {
    let Some((field, rest)) = path.split_once('.') else {
        return document.get(path).into_iter().collect();
    };
    match document.get(field) {
        Some(Bson::Document(inner)) => values_at(inner, rest),
        Some(Bson::Array(items)) => {
            let inner = items.iter().filter_map(Bson::as_document);
            inner.flat_map(|item| values_at(item, rest)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a value is what a filter says: `null` is also nothing, and numbers are compared by value.
fn is_same(value: Option<&Bson>, expected: &Bson) -> bool {
    let Some(value) = value else {
        return *expected == Bson::Null;
    };
    match (number_of(value), number_of(expected)) {
        (Some(value), Some(expected)) => value.total_cmp(&expected).is_eq(),
        _ => value == expected,
    }
}

/// Numbers by value, strings byte by byte; values of other kinds do not compare.
fn compare(value: &Bson, expected: &Bson) -> Option<Ordering> {
    match (number_of(value), number_of(expected)) {
        (Some(value), Some(expected)) => value.partial_cmp(&expected),
        _ => Some(value.as_str()?.cmp(expected.as_str()?)),
    }
}

/// Numbers of a list are limits and sizes: doubles hold them.
#[allow(clippy::cast_precision_loss)]
fn number_of(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(n) => Some(f64::from(*n)),
        Bson::Int64(n) => Some(*n as f64),
        Bson::Double(n) => Some(*n),
        _ => None,
    }
}

/// The value of an element.
fn literal(element: &Element<'_>) -> Bson {
    let mut w = Writer::default();
    let mark = w.begin();
    w.renamed(b"v", element);
    w.end(mark);
    let bytes = w.into_bytes();
    let read = bson::Document::from_reader(bytes.as_slice());
    read.ok()
        .and_then(|mut d| d.remove("v"))
        .unwrap_or(Bson::Undefined)
}

/// A BSON regular expression: pattern and options, each ended by a zero byte.
fn pattern(value: &[u8]) -> Result<Test, Refusal> {
    let mut parts = value.split(|&b| b == 0);
    let mut next = || std::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let (text, options) = (next(), next());
    matches(text, options)
}

/// A pattern that may begin with `^(?!...)`, as drivers write it to leave out system collections.
fn matches(text: &str, options: &str) -> Result<Test, Refusal> {
    // An alternative behind the group would not be bound to the beginning.
    let parts = text.strip_prefix("^(?!").and_then(split_group);
    let Some((unwanted, rest)) = parts.filter(|(_, rest)| !rest.contains('|')) else {
        return compile(text, options).map(Test::Matches);
    };
    let unwanted = compile(&format!("^(?:{unwanted})"), options)?;
    let rest = compile(&format!("^(?:{rest})"), options)?;
    let is_wanted = Test::Not(Box::new(Test::Matches(unwanted)));
    Ok(Test::Every(vec![is_wanted, Test::Matches(rest)]))
}

/// What stands in a group whose opening is already read, and what follows it.
fn split_group(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut is_escaped, mut in_class) = (1_u32, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => depth += 1,
            ')' if depth > 1 => depth -= 1,
            ')' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn compile(text: &str, options: &str) -> Result<Regex, Refusal> {
    RegexBuilder::new(text)
        .case_insensitive(options.contains('i'))
        .multi_line(options.contains('m'))
        .dot_matches_new_line(options.contains('s'))
        .ignore_whitespace(options.contains('x'))
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|_| {
            Refusal::bad_value("this regular expression is not available in the filter of a list")
        })
}

/// A collection's UUID as the app sees it: its own, so that it tells nothing of the shared one.
pub(crate) fn collection_uuid(app: &AppId, database: &str, collection: &str) -> [u8; 16] {
    let mut digest = Sha256::new();
    digest.update(format!("{app}/{database}.{collection}"));
    let mut uuid = [0; 16];
    for (place, byte) in uuid.iter_mut().zip(digest.finalize()) {
        *place = byte;
    }
    // Version 8, variant RFC 9562: made of what the maker likes.
    uuid[6] = uuid[6] & 0x0F | 0x80;
    uuid[8] = uuid[8] & 0x3F | 0x80;
    uuid
}

/// A collection or view of the app, as `listCollections` shows it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// `collection`, `view` or `timeseries`.
    pub(crate) kind: String,
    pub(crate) isolation: Isolation,
    options: bson::Document,
    info: bson::Document,
    id_index: Option<bson::Document>,
}

impl Listed {
    /// A physical collection or view that is the app's own; `None` for any other.
    pub(crate) fn dedicated(
        scope: &Scope,
        database: &str,
        found: &bson::Document,
        entries: &[Entry],
    ) -> Option<Self> {
        let name = scope.dedicated_name(found.get_str("name").ok()?)?;
        if mdb_scope::check_collection(name).is_err() {
            return None;
        }
        let part = |key: &str| found.get_document(key).cloned().unwrap_or_default();
        let kind = found.get_str("type").unwrap_or("collection");
        let options = if kind == "view" {
            // The server's definition is the one that is bound to the app.
            let entry = entries
                .iter()
                .find(|e| e.database == database && e.collection == name);
            let mut options = entry.and_then(|e| e.view.clone()).unwrap_or_default();
            // Its collation it completes, and leaves the simple one out.
            match part("options").get("collation") {
                Some(collation) => drop(options.insert("collation", collation.clone())),
                None => drop(options.remove("collation")),
            }
            options
        } else {
            part("options")
        };
        Some(Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            isolation: Isolation::Dedicated,
            options,
            info: part("info"),
            id_index: found.get_document("idIndex").ok().cloned(),
        })
    }

    /// A physical collection that apps share, as one of the app's; `None` for what no app can name.
    pub(crate) fn shared(
        app: &AppId,
        database: &str,
        found: &bson::Document,
        entries: &[Entry],
    ) -> Option<Self> {
        let name = found.get_str("name").ok()?;
        let is_collection = found.get_str("type").is_ok_and(|kind| kind == "collection");
        let is_nameable = mdb_scope::check_collection(name).is_ok();
        // Under a default collation the app's condition could take look-alike apps' documents.
        if !is_collection || !is_nameable || has_collation(found) {
            return None;
        }
        let uuid = bson::Uuid::from_bytes(collection_uuid(app, database, name));
        let mut entries = entries
            .iter()
            .filter(|e| e.database == database && e.collection == name);
        let validation = entries.clone().next().and_then(|e| e.validation.clone());
        let mut options = bson::Document::new();
        if entries.any(|e| e.has_images) {
            options.insert(images::OPTION, doc! {"enabled": true});
        }
        options.extend(validation.unwrap_or_default());
        Some(Self {
            name: name.to_owned(),
            kind: "collection".to_owned(),
            isolation: Isolation::Shared,
            options,
            info: doc! {"readOnly": false, "uuid": uuid},
            id_index: Some(plain_id_index()),
        })
    }

    /// What a filter can see of the entry.
    pub(crate) fn shown(&self) -> bson::Document {
        doc! {"name": &self.name, "type": &self.kind, "options": &self.options, "info": &self.info}
    }

    /// Writes the entry with this index.
    pub(crate) fn write(&self, w: &mut Writer, index: usize, is_name_only: bool) {
        let entry = w.begin_document(IndexKey::new(index).as_bytes());
        w.string(b"name", &self.name);
        w.string(b"type", &self.kind);
        if !is_name_only {
            document(w, b"options", &self.options);
            document(w, b"info", &self.info);
            if let Some(index) = &self.id_index {
                document(w, b"idIndex", index);
            }
        }
        w.end(entry);
    }
}

/// As it is in collections without a default collation.
fn plain_id_index() -> bson::Document {
    bson::Document::from_reader(id_index_definition().as_slice()).unwrap_or_default()
}

fn document(w: &mut Writer, key: &[u8], value: &bson::Document) {
    let bytes = value.to_vec().unwrap_or_default();
    w.document(key, Document::parse(&bytes).unwrap_or(Document::EMPTY));
}

/// One entry of `listDatabases`. Sizes are those of files, which apps share.
pub(crate) fn database(w: &mut Writer, index: usize, name: &str, is_name_only: bool) {
    let entry = w.begin_document(IndexKey::new(index).as_bytes());
    w.string(b"name", name);
    if !is_name_only {
        w.int64(b"sizeOnDisk", 0);
        w.boolean(b"empty", false);
    }
    w.end(entry);
}

/// The entries of `listIndexes`.
pub(crate) fn indexes(w: &mut Writer, facts: &CollectionFacts) {
    id_index(w, b"0");
    for (index, own) in facts.indexes.iter().enumerate() {
        if let Ok(definition) = Document::parse(&own.definition) {
            w.document(IndexKey::new(index + 1).as_bytes(), definition);
        }
    }
}

fn id_index(w: &mut Writer, key: &[u8]) {
    let definition = id_index_definition();
    w.document(key, Document::parse(&definition).unwrap_or(Document::EMPTY));
}

/// The definition of the index on `_id`, a document.
pub(crate) fn id_index_definition() -> Vec<u8> {
    let mut w = Writer::default();
    let index = w.begin();
    w.int32(b"v", 2);
    let pattern = w.begin_document(b"key");
    w.int32(b"_id", 1);
    w.end(pattern);
    w.string(b"name", "_id_");
    w.end(index);
    w.into_bytes()
}

/// An array of 64-bit integers.
pub(crate) fn ids(w: &mut Writer, key: &[u8], ids: &[i64]) {
    let array = w.begin_array(key);
    for (index, id) in ids.iter().enumerate() {
        w.int64(IndexKey::new(index).as_bytes(), *id);
    }
    w.end(array);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::Regex as BsonRegex;

    fn takes(filter: bson::Document, name: &str) -> Result<bool, i32> {
        let bytes = bson::serialize_to_vec(&doc! {"filter": filter}).unwrap();
        let document = Document::parse(&bytes).unwrap();
        let filter = ListFilter::read(document.find("filter")).map_err(|r| r.code)?;
        let options = doc! {"capped": true, "size": 4096};
        let info = doc! {"readOnly": false};
        Ok(filter
            .takes(&doc! {"name": name, "type": "collection", "options": options, "info": info}))
    }

    #[test]
    fn filters() {
        let regex = |p: &str| BsonRegex {
            pattern: p.try_into().unwrap(),
            options: "".try_into().unwrap(),
        };
        let cases = [
            (doc! {}, Ok(true)),
            (doc! {"name": "orders"}, Ok(true)),
            (doc! {"name": "other"}, Ok(false)),
            (doc! {"name": 1}, Ok(false)),
            (doc! {"name": {"$in": ["a", "orders"]}}, Ok(true)),
            (doc! {"name": {"$nin": ["a", "orders"]}}, Ok(false)),
            (doc! {"name": {"$ne": "a"}}, Ok(true)),
            (doc! {"name": regex("^ord")}, Ok(true)),
            (doc! {"name": {"$regex": "ORD", "$options": "i"}}, Ok(true)),
            (doc! {"name": {"$not": regex("\\$")}}, Ok(true)),
            (doc! {"type": "view"}, Ok(false)),
            (
                doc! {"$or": [{"name": "a"}, {"type": "collection"}]},
                Ok(true),
            ),
            (doc! {"$nor": [{"name": "orders"}]}, Ok(false)),
            (doc! {"options.capped": true}, Ok(true)),
            (doc! {"options.capped": {"$ne": true}}, Ok(false)),
            (doc! {"options.capped": {"$exists": false}}, Ok(false)),
            (doc! {"options.size": 4096.0}, Ok(true)),
            (doc! {"options.size": {"$in": [1, 2]}}, Ok(false)),
            (doc! {"options.timeseries": null}, Ok(true)),
            (doc! {"options.timeseries.timeField": "t"}, Ok(false)),
            (doc! {"options": {"capped": true, "size": 4096}}, Ok(true)),
            (doc! {"options": {}}, Ok(false)),
            (doc! {"info.readOnly": false}, Ok(true)),
            (doc! {"$where": "1"}, Err(2)),
            (doc! {"name": {"$gt": "a"}}, Ok(true)),
            (doc! {"name": {"$gt": "orders"}}, Ok(false)),
            (doc! {"name": {"$gt": 1}}, Ok(false)),
            (doc! {"options.size": {"$gt": 1, "$lte": 4096.0}}, Ok(true)),
            (doc! {"options.size": {"$lt": 4096}}, Ok(false)),
            (doc! {"options.nope": {"$gte": 0}}, Ok(false)),
            (doc! {"name": {"$size": 1}}, Err(2)),
            (doc! {"name": {"$regex": "("}}, Err(2)),
            (doc! {"name": {"$regex": r"^(?!system\.)"}}, Ok(true)),
            (doc! {"name": {"$regex": r"^(?!(or|[)]|\)))o"}}, Ok(false)),
            (doc! {"name": regex("^(?!x)ord")}, Ok(true)),
            (doc! {"name": regex("^(?!x)der")}, Ok(false)),
            (doc! {"name": regex("^(?!x)a|b")}, Err(2)),
            (doc! {"name": regex("^(?!x")}, Err(2)),
        ];
        for (filter, expected) in cases {
            assert_eq!(takes(filter.clone(), "orders"), expected, "{filter}");
        }
    }

    #[test]
    fn uuids_differ_by_app() {
        let uuid = |app: &str| collection_uuid(&AppId::parse(app).unwrap(), "d", "c");
        assert_eq!(uuid("a"), uuid("a"));
        assert_ne!(uuid("a"), uuid("b"));
    }
}
