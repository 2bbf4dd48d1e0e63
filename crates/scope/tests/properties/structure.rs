//! Walks over commands: changing one place of them, doubling a field, counting what may grow.

use proptest::sample::Index;

use super::generate::Mutation;
use crate::notation::{Fields, Text, Value};

/// Shows every document of a command, outer ones first, with the name over it.
fn each(text: &mut Text, see: &mut dyn FnMut(&str, &mut Fields)) {
    each_in("body", &mut text.body, see);
    for (name, documents) in &mut text.sequences {
        for document in documents {
            each_in(name, document, see);
        }
    }
}

fn each_in(name: &str, fields: &mut Fields, see: &mut dyn FnMut(&str, &mut Fields)) {
    see(name, fields);
    for (name, value) in fields.iter_mut() {
        each_value(name, value, see);
    }
}

fn each_value(name: &str, value: &mut Value, see: &mut dyn FnMut(&str, &mut Fields)) {
    match value {
        Value::Document(fields) => each_in(name, fields, see),
        Value::Array(values) => {
            let name = if LISTS.contains(&name) {
                name
            } else {
                "element"
            };
            for value in values {
                each_value(name, value, see);
            }
        }
        Value::Leaf(..) => {}
    }
}

/// Arrays whose documents are filters or statements. Those of others may be stages, which are refused as what they are when
/// they have two fields.
const LISTS: &[&str] = &["$and", "$or", "$nor", "arrayFilters"];

/// Changes one document among those for which `is_wanted` holds.
fn at(
    text: &mut Text,
    place: Index,
    is_wanted: fn(&str, &Fields) -> bool,
    change: &mut dyn FnMut(&mut Fields),
) {
    let mut count = 0;
    each(text, &mut |name, fields| {
        count += usize::from(is_wanted(name, fields));
    });
    let target = place.index(count);
    let mut seen = 0;
    each(text, &mut |name, fields| {
        if is_wanted(name, fields) {
            if seen == target {
                change(fields);
            }
            seen += 1;
        }
    });
}

/// Changes one field somewhere in a command.
pub(super) fn mutate(text: &mut Text, mutation: &Mutation) {
    at(text, mutation.place, |_, _| true, &mut |fields| {
        let place = mutation.field.index(fields.len() + 1);
        match fields.get_mut(place) {
            Some(field) if mutation.renames => field.0.clone_from(&mutation.name),
            Some(field) => field.1 = mutation.value.clone(),
            None => fields.push((mutation.name.clone(), mutation.value.clone())),
        }
    });
}

/// Names over documents in which a name that stands twice has two meanings.
const STRUCTURAL: &[&str] = &[
    "body",
    "updates",
    "deletes",
    "filter",
    "query",
    "q",
    "projection",
    "sort",
    "collation",
    "let",
    "hint",
    "lsid",
    "readConcern",
    "arrayFilters",
    "u",
    "restrictSearchWithMatch",
];

fn is_structural(name: &str, fields: &Fields) -> bool {
    let is_named = STRUCTURAL.contains(&name) || name.starts_with('$');
    let has_operators = fields.first().is_some_and(|f| f.0.starts_with('$'));
    !fields.is_empty() && name != "element" && (is_named || has_operators)
}

/// Repeats one field of one document that matters.
pub(super) fn repeat(text: &mut Text, place: Index) {
    at(text, place, is_structural, &mut |fields| {
        let field = fields[place.index(fields.len())].clone();
        fields.push(field);
    });
}

/// Takes a field out wherever it stands for a command or a statement.
pub(super) fn drop_field(text: &mut Text, name: &str) {
    each(text, &mut |over, fields| {
        if matches!(over, "body" | "updates" | "deletes" | "explain") {
            fields.retain(|(n, _)| n != name);
        }
    });
}

/// How many places of a command rewriting may write to: every document of a sequence, every array, every stage that reads a
/// collection, every string that begins with `$`, every mention of the field.
pub(super) fn places(text: &Text) -> usize {
    let in_sequences = text.sequences.iter().flat_map(|(_, documents)| documents);
    let in_sequences: usize = in_sequences.map(|d| 1 + places_in(d)).sum();
    in_sequences + places_in(&text.body)
}

fn places_in(fields: &Fields) -> usize {
    let place = |(name, value): &(String, Value)| {
        let reads = matches!(name.as_str(), "$lookup" | "$graphLookup" | "$unionWith");
        let names = name.starts_with(crate::proxy::FIELD);
        usize::from(reads) + usize::from(names) + places_of(value)
    };
    fields.iter().map(place).sum()
}

fn places_of(value: &Value) -> usize {
    match value {
        Value::Document(fields) => places_in(fields),
        Value::Array(values) => 1 + values.iter().map(places_of).sum::<usize>(),
        Value::Leaf(..) => usize::from(value.as_str().is_some_and(|s| s.starts_with('$'))),
    }
}
