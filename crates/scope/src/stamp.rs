//! Documents on their way in: every one carries the app, right after its `_id`.

use mdb_wire::{Document, Writer};

use crate::refusal::Refusal;
use crate::scope::Scope;

/// Writes a document of `insert`, or a replacement, as an element of an array (`key`) or of a document sequence (`None`).
///
/// # Errors
/// 13 where the document names another owner, or names one twice.
pub(crate) fn write(
    scope: &Scope,
    w: &mut Writer,
    key: Option<&[u8]>,
    document: Document<'_>,
) -> Result<(), Refusal> {
    let is_stamped = check_owner(scope, document)?;
    let mark = match key {
        Some(key) => w.begin_document(key),
        None => w.begin(),
    };
    let mut rest = document.inner_bytes();
    // Right after `_id`, so that taking it out of a reply is a look at the first two elements.
    if let Some(id) = document.first().filter(|first| first.key == b"_id") {
        w.element(&id);
        rest = rest.get(id.raw.len()..).unwrap_or_default();
    }
    scope.stamp(w);
    if is_stamped {
        let field = scope.field().as_str().as_bytes();
        for element in document.elements() {
            let is_first_id =
                element.key == b"_id" && element.raw.as_ptr() == document.inner_bytes().as_ptr();
            if element.key != field && !is_first_id {
                w.element(&element);
            }
        }
    } else {
        w.raw(rest);
    }
    w.end(mark);
    Ok(())
}

impl Scope {
    /// A document that the app has made and nobody else, as it is stored in a shared collection: what it says of its owner is
    /// replaced.
    pub fn stamped(&self, document: Document<'_>) -> Vec<u8> {
        let field = self.field().as_str().as_bytes();
        let mut w = Writer::default();
        let mark = w.begin();
        let id = document.first().filter(|first| first.key == b"_id");
        if let Some(id) = &id {
            w.element(id);
        }
        self.stamp(&mut w);
        let rest = document.elements().skip(usize::from(id.is_some()));
        for element in rest.filter(|element| element.key != field) {
            w.element(&element);
        }
        w.end(mark);
        w.into_bytes()
    }
}

/// Checks that a document still fits with the field in it. The server would say it with the field counted.
///
/// # Errors
/// 2 `object to insert too large` beyond `bytes_max`.
pub(crate) fn check_size(
    scope: &Scope,
    document: Document<'_>,
    bytes_max: usize,
) -> Result<(), Refusal> {
    let bytes = document.bytes().len();
    if bytes.saturating_add(scope.stamp_bytes()) <= bytes_max {
        return Ok(());
    }
    let bytes_max = bytes_max.saturating_sub(scope.stamp_bytes());
    Err(Refusal::bad_value(format!(
        "object to insert too large. size in bytes: {bytes}, max size: {bytes_max}",
    ))
    .of_statement())
}

/// Whether the document names the app as its owner already.
fn check_owner(scope: &Scope, document: Document<'_>) -> Result<bool, Refusal> {
    let field = scope.field().as_str();
    let mut owners = document.elements().filter(|e| e.key == field.as_bytes());
    let Some(owner) = owners.next() else {
        return Ok(false);
    };
    if owners.next().is_some() || !scope.owns(&owner) {
        return Err(Refusal::unauthorized(format!(
            "field '{field}' is reserved: documents of another owner cannot be written; leave the field out"
        )));
    }
    Ok(true)
}
