//! The fields that a query names, as far as they can be told.

use mdb_wire::{Document, Element, Kind};

/// Operators that name fields otherwise than by a path behind `$`.
const NAMING: &[&[u8]] = &[b"$getField", b"$setField", b"$unsetField", b"$meta"];

/// Paths of fields; or more than can be told, which no index of the app's own is taken to hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    paths: Vec<Vec<u8>>,
    has_more: bool,
}

impl Fields {
    /// Whether a key pattern of the app's own has them all.
    pub(super) fn are_in(&self, key: Document<'_>) -> bool {
        let has = |path: &Vec<u8>| key.elements().any(|part| part.key == *path);
        !self.has_more && self.paths.iter().all(has)
    }

    /// A field.
    pub(super) fn path(&mut self, path: &[u8]) {
        self.paths.push(path.to_vec());
    }

    /// Whether there is more than can be told.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// What cannot be told.
    pub(super) fn more(&mut self) {
        self.has_more = true;
    }

    /// The keys of a sort.
    pub(super) fn sort(&mut self, sort: Document<'_>) {
        sort.elements().for_each(|field| self.path(field.key));
    }

    /// What a filter asks about.
    pub(super) fn filter(&mut self, filter: Document<'_>) {
        for element in filter.elements() {
            match element.key {
                b"$and" | b"$or" | b"$nor" => {
                    let branches = element.as_array().into_iter().flat_map(Document::elements);
                    let branches = branches.filter_map(|branch| branch.as_document());
                    branches.for_each(|branch| self.filter(branch));
                }
                b"$comment" => {}
                key if key.first() == Some(&b'$') => self.more(),
                key => self.path(key),
            }
        }
    }

    /// What a projection keeps or computes. False for an exclusion, which is of whole documents.
    pub(super) fn inclusion(&mut self, projection: Document<'_>) -> bool {
        let others = || projection.elements().filter(|field| field.key != b"_id");
        let id = projection.find("_id");
        let drops_id = id.is_some_and(|id| id.as_flag() == Some(false));
        if others().all(|field| is_exclusion(&field)) && (others().next().is_some() || drops_id) {
            return false;
        }
        if projection.is_empty() {
            return false;
        }
        if !drops_id {
            self.path(b"_id");
        }
        for field in others() {
            self.kept(field.key, &field);
        }
        if let Some(id) = id {
            self.expression(&id);
        }
        true
    }

    fn kept(&mut self, path: &[u8], field: &Element<'_>) {
        match field.as_document() {
            _ if field.as_flag() == Some(true) => self.path(path),
            Some(inner) if inner.first().is_some_and(|f| f.key.first() != Some(&b'$')) => {
                for field in inner.elements() {
                    self.kept(&[path, b".", field.key].concat(), &field);
                }
            }
            _ => self.expression(field),
        }
    }

    /// The fields that an expression reads.
    pub(super) fn expression(&mut self, value: &Element<'_>) {
        if NAMING.contains(&value.key) {
            self.more();
        }
        if let Some(text) = value.as_string() {
            match text {
                [b'$', b'$', variable @ ..] if is_document(variable) => self.more(),
                [b'$', b'$', ..] => {}
                [b'$', path @ ..] => self.path(path),
                _ => {}
            }
        }
        let parts = value.as_nested().into_iter().flat_map(Document::elements);
        parts.for_each(|part| self.expression(&part));
    }
}

fn is_document(variable: &[u8]) -> bool {
    variable.starts_with(b"ROOT") || variable.starts_with(b"CURRENT")
}

fn is_exclusion(field: &Element<'_>) -> bool {
    match field.as_document() {
        Some(inner) => !inner.is_empty() && inner.elements().all(|field| is_exclusion(&field)),
        None => field.as_flag() == Some(false),
    }
}

/// Whether an expression is the value of one field, or the same for every document.
pub(super) fn is_plain(value: &Element<'_>) -> bool {
    match value.as_string() {
        Some(text) => !text.starts_with(b"$$"),
        None => !matches!(value.kind, Kind::Document | Kind::Array),
    }
}
