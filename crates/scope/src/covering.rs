//! What an automatic index must not answer alone. A key has null for a field that its document lacks, so a query that an index
//! covers gives null where a private server, which does not have that index, gives nothing (4.4.2, 6.0.5). Where the
//! app has no such index itself, a condition on the whole document, which always holds, makes the server look at it.

use mdb_wire::{Document, Element, Writer};

use crate::body::Body;
use crate::hint::is_equality;

impl Body<'_, '_> {
    /// Whether the command's filter has to keep an automatic index from covering it.
    pub(crate) fn must_look_at_documents(&self) -> bool {
        let facts = self.facts.collection;
        if facts.automatic == 0 || facts.is_view || self.prelude.plan.is_shown || self.is_point() {
            return false;
        }
        let find = |name: &str| self.command.body.find(name);
        let fields = match self.spec.name {
            "distinct" => find("key")
                .and_then(|key| key.as_string())
                .map(|key| vec![key]),
            "find" => find("projection").and_then(|p| p.as_document()).map(kept),
            _ => None,
        };
        let Some(fields) = fields.filter(|fields| !fields.is_empty()) else {
            return false;
        };
        let covers = |key: &Vec<u8>| {
            let key = Document::parse(key).unwrap_or(Document::EMPTY);
            let has = |field: &&[u8]| key.elements().any(|part| part.key == *field);
            fields.iter().all(has)
        };
        let listed = facts.indexes.iter().map(|index| &index.key);
        !facts.own_keys.iter().chain(listed).any(covers)
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

/// The fields that an inclusion keeps; none of anything else, for which a server looks at documents by itself.
fn kept(projection: Document<'_>) -> Vec<&[u8]> {
    let is_kept = |field: &Element<'_>| field.as_flag() == Some(true);
    let named = projection.elements();
    let mut kept: Vec<&[u8]> = named.filter(is_kept).map(|field| field.key).collect();
    let drops_id = projection.find("_id").and_then(|id| id.as_flag()) == Some(false);
    if !kept.is_empty() && !drops_id && !kept.contains(&b"_id".as_slice()) {
        kept.push(b"_id");
    }
    kept
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
