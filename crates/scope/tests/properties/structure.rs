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
            for value in values {
                each_value(name, value, see);
            }
        }
        Value::Leaf(..) => {}
    }
}

/// Changes one document.
fn at(text: &mut Text, place: Index, change: &mut dyn FnMut(&mut Fields)) {
    let mut count = 0;
    each(text, &mut |_, _| count += 1);
    let target = place.index(count);
    let mut seen = 0;
    each(text, &mut |_, fields| {
        if seen == target {
            change(fields);
        }
        seen += 1;
    });
}

/// Changes one field somewhere in a command.
pub(super) fn mutate(text: &mut Text, mutation: &Mutation) {
    at(text, mutation.place, &mut |fields| {
        let place = mutation.field.index(fields.len() + 1);
        match fields.get_mut(place) {
            Some(field) if mutation.renames => field.0.clone_from(&mutation.name),
            Some(field) => field.1 = mutation.value.clone(),
            None => fields.push((mutation.name.clone(), mutation.value.clone())),
        }
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

/// Every document of a command, inner ones first, as the names over it: the command's first, `[]` for an array.
pub(super) fn places_of_names(text: &Text) -> Vec<String> {
    let mut places = Vec::new();
    each_path(&mut text.clone(), &mut |path, _| {
        places.push(path.to_owned());
    });
    places
}

/// Changes one of the documents that [`places_of_names`] gives; the change is told whether it is a whole body.
pub(super) fn change_at(text: &mut Text, number: usize, change: &dyn Fn(bool, &mut Fields)) {
    let mut seen = 0;
    each_path(text, &mut |path, fields| {
        if seen == number {
            let is_body = path == "explain.explain" || !path.contains(['.', '[']);
            change(is_body, fields);
        }
        seen += 1;
    });
}

fn each_path(text: &mut Text, see: &mut dyn FnMut(&str, &mut Fields)) {
    let command = text.body.first().map_or("", |f| &f.0).to_owned();
    each_path_in(&command, &mut text.body, see);
    for (name, documents) in &mut text.sequences {
        for document in documents {
            each_path_in(&format!("{command}.{name}[]"), document, see);
        }
    }
}

fn each_path_in(path: &str, fields: &mut Fields, see: &mut dyn FnMut(&str, &mut Fields)) {
    // Those inside first: a change must not be walked into.
    let paths: Vec<String> = fields.iter().map(|f| format!("{path}.{}", f.0)).collect();
    for (path, (_, value)) in paths.iter().zip(fields.iter_mut()) {
        each_path_of(path, value, see);
    }
    see(path, fields);
}

fn each_path_of(path: &str, value: &mut Value, see: &mut dyn FnMut(&str, &mut Fields)) {
    match value {
        Value::Document(fields) => each_path_in(path, fields, see),
        Value::Array(values) => {
            let path = format!("{path}[]");
            for value in values {
                each_path_of(&path, value, see);
            }
        }
        Value::Leaf(..) => {}
    }
}
