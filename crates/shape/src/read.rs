//! Commands read as shapes.

use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Element, Writer};

use crate::fields::{Fields, Filter, is_path};
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
    /// The foreign side of a `$lookup`: its value is in the documents.
    Foreign {
        /// The foreign field.
        field: String,
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

/// The shapes of a command: none for commands that read nothing by a filter, one for each statement, for each branch of a top-level
/// `$or`, and for the foreign side of each `$lookup`.
pub fn shapes_of(command: &Command<'_>) -> Vec<Seen> {
    let mut seen = Vec::new();
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

/// The collections of a command's shapes besides the one that it names: those of its `$lookup` stages.
pub fn collections_of<'a>(command: &Command<'a>) -> Vec<&'a str> {
    if command.name != b"aggregate" {
        return Vec::new();
    }
    let mut names: Vec<&str> = stages(command)
        .filter_map(|stage| foreign(&stage))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The query part of a command or statement.
#[derive(Clone, Copy, Default)]
struct Query<'a> {
    filter: Option<Document<'a>>,
    sort: Option<Document<'a>>,
    collation: Option<Document<'a>>,
    skip: i64,
    limit: i64,
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
        }
    }

    fn shapes(&self, mut shape: Shape, seen: &mut Vec<Seen>) {
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
fn documents<'a>(command: &Command<'a>, name: &str) -> impl Iterator<Item = Document<'a>> {
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

/// The foreign field is an equality; the leading `$match` of the foreign pipeline narrows further.
fn foreign_shape(
    mut shape: Shape,
    arguments: Document<'_>,
    collation: Option<Document<'_>>,
    seen: &mut Vec<Seen>,
) {
    let field = arguments
        .find("foreignField")
        .or_else(|| arguments.find("connectToField"));
    let Some(field) = field.and_then(|e| e.as_str()).filter(|path| is_path(path)) else {
        return;
    };
    let stages = arguments.find("pipeline").and_then(|e| e.as_array());
    let first = stages.and_then(|stages| stages.first()?.as_document()?.find("$match"));
    let filter = first.and_then(|stage| stage.as_document());
    let mut fields = Filter::read(filter.unwrap_or(Document::EMPTY)).fields;
    fields.equal(field);
    fields.into_shape(&mut shape);
    shape.collation = collation_of(collation);
    seen.push(Seen {
        shape,
        probe: Probe::Foreign {
            field: field.to_owned(),
        },
    });
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
