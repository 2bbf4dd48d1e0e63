//! BSON written into one growing buffer, nested documents in place.

use crate::bson::{Document, Element, Kind};

/// Writes BSON elements one after another; a nested document is begun and ended, never built apart and copied.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

/// Where a document was begun; [`Writer::end`] takes it.
#[must_use = "a document that was begun has to be ended"]
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

impl Writer {
    /// Writes behind what `out` already holds.
    pub fn new(out: Vec<u8>) -> Self {
        Self { out }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Bytes written so far, those handed to [`Writer::new`] included.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes back what was written behind the first `bytes`: to write something else instead.
    pub fn truncate(&mut self, bytes: usize) {
        self.out.truncate(bytes);
    }

    /// Begins a document that is no element of another.
    pub fn begin(&mut self) -> Mark {
        let mark = Mark(self.out.len());
        self.out.extend_from_slice(&[0; 4]);
        mark
    }

    /// Begins an embedded document.
    pub fn begin_document(&mut self, key: &[u8]) -> Mark {
        self.key(Kind::Document, key);
        self.begin()
    }

    /// Begins an array; [`IndexKey`] names its elements.
    pub fn begin_array(&mut self, key: &[u8]) -> Mark {
        self.key(Kind::Array, key);
        self.begin()
    }

    /// Ends the document begun at `mark`.
    pub fn end(&mut self, mark: Mark) {
        self.out.push(0);
        self.patch_length(mark);
    }

    /// Writes the number of bytes since `mark` at `mark`, without a zero byte: for sections of a message.
    pub fn patch_length(&mut self, mark: Mark) {
        let length = self.out.len().saturating_sub(mark.0);
        // A message that long is refused by its size long before.
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        if let Some(place) = self.out.get_mut(mark.0..mark.0.saturating_add(4)) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Remembers a place for [`Writer::patch_length`] and leaves four bytes for it.
    pub fn begin_length(&mut self) -> Mark {
        self.begin()
    }

    /// Copies bytes as they are: whole elements, or the parts of a message that are no BSON.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Copies an element as it is.
    pub fn element(&mut self, element: &Element<'_>) {
        self.out.extend_from_slice(element.raw);
    }

    /// Copies an element's value under another name.
    pub fn renamed(&mut self, key: &[u8], element: &Element<'_>) {
        self.key(element.kind, key);
        self.out.extend_from_slice(element.value);
    }

    /// An embedded document that exists already.
    pub fn document(&mut self, key: &[u8], document: Document<'_>) {
        self.key(Kind::Document, key);
        self.out.extend_from_slice(document.bytes());
    }

    /// A string.
    pub fn string(&mut self, key: &[u8], value: &str) {
        self.key(Kind::String, key);
        let length = i32::try_from(value.len().saturating_add(1)).unwrap_or(i32::MAX);
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(0);
    }

    /// A regular expression without options. `pattern` must hold no zero byte.
    pub fn regex(&mut self, key: &[u8], pattern: &str) {
        self.key(Kind::Regex, key);
        self.out.extend_from_slice(pattern.as_bytes());
        self.out.extend_from_slice(&[0, 0]);
    }

    /// A 32-bit integer.
    pub fn int32(&mut self, key: &[u8], value: i32) {
        self.key(Kind::Int32, key);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A 64-bit integer.
    pub fn int64(&mut self, key: &[u8], value: i64) {
        self.key(Kind::Int64, key);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A double; MongoDB's replies say `ok: 1.0`.
    pub fn double(&mut self, key: &[u8], value: f64) {
        self.key(Kind::Double, key);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A boolean.
    pub fn boolean(&mut self, key: &[u8], value: bool) {
        self.key(Kind::Boolean, key);
        self.out.push(u8::from(value));
    }

    /// A binary.
    pub fn binary(&mut self, key: &[u8], subtype: u8, value: &[u8]) {
        self.key(Kind::Binary, key);
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.push(subtype);
        self.out.extend_from_slice(value);
    }

    /// Milliseconds since the Unix epoch.
    pub fn date_time(&mut self, key: &[u8], millis: i64) {
        self.key(Kind::DateTime, key);
        self.out.extend_from_slice(&millis.to_le_bytes());
    }

    /// Seconds since the Unix epoch, and a count within the second.
    pub fn timestamp(&mut self, key: &[u8], seconds: u32, increment: u32) {
        self.key(Kind::Timestamp, key);
        self.out.extend_from_slice(&increment.to_le_bytes());
        self.out.extend_from_slice(&seconds.to_le_bytes());
    }

    /// An `ObjectId`.
    pub fn object_id(&mut self, key: &[u8], value: [u8; 12]) {
        self.key(Kind::ObjectId, key);
        self.out.extend_from_slice(&value);
    }

    /// Null.
    pub fn null(&mut self, key: &[u8]) {
        self.key(Kind::Null, key);
    }

    fn key(&mut self, kind: Kind, key: &[u8]) {
        self.out.push(kind as u8);
        self.out.extend_from_slice(key);
        self.out.push(0);
    }
}

/// The name of the `index`th element of an array, written without allocation into a small buffer.
#[derive(Debug)]
pub struct IndexKey {
    digits: [u8; 20],
    start: usize,
}

impl IndexKey {
    /// `0` is `"0"`.
    pub fn new(index: usize) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        let mut rest = index;
        for (place, digit) in digits.iter_mut().enumerate().rev() {
            // A remainder by ten always fits.
            *digit = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or(0));
            start = place;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        Self { digits, start }
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}
