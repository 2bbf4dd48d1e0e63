//! Walks a tree with tables of expected keys and collects problems instead of stopping at the first.
//!
//! A getter gives `None` for "absent" and for "wrong"; in the second case the sheet has the problem. The caller goes on
//! with a default, and the load fails at its end because the sheet has errors.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::index::Value;
use crate::report::{Position, Sheet};
use crate::units;
use crate::yaml::{Entry, Kind, Node};

/// One value, with the path that names it in problems.
#[derive(Debug, Clone)]
pub(crate) struct Field<'s> {
    sheet: &'s Sheet,
    path: String,
    key: &'s str,
    at: Position,
    node: &'s Node,
}

/// One mapping.
#[derive(Debug)]
pub(crate) struct Section<'s> {
    sheet: &'s Sheet,
    path: String,
    at: Position,
    entries: &'s [Entry],
}

impl<'s> Field<'s> {
    /// The whole document.
    pub(crate) fn root(node: &'s Node, sheet: &'s Sheet) -> Self {
        Self {
            sheet,
            path: String::new(),
            key: "",
            at: node.at,
            node,
        }
    }

    /// Where the value stands; where its key stands when there is no value.
    pub(crate) fn at(&self) -> Position {
        if self.node.kind == Kind::Null {
            self.at
        } else {
            self.node.at
        }
    }

    /// The last part of the path.
    pub(crate) fn key(&self) -> &'s str {
        self.key
    }

    pub(crate) fn kind(&self) -> &'s Kind {
        &self.node.kind
    }

    pub(crate) fn error(&self, text: &str) {
        self.sheet.error(self.at(), self.named(text));
    }

    pub(crate) fn warning(&self, text: &str) {
        self.sheet.warning(self.at(), self.named(text));
    }

    /// A mapping with no keys but these.
    pub(crate) fn mapping(&self, known: &[&[&str]]) -> Option<Section<'s>> {
        let section = self.open_mapping()?;
        section.check_keys(known);
        Some(section)
    }

    /// A mapping whose keys are names of the author's own, or are judged by the caller.
    pub(crate) fn open_mapping(&self) -> Option<Section<'s>> {
        match &self.node.kind {
            Kind::Mapping(entries) => Some(Section {
                sheet: self.sheet,
                path: self.path.clone(),
                at: self.at,
                entries,
            }),
            _ => self.unexpected("a mapping"),
        }
    }

    /// A mapping, where something else is right too.
    pub(crate) fn open_mapping_or_none(&self) -> Option<Section<'s>> {
        match &self.node.kind {
            Kind::Mapping(_) => self.open_mapping(),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<Vec<Field<'s>>> {
        let Kind::List(items) = &self.node.kind else {
            return self.unexpected("a list");
        };
        let item = |(index, node): (usize, &'s Node)| Field {
            sheet: self.sheet,
            path: format!("{}[{index}]", self.path),
            key: self.key,
            at: node.at,
            node,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    pub(crate) fn text(&self) -> Option<&'s str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            Kind::Boolean(_) | Kind::Integer(_) | Kind::Float(_) => {
                self.unexpected("text (put it in quotes)")
            }
            _ => self.unexpected("text"),
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match &self.node.kind {
            Kind::Boolean(value) => Some(*value),
            _ => self.unexpected("true or false"),
        }
    }

    /// A whole number without a unit.
    pub(crate) fn count(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let found = match &self.node.kind {
            Kind::Integer(value) => u32::try_from(*value)
                .ok()
                .filter(|value| range.contains(value)),
            _ => None,
        };
        found.or_else(|| {
            self.unexpected(&format!(
                "a whole number from {} to {}",
                range.start(),
                range.end()
            ))
        })
    }

    /// A whole number with a unit.
    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = match &self.node.kind {
            Kind::Text(text) => text,
            Kind::Integer(_) | Kind::Float(_) => {
                return self
                    .unexpected("a duration with its unit, such as `500ms`, `5s`, `10m` or `1h`");
            }
            _ => return self.unexpected("a duration, such as `500ms`, `5s`, `10m` or `1h`"),
        };
        let duration = match units::parse_duration(text) {
            Ok(duration) => duration,
            Err(error) => {
                self.error(&format!("{}: {error}", quoted(text)));
                return None;
            }
        };
        if !range.contains(&duration) {
            let (least, most) = (range.start().as_millis(), range.end().as_secs() / 3600);
            self.error(&format!(
                "{} is not from {least}ms to {most}h",
                quoted(text)
            ));
            return None;
        }
        Some(duration)
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = match &self.node.kind {
            Kind::Text(text) => text.as_str(),
            _ => "",
        };
        let found = choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        found.or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            let guess = nearest(text, &words)
                .map_or(String::new(), |word| format!("; did you mean `{word}`?"));
            self.error(&format!(
                "expected one of {}; found {}{guess}",
                words.join(", "),
                described(&self.node.kind)
            ));
            None
        })
    }

    /// Whatever it is, carried as it is.
    pub(crate) fn value(&self) -> Option<Value> {
        value_of(self.node, self.sheet)
    }

    /// Reports a value of the wrong sort.
    pub(crate) fn unexpected<T>(&self, expected: &str) -> Option<T> {
        self.error(&format!(
            "expected {expected}; found {}",
            described(&self.node.kind)
        ));
        None
    }

    fn named(&self, text: &str) -> String {
        named(&self.path, text)
    }
}

impl<'s> Section<'s> {
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    pub(crate) fn sheet(&self) -> &'s Sheet {
        self.sheet
    }

    pub(crate) fn field(&self, key: &str) -> Option<Field<'s>> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| self.field_of(entry))
    }

    /// Reports the key as missing when it is.
    pub(crate) fn required(&self, key: &str) -> Option<Field<'s>> {
        let field = self.field(key);
        if field.is_none() {
            self.sheet
                .error(self.at, named(&self.path, &format!("missing key `{key}`")));
        }
        field
    }

    /// All of them, in the file's order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Field<'s>> + '_ {
        self.entries.iter().map(|entry| self.field_of(entry))
    }

    fn field_of(&self, entry: &'s Entry) -> Field<'s> {
        let path = join(&self.path, &entry.key);
        Field {
            sheet: self.sheet,
            path,
            key: &entry.key,
            at: entry.key_at,
            node: &entry.value,
        }
    }

    fn check_keys(&self, known: &[&[&str]]) {
        let known = known.concat();
        for entry in self.entries {
            if known.contains(&entry.key.as_str()) {
                continue;
            }
            let name = quoted(&join(&self.path, &entry.key));
            let guess = nearest(&entry.key, &known)
                .map_or(String::new(), |word| format!("did you mean `{word}`? "));
            let text = format!(
                "unknown key {name}; {guess}known here: {}",
                known.join(", ")
            );
            self.sheet.error(entry.key_at, text);
        }
    }
}

/// Text of a file, fit to stand in a line of a report: short, on one line, in backquotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(QUOTED_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn named(path: &str, text: &str) -> String {
    if path.is_empty() {
        text.to_owned()
    } else {
        format!("{}: {text}", quoted(path))
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn described(kind: &Kind) -> String {
    match kind {
        Kind::Null => "nothing".to_owned(),
        Kind::Boolean(value) => format!("the boolean {value}"),
        Kind::Integer(value) => format!("the number {value}"),
        Kind::Float(value) => format!("the number {value:?}"),
        Kind::Text(text) => quoted(text),
        Kind::List(_) => "a list".to_owned(),
        Kind::Mapping(_) => "a mapping".to_owned(),
        Kind::Tagged => "a value with a tag".to_owned(),
    }
}

fn value_of(node: &Node, sheet: &Sheet) -> Option<Value> {
    Some(match &node.kind {
        Kind::Null => Value::Null,
        Kind::Boolean(value) => Value::Boolean(*value),
        Kind::Integer(value) => Value::Integer(*value),
        Kind::Float(value) => Value::Float(*value),
        Kind::Text(text) => Value::Text(text.clone()),
        Kind::List(items) => Value::List(
            items
                .iter()
                .map(|item| value_of(item, sheet))
                .collect::<Option<Vec<_>>>()?,
        ),
        Kind::Mapping(entries) => {
            let pair = |entry: &Entry| Some((entry.key.clone(), value_of(&entry.value, sheet)?));
            Value::Mapping(entries.iter().map(pair).collect::<Option<Vec<_>>>()?)
        }
        Kind::Tagged => {
            sheet.error(node.at, "a value with a tag cannot stand here");
            return None;
        }
    })
}

/// The word that was probably meant.
fn nearest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    // Compared in full only when it could be near: the cost grows with the product of the lengths.
    let is_short = text.len() <= 2 * QUOTED_CHARS_MAX;
    let near = words
        .iter()
        .filter(|_| is_short)
        .map(|word| (strsim::jaro_winkler(text, word), *word));
    let best = near.max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .map(|(_, word)| word)
}

/// Longest text of a file repeated in a problem: a line of a report stays readable.
const QUOTED_CHARS_MAX: usize = 80;

/// Below this, a guess puzzles more than it helps: `manifest` for `manifests` has 0.98, `port` for `pool` 0.7.
const LIKENESS_MIN: f64 = 0.85;
