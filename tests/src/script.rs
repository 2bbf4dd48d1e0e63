//! Commands as YAML.
//!
//! A mapping is a document, in its order. What YAML cannot say:
//! - a key `from#2` is a second `from`: everything from the `#` on is left out;
//! - tags give the kinds that YAML has not: `!long 5`, `!double 1`, `!oid 65…`, `!uuid 0123…`, `!date 1000` (milliseconds),
//!   `!timestamp [seconds, number]`, `!regex pattern/options`, `!symbol a`, `!code text`, `!min null`, `!max null`;
//! - `!nest 200` is that many documents in each other;
//! - `!text 70` is so many letters;
//! - a [`Words`] replaces words in keys and strings, and `!var name` by any value.

use bson::{Bson, RawDocument, RawDocumentBuf};
use serde_yaml::{Mapping, Value};

/// What stands for what.
#[derive(Debug, Default, Clone)]
pub struct Words {
    words: Vec<(String, String)>,
    values: Vec<(String, Bson)>,
}

impl Words {
    /// In keys and strings, `word` is replaced by `text`.
    pub fn word(&mut self, word: &str, text: &str) {
        self.words.retain(|(known, _)| known != word);
        self.words.push((word.to_owned(), text.to_owned()));
    }

    /// `!var name` is this value.
    pub fn value(&mut self, name: &str, value: impl Into<Bson>) {
        self.values.retain(|(known, _)| known != name);
        self.values.push((name.to_owned(), value.into()));
    }

    fn text(&self, text: &str) -> String {
        let replace = |text: String, (word, by): &(String, String)| text.replace(word, by);
        self.words.iter().fold(text.to_owned(), replace)
    }

    /// A mapping as BSON.
    pub fn document(&self, mapping: &Value) -> RawDocumentBuf {
        let mapping = mapping
            .as_mapping()
            .unwrap_or_else(|| panic!("no mapping: {mapping:?}"));
        RawDocumentBuf::from_bytes(self.mapping(mapping)).unwrap()
    }

    fn mapping(&self, mapping: &Mapping) -> Vec<u8> {
        let elements = mapping.iter().map(|(key, value)| {
            let key = match key {
                Value::String(key) => key.clone(),
                Value::Number(key) => key.to_string(),
                other => panic!("no key: {other:?}"),
            };
            let key = key.split('#').next().unwrap_or_default().to_owned();
            (self.text(&key), value)
        });
        self.elements(elements)
    }

    fn elements<'a>(&self, elements: impl Iterator<Item = (String, &'a Value)>) -> Vec<u8> {
        let mut out = vec![0; 4];
        for (key, value) in elements {
            self.element(&mut out, &key, value);
        }
        close(out)
    }

    fn element(&self, out: &mut Vec<u8>, key: &str, value: &Value) {
        match value {
            Value::Null => put(out, 0x0A, key, &[]),
            Value::Bool(value) => put(out, 0x08, key, &[u8::from(*value)]),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => match i32::try_from(integer) {
                    Ok(small) => put(out, 0x10, key, &small.to_le_bytes()),
                    Err(_) => put(out, 0x12, key, &integer.to_le_bytes()),
                },
                (None, float) => put(out, 0x01, key, &float.unwrap().to_le_bytes()),
            },
            Value::String(text) => put(out, 0x02, key, &string(&self.text(text))),
            Value::Sequence(items) => {
                let elements = items
                    .iter()
                    .enumerate()
                    .map(|(at, item)| (at.to_string(), item));
                put(out, 0x04, key, &self.elements(elements));
            }
            Value::Mapping(mapping) => put(out, 0x03, key, &self.mapping(mapping)),
            Value::Tagged(tagged) => {
                let tag = tagged.tag.to_string();
                self.tagged(out, key, tag.trim_start_matches('!'), &tagged.value);
            }
        }
    }

    fn tagged(&self, out: &mut Vec<u8>, key: &str, tag: &str, value: &Value) {
        let text = || self.text(value.as_str().unwrap());
        let number = || value.as_i64().unwrap();
        match tag {
            "long" => put(out, 0x12, key, &number().to_le_bytes()),
            "double" => put(out, 0x01, key, &value.as_f64().unwrap().to_le_bytes()),
            "date" => put(out, 0x09, key, &number().to_le_bytes()),
            "oid" => put(out, 0x07, key, &hex(&text())),
            "symbol" => put(out, 0x0E, key, &string(&text())),
            "code" => put(out, 0x0D, key, &string(&text())),
            "min" => put(out, 0xFF, key, &[]),
            "max" => put(out, 0x7F, key, &[]),
            "uuid" => {
                let mut bytes = vec![16, 0, 0, 0, 4];
                bytes.extend(hex(&text()));
                put(out, 0x05, key, &bytes);
            }
            "timestamp" => {
                let part = |at: usize| u32::try_from(value[at].as_i64().unwrap()).unwrap();
                let bytes = (u64::from(part(0)) << 32) | u64::from(part(1));
                put(out, 0x11, key, &bytes.to_le_bytes());
            }
            "regex" => {
                let text = text();
                let (pattern, options) = text.rsplit_once('/').unwrap();
                put(out, 0x0B, key, format!("{pattern}\0{options}\0").as_bytes());
            }
            "text" => {
                let letters = "x".repeat(usize::try_from(number()).unwrap());
                put(out, 0x02, key, &string(&letters));
            }
            "nest" => {
                let nest = |inner: Vec<u8>, _| {
                    let mut outer = vec![0; 4];
                    put(&mut outer, 0x03, "a", &inner);
                    close(outer)
                };
                put(out, 0x03, key, &(0..number()).fold(close(vec![0; 4]), nest));
            }
            "var" => {
                let name = value.as_str().unwrap();
                let found = self.values.iter().find(|(known, _)| known == name);
                let (_, value) = found.unwrap_or_else(|| panic!("no value {name}"));
                let bytes = bson::serialize_to_vec(&bson::doc! {key: value.clone()}).unwrap();
                out.extend_from_slice(&bytes[4..bytes.len() - 1]);
            }
            other => panic!("no tag !{other}"),
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u8, key: &str, value: &[u8]) {
    out.push(kind);
    out.extend_from_slice(key.as_bytes());
    out.push(0);
    out.extend_from_slice(value);
}

fn close(mut document: Vec<u8>) -> Vec<u8> {
    document.push(0);
    let size = i32::try_from(document.len()).unwrap();
    document[..4].copy_from_slice(&size.to_le_bytes());
    document
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = i32::try_from(text.len() + 1)
        .unwrap()
        .to_le_bytes()
        .to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<char> = digits.chars().filter(|c| *c != '-').collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// A document with one more element behind its own, whatever its key is.
pub fn with(document: &RawDocument, key: &str, value: impl Into<Bson>) -> RawDocumentBuf {
    let bytes = document.as_bytes();
    let mut out = bytes[..bytes.len() - 1].to_vec();
    let more = bson::serialize_to_vec(&bson::doc! {key: value.into()}).unwrap();
    out.extend_from_slice(&more[4..more.len() - 1]);
    RawDocumentBuf::from_bytes(close(out)).unwrap()
}
