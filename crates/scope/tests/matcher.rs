//! The match language over small documents, as far as the properties use it: comparisons, `$in`, `$exists`, `$not`, and the
//! logical operators; plus the pipelines that hold nothing but `$match` and `$unset`.

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
        path => predicate(value, field(document, path)),
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

fn predicate(value: &Value, found: Option<&Value>) -> bool {
    match value {
        Value::Document(operators) if operators.first().is_some_and(|f| f.0.starts_with('$')) => {
            operators
                .iter()
                .all(|(operator, operand)| holds(operator, operand, found))
        }
        // The one pattern of these properties is the app's own.
        Value::Leaf(Kind::Regex, bytes) => {
            assert_eq!(bytes, format!("\\A{SLUG}\\z\0\0").as_bytes());
            found.and_then(Value::as_str) == Some(SLUG)
        }
        literal => equal(literal, found),
    }
}

fn equal(literal: &Value, found: Option<&Value>) -> bool {
    match found {
        None => *literal == Value::null(),
        Some(found) => found == literal,
    }
}

fn holds(operator: &str, operand: &Value, found: Option<&Value>) -> bool {
    let order = || number(operand).zip(found.and_then(number));
    let listed = || match operand {
        Value::Array(values) => values.iter().any(|v| equal(v, found)),
        other => panic!("not a list: {other}"),
    };
    match operator {
        "$eq" => equal(operand, found),
        "$ne" => !equal(operand, found),
        "$in" => listed(),
        "$nin" => !listed(),
        "$exists" => found.is_some() == (*operand == Value::boolean(true)),
        "$not" => !predicate(operand, found),
        "$gt" => order().is_some_and(|(o, f)| f > o),
        "$gte" => order().is_some_and(|(o, f)| f >= o),
        "$lt" => order().is_some_and(|(o, f)| f < o),
        "$lte" => order().is_some_and(|(o, f)| f <= o),
        other => panic!("not an operator of these properties: {other}"),
    }
}

fn number(value: &Value) -> Option<i32> {
    match value {
        Value::Leaf(Kind::Int32, bytes) => {
            Some(i32::from_le_bytes(bytes.as_slice().try_into().ok()?))
        }
        _ => None,
    }
}

/// A small collection: every combination of owner, `x` and `y`, each of which may be missing.
pub(crate) fn documents() -> Vec<Fields> {
    let numbers = || [None, Some(0), Some(1), Some(2)];
    let mut documents = Vec::new();
    for owner in [Some(SLUG), Some("b"), Some("SHOP"), Some("shop2"), None] {
        for x in numbers() {
            for y in numbers() {
                let id = i32::try_from(documents.len()).unwrap();
                let mut document = vec![("_id".to_owned(), Value::int(id))];
                document.extend(owner.map(|o| (FIELD.to_owned(), Value::string(o))));
                document.extend(x.map(|x| ("x".to_owned(), Value::int(x))));
                document.extend(y.map(|y| ("y".to_owned(), Value::int(y))));
                documents.push(document);
            }
        }
    }
    documents
}
