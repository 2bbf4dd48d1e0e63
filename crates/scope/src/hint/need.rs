//! Commands that fail where an index is not there, though not where its collection is not there either.

use mdb_wire::{Command, Document, Element};

use super::is_of_every_collection;
use crate::filter;
use crate::pipeline;

/// Whether a command names an index other than that on `_id`, or has a condition that an index of its own kind alone serves.
/// Pipelines within others are not looked at.
pub fn needs_index(command: &Command<'_>) -> bool {
    let sequences = ["updates", "deletes"];
    let mut sequences = sequences.iter().filter_map(|name| command.sequence(name));
    command.body.elements().any(|field| of_field(&field))
        || sequences.any(|sequence| sequence.documents().any(of_statement))
}

/// Whether a read names an index other than that on `_id`.
pub fn names_index(command: &Command<'_>) -> bool {
    let explained = command.body.find("explain").and_then(|e| e.as_document());
    let hint = explained.unwrap_or(command.body).find("hint");
    hint.is_some_and(|hint| of_field(&hint))
}

fn of_field(field: &Element<'_>) -> bool {
    match field.key {
        b"updates" | b"deletes" => {
            let mut statements = field.as_array().into_iter().flat_map(Document::elements);
            statements.any(|statement| statement.as_document().is_some_and(of_statement))
        }
        b"hint" => !is_of_every_collection(field) && !is_empty(field),
        b"min" | b"max" => !is_empty(field),
        b"filter" | b"query" | b"q" => field.as_document().is_some_and(of_filter),
        b"pipeline" => {
            pipeline::is_led_by_near(field) || pipeline::leading_filters(field).any(of_filter)
        }
        b"explain" => field.as_document().is_some_and(of_statement),
        _ => false,
    }
}

fn of_statement(statement: Document<'_>) -> bool {
    statement.elements().any(|field| of_field(&field))
}

fn is_empty(field: &Element<'_>) -> bool {
    field.as_document().is_some_and(Document::is_empty)
}

/// Whether a filter has a condition that an index of its own kind alone serves.
pub(super) fn of_filter(filter: Document<'_>) -> bool {
    let mut needs = false;
    filter::predicates(filter, &mut |predicate| {
        needs |= filter::asks_for_its_own_index(predicate);
    });
    needs
}
