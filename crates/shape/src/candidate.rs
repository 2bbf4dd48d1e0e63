//! Which indexes would serve shapes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::fields::is_path;
use crate::shape::{Direction, Shape};

/// Fields of a key besides the scope field. More narrow nothing that the first ones have not, and cost every write.
pub const KEY_FIELDS_MAX: usize = 8;

/// Fields of an index in order, without the scope field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexKey(pub Vec<(String, Direction)>);

impl fmt::Display for IndexKey {
    /// As MongoDB names an index: `category_1_price_-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, direction)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "_" };
            write!(f, "{separator}{field}_{}", direction.as_i32())?;
        }
        Ok(())
    }
}

impl IndexKey {
    /// Whether the other key serves whatever this one serves: its first fields are these, in these directions or in all
    /// the opposite ones.
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        let pairs = || self.0.iter().zip(&other.0);
        let has_names = self.0.len() <= other.0.len() && pairs().all(|(a, b)| a.0 == b.0);
        has_names && (pairs().all(|(a, b)| a.1 == b.1) || pairs().all(|(a, b)| a.1 != b.1))
    }
}

/// An index that would serve shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its fields.
    pub key: IndexKey,
    /// Its collation.
    pub collation: Option<Vec<u8>>,
    /// The places of the shapes in the list that was given.
    pub serves: Vec<usize>,
}

/// An index that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingIndex {
    /// Its fields, without the scope field in front.
    pub key: IndexKey,
    /// Its collation.
    pub collation: Option<Vec<u8>>,
}

impl Candidate {
    /// Whether an index that is there serves whatever this one would.
    pub fn is_served_by(&self, existing: &ExistingIndex) -> bool {
        self.collation == existing.collation && self.key.is_prefix_of(&existing.key)
    }
}

/// The indexes for shapes of one collection: fields of equality, then of the sort, then of ranges; each as long as it has to
/// be and none the beginning of another. The same for the same shapes, in whatever order they come.
pub fn candidates(shapes: &[&Shape], scope_field: &str) -> Vec<Candidate> {
    let uses = uses(shapes);
    let mut by_key: BTreeMap<(Option<Vec<u8>>, IndexKey), Vec<usize>> = BTreeMap::new();
    for (place, shape) in shapes.iter().enumerate() {
        if let Some(key) = key_of(shape, &uses, scope_field) {
            let group = by_key.entry((shape.collation.clone(), key));
            group.or_default().push(place);
        }
    }
    let mut kept: Vec<Candidate> = Vec::new();
    let mut all: Vec<_> = by_key.into_iter().collect();
    // Longest first, so that what is a beginning finds what it begins.
    all.sort_by(|a, b| (b.0.1.0.len(), &a.0).cmp(&(a.0.1.0.len(), &b.0)));
    for ((collation, key), serves) in all {
        let longer = kept
            .iter_mut()
            .find(|other| other.collation == collation && key.is_prefix_of(&other.key));
        match longer {
            Some(longer) => longer.serves.extend(serves),
            None => kept.push(Candidate {
                key,
                collation,
                serves,
            }),
        }
    }
    for candidate in &mut kept {
        candidate.serves.sort_unstable();
    }
    kept
}

/// How many shapes have a field as an equality.
fn uses<'s>(shapes: &[&'s Shape]) -> BTreeMap<&'s str, usize> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for field in shapes.iter().flat_map(|shape| equalities(shape)) {
        let count = uses.entry(field).or_default();
        *count = count.saturating_add(1);
    }
    uses
}

/// With a sort, `$in` would break its order.
fn equalities(shape: &Shape) -> impl Iterator<Item = &str> {
    let membership = shape.membership.iter().filter(|_| shape.sort.is_empty());
    shape.equality.iter().chain(membership).map(String::as_str)
}

/// The key for one shape; `None` if none would help, or only one of a special kind.
fn key_of(shape: &Shape, uses: &BTreeMap<&str, usize>, scope_field: &str) -> Option<IndexKey> {
    // One document at most.
    if shape.is_special || shape.equality.contains("_id") {
        return None;
    }
    let mut key = Key {
        shape,
        scope_field,
        fields: Vec::new(),
        seen: BTreeSet::new(),
        array: None,
    };
    let mut equal: Vec<&str> = equalities(shape).collect();
    equal.sort_by_key(|field| {
        let count = uses.get(field).copied().unwrap_or(0);
        (std::cmp::Reverse(count), *field)
    });
    for field in equal {
        key.push(field, Direction::Ascending);
    }
    for (field, direction) in &shape.sort {
        key.push(field, *direction);
    }
    let late = shape.membership.iter().filter(|_| !shape.sort.is_empty());
    for field in late.chain(&shape.range) {
        key.push(field, Direction::Ascending);
    }
    let fields = key.fields;
    // That of `_id` is there.
    let is_id = matches!(fields.as_slice(), [(only, _)] if only == "_id");
    (!fields.is_empty() && !is_id).then_some(IndexKey(fields))
}

struct Key<'s> {
    shape: &'s Shape,
    scope_field: &'s str,
    fields: Vec<(String, Direction)>,
    seen: BTreeSet<&'s str>,
    array: Option<&'s str>,
}

impl<'s> Key<'s> {
    fn push(&mut self, field: &'s str, direction: Direction) {
        let first = field.split('.').next().unwrap_or_default();
        let is_reserved = first == self.scope_field || first.starts_with('~');
        let is_full = self.fields.len() >= KEY_FIELDS_MAX;
        if is_reserved || is_full || !is_path(field) || self.has_other_array(field) {
            return;
        }
        if self.seen.insert(field) {
            self.fields.push((field.to_owned(), direction));
        }
    }

    /// No index holds fields of two arrays: a document with both could not be stored.
    fn has_other_array(&mut self, field: &'s str) -> bool {
        let array = self.shape.arrays.iter().find(|array| {
            let rest = field.strip_prefix(array.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let Some(array) = array else {
            return false;
        };
        *self.array.get_or_insert(array) != array.as_str()
    }
}
