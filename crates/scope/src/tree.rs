//! Small BSON trees for the stages that the proxy writes by itself.

use mdb_wire::Writer;
use mdb_wire::writer::IndexKey;

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    Text(String),
    Int(i32),
    Flag(bool),
    Null,
    /// A regular expression without options.
    Regex(String),
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
}

/// A string.
pub(crate) fn text(value: impl Into<String>) -> Tree {
    Tree::Text(value.into())
}

/// An array of strings.
pub(crate) fn texts(values: &[&str]) -> Tree {
    Tree::Array(values.iter().map(|&v| text(v)).collect())
}

/// A document with one field.
pub(crate) fn one(key: impl Into<String>, value: Tree) -> Tree {
    Tree::Object(vec![(key.into(), value)])
}

/// A document.
pub(crate) fn object<const N: usize>(fields: [(&str, Tree); N]) -> Tree {
    Tree::Object(fields.map(|(k, v)| (k.to_owned(), v)).into())
}

impl Tree {
    /// Writes the value under `key`.
    pub(crate) fn write(&self, w: &mut Writer, key: &[u8]) {
        match self {
            Self::Text(value) => w.string(key, value),
            Self::Int(value) => w.int32(key, *value),
            Self::Flag(value) => w.boolean(key, *value),
            Self::Null => w.null(key),
            Self::Regex(pattern) => w.regex(key, pattern),
            Self::Object(fields) => {
                let mark = w.begin_document(key);
                for (name, value) in fields {
                    value.write(w, name.as_bytes());
                }
                w.end(mark);
            }
            Self::Array(values) => {
                let mark = w.begin_array(key);
                for (index, value) in values.iter().enumerate() {
                    value.write(w, IndexKey::new(index).as_bytes());
                }
                w.end(mark);
            }
        }
    }
}
