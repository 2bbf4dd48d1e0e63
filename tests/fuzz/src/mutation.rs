//! Changes of inputs that hold BSON: fields and values are moved, doubled, renamed and replaced, so that most of what is tried
//! is still a command or a reply. Names and values come from the seeds.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use mdb_notation::{Fields, Text, Value, encode, fields};
use mdb_wire::{Document, Kind};

use crate::{scope, seeds};

/// What an input holds besides BSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A whole OP_MSG.
    Message,
    /// Two bytes, and the sections of an OP_MSG.
    Scope,
    /// A byte, and a document.
    Reply,
}

/// LibFuzzer's own change of bytes: of the first so many, to at most so many; gives how many there are then.
pub type Raw = fn(&mut [u8], usize, usize) -> usize;

/// Changes the first `size` bytes of `data` to at most `size_max` others; gives how many there are then. The same seed makes
/// the same change.
pub fn mutate(
    shape: Shape,
    data: &mut [u8],
    size: usize,
    size_max: usize,
    seed: u32,
    raw: Raw,
) -> usize {
    let mut dice = Dice::new(seed);
    let tree = Tree::read(shape, &data[..size]);
    let (Some(mut tree), false) = (tree, dice.below(6) == 0) else {
        let size = raw(data, size, size_max);
        return repair(shape, &mut data[..size], &mut dice);
    };
    for _ in 0..=dice.below(3) {
        tree.change(&mut dice);
    }
    let bytes = tree.write(shape);
    if bytes.len() > size_max {
        return raw(data, size, size_max);
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
}

/// Gives a message that was changed byte by byte the length that its header must say, most of the time.
fn repair(shape: Shape, data: &mut [u8], dice: &mut Dice) -> usize {
    let length = i32::try_from(data.len()).unwrap_or_default();
    if shape == Shape::Message && dice.below(8) > 0 {
        if let Some(place) = data.first_chunk_mut::<4>() {
            *place = length.to_le_bytes();
        }
        let has_checksum = data.get(16).is_some_and(|flags| flags & 1 != 0);
        if has_checksum && data.len() > 20 {
            let (covered, checksum) = data.split_at_mut(data.len() - 4);
            checksum.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
        }
    }
    data.len()
}

/// Numbers that follow from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn new(seed: u32) -> Self {
        // Never zero, which would stay zero.
        Self(u64::from(seed) << 1 | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        for (left, shift) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left {
                self.0 << shift
            } else {
                self.0 >> shift
            };
        }
        usize::try_from(self.0 >> 8).unwrap_or_default() % end.max(1)
    }

    fn one_of<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }
}

/// Names and values that mean something somewhere.
struct Vocabulary {
    names: Vec<String>,
    values: Vec<Value>,
}

fn vocabulary() -> &'static Vocabulary {
    static VOCABULARY: OnceLock<Vocabulary> = OnceLock::new();
    VOCABULARY.get_or_init(|| {
        let mut names = BTreeSet::new();
        let mut values = Vec::new();
        let mut trees: Vec<Tree> = Vec::new();
        let inputs = seeds::scope().into_iter().map(|s| (Shape::Scope, s.1));
        let replies = seeds::reply().into_iter().map(|s| (Shape::Reply, s.1));
        trees.extend(
            inputs
                .chain(replies)
                .filter_map(|(shape, b)| Tree::read(shape, &b)),
        );
        for value in trees.iter_mut().flat_map(|tree| &mut tree.parts) {
            gather(&value.1, &mut names, &mut values);
        }
        values.sort_by_key(ToString::to_string);
        values.dedup();
        Vocabulary {
            names: names.into_iter().collect(),
            values,
        }
    })
}

fn gather(value: &Value, names: &mut BTreeSet<String>, values: &mut Vec<Value>) {
    match value {
        Value::Document(fields) => {
            for (name, value) in fields {
                names.insert(name.clone());
                gather(value, names, values);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|v| gather(v, names, values)),
        Value::Leaf(_, bytes) if bytes.len() > 200 => {}
        Value::Leaf(..) => values.push(value.clone()),
    }
}

/// An input as documents under names: the body first, then document sequences.
struct Tree {
    head: Vec<u8>,
    parts: Fields,
}

impl Tree {
    fn read(shape: Shape, bytes: &[u8]) -> Option<Self> {
        let (head, rest) = match shape {
            Shape::Message => (&[][..], bytes.get(20..)?),
            Shape::Scope => bytes.split_at_checked(2)?,
            Shape::Reply => bytes.split_at_checked(1)?,
        };
        let head = head.to_vec();
        let body = |fields| (String::new(), Value::Document(fields));
        if shape == Shape::Reply {
            let parts = vec![body(fields(Document::parse(rest).ok()?))];
            return Some(Self { head, parts });
        }
        let text = Text::of(&scope::message(rest)?);
        let sequences = text.sequences.into_iter().map(|(name, documents)| {
            let documents = documents.into_iter().map(Value::Document).collect();
            (name, Value::Array(documents))
        });
        let parts = [body(text.body)].into_iter().chain(sequences).collect();
        Some(Self { head, parts })
    }

    fn write(self, shape: Shape) -> Vec<u8> {
        let mut parts = self.parts.into_iter();
        let body = match parts.next() {
            Some((_, Value::Document(fields))) => fields,
            _ => Fields::new(),
        };
        let sequences = parts.map(|(name, value)| {
            let documents = match value {
                Value::Array(values) => values,
                other => vec![other],
            };
            let documents = documents.into_iter().filter_map(|value| match value {
                Value::Document(fields) => Some(fields),
                _ => None,
            });
            (name, documents.collect())
        });
        match shape {
            Shape::Reply => [self.head, encode(&body)].concat(),
            Shape::Message => Text {
                body,
                sequences: sequences.collect(),
            }
            .message(),
            Shape::Scope => {
                let text = Text {
                    body,
                    sequences: sequences.collect(),
                };
                [&self.head, &text.message()[20..]].concat()
            }
        }
    }

    /// A value somewhere in the tree.
    fn any(&mut self, dice: &mut Dice) -> &mut Value {
        let count: usize = self.parts.iter().map(|(_, v)| size(v)).sum();
        let mut at = dice.below(count);
        let mut place = 0;
        while let Some((_, value)) = self.parts.get(place) {
            let size = size(value);
            if at < size {
                break;
            }
            at -= size;
            place += 1;
        }
        let root = &mut self.parts[place].1;
        if at == 0 { root } else { below(root, at) }
    }

    fn change(&mut self, dice: &mut Dice) {
        if dice.below(10) == 0 {
            let bit = dice.below(8);
            let place = dice.below(self.head.len());
            if let Some(byte) = self.head.get_mut(place) {
                *byte ^= 1 << bit;
            }
        }
        let donor = match dice.below(3) {
            0 => dice.one_of(&vocabulary().values).clone(),
            1 => {
                let donor = &dice.one_of(&vocabulary().names).clone();
                Value::string(donor)
            }
            _ => self.any(dice).clone(),
        };
        let name = dice.one_of(&vocabulary().names).clone();
        let target = self.any(dice);
        match (target, dice.below(5)) {
            (Value::Document(fields), 0..=3) if !fields.is_empty() => {
                change_fields(fields, name, donor, dice);
            }
            (Value::Array(values), 0..=3) => match dice.below(3) {
                0 => values.push(donor),
                1 => drop(values.pop()),
                _ => values.reverse(),
            },
            (value, 0) => *value = Value::Document(vec![(name, value.clone())]),
            (value, 1) => *value = Value::Array(vec![value.clone()]),
            (Value::Leaf(kind, bytes), 2) => change_leaf(kind, bytes, dice),
            (value, _) => *value = donor,
        }
    }
}

fn change_fields(fields: &mut Fields, name: String, donor: Value, dice: &mut Dice) {
    let place = dice.below(fields.len());
    match dice.below(6) {
        0 => fields[place].0 = name,
        1 => fields[place].1 = donor,
        2 => fields.insert(dice.below(fields.len() + 1), (name, donor)),
        3 => drop(fields.remove(place)),
        4 => {
            let again = fields[place].clone();
            fields.insert(dice.below(fields.len() + 1), again);
        }
        _ => {
            let other = dice.below(fields.len());
            fields.swap(place, other);
        }
    }
}

/// Another kind of the same bytes, or other bytes of the same kind.
fn change_leaf(kind: &mut Kind, bytes: &mut [u8], dice: &mut Dice) {
    match kind {
        Kind::String => *kind = *dice.one_of(&[Kind::Symbol, Kind::JavaScript]),
        Kind::Symbol | Kind::JavaScript => *kind = Kind::String,
        Kind::Int64 => *kind = *dice.one_of(&[Kind::Double, Kind::DateTime, Kind::Timestamp]),
        Kind::Double | Kind::DateTime | Kind::Timestamp => *kind = Kind::Int64,
        Kind::Null => *kind = *dice.one_of(&[Kind::Undefined, Kind::MinKey, Kind::MaxKey]),
        Kind::Int32 => {
            let place = dice.below(bytes.len());
            bytes[place] ^= 1 << dice.below(8);
        }
        _ => {}
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Document(fields) => fields.iter().map(|(_, v)| size(v)).sum(),
        Value::Array(values) => values.iter().map(size).sum(),
        Value::Leaf(..) => 0,
    }
}

/// The value at a place of a walk, outer ones first; `at` is at least 1 and within the value's size.
fn below(value: &mut Value, mut at: usize) -> &mut Value {
    let inner: Vec<&mut Value> = match value {
        Value::Document(fields) => fields.iter_mut().map(|(_, v)| v).collect(),
        Value::Array(values) => values.iter_mut().collect(),
        Value::Leaf(..) => Vec::new(),
    };
    at -= 1;
    for value in inner {
        let size = size(value);
        if at == 0 {
            return value;
        }
        if at < size {
            return below(value, at);
        }
        at -= size;
    }
    unreachable!("the place is within the value")
}
