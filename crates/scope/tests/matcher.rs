//! The match language over small documents: comparisons, `$in`, `$exists`, `$not`, `$elemMatch`, `$size`, `$all`, the logical
//! operators, paths with dots and arrays on them; plus the pipelines that hold nothing but `$match` and `$unset`.
//!
//! Written from the manual of the server, without the rules of scoping. Null is not compared, as what is missing below an array
//! is a subject of its own.

use mdb_wire::Kind;

use crate::notation::{Fields, Value};
use crate::proxy::{FIELD, SLUG};

/// Whether a filter takes a document.
pub(crate) fn matches(filter: &Fields, document: &Fields) -> bool {
    filter.iter().all(|(name, value)| match name.as_str() {
        "$and" => branches(value).all(|f| matches(f, document)),
        "$or" => branches(value).any(|f| matches(f, document)),
        "$nor" => !branches(value).any(|f| matches(f, document)),
        "$comment" => true,
        path => predicate(value, &reach(document, path)),
    })
}

/// The documents that a pipeline of `$match` and `$unset` gives.
pub(crate) fn aggregate(stages: &[Value], documents: &[Fields]) -> Vec<Fields> {
    let mut documents = documents.to_vec();
    for stage in stages {
        match stage {
            Value::Document(stage) => match (stage[0].0.as_str(), &stage[0].1) {
                ("$match", Value::Document(filter)) => documents.retain(|d| matches(filter, d)),
                ("$unset", path) => {
                    for document in &mut documents {
                        document.retain(|(name, _)| Some(name.as_str()) != path.as_str());
                    }
                }
                other => panic!("not a stage of these properties: {other:?}"),
            },
            other => panic!("not a stage: {other}"),
        }
    }
    documents
}

/// The first field of a name.
pub(crate) fn field<'a>(document: &'a Fields, name: &str) -> Option<&'a Value> {
    document.iter().find(|(n, _)| n == name).map(|(_, v)| v)
}

fn branches(value: &Value) -> impl Iterator<Item = &Fields> {
    let Value::Array(values) = value else {
        panic!("not branches: {value}");
    };
    values.iter().map(|value| match value {
        Value::Document(filter) => filter,
        other => panic!("not a filter: {other}"),
    })
}

/// Every value at a path: an array on the way stands for its documents.
fn reach<'a>(document: &'a Fields, path: &str) -> Vec<&'a Value> {
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some(value) = field(document, name) else {
        return Vec::new();
    };
    match value {
        value if rest.is_empty() => vec![value],
        Value::Document(inner) => reach(inner, rest),
        Value::Array(values) => {
            let documents = values.iter().filter_map(|v| match v {
                Value::Document(inner) => Some(reach(inner, rest)),
                _ => None,
            });
            documents.flatten().collect()
        }
        Value::Leaf(..) => Vec::new(),
    }
}

fn predicate(value: &Value, found: &[&Value]) -> bool {
    match value {
        Value::Document(operators) if operators.first().is_some_and(|f| f.0.starts_with('$')) => {
            operators
                .iter()
                .all(|(operator, operand)| holds(operator, operand, found))
        }
        // The one pattern of these properties is the app's own.
        Value::Leaf(Kind::Regex, bytes) => {
            assert_eq!(bytes, format!("\\A{SLUG}\\z\0\0").as_bytes());
            any(found, |v| v.as_str() == Some(SLUG))
        }
        literal => any(found, |v| v == literal),
    }
}

/// Whether a value is taken, or an element of one that is an array.
fn any(found: &[&Value], takes: impl Fn(&Value) -> bool) -> bool {
    found.iter().any(|value| {
        takes(value) || matches!(value, Value::Array(values) if values.iter().any(&takes))
    })
}

fn holds(operator: &str, operand: &Value, found: &[&Value]) -> bool {
    let order = |holds: fn(i32, i32) -> bool| {
        any(found, |v| {
            number(v)
                .zip(number(operand))
                .is_some_and(|(v, o)| holds(v, o))
        })
    };
    let values = || match operand {
        Value::Array(values) => values,
        other => panic!("not a list: {other}"),
    };
    let listed = || values().iter().any(|o| any(found, |v| v == o));
    match operator {
        "$eq" => any(found, |v| v == operand),
        "$ne" => !any(found, |v| v == operand),
        "$in" => listed(),
        "$nin" => !listed(),
        "$exists" => found.is_empty() != (*operand == Value::boolean(true)),
        "$not" => !predicate(operand, found),
        "$gt" => order(|v, o| v > o),
        "$gte" => order(|v, o| v >= o),
        "$lt" => order(|v, o| v < o),
        "$lte" => order(|v, o| v <= o),
        "$size" => found.iter().any(
            |v| matches!(v, Value::Array(v) if i32::try_from(v.len()).ok() == number(operand)),
        ),
        "$all" => {
            let values = values();
            !values.is_empty() && values.iter().all(|o| any(found, |v| v == o))
        }
        "$elemMatch" => found.iter().any(|v| element_matches(v, operand)),
        other => panic!("not an operator of these properties: {other}"),
    }
}

/// Whether one element of an array meets every condition.
fn element_matches(value: &Value, operand: &Value) -> bool {
    let (Value::Array(values), Value::Document(conditions)) = (value, operand) else {
        return false;
    };
    let is_predicate = conditions
        .first()
        .is_some_and(|(name, _)| name.starts_with('$') && !LOGICAL.contains(&name.as_str()));
    values.iter().any(|element| match element {
        element if is_predicate => conditions
            .iter()
            .all(|(operator, operand)| holds(operator, operand, &[element])),
        Value::Document(inner) => matches(conditions, inner),
        _ => false,
    })
}

const LOGICAL: &[&str] = &["$and", "$or", "$nor"];

fn number(value: &Value) -> Option<i32> {
    match value {
        Value::Leaf(Kind::Int32, bytes) => {
            Some(i32::from_le_bytes(bytes.as_slice().try_into().ok()?))
        }
        _ => None,
    }
}

/// Owners of documents: the app, one that a collation takes for it, others, none.
pub(crate) const OWNERS: &[Option<&str>] =
    &[Some(SLUG), Some("b"), Some("SHOP"), Some("shop2"), None];

/// A document as it is stored.
pub(crate) fn stored(id: i32, owner: Option<&str>, data: &Fields) -> Fields {
    let mut document = vec![("_id".to_owned(), Value::int(id))];
    document.extend(owner.map(|o| (FIELD.to_owned(), Value::string(o))));
    document.extend(data.iter().cloned());
    document
}

/// A document as its app knows it.
pub(crate) fn logical(document: &Fields) -> Fields {
    let is_own = |field: &&(String, Value)| field.0 != FIELD;
    document.iter().filter(is_own).cloned().collect()
}
