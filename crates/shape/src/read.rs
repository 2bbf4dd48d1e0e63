//! Commands read as shapes.

use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Element, Writer};

use crate::fields::{Fields, Filter, compared, is_path};
use crate::shape::{Direction, Shape, ShapeKind};

/// Statements of one command that are looked at: those of one command are of few shapes.
const STATEMENTS_MAX: usize = 16;

/// Stages of one pipeline that are looked at.
const STAGES_MAX: usize = 32;

/// Fields of a sort: more than an index of ours has.
const SORT_FIELDS_MAX: usize = 16;

/// A command of a shape with its values: what can be explained as a `find`. It stays in memory and is never logged.
#[derive(Clone, PartialEq, Eq)]
pub enum Probe {
    /// The query part.
    Query {
        /// A filter, a document.
        filter: Vec<u8>,
        /// A sort, a document.
        sort: Option<Vec<u8>>,
        /// The number of documents skipped.
        skip: i64,
        /// The number of documents asked for; 0 for all.
        limit: i64,
    },
    /// The foreign side of a `$lookup`: values of some fields are in the documents of the other side.
    Foreign {
        /// The fields that equal something of the other side.
        fields: Vec<String>,
        /// What else is asked of the foreign documents, a filter.
        filter: Vec<u8>,
    },
}

impl std::fmt::Debug for Probe {
    /// Without the values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Query { .. } => "Query",
            Self::Foreign { .. } => "Foreign",
        })
    }
}

/// One shape of a command, and the command that had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The shape.
    pub shape: Shape,
    /// With its values.
    pub probe: Probe,
}

/// The shapes of a command: none for commands that read nothing by a filter, or that name their index themselves; one for each
/// statement, for each branch of a top-level `$or`, and for the foreign side of each `$lookup`.
pub fn shapes_of(command: &Command<'_>) -> Vec<Seen> {
    let mut seen = Vec::new();
    if command.name == b"bulkWrite" {
        bulk(command, &mut seen);
        seen.retain(|seen| seen.shape.is_indexable() || seen.shape.is_special);
        return seen;
    }
    let Some(collection) = command.target.as_str() else {
        return seen;
    };
    let body = command.body;
    let kind = |kind| Shape::new(command.database, collection, kind);
    match command.name {
        b"find" => {
            let query = Query::of(body, "filter");
            query.shapes(kind(ShapeKind::Find), &mut seen);
        }
        b"count" => Query::of(body, "query").shapes(kind(ShapeKind::Count), &mut seen),
        b"distinct" => {
            // An index on the key alone can serve it, but only the filter tells whether it is worth one.
            Query::of(body, "query").shapes(kind(ShapeKind::Distinct), &mut seen);
        }
        b"findAndModify" | b"findandmodify" => {
            let query = Query {
                limit: 1,
                ..Query::of(body, "query")
            };
            query.shapes(kind(ShapeKind::FindAndModify), &mut seen);
        }
        b"update" | b"delete" => statements(command, &kind, &mut seen),
        b"aggregate" => pipeline(command, kind(ShapeKind::Aggregate), &mut seen),
        _ => {}
    }
    seen.retain(|seen| seen.shape.is_indexable() || seen.shape.is_special);
    seen
}

/// The collections of a command's shapes, each with its database: the one that it names, if it names one, then those of its
/// `$lookup` stages, or of the `nsInfo` of a `bulkWrite`.
pub fn collections_of<'a>(command: &Command<'a>) -> Vec<(&'a str, &'a str)> {
    match command.name {
        b"bulkWrite" => namespaces(command).flatten().collect(),
        b"aggregate" => {
            let foreign = stages(command).filter_map(|stage| foreign(&stage));
            let mut names: Vec<&str> = foreign.collect();
            names.sort_unstable();
            names.dedup();
            let names = command.target.as_str().into_iter().chain(names);
            names.map(|name| (command.database, name)).collect()
        }
        _ => {
            let name = command.target.as_str().into_iter();
            name.map(|name| (command.database, name)).collect()
        }
    }
}

/// Databases and collections of a `bulkWrite`, in the order in which its statements name them.
fn namespaces<'a>(command: &Command<'a>) -> impl Iterator<Item = Option<(&'a str, &'a str)>> {
    let listed = documents(command, "nsInfo").take(STATEMENTS_MAX);
    listed.map(|entry| entry.find("ns")?.as_str()?.split_once('.'))
}

/// The statements of a `bulkWrite`: the first member says what is done and on which of the namespaces.
fn bulk(command: &Command<'_>, seen: &mut Vec<Seen>) {
    let namespaces: Vec<_> = namespaces(command).collect();
    for statement in documents(command, "ops").take(STATEMENTS_MAX) {
        let Some(first) = statement.first() else {
            continue;
        };
        let kind = match first.key {
            b"update" => ShapeKind::Update,
            b"delete" => ShapeKind::Delete,
            _ => continue,
        };
        let index = first
            .as_integer()
            .and_then(|index| usize::try_from(index).ok());
        let namespace = index.and_then(|index| *namespaces.get(index)?);
        if let Some((database, collection)) = namespace {
            let is_many = statement.find("multi").and_then(|e| e.as_flag()) == Some(true);
            let query = Query {
                limit: i64::from(!is_many),
                ..Query::of(statement, "filter")
            };
            query.shapes(Shape::new(database, collection, kind), seen);
        }
    }
}

/// The query part of a command or statement.
#[derive(Clone, Copy, Default)]
struct Query<'a> {
    filter: Option<Document<'a>>,
    sort: Option<Document<'a>>,
    collation: Option<Document<'a>>,
    skip: i64,
    limit: i64,
    has_hint: bool,
}

impl<'a> Query<'a> {
    fn of(body: Document<'a>, filter: &str) -> Self {
        let document = |name: &str| body.find(name).and_then(|e| e.as_document());
        let number = |name: &str| body.find(name).and_then(|e| e.as_integer()).unwrap_or(0);
        Self {
            filter: document(filter),
            sort: document("sort"),
            collation: document("collation"),
            skip: number("skip").max(0),
            // Negative for a single batch.
            limit: number("limit").saturating_abs(),
            has_hint: body.find("hint").is_some(),
        }
    }

    fn shapes(&self, mut shape: Shape, seen: &mut Vec<Seen>) {
        if self.has_hint {
            return;
        }
        let filter = self.filter.unwrap_or(Document::EMPTY);
        let read = Filter::read(filter);
        shape.sort = sort_of(self.sort);
        shape.collation = collation_of(self.collation);
        if read.branches.is_empty() {
            read.fields.into_shape(&mut shape);
            let filter = filter.bytes().to_vec();
            seen.push(self.seen(shape, filter));
            return;
        }
        for branch in &read.branches {
            let mut fields: Fields = read.fields.clone();
            fields.branch(*branch);
            let mut shape = shape.clone();
            fields.into_shape(&mut shape);
            seen.push(self.seen(shape, both(without_or(filter), *branch)));
        }
    }

    fn seen(&self, shape: Shape, filter: Vec<u8>) -> Seen {
        let probe = Probe::Query {
            filter,
            sort: self.sort.map(|sort| sort.bytes().to_vec()),
            skip: self.skip,
            limit: self.limit,
        };
        Seen { shape, probe }
    }
}

fn statements(command: &Command<'_>, shape: &dyn Fn(ShapeKind) -> Shape, seen: &mut Vec<Seen>) {
    let (name, kind) = match command.name {
        b"update" => ("updates", ShapeKind::Update),
        _ => ("deletes", ShapeKind::Delete),
    };
    for statement in documents(command, name).take(STATEMENTS_MAX) {
        let is_one = match kind {
            ShapeKind::Update => statement.find("multi").and_then(|e| e.as_flag()) != Some(true),
            _ => statement.find("limit").and_then(|e| e.as_integer()) == Some(1),
        };
        let query = Query {
            limit: i64::from(is_one),
            ..Query::of(statement, "q")
        };
        query.shapes(shape(kind), seen);
    }
}

/// The documents of a sequence, or of the array of that name.
pub(crate) fn documents<'a>(
    command: &Command<'a>,
    name: &str,
) -> impl Iterator<Item = Document<'a>> {
    let sequence = command.sequence(name);
    let array = command.body.find(name).and_then(|e| e.as_array());
    let sequence = sequence.into_iter().flat_map(mdb_wire::Sequence::documents);
    let array = array.into_iter().flat_map(Document::elements);
    sequence.chain(array.filter_map(|e| e.as_document()))
}

fn stages<'a>(command: &Command<'a>) -> impl Iterator<Item = Element<'a>> {
    let pipeline = command.body.find("pipeline").and_then(|e| e.as_array());
    let stages = pipeline.into_iter().flat_map(Document::elements);
    let stages = stages.filter_map(|stage| stage.as_document()?.first());
    stages.take(STAGES_MAX)
}

/// The leading `$match`, `$sort`, `$skip` and `$limit` of a pipeline, and the foreign sides of its `$lookup` stages.
fn pipeline(command: &Command<'_>, shape: Shape, seen: &mut Vec<Seen>) {
    let collation = command.body.find("collation").and_then(|e| e.as_document());
    let mut query = Query {
        collation,
        has_hint: command.body.find("hint").is_some(),
        ..Query::default()
    };
    let mut filter = Vec::new();
    let mut is_special = false;
    let mut is_leading = true;
    for stage in stages(command) {
        match stage.key {
            b"$match" if is_leading && query.sort.is_none() => {
                if let Some(more) = stage.as_document() {
                    filter = match Document::parse(&filter) {
                        Ok(before) => both(before, more),
                        Err(_) => more.bytes().to_vec(),
                    };
                }
            }
            b"$sort" if is_leading && query.sort.is_none() => query.sort = stage.as_document(),
            b"$limit" if is_leading => {
                query.limit = stage.as_integer().unwrap_or(0).max(0);
                is_leading = false;
            }
            b"$skip" if is_leading && query.skip == 0 => {
                query.skip = stage.as_integer().unwrap_or(0).max(0);
            }
            b"$geoNear" if is_leading => {
                is_special = true;
                is_leading = false;
            }
            _ => is_leading = false,
        }
        let name = foreign(&stage);
        if let (Some(name), Some(arguments)) = (name, stage.as_document()) {
            let shape = Shape::new(command.database, name, ShapeKind::Lookup);
            foreign_shape(shape, arguments, collation, seen);
        }
    }
    let mut shape = shape;
    shape.is_special = is_special;
    query.filter = Document::parse(&filter).ok();
    query.shapes(shape, seen);
}

/// The foreign collection of a stage, in the same database.
fn foreign<'a>(stage: &Element<'a>) -> Option<&'a str> {
    if !matches!(stage.key, b"$lookup" | b"$graphLookup") {
        return None;
    }
    stage.as_document()?.find("from")?.as_str()
}

/// The foreign field is an equality, as are fields that the leading `$match` stages of the foreign pipeline compare with
/// variables; those stages narrow further, and a `$sort` behind them orders.
fn foreign_shape(
    mut shape: Shape,
    arguments: Document<'_>,
    collation: Option<Document<'_>>,
    seen: &mut Vec<Seen>,
) {
    let field = arguments
        .find("foreignField")
        .or_else(|| arguments.find("connectToField"));
    let field = field.and_then(|e| e.as_str());
    if field.is_some_and(|path| !is_path(path)) {
        return;
    }
    let (filter, sort) = foreign_stages(arguments);
    let filter = Document::parse(&filter).unwrap_or(Document::EMPTY);
    let mut fields = Filter::read_foreign(filter).fields;
    if let Some(field) = field {
        fields.equal(field);
    }
    let mut equal: Vec<String> = Vec::new();
    compared(filter, &mut |path| equal.push(path.to_owned()));
    equal.extend(field.map(str::to_owned));
    equal.sort_unstable();
    equal.dedup();
    fields.into_shape(&mut shape);
    shape.collation = collation_of(collation);
    shape.sort = sort_of(sort);
    let constant = without_expressions(filter);
    let probe = if equal.is_empty() {
        Probe::Query {
            filter: constant,
            sort: sort.map(|sort| sort.bytes().to_vec()),
            skip: 0,
            limit: 0,
        }
    } else {
        Probe::Foreign {
            fields: equal,
            filter: constant,
        }
    };
    seen.push(Seen { shape, probe });
}

/// The leading `$match` stages of a foreign pipeline as one filter, and the `$sort` behind them. `$graphLookup` says
/// `restrictSearchWithMatch` instead.
fn foreign_stages(arguments: Document<'_>) -> (Vec<u8>, Option<Document<'_>>) {
    let restricted = arguments.find("restrictSearchWithMatch");
    let restricted = restricted.and_then(|e| e.as_document());
    let mut filter = restricted.unwrap_or(Document::EMPTY).bytes().to_vec();
    let stages = arguments.find("pipeline").and_then(|e| e.as_array());
    let stages = stages.into_iter().flat_map(Document::elements);
    for stage in stages.take(STAGES_MAX) {
        let first = stage.as_document().and_then(Document::first);
        let Some((first, body)) = first.and_then(|first| Some((first, first.as_document()?)))
        else {
            break;
        };
        match first.key {
            b"$match" => {
                let before = Document::parse(&filter).unwrap_or(Document::EMPTY);
                filter = if before.is_empty() {
                    body.bytes().to_vec()
                } else {
                    both(before, body)
                };
            }
            b"$sort" => return (filter, Some(body)),
            _ => break,
        }
    }
    (filter, None)
}

/// The same filter without what compares with variables, whose values are not at hand.
fn without_expressions(filter: Document<'_>) -> Vec<u8> {
    let mut w = Writer::default();
    let mark = w.begin();
    for element in filter.elements() {
        match (element.key, element.as_array()) {
            (b"$expr", _) => {}
            (b"$and", Some(parts)) => {
                let parts = parts.elements().filter_map(|part| part.as_document());
                let parts: Vec<Vec<u8>> = parts.map(without_expressions).collect();
                let parts = parts.iter().filter_map(|part| Document::parse(part).ok());
                let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
                if parts.is_empty() {
                    continue;
                }
                let array = w.begin_array(b"$and");
                for (index, part) in parts.into_iter().enumerate() {
                    w.document(IndexKey::new(index).as_bytes(), part);
                }
                w.end(array);
            }
            _ => w.element(&element),
        }
    }
    w.end(mark);
    w.into_bytes()
}

/// Fields up to one that an index has not (`{$meta: …}`, `$natural`): what stands behind it does not count.
fn sort_of(sort: Option<Document<'_>>) -> Vec<(String, Direction)> {
    let fields = sort.into_iter().flat_map(Document::elements);
    fields
        .map_while(|field| {
            let direction = Direction::of(field.as_integer()?);
            is_path(field.name()).then(|| (field.name().to_owned(), direction))
        })
        .take(SORT_FIELDS_MAX)
        .collect()
}

fn collation_of(collation: Option<Document<'_>>) -> Option<Vec<u8>> {
    let collation = collation?;
    let locale = collation.find("locale")?;
    (locale.as_str() != Some("simple")).then(|| collation.bytes().to_vec())
}

/// A filter without its `$or` and what stands beside it in an `$and`: that is said by the branch.
fn without_or(filter: Document<'_>) -> Document<'_> {
    // The whole filter implies the branch's part; as a whole it would bring the other branches back.
    if filter.elements().all(|e| e.key == b"$or") {
        Document::EMPTY
    } else {
        filter
    }
}

/// `{$and: [a, b]}`; `{}` if both are empty.
fn both(a: Document<'_>, b: Document<'_>) -> Vec<u8> {
    if a.is_empty() && b.is_empty() {
        return Document::EMPTY.bytes().to_vec();
    }
    let mut w = Writer::default();
    let mark = w.begin();
    let array = w.begin_array(b"$and");
    for (index, part) in [a, b].into_iter().filter(|d| !d.is_empty()).enumerate() {
        w.document(IndexKey::new(index).as_bytes(), part);
    }
    w.end(array);
    w.end(mark);
    w.into_bytes()
}
