//! Checked BSON, read in place.
//!
//! [`Document::parse`] checks every byte once: lengths, terminators, kinds, nesting. From then on walking is
//! free of errors and of copies. Keys and strings are bytes, not `str`: MongoDB compares bytes, and so do we.

use crate::limits::NESTING_MAX;

/// The kind of a value, by its BSON type byte (bsonspec.org, version 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// 64-bit floating point.
    Double = 0x01,
    /// UTF-8 string.
    String = 0x02,
    /// Embedded document.
    Document = 0x03,
    /// Array: a document whose keys the server ignores.
    Array = 0x04,
    /// Binary with a subtype.
    Binary = 0x05,
    /// Undefined (deprecated).
    Undefined = 0x06,
    /// `ObjectId`, 12 bytes.
    ObjectId = 0x07,
    /// Boolean.
    Boolean = 0x08,
    /// Milliseconds since the Unix epoch.
    DateTime = 0x09,
    /// Null.
    Null = 0x0A,
    /// Regular expression: pattern and options.
    Regex = 0x0B,
    /// `DBPointer` (deprecated).
    DbPointer = 0x0C,
    /// JavaScript code.
    JavaScript = 0x0D,
    /// Symbol (deprecated).
    Symbol = 0x0E,
    /// JavaScript code with a scope document (deprecated).
    JavaScriptWithScope = 0x0F,
    /// 32-bit integer.
    Int32 = 0x10,
    /// Internal timestamp.
    Timestamp = 0x11,
    /// 64-bit integer.
    Int64 = 0x12,
    /// IEEE 754 decimal.
    Decimal128 = 0x13,
    /// Greater than everything.
    MaxKey = 0x7F,
    /// Less than everything.
    MinKey = 0xFF,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Double,
            0x02 => Self::String,
            0x03 => Self::Document,
            0x04 => Self::Array,
            0x05 => Self::Binary,
            0x06 => Self::Undefined,
            0x07 => Self::ObjectId,
            0x08 => Self::Boolean,
            0x09 => Self::DateTime,
            0x0A => Self::Null,
            0x0B => Self::Regex,
            0x0C => Self::DbPointer,
            0x0D => Self::JavaScript,
            0x0E => Self::Symbol,
            0x0F => Self::JavaScriptWithScope,
            0x10 => Self::Int32,
            0x11 => Self::Timestamp,
            0x12 => Self::Int64,
            0x13 => Self::Decimal128,
            0x7F => Self::MaxKey,
            0xFF => Self::MinKey,
            _ => return None,
        })
    }

    /// The name MongoDB's error texts use, as in `BSON field 'find.filter' is the wrong type 'string'`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::String => "string",
            Self::Document => "object",
            Self::Array => "array",
            Self::Binary => "binData",
            Self::Undefined => "undefined",
            Self::ObjectId => "objectId",
            Self::Boolean => "bool",
            Self::DateTime => "date",
            Self::Null => "null",
            Self::Regex => "regex",
            Self::DbPointer => "dbPointer",
            Self::JavaScript => "javascript",
            Self::Symbol => "symbol",
            Self::JavaScriptWithScope => "javascriptWithScope",
            Self::Int32 => "int",
            Self::Timestamp => "timestamp",
            Self::Int64 => "long",
            Self::Decimal128 => "decimal",
            Self::MaxKey => "maxKey",
            Self::MinKey => "minKey",
        }
    }
}

/// Why bytes are not a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BsonError {
    /// A length points outside of its document, or is too small for what it must hold.
    #[error("a length does not fit its document")]
    Length,
    /// A terminating zero byte is missing.
    #[error("a terminating zero byte is missing")]
    Terminator,
    /// A type byte that BSON does not have.
    #[error("unknown element type 0x{0:02x}")]
    UnknownKind(u8),
    /// A boolean that is neither 0 nor 1.
    #[error("a boolean that is neither 0 nor 1")]
    Boolean,
    /// A field name that is not UTF-8.
    #[error("a field name that is not UTF-8")]
    Name,
    /// Nested deeper than [`NESTING_MAX`].
    #[error("nested deeper than {NESTING_MAX} levels")]
    Nesting,
}

impl BsonError {
    /// MongoDB's code for it: 22 `InvalidBSON`, or 15 `Overflow` for nesting.
    pub fn code(self) -> i32 {
        match self {
            Self::Nesting => 15,
            _ => 22,
        }
    }
}

/// A checked document, borrowed. Bytes: length (4, little endian), elements, a zero byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'a>(&'a [u8]);

impl<'a> Document<'a> {
    /// `{}`.
    pub const EMPTY: Document<'static> = Document(&[5, 0, 0, 0, 0]);

    /// Checks that `bytes` are exactly one well-formed document, to the last nested byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BsonError> {
        let (document, rest) = Self::parse_first(bytes)?;
        if rest.is_empty() {
            Ok(document)
        } else {
            Err(BsonError::Length)
        }
    }

    /// Takes `bytes` for one document after a look at its length and end only: for replies of the upstream, whose server
    /// made them. A walk over one that is damaged inside ends early.
    pub fn parse_shallow(bytes: &'a [u8]) -> Result<Self, BsonError> {
        match split_document(bytes)? {
            (document, []) => Ok(Self(document)),
            _ => Err(BsonError::Length),
        }
    }

    /// Checks the document at the start of `bytes` and gives it with what follows it.
    pub fn parse_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BsonError> {
        let (document, rest) = split_document(bytes)?;
        check_elements(document, 1)?;
        Ok((Self(document), rest))
    }

    /// Bytes that were checked before, when the message that holds them was read.
    pub(crate) fn of_checked(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The whole document.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Its elements in order.
    pub fn elements(self) -> Elements<'a> {
        Elements {
            rest: inside(self.0),
        }
    }

    /// The elements' bytes, without the length in front and the zero byte behind.
    pub fn inner_bytes(self) -> &'a [u8] {
        inside(self.0)
    }

    /// The first element named `key`.
    pub fn find(self, key: &str) -> Option<Element<'a>> {
        self.elements().find(|e| e.key == key.as_bytes())
    }

    /// The first element.
    pub fn first(self) -> Option<Element<'a>> {
        self.elements().next()
    }

    /// Whether it has no element.
    pub fn is_empty(self) -> bool {
        self.0.len() <= 5
    }

    /// The first field name that stands twice, if one does. Server parsers disagree about repeated names, so
    /// nothing that has one may be forwarded where its meaning matters.
    pub fn repeated_key(self) -> Option<&'a [u8]> {
        let mut seen: [&[u8]; REPEATED_KEY_SCAN_MAX] = [&[]; REPEATED_KEY_SCAN_MAX];
        let mut elements = self.elements();
        for (count, element) in elements.by_ref().take(REPEATED_KEY_SCAN_MAX).enumerate() {
            if seen.iter().take(count).any(|key| *key == element.key) {
                return Some(element.key);
            }
            if let Some(place) = seen.get_mut(count) {
                *place = element.key;
            }
        }
        let first = elements.next()?;
        let mut many: std::collections::HashSet<&[u8]> = seen.into_iter().collect();
        std::iter::once(first)
            .chain(elements)
            .find(|element| !many.insert(element.key))
            .map(|element| element.key)
    }
}

/// Up to so many names a scan is quicker than hashing; beyond it a scan would be quadratic in what a client sends.
const REPEATED_KEY_SCAN_MAX: usize = 24;

/// One element of a checked document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// The kind of its value.
    pub kind: Kind,
    /// Its name, without the zero byte.
    pub key: &'a [u8],
    /// The bytes of its value.
    pub value: &'a [u8],
    /// Kind, name and value: what is copied to keep it as it is.
    pub raw: &'a [u8],
}

impl<'a> Element<'a> {
    /// The name for texts; names were checked to be UTF-8.
    pub fn name(&self) -> &'a str {
        std::str::from_utf8(self.key).unwrap_or_default()
    }

    /// The embedded document, if it is one (an array is not).
    pub fn as_document(&self) -> Option<Document<'a>> {
        (self.kind == Kind::Document).then_some(Document(self.value))
    }

    /// The array, as a document whose names mean nothing.
    pub fn as_array(&self) -> Option<Document<'a>> {
        (self.kind == Kind::Array).then_some(Document(self.value))
    }

    /// The document or the array.
    pub fn as_nested(&self) -> Option<Document<'a>> {
        matches!(self.kind, Kind::Document | Kind::Array).then_some(Document(self.value))
    }

    /// The bytes of a string, without its length and zero byte.
    pub fn as_string(&self) -> Option<&'a [u8]> {
        if self.kind != Kind::String {
            return None;
        }
        self.value.get(4..self.value.len().checked_sub(1)?)
    }

    /// A string that is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_string()?).ok()
    }

    /// A 64-bit or 32-bit integer, or a double without a fraction, as MongoDB reads numbers in commands.
    pub fn as_integer(&self) -> Option<i64> {
        match self.kind {
            Kind::Int32 => Some(i64::from(i32::from_le_bytes(self.value.try_into().ok()?))),
            Kind::Int64 => Some(i64::from_le_bytes(self.value.try_into().ok()?)),
            Kind::Double => {
                let double = f64::from_le_bytes(self.value.try_into().ok()?);
                // 2^53: above it a double no longer names one integer.
                #[allow(clippy::cast_possible_truncation)]
                (double.fract() == 0.0 && double.abs() <= 9_007_199_254_740_992.0)
                    .then_some(double as i64)
            }
            _ => None,
        }
    }

    /// The number as an integer, a double's fraction cut off, as servers read limits and sizes.
    pub fn as_truncated(&self) -> Option<i64> {
        match self.kind {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a cast keeps to the bounds"
            )]
            Kind::Double => Some(f64::from_le_bytes(self.value.try_into().ok()?) as i64),
            _ => self.as_integer(),
        }
    }

    /// Whether the server takes the value for true where it reads a flag or an inclusion: booleans, and numbers
    /// other than zero. `None` for other kinds.
    pub fn as_flag(&self) -> Option<bool> {
        match self.kind {
            Kind::Boolean => Some(self.value.first() == Some(&1)),
            Kind::Double => Some(f64::from_le_bytes(self.value.try_into().ok()?) != 0.0),
            Kind::Int32 | Kind::Int64 => self.as_integer().map(|n| n != 0),
            Kind::Decimal128 => Some(!is_decimal_zero(self.value)),
            _ => None,
        }
    }

    /// Subtype and bytes of a binary.
    pub fn as_binary(&self) -> Option<(u8, &'a [u8])> {
        if self.kind != Kind::Binary {
            return None;
        }
        Some((*self.value.get(4)?, self.value.get(5..)?))
    }

    /// Seconds and increment of a timestamp as one number that orders as timestamps do.
    pub fn as_timestamp(&self) -> Option<u64> {
        if self.kind != Kind::Timestamp {
            return None;
        }
        Some(u64::from_le_bytes(self.value.try_into().ok()?))
    }
}

/// Zero in either encoding of the coefficient. The second encoding (combination bits `11`) holds coefficients
/// beyond the maximum only, which IEEE 754 reads as zero.
fn is_decimal_zero(value: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 16]>::try_from(value) else {
        return false;
    };
    let bits = u128::from_le_bytes(bytes);
    let combination = (bits >> 122) & 0x1F;
    let is_special = combination >= 0x1E;
    let is_large_form = (bits >> 125) & 0b11 == 0b11;
    let coefficient = bits & ((1 << 113) - 1);
    !is_special && (is_large_form || coefficient == 0)
}

/// The elements of a document in order.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        let all = self.rest;
        let (&byte, after_kind) = all.split_first()?;
        let kind = Kind::of(byte)?;
        let key_length = zero_at(after_kind)?;
        let (key, after_key) = after_kind.split_at_checked(key_length)?;
        let after_key = after_key.get(1..)?;
        let length = value_length(kind, after_key).ok()?;
        let (value, rest) = after_key.split_at_checked(length)?;
        let raw = all.get(..all.len().checked_sub(rest.len())?)?;
        self.rest = rest;
        Some(Element {
            kind,
            key,
            value,
            raw,
        })
    }
}

fn zero_at(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&b| b == 0)
}

fn inside(document: &[u8]) -> &[u8] {
    document
        .get(4..document.len().saturating_sub(1))
        .unwrap_or_default()
}

fn length_at(bytes: &[u8]) -> Result<usize, BsonError> {
    let Some(&first) = bytes.first_chunk::<4>() else {
        return Err(BsonError::Length);
    };
    usize::try_from(i32::from_le_bytes(first)).map_err(|_| BsonError::Length)
}

/// Splits off the document at the start by its length, and checks length and final zero only.
fn split_document(bytes: &[u8]) -> Result<(&[u8], &[u8]), BsonError> {
    let length = length_at(bytes)?;
    if length < 5 {
        return Err(BsonError::Length);
    }
    let (document, rest) = bytes.split_at_checked(length).ok_or(BsonError::Length)?;
    if document.last() != Some(&0) {
        return Err(BsonError::Terminator);
    }
    Ok((document, rest))
}

/// Bytes that a value of this kind takes at the start of `rest`; not that they are all there.
#[inline]
fn value_length(kind: Kind, rest: &[u8]) -> Result<usize, BsonError> {
    let with_length = |extra: usize| length_at(rest)?.checked_add(extra).ok_or(BsonError::Length);
    match kind {
        Kind::Undefined | Kind::Null | Kind::MaxKey | Kind::MinKey => Ok(0),
        Kind::Boolean => Ok(1),
        Kind::Int32 => Ok(4),
        Kind::Double | Kind::DateTime | Kind::Timestamp | Kind::Int64 => Ok(8),
        Kind::ObjectId => Ok(12),
        Kind::Decimal128 => Ok(16),
        Kind::String | Kind::JavaScript | Kind::Symbol => with_length(4),
        Kind::DbPointer => with_length(16),
        Kind::Binary => with_length(5),
        Kind::Document | Kind::Array | Kind::JavaScriptWithScope => with_length(0),
        Kind::Regex => {
            let pattern = zero_at(rest).ok_or(BsonError::Terminator)?;
            let pattern = pattern.checked_add(1).ok_or(BsonError::Length)?;
            let options = rest.get(pattern..).and_then(zero_at);
            options
                .and_then(|o| o.checked_add(1)?.checked_add(pattern))
                .ok_or(BsonError::Terminator)
        }
    }
}

fn check_elements(document: &[u8], depth: usize) -> Result<(), BsonError> {
    if depth > NESTING_MAX {
        return Err(BsonError::Nesting);
    }
    let mut rest = inside(document);
    while let Some((&byte, after_kind)) = rest.split_first() {
        let kind = Kind::of(byte).ok_or(BsonError::UnknownKind(byte))?;
        let key_length = zero_at(after_kind).ok_or(BsonError::Terminator)?;
        let (key, after_key) = after_kind
            .split_at_checked(key_length)
            .ok_or(BsonError::Terminator)?;
        if !key.is_ascii() && std::str::from_utf8(key).is_err() {
            return Err(BsonError::Name);
        }
        let after_key = after_key.get(1..).ok_or(BsonError::Terminator)?;
        let length = value_length(kind, after_key)?;
        let (value, next) = after_key
            .split_at_checked(length)
            .ok_or(BsonError::Length)?;
        check_value(kind, value, depth)?;
        rest = next;
    }
    Ok(())
}

fn check_value(kind: Kind, value: &[u8], depth: usize) -> Result<(), BsonError> {
    match kind {
        Kind::Document | Kind::Array => {
            let (document, rest) = split_document(value)?;
            if !rest.is_empty() {
                return Err(BsonError::Length);
            }
            check_elements(document, depth.saturating_add(1))
        }
        Kind::String | Kind::JavaScript | Kind::Symbol => check_string(value).map(|_| ()),
        Kind::DbPointer => check_string(value).and_then(|rest| {
            if rest.len() == 12 {
                Ok(())
            } else {
                Err(BsonError::Length)
            }
        }),
        Kind::Boolean if !matches!(value, [0 | 1]) => Err(BsonError::Boolean),
        Kind::JavaScriptWithScope => {
            let rest = check_string(value.get(4..).ok_or(BsonError::Length)?)?;
            let (scope, rest) = split_document(rest)?;
            if !rest.is_empty() {
                return Err(BsonError::Length);
            }
            check_elements(scope, depth.saturating_add(1))
        }
        _ => Ok(()),
    }
}

/// Checks a string's length and final zero and gives what follows it.
fn check_string(value: &[u8]) -> Result<&[u8], BsonError> {
    let length = length_at(value)?;
    if length == 0 {
        return Err(BsonError::Length);
    }
    let end = length.checked_add(4).ok_or(BsonError::Length)?;
    let (string, rest) = value.split_at_checked(end).ok_or(BsonError::Length)?;
    if string.last() == Some(&0) {
        Ok(rest)
    } else {
        Err(BsonError::Terminator)
    }
}

#[cfg(test)]
mod tests;
