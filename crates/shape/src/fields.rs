//! Filters read as fields that an index could serve.

use std::collections::BTreeSet;

use mdb_wire::{Document, Element, Kind};

use crate::shape::Shape;

/// Values up to which `$in` counts as equality: as many points as the planner turns into single scans.
pub const IN_VALUES_MAX: usize = 200;

/// Fields of one shape. More do not make a better index, and a client can write as many as it likes.
const FIELDS_MAX: usize = 16;

/// Bytes of a path. Longer ones are no names that a person gave.
const PATH_BYTES_MAX: usize = 256;

/// Branches of one `$or` that are looked at: each is a shape of its own.
pub(crate) const BRANCHES_MAX: usize = 16;

/// How deep `$and` and `$elemMatch` are followed. Filters of people are two or three deep.
const DEPTH_MAX: usize = 8;

/// What a predicate is to an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Equality,
    Membership,
    Range,
    Elements,
    /// Says nothing by itself: `$options` of `$regex`, `$comment`.
    Silent,
    Special,
    None,
}

/// Operators on a field. `$in`, `$regex`, `$exists` and `$elemMatch` depend on their value.
static OPERATORS: &[(&str, Role)] = &[
    ("$eq", Role::Equality),
    ("$all", Role::Equality),
    ("$gt", Role::Range),
    ("$gte", Role::Range),
    ("$lt", Role::Range),
    ("$lte", Role::Range),
    ("$type", Role::Range),
    ("$elemMatch", Role::Elements),
    ("$options", Role::Silent),
    ("$comment", Role::Silent),
    ("$near", Role::Special),
    ("$nearSphere", Role::Special),
    ("$geoWithin", Role::Special),
    ("$geoIntersects", Role::Special),
    ("$within", Role::Special),
    ("$maxDistance", Role::Silent),
    ("$minDistance", Role::Silent),
];

/// What an operator with this value is to an index.
pub(crate) fn role_of(operator: &Element<'_>) -> Role {
    match operator.key {
        b"$in" => match operator.as_array() {
            Some(values) if has_few_values(values) => Role::Membership,
            _ => Role::Range,
        },
        b"$regex" => regex_role(operator),
        b"$exists" if operator.as_flag() == Some(true) => Role::Range,
        key => OPERATORS
            .iter()
            .find(|(name, _)| name.as_bytes() == key)
            .map_or(Role::None, |(_, role)| *role),
    }
}

/// Whether an array has at most [`IN_VALUES_MAX`] values, judged by its bytes and its first value: exact for values of
/// one size, and without a walk over a list that may be long.
pub(crate) fn has_few_values(values: Document<'_>) -> bool {
    let Some(first) = values.first() else {
        return true;
    };
    // Each has a kind, its number in digits, a zero byte, and its bytes. 490 digits number 0 to 199.
    let each = first.value.len().saturating_add(2);
    let most = each.saturating_mul(IN_VALUES_MAX).saturating_add(490);
    values.inner_bytes().len() <= most
}

/// An anchored regular expression is a range of strings; any other is tried on every key.
pub(crate) fn regex_role(value: &Element<'_>) -> Role {
    let (pattern, is_plain) = match value.kind {
        Kind::String => (value.as_string().unwrap_or_default(), true),
        Kind::Regex => {
            let end = value.value.iter().position(|&b| b == 0).unwrap_or(0);
            let (pattern, options) = value.value.split_at_checked(end).unwrap_or_default();
            // A zero byte on each side of the options.
            (pattern, options.len() <= 2)
        }
        _ => return Role::None,
    };
    let is_anchored = pattern.first() == Some(&b'^') || pattern.starts_with(b"\\A");
    if is_anchored && is_plain {
        Role::Range
    } else {
        Role::None
    }
}

/// A filter taken apart: its fields, and the branches of its first `$or`.
#[derive(Debug, Default)]
pub(crate) struct Filter<'a> {
    pub(crate) fields: Fields,
    pub(crate) branches: Vec<Document<'a>>,
    /// Whether variables stand for values: then an `$expr` that compares fields with them says equality.
    has_variables: bool,
}

/// Fields by what they are to an index.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fields {
    equality: BTreeSet<String>,
    membership: BTreeSet<String>,
    range: BTreeSet<String>,
    arrays: BTreeSet<String>,
    unindexable: u32,
    is_special: bool,
}

impl<'a> Filter<'a> {
    /// Reads a whole filter.
    pub(crate) fn read(filter: Document<'a>) -> Self {
        let mut read = Self::default();
        read.top(filter, DEPTH_MAX);
        read
    }

    /// Reads a filter of the foreign side of a `$lookup`.
    pub(crate) fn read_foreign(filter: Document<'a>) -> Self {
        let mut read = Self {
            has_variables: true,
            ..Self::default()
        };
        read.top(filter, DEPTH_MAX);
        read
    }

    fn top(&mut self, filter: Document<'a>, depth: usize) {
        for element in filter.elements() {
            match element.key {
                b"$and" => self.all(&element, depth),
                b"$or" if self.branches.is_empty() => {
                    let branches = element.as_array().into_iter().flat_map(Document::elements);
                    let branches = branches.filter_map(|branch| branch.as_document());
                    self.branches.extend(branches.take(BRANCHES_MAX));
                }
                b"$comment" => {}
                b"$expr" if self.has_variables => {
                    let fields = &mut self.fields;
                    if !comparisons(&element, DEPTH_MAX, &mut |path| fields.equal(path)) {
                        self.fields.miss();
                    }
                }
                b"$text" => self.fields.is_special = true,
                key if key.first() == Some(&b'$') => self.fields.miss(),
                _ => self.fields.predicate("", &element, depth),
            }
        }
    }

    fn all(&mut self, element: &Element<'a>, depth: usize) {
        let Some(below) = depth.checked_sub(1) else {
            self.fields.miss();
            return;
        };
        let branches = element.as_array().into_iter().flat_map(Document::elements);
        for branch in branches.filter_map(|branch| branch.as_document()) {
            self.top(branch, below);
        }
    }
}

/// Tells of the fields that the `$expr` conditions of a filter compare with variables.
pub(crate) fn compared(filter: Document<'_>, tell: &mut dyn FnMut(&str)) {
    below(filter, DEPTH_MAX, tell);
}

fn below(filter: Document<'_>, depth: usize, tell: &mut dyn FnMut(&str)) {
    let Some(deeper) = depth.checked_sub(1) else {
        return;
    };
    for element in filter.elements() {
        match element.key {
            b"$expr" => {
                comparisons(&element, DEPTH_MAX, tell);
            }
            b"$and" => {
                let parts = element.as_array().into_iter().flat_map(Document::elements);
                let parts = parts.filter_map(|part| part.as_document());
                parts.for_each(|part| below(part, deeper, tell));
            }
            _ => {}
        }
    }
}

/// Tells of the fields that an expression compares with variables: `{$eq: ["$field", "$$variable"]}`, also in an `$and`. Gives
/// whether that is all that it says.
fn comparisons(expression: &Element<'_>, depth: usize, tell: &mut dyn FnMut(&str)) -> bool {
    let only = |document: Document<'_>| -> bool { document.elements().nth(1).is_none() };
    let Some(document) = expression.as_document().filter(|document| only(*document)) else {
        return false;
    };
    let (Some(operator), Some(deeper)) = (document.first(), depth.checked_sub(1)) else {
        return false;
    };
    let Some(operands) = operator.as_array() else {
        return false;
    };
    match operator.key {
        b"$and" => {
            let mut is_all = true;
            for part in operands.elements() {
                is_all &= comparisons(&part, deeper, tell);
            }
            is_all
        }
        b"$eq" => match equality(operands) {
            Some(path) => {
                tell(path);
                true
            }
            None => false,
        },
        _ => false,
    }
}

/// The field of `["$field", "$$variable"]`, in either order.
fn equality(operands: Document<'_>) -> Option<&str> {
    let mut operands = operands.elements();
    let (one, other) = (operands.next()?.as_str()?, operands.next()?.as_str()?);
    if operands.next().is_some() {
        return None;
    }
    let is_variable = |text: &str| {
        text.strip_prefix("$$")
            .is_some_and(|name| name.starts_with(|first: char| first.is_lowercase()))
    };
    let field = if is_variable(other) {
        one
    } else if is_variable(one) {
        other
    } else {
        return None;
    };
    let path = field.strip_prefix('$')?;
    is_path(path).then_some(path)
}

impl Fields {
    /// Reads one branch of an `$or`, whose own `$or` counts as a predicate that no index serves.
    pub(crate) fn branch(&mut self, filter: Document<'_>) {
        let read = Filter::read(filter);
        if !read.branches.is_empty() {
            self.miss();
        }
        let Fields {
            equality,
            membership,
            range,
            arrays,
            unindexable,
            is_special,
        } = read.fields;
        self.equality.extend(equality);
        self.membership.extend(membership);
        self.range.extend(range);
        self.arrays.extend(arrays);
        self.unindexable = self.unindexable.saturating_add(unindexable);
        self.is_special |= is_special;
    }

    /// One field that must equal a value.
    pub(crate) fn equal(&mut self, path: &str) {
        self.add(path, Role::Equality);
    }

    /// One predicate that no index serves.
    pub(crate) fn miss(&mut self) {
        self.unindexable = self.unindexable.saturating_add(1);
    }

    /// Puts the fields into a shape: a field stands once, where it narrows most.
    pub(crate) fn into_shape(self, shape: &mut Shape) {
        shape.unindexable = shape.unindexable.saturating_add(self.unindexable);
        shape.is_special |= self.is_special;
        shape.arrays = self.arrays;
        let without = |fields: &BTreeSet<String>, others: &BTreeSet<String>| {
            fields.difference(others).cloned().collect()
        };
        shape.membership = without(&self.membership, &self.equality);
        let range: BTreeSet<String> = without(&self.range, &self.equality);
        shape.range = without(&range, &shape.membership);
        shape.equality = self.equality;
    }

    fn predicate(&mut self, prefix: &str, element: &Element<'_>, depth: usize) {
        let path = if prefix.is_empty() {
            element.name().to_owned()
        } else {
            format!("{prefix}.{}", element.name())
        };
        match operators(element) {
            Some(operators) => {
                for operator in operators.elements() {
                    self.operator(&path, &operator, depth);
                }
            }
            None if element.kind == Kind::Regex => self.add(&path, regex_role(element)),
            None => self.add(&path, Role::Equality),
        }
    }

    fn operator(&mut self, path: &str, operator: &Element<'_>, depth: usize) {
        match role_of(operator) {
            Role::Elements => self.elements(path, operator, depth),
            role => self.add(path, role),
        }
    }

    /// `$elemMatch`: predicates on fields of the elements, or on the elements themselves.
    fn elements(&mut self, path: &str, operator: &Element<'_>, depth: usize) {
        let (Some(inner), Some(below)) = (operator.as_document(), depth.checked_sub(1)) else {
            self.miss();
            return;
        };
        if self.arrays.len() < FIELDS_MAX && path.len() <= PATH_BYTES_MAX {
            self.arrays.insert(path.to_owned());
        }
        for element in inner.elements() {
            match element.key {
                b"$and" | b"$or" | b"$nor" => self.miss(),
                key if key.first() == Some(&b'$') => self.operator(path, &element, below),
                _ => self.predicate(path, &element, below),
            }
        }
    }

    fn add(&mut self, path: &str, role: Role) {
        let fields = match role {
            Role::Silent => return,
            Role::Special => {
                self.is_special = true;
                return;
            }
            Role::None | Role::Elements => return self.miss(),
            _ if !is_path(path) => return self.miss(),
            Role::Equality => &mut self.equality,
            Role::Membership => &mut self.membership,
            Role::Range => &mut self.range,
        };
        if fields.len() < FIELDS_MAX {
            fields.insert(path.to_owned());
        } else {
            self.miss();
        }
    }
}

/// The operators of a predicate, if its value is not one to be equal to.
fn operators<'a>(element: &Element<'a>) -> Option<Document<'a>> {
    let document = element.as_document()?;
    let first = document.first()?;
    (first.key.first() == Some(&b'$') && !matches!(first.key, b"$ref" | b"$id" | b"$db"))
        .then_some(document)
}

/// Whether an index can have this path: names without `$`, and none that is a place in an array.
pub(crate) fn is_path(path: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.starts_with('$')
            && !part.bytes().all(|byte| byte.is_ascii_digit())
    };
    path.len() <= PATH_BYTES_MAX && path.split('.').all(is_name)
}
