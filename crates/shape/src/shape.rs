//! A query shape: a command without its values.

use std::collections::BTreeSet;
use std::fmt;

/// Which command a shape is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShapeKind {
    /// `find`.
    Find,
    /// `count`.
    Count,
    /// `distinct`.
    Distinct,
    /// `findAndModify`.
    FindAndModify,
    /// A statement of `update`.
    Update,
    /// A statement of `delete`.
    Delete,
    /// The leading stages of `aggregate`.
    Aggregate,
    /// The foreign side of a `$lookup` or `$graphLookup`.
    Lookup,
}

/// Names of kinds, as they are stored.
const KINDS: &[(ShapeKind, &str)] = &[
    (ShapeKind::Find, "find"),
    (ShapeKind::Count, "count"),
    (ShapeKind::Distinct, "distinct"),
    (ShapeKind::FindAndModify, "findAndModify"),
    (ShapeKind::Update, "update"),
    (ShapeKind::Delete, "delete"),
    (ShapeKind::Aggregate, "aggregate"),
    (ShapeKind::Lookup, "lookup"),
];

impl ShapeKind {
    /// The command's name; `lookup` for the foreign side of a stage.
    pub fn as_str(self) -> &'static str {
        let row = KINDS.iter().find(|(kind, _)| *kind == self);
        row.map_or("", |(_, name)| name)
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        KINDS
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(kind, _)| *kind)
    }
}

/// The direction of a field in a sort or an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// `1`.
    Ascending,
    /// `-1`.
    Descending,
}

impl Direction {
    /// As MongoDB writes it.
    pub fn as_i32(self) -> i32 {
        match self {
            Self::Ascending => 1,
            Self::Descending => -1,
        }
    }

    /// Of a number in a key pattern.
    pub fn of(number: i64) -> Self {
        if number < 0 {
            Self::Descending
        } else {
            Self::Ascending
        }
    }

    /// The other one.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::Ascending => Self::Descending,
            Self::Descending => Self::Ascending,
        }
    }
}

/// A query shape: a command with its values removed. It holds names of fields and operators' effects, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The database.
    pub database: String,
    /// The collection, as the app names it.
    pub collection: String,
    /// Of which command.
    pub kind: ShapeKind,
    /// Fields that must equal a value.
    pub equality: BTreeSet<String>,
    /// Fields that must equal one of up to [`IN_VALUES_MAX`](crate::IN_VALUES_MAX) values: before the sort if there is none, behind it otherwise.
    pub membership: BTreeSet<String>,
    /// The sort, in order.
    pub sort: Vec<(String, Direction)>,
    /// Fields that must lie in a range.
    pub range: BTreeSet<String>,
    /// Paths known to hold arrays (of `$elemMatch`): an index holds fields below one of them only.
    pub arrays: BTreeSet<String>,
    /// Predicates that no index serves.
    pub unindexable: u32,
    /// Whether it needs an index of a special kind (`$text`, `$near`, `$geoWithin`), which is never made by itself.
    pub is_special: bool,
    /// The collation, a document; `None` for the simple one.
    pub collation: Option<Vec<u8>>,
}

/// A stable number for a shape: the same in every process and version. Not for security.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Shape {
    /// A shape without fields.
    pub fn new(database: &str, collection: &str, kind: ShapeKind) -> Self {
        Self {
            database: database.to_owned(),
            collection: collection.to_owned(),
            kind,
            equality: BTreeSet::new(),
            membership: BTreeSet::new(),
            sort: Vec::new(),
            range: BTreeSet::new(),
            arrays: BTreeSet::new(),
            unindexable: 0,
            is_special: false,
            collation: None,
        }
    }

    /// Whether it has a field that an index could serve.
    pub fn is_indexable(&self) -> bool {
        !(self.equality.is_empty()
            && self.membership.is_empty()
            && self.sort.is_empty()
            && self.range.is_empty())
    }

    /// The number for it. Shapes that differ in any part differ in it, but for a chance of one in 2⁶⁴.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Fnv::default();
        for part in [
            self.database.as_str(),
            self.collection.as_str(),
            self.kind.as_str(),
        ] {
            hash.part(part.as_bytes());
        }
        for (mark, fields) in [
            (b"e", &self.equality),
            (b"m", &self.membership),
            (b"r", &self.range),
            (b"a", &self.arrays),
        ] {
            for field in fields {
                hash.part(mark);
                hash.part(field.as_bytes());
            }
        }
        for (field, direction) in &self.sort {
            hash.part(if *direction == Direction::Ascending {
                b"s+"
            } else {
                b"s-"
            });
            hash.part(field.as_bytes());
        }
        hash.part(&self.unindexable.to_le_bytes());
        hash.part(&[u8::from(self.is_special)]);
        if let Some(collation) = &self.collation {
            hash.part(collation);
        }
        Fingerprint(hash.0)
    }
}

impl fmt::Display for Shape {
    /// For people: `find {category, price: range} sort {price: 1}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self
            .equality
            .iter()
            .cloned()
            .chain(self.membership.iter().map(|field| format!("{field}: in")))
            .chain(self.range.iter().map(|field| format!("{field}: range")));
        let fields: Vec<String> = fields.collect();
        write!(f, "{} {{{}}}", self.kind.as_str(), fields.join(", "))?;
        if !self.sort.is_empty() {
            let sort = self.sort.iter();
            let sort: Vec<String> = sort.map(|(n, d)| format!("{n}: {}", d.as_i32())).collect();
            write!(f, " sort {{{}}}", sort.join(", "))?;
        }
        if self.unindexable > 0 {
            write!(f, " and {} that no index serves", self.unindexable)?;
        }
        Ok(())
    }
}

/// FNV-1a over 64 bits: stable, without a seed, quick for short keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fnv(pub(crate) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Bytes and an end, so that `ab`, `c` is not `a`, `bc`.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
        self.byte(0xFF);
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.0 ^= u64::from(byte);
        self.0 = self.0.wrapping_mul(0x0000_0100_0000_01b3);
    }
}
