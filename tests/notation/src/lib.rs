//! Commands and documents as text, every repeated name kept: `{find: "c", filter: {x: Symbol("a")}} + updates [{q: {}}]`.

use std::fmt::{self, Write as _};

use mdb_wire::{Document, Element, Kind};

mod reader;

pub use reader::{read_document, read_text};

/// A BSON value.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Fields in order; a name may stand twice.
    Document(Fields),
    /// Elements in order.
    Array(Vec<Value>),
    /// Anything else, by its bytes.
    Leaf(Kind, Vec<u8>),
}

/// Fields in order.
pub type Fields = Vec<(String, Value)>;

/// A command: a body and document sequences.
#[derive(Clone, PartialEq, Default)]
pub struct Text {
    /// The body, the command first.
    pub body: Fields,
    /// Document sequences by name.
    pub sequences: Vec<(String, Vec<Fields>)>,
}

impl Value {
    /// A 32-bit integer.
    pub fn int(number: i32) -> Self {
        Self::Leaf(Kind::Int32, number.to_le_bytes().to_vec())
    }

    /// A string.
    pub fn string(text: &str) -> Self {
        Self::Leaf(Kind::String, string_bytes(text.as_bytes()))
    }

    /// A symbol, the deprecated kind of string.
    pub fn symbol(text: &str) -> Self {
        Self::Leaf(Kind::Symbol, string_bytes(text.as_bytes()))
    }

    /// A regular expression.
    pub fn regex(pattern: &str, options: &str) -> Self {
        Self::Leaf(
            Kind::Regex,
            [pattern.as_bytes(), b"\0", options.as_bytes(), b"\0"].concat(),
        )
    }

    /// Null.
    pub fn null() -> Self {
        Self::Leaf(Kind::Null, Vec::new())
    }

    /// A boolean.
    pub fn boolean(is_true: bool) -> Self {
        Self::Leaf(Kind::Boolean, vec![u8::from(is_true)])
    }

    /// The value of an element.
    pub fn of(element: &Element<'_>) -> Self {
        match (element.as_document(), element.as_array()) {
            (Some(document), _) => Self::Document(fields(document)),
            (_, Some(array)) => Self::Array(array.elements().map(|e| Self::of(&e)).collect()),
            _ => Self::Leaf(element.kind, element.value.to_vec()),
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Leaf(Kind::String, bytes) => std::str::from_utf8(&bytes[4..bytes.len() - 1]).ok(),
            _ => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Document(_) => Kind::Document,
            Self::Array(_) => Kind::Array,
            Self::Leaf(kind, _) => *kind,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Document(fields) => out.extend_from_slice(&encode(fields)),
            Self::Array(values) => {
                let mark = out.len();
                out.extend_from_slice(&[0; 4]);
                for (index, value) in values.iter().enumerate() {
                    encode_field(out, &index.to_string(), value);
                }
                seal(out, mark);
            }
            Self::Leaf(_, bytes) => out.extend_from_slice(bytes),
        }
    }
}

fn string_bytes(text: &[u8]) -> Vec<u8> {
    let length = i32::try_from(text.len() + 1).unwrap();
    [length.to_le_bytes().as_slice(), text, &[0]].concat()
}

/// The fields of a document.
pub fn fields(document: Document<'_>) -> Fields {
    let field = |e: Element<'_>| (e.name().to_owned(), Value::of(&e));
    document.elements().map(field).collect()
}

fn encode_field(out: &mut Vec<u8>, name: &str, value: &Value) {
    out.push(value.kind() as u8);
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    value.encode(out);
}

fn seal(out: &mut Vec<u8>, mark: usize) {
    out.push(0);
    let length = i32::try_from(out.len() - mark).unwrap();
    out[mark..mark + 4].copy_from_slice(&length.to_le_bytes());
}

/// A document's bytes.
///
/// # Panics
/// Beyond 2 GiB.
pub fn encode(fields: &Fields) -> Vec<u8> {
    let mut out = vec![0; 4];
    for (name, value) in fields {
        encode_field(&mut out, name, value);
    }
    seal(&mut out, 0);
    out
}

impl Text {
    /// An OP_MSG.
    ///
    /// # Panics
    /// Beyond 2 GiB.
    pub fn message(&self) -> Vec<u8> {
        let mut out = vec![0; 12];
        out.extend_from_slice(&2013_i32.to_le_bytes());
        out.extend_from_slice(&[0; 5]);
        out.extend_from_slice(&encode(&self.body));
        for (name, documents) in &self.sequences {
            let documents: Vec<u8> = documents.iter().flat_map(encode).collect();
            let size = i32::try_from(5 + name.len() + documents.len()).unwrap();
            out.push(1);
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.extend_from_slice(&documents);
        }
        let length = i32::try_from(out.len()).unwrap();
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }

    /// What a message says.
    pub fn of(message: &mdb_wire::Message) -> Self {
        let sequence = |s: mdb_wire::Sequence<'_>| {
            let name = String::from_utf8_lossy(s.name).into_owned();
            (name, s.documents().map(fields).collect())
        };
        Self {
            body: fields(message.body()),
            sequences: message.sequences().map(sequence).collect(),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_fields(f, &self.body)?;
        for (name, documents) in &self.sequences {
            write!(f, " + {name} ")?;
            write_list(f, '[', ']', documents, write_fields)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(fields) => write_fields(f, fields),
            Self::Array(values) => write_list(f, '[', ']', values, |f, v| write!(f, "{v}")),
            Self::Leaf(kind, bytes) => write_leaf(f, *kind, bytes),
        }
    }
}

/// Writes a document as text.
///
/// # Errors
/// Those of the writer.
pub fn write_fields(f: &mut impl fmt::Write, fields: &Fields) -> fmt::Result {
    write_list(f, '{', '}', fields, |f, (name, value)| {
        let is_word =
            |c: char| c.is_alphanumeric() || matches!(c, '$' | '_' | '.' | '~' | '-' | '*');
        if !name.is_empty() && name.chars().all(is_word) {
            write!(f, "{name}: {value}")
        } else {
            write!(f, "{name:?}: {value}")
        }
    })
}

fn write_list<F: fmt::Write, T>(
    f: &mut F,
    open: char,
    close: char,
    items: &[T],
    one: impl Fn(&mut F, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_char(open)?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        one(f, item)?;
    }
    f.write_char(close)
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        write!(out, "{byte:02x}").unwrap();
    }
    out
}

fn write_leaf(f: &mut fmt::Formatter<'_>, kind: Kind, bytes: &[u8]) -> fmt::Result {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[4..bytes.len() - 1]).into_owned();
    let long = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().unwrap());
    match kind {
        Kind::Int32 => write!(f, "{}", i32::from_le_bytes(bytes.try_into().unwrap())),
        Kind::Int64 => write!(f, "Long({})", long(bytes)),
        Kind::Double => write!(f, "{:?}", f64::from_le_bytes(bytes.try_into().unwrap())),
        Kind::String => write!(f, "{:?}", text(bytes)),
        Kind::Symbol => write!(f, "Symbol({:?})", text(bytes)),
        Kind::JavaScript => write!(f, "Code({:?})", text(bytes)),
        Kind::Boolean => write!(f, "{}", bytes == [1]),
        Kind::Null => f.write_str("null"),
        Kind::Undefined => f.write_str("Undefined"),
        Kind::MinKey => f.write_str("MinKey"),
        Kind::MaxKey => f.write_str("MaxKey"),
        Kind::Regex => {
            let mut parts = bytes.split(|&b| b == 0).map(String::from_utf8_lossy);
            let pattern = parts.next().unwrap_or_default();
            write!(f, "/{pattern}/{}", parts.next().unwrap_or_default())
        }
        Kind::ObjectId => write!(f, "ObjectId({:?})", hex(bytes)),
        Kind::DateTime => write!(f, "Date({})", long(bytes)),
        Kind::Timestamp => write!(f, "Timestamp({})", long(bytes)),
        Kind::Binary if bytes[4] == 4 => write!(f, "UUID({:?})", hex(&bytes[5..])),
        Kind::Binary => write!(f, "Binary({}, {:?})", bytes[4], hex(&bytes[5..])),
        other => write!(f, "{}({:?})", other.name(), hex(bytes)),
    }
}
