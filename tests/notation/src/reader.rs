//! From text to values. A mistake in a text panics: it is one in a test.

use mdb_wire::Kind;

use super::{Fields, Text, Value, string_bytes};

/// Reads a command: a body, then `+ name [documents]` for each document sequence.
///
/// # Panics
/// At a mistake in the text.
pub fn read_text(text: &str) -> Text {
    let mut reader = Reader { text, rest: text };
    let mut out = Text {
        body: reader.document(),
        sequences: Vec::new(),
    };
    while reader.takes('+') {
        let name = reader.word();
        let Value::Array(documents) = reader.value() else {
            panic!("a sequence has documents: {text}");
        };
        let documents = documents.into_iter().map(|d| match d {
            Value::Document(fields) => fields,
            other => panic!("not a document: {other}"),
        });
        out.sequences.push((name, documents.collect()));
    }
    reader.end();
    out
}

/// Reads one document.
///
/// # Panics
/// At a mistake in the text.
pub fn read_document(text: &str) -> Fields {
    let mut reader = Reader { text, rest: text };
    let fields = reader.document();
    reader.end();
    fields
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn takes(&mut self, sign: char) -> bool {
        self.skip();
        let found = self.rest.strip_prefix(sign);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn expect(&mut self, sign: char) {
        let found = self.takes(sign);
        assert!(found, "expected '{sign}' at {} of {}", self.rest, self.text);
    }

    fn end(&mut self) {
        self.skip();
        assert!(self.rest.is_empty(), "left over: {}", self.rest);
    }

    fn word(&mut self) -> String {
        self.skip();
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let ends =
            |c: char| !(c.is_alphanumeric() || matches!(c, '$' | '_' | '.' | '~' | '-' | '*'));
        let length = self.rest.find(ends).unwrap_or(self.rest.len());
        assert!(length > 0, "expected a word at: {}", self.rest);
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word.to_owned()
    }

    /// As a Rust string literal, with `\u{…}`, `\n`, `\0`, `\"` and `\\`.
    fn quoted(&mut self) -> String {
        self.expect('"');
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return out;
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('0') => out.push('\0'),
                    Some('u') => {
                        let code: String = chars
                            .by_ref()
                            .map(|(_, c)| c)
                            .take_while(|&c| c != '}')
                            .filter(|&c| c != '{')
                            .collect();
                        out.push(char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap());
                    }
                    Some(c) => out.push(c),
                    None => break,
                },
                c => out.push(c),
            }
        }
        panic!("a string without end: {}", self.rest);
    }

    fn document(&mut self) -> Fields {
        self.expect('{');
        let mut fields = Vec::new();
        while !self.takes('}') {
            let name = self.word();
            self.expect(':');
            fields.push((name, self.value()));
            if !self.takes(',') {
                self.expect('}');
                break;
            }
        }
        fields
    }

    fn array(&mut self) -> Vec<Value> {
        self.expect('[');
        let mut values = Vec::new();
        while !self.takes(']') {
            values.push(self.value());
            if !self.takes(',') {
                self.expect(']');
                break;
            }
        }
        values
    }

    fn value(&mut self) -> Value {
        self.skip();
        match self.rest.chars().next() {
            Some('{') => Value::Document(self.document()),
            Some('[') => Value::Array(self.array()),
            Some('"') => Value::string(&self.quoted()),
            Some('/') => self.regex(),
            Some(c) if c == '-' || c.is_ascii_digit() => self.number(),
            _ => self.named(),
        }
    }

    fn number(&mut self) -> Value {
        let word = self.word();
        if let Ok(number) = word.parse::<i32>() {
            return Value::int(number);
        }
        let number: f64 = word.parse().expect(&word);
        Value::Leaf(Kind::Double, number.to_le_bytes().to_vec())
    }

    fn regex(&mut self) -> Value {
        let (pattern, rest) = self.rest[1..].split_once('/').expect("a pattern's end");
        let length = rest
            .find(|c: char| !c.is_alphanumeric())
            .unwrap_or(rest.len());
        let (options, rest) = rest.split_at(length);
        self.rest = rest;
        Value::regex(pattern, options)
    }

    fn named(&mut self) -> Value {
        let word = self.word();
        let empty = |kind| Value::Leaf(kind, Vec::new());
        match word.as_str() {
            "true" => return Value::boolean(true),
            "false" => return Value::boolean(false),
            "null" => return Value::null(),
            "Undefined" => return empty(Kind::Undefined),
            "MinKey" => return empty(Kind::MinKey),
            "MaxKey" => return empty(Kind::MaxKey),
            _ => {}
        }
        self.expect('(');
        let value = self.called(&word);
        self.expect(')');
        value
    }

    fn called(&mut self, name: &str) -> Value {
        match name {
            "Symbol" => Value::symbol(&self.quoted()),
            "Code" => Value::Leaf(Kind::JavaScript, string_bytes(self.quoted().as_bytes())),
            "Long" => self.long(Kind::Int64),
            "Date" => self.long(Kind::DateTime),
            "Timestamp" => self.long(Kind::Timestamp),
            "ObjectId" => Value::Leaf(Kind::ObjectId, self.hex()),
            "UUID" => binary(4, &self.hex()),
            "Binary" => {
                let subtype = self.word().parse().unwrap();
                self.expect(',');
                binary(subtype, &self.hex())
            }
            other => panic!("unknown value: {other}"),
        }
    }

    fn long(&mut self, kind: Kind) -> Value {
        let number: i64 = self.word().parse().unwrap();
        Value::Leaf(kind, number.to_le_bytes().to_vec())
    }

    fn hex(&mut self) -> Vec<u8> {
        self.skip();
        let digits = self.quoted();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }
}

fn binary(subtype: u8, bytes: &[u8]) -> Value {
    let length = i32::try_from(bytes.len()).unwrap();
    Value::Leaf(
        Kind::Binary,
        [length.to_le_bytes().as_slice(), &[subtype], bytes].concat(),
    )
}
