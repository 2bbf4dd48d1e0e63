//! What an automatic index must not answer alone. A key has null for a field that its document lacks, so a query that an index
//! covers gives null where a private server, which does not have that index, gives nothing (4.4.2, 6.0.5). Where the
//! app has no such index itself, a condition on the whole document, which always holds, makes the server look at it.

use mdb_wire::{Document, Writer};

use crate::body::Body;
use crate::facts::AutomaticIndexes;
use crate::hint::is_equality;

mod fields;
mod stages;

use fields::Fields;
pub(crate) use stages::needs_of_stages;

/// What a query needs of the documents that it finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Whole documents, at which the server looks by itself, or nothing for which null and absence differ.
    Nothing,
    /// These fields, of which one that is absent is not one that is null.
    Fields(Fields),
}

impl Needs {
    /// Whether an automatic index, and none of the app's own, may give it alone.
    pub(crate) fn are_met_by(&self, automatic: &AutomaticIndexes) -> bool {
        let Self::Fields(fields) = self else {
            return false;
        };
        let is_own = |key: &Vec<u8>| {
            let key = Document::parse(key).unwrap_or(Document::EMPTY);
            fields.are_in(key)
        };
        automatic.count > 0 && !automatic.own_keys.iter().any(is_own)
    }
}

impl Body<'_, '_> {
    /// Whether the command's filter has to keep an automatic index from covering it.
    pub(crate) fn must_look_at_documents(&self) -> bool {
        let facts = self.facts.collection;
        if facts.automatic.count == 0 || self.prelude.plan.is_shown || self.is_point() {
            return false;
        }
        self.needs().are_met_by(&facts.automatic)
    }

    fn needs(&self) -> Needs {
        let find = |name: &str| self.command.body.find(name);
        let document = |name: &str| find(name).and_then(|found| found.as_document());
        let mut fields = Fields::default();
        match self.spec.name {
            "distinct" => match find("key").and_then(|key| key.as_string()) {
                Some(key) => fields.path(key),
                None => return Needs::Nothing,
            },
            "find" => match document("projection") {
                Some(projection) if fields.inclusion(projection) => {}
                _ => return Needs::Nothing,
            },
            _ => return Needs::Nothing,
        }
        for filter in ["query", "filter"].into_iter().filter_map(document) {
            fields.filter(filter);
        }
        if let Some(sort) = document("sort") {
            fields.sort(sort);
        }
        Needs::Fields(fields)
    }

    /// Whether the filter asks for one document by its `_id`, and nothing else: that has a short way of its own.
    fn is_point(&self) -> bool {
        let filter = self.command.body.find("filter");
        let filter = filter.and_then(|filter| filter.as_document());
        let mut fields = filter.into_iter().flat_map(Document::elements);
        let first = fields.next();
        first.is_some_and(|id| id.key == b"_id" && is_equality(&id)) && fields.next().is_none()
    }
}

/// Writes the condition beside the elements of a client's filter: under an operator that the filter does not have at its top.
pub(crate) fn look_at_document(w: &mut Writer, user: Document<'_>) {
    let is_free = |operator: &str| user.find(operator).is_none();
    if is_free("$expr") {
        compare(w, b"$ne");
    } else if is_free("$nor") {
        let nor = w.begin_array(b"$nor");
        let only = w.begin_document(b"0");
        compare(w, b"$eq");
        w.end(only);
        w.end(nor);
    }
}

/// `$expr: {OPERATOR: ["$$ROOT", null]}`.
fn compare(w: &mut Writer, operator: &[u8]) {
    let expression = w.begin_document(b"$expr");
    let operands = w.begin_array(operator);
    w.string(b"0", "$$ROOT");
    w.null(b"1");
    w.end(operands);
    w.end(expression);
}
