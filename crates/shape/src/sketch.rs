//! A number for a command that stands for its shapes, made without allocation while the command is at hand.

use mdb_wire::{Command, Document, Element, Kind};

use crate::fields::{Role, compared, has_few_values, regex_role, role_of};
use crate::read::documents;
use crate::shape::Fnv;

/// Elements that are looked at. What stands behind them does not change the number: two commands that differ there only are
/// counted as one.
const ELEMENTS_MAX: u32 = 48;

/// Stands for a command's shapes inside one process. Commands of one sketch have the same shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sketch(pub u64);

impl Sketch {
    /// The same for one app: another app's commands have other places.
    #[must_use]
    pub fn of_app(self, slug: &str) -> Self {
        let mut hash = Fnv(self.0);
        hash.part(slug.as_bytes());
        Self(hash.0)
    }
}

/// The sketch of a command; `None` for commands without shapes that write nothing either.
pub fn sketch_of(command: &Command<'_>) -> Option<Sketch> {
    let mut pen = Pen {
        hash: Fnv::default(),
        left: ELEMENTS_MAX,
    };
    if command.name == b"bulkWrite" {
        pen.bulk(command);
        return Some(Sketch(pen.hash.0));
    }
    let collection = command.target.as_string()?;
    pen.hash.part(command.name);
    pen.hash.part(command.database.as_bytes());
    pen.hash.part(collection);
    let body = command.body;
    match command.name {
        b"insert" => {}
        b"find" => pen.query(body, b"filter"),
        b"count" | b"distinct" | b"findAndModify" | b"findandmodify" => pen.query(body, b"query"),
        b"update" => pen.statement(command, "updates"),
        b"delete" => pen.statement(command, "deletes"),
        b"aggregate" => {
            for element in body.elements() {
                match element.key {
                    b"pipeline" => pen.stages(element.as_array()),
                    b"collation" => pen.hash.part(element.value),
                    b"hint" => pen.hash.byte(b'h'),
                    _ => {}
                }
            }
        }
        _ => return None,
    }
    Some(Sketch(pen.hash.0))
}

struct Pen {
    hash: Fnv,
    left: u32,
}

impl Pen {
    fn query(&mut self, body: Document<'_>, filter: &[u8]) {
        for element in body.elements() {
            match element.key {
                key if key == filter => {
                    self.hash.byte(b'f');
                    self.filter(element.as_document());
                }
                b"sort" => self.sort(element.as_document()),
                b"collation" => self.hash.part(element.value),
                // The number of documents decides whether the order is worth an index.
                b"limit" | b"skip" => self.hash.byte(b'l'),
                // What names its index has no use for another.
                b"hint" => self.hash.byte(b'h'),
                _ => {}
            }
        }
    }

    /// The first statement stands for the others.
    fn statement(&mut self, command: &Command<'_>, name: &str) {
        let in_sequence = command.sequence(name).and_then(|s| s.documents().next());
        let in_body = || {
            let array = command.body.find(name).and_then(|e| e.as_array());
            array.and_then(|a| a.first()?.as_document())
        };
        if let Some(statement) = in_sequence.or_else(in_body) {
            self.query(statement, b"q");
        }
    }

    /// The namespaces, and the first statement for the others.
    fn bulk(&mut self, command: &Command<'_>) {
        self.hash.part(command.name);
        for entry in documents(command, "nsInfo") {
            if !self.take() {
                break;
            }
            entry
                .find("ns")
                .into_iter()
                .for_each(|ns| self.hash.part(ns.value));
        }
        if let Some(statement) = documents(command, "ops").next() {
            if let Some(first) = statement.first() {
                self.hash.part(first.key);
                self.hash.part(first.value);
            }
            self.query(statement, b"filter");
        }
    }

    fn stages(&mut self, pipeline: Option<Document<'_>>) {
        let stages = pipeline.into_iter().flat_map(Document::elements);
        for stage in stages.filter_map(|stage| stage.as_document()?.first()) {
            if !self.take() {
                return;
            }
            self.hash.part(stage.key);
            match stage.key {
                b"$match" => self.filter(stage.as_document()),
                b"$sort" => self.sort(stage.as_document()),
                b"$lookup" | b"$graphLookup" => self.foreign(stage.as_document()),
                _ => {}
            }
        }
    }

    fn foreign(&mut self, arguments: Option<Document<'_>>) {
        for element in arguments.into_iter().flat_map(Document::elements) {
            match element.key {
                b"from" | b"foreignField" | b"connectToField" => self.hash.part(element.value),
                b"pipeline" => {
                    let stages = element.as_array().into_iter().flat_map(Document::elements);
                    for stage in stages.filter_map(|stage| stage.as_document()?.first()) {
                        match stage.key {
                            b"$match" => self.foreign_filter(stage.as_document()),
                            b"$sort" => return self.sort(stage.as_document()),
                            _ => break,
                        }
                    }
                }
                b"restrictSearchWithMatch" => self.foreign_filter(element.as_document()),
                _ => {}
            }
        }
    }

    fn foreign_filter(&mut self, filter: Option<Document<'_>>) {
        self.filter(filter);
        if let Some(filter) = filter {
            compared(filter, &mut |path| self.hash.part(path.as_bytes()));
        }
    }

    fn sort(&mut self, sort: Option<Document<'_>>) {
        for element in sort.into_iter().flat_map(Document::elements) {
            if !self.take() {
                return;
            }
            self.hash.part(element.key);
            let is_descending = element.as_integer().is_some_and(|n| n < 0);
            self.hash.byte(u8::from(is_descending));
        }
    }

    fn filter(&mut self, filter: Option<Document<'_>>) {
        for element in filter.into_iter().flat_map(Document::elements) {
            if !self.take() {
                return;
            }
            self.hash.part(element.key);
            self.value(&element);
        }
        self.hash.byte(b'}');
    }

    /// What of a value decides on the shape, never the value itself.
    fn value(&mut self, element: &Element<'_>) {
        let is_operator = element.key.first() == Some(&b'$');
        match element.kind {
            Kind::Document => {
                let document = element.as_document();
                let first = document.and_then(Document::first);
                if is_operator || first.is_some_and(|f| f.key.first() == Some(&b'$')) {
                    self.filter(document);
                }
            }
            Kind::Array if matches!(element.key, b"$and" | b"$or" | b"$nor") => {
                for branch in element.as_array().into_iter().flat_map(Document::elements) {
                    self.filter(branch.as_document());
                }
            }
            Kind::Array if element.key == b"$in" => {
                let is_few = element.as_array().is_some_and(has_few_values);
                self.hash.byte(u8::from(is_few));
            }
            Kind::Regex => self.hash.byte(u8::from(regex_role(element) == Role::Range)),
            _ => {}
        }
        if matches!(element.key, b"$exists" | b"$regex") {
            self.hash.byte(u8::from(role_of(element) == Role::Range));
        }
    }

    fn take(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}
