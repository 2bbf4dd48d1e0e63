//! Indexes a manifest asks for. They are checked and carried; whoever builds them adds the scope field.

use std::collections::HashSet;

use crate::app::without_effect;
use crate::reader::{Field, Section, quoted};
use crate::yaml::Kind;

/// One index of one collection.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagedIndex {
    /// A legal name of a collection, without its database.
    pub collection: String,
    /// Unlike the other names of the collection. When the manifest gives none: fields and directions joined by `_`, as the
    /// server does it.
    pub name: String,
    /// In order; at least one, but none of a search index.
    pub keys: Vec<IndexKey>,
    /// By the server's names of the options, in the order of the file, each once.
    pub options: Vec<(String, Value)>,
    /// Whether it is of a type that is not built: `search` or `vectorSearch`.
    pub is_search: bool,
}

/// One field of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexKey {
    /// The path of the field; also `$**` and `a.$**`.
    pub field: String,
    /// How it is indexed.
    pub direction: Direction,
}

/// How a field is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `1`
    Ascending,
    /// `-1`
    Descending,
    /// `"text"`
    Text,
    /// `"2d"`
    Flat,
    /// `"2dsphere"`
    Sphere,
    /// `"hashed"`
    Hashed,
}

impl Direction {
    /// As it stands in an index name: `1`, `-1`, `text`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ascending => "1",
            Self::Descending => "-1",
            Self::Text => "text",
            Self::Flat => "2d",
            Self::Sphere => "2dsphere",
            Self::Hashed => "hashed",
        }
    }
}

/// A value as the manifest gave it. Text that means a date or an object id in extended JSON is not interpreted.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Value>),
    /// Keys with values, in the order of the file, each once.
    Mapping(Vec<(String, Value)>),
}

/// Reads `managed_indexes`. In the old form an index may have a `type` and keep its options under `options`.
pub(crate) fn read(section: &Section<'_>, is_old_form: bool) -> Vec<ManagedIndex> {
    let Some(collections) = section
        .field("managed_indexes")
        .and_then(|field| field.open_mapping())
    else {
        return Vec::new();
    };
    let mut indexes = Vec::new();
    for collection in collections.fields() {
        check_collection(&collection);
        let items = collection.list().unwrap_or_default();
        if items.len() > INDEXES_MAX {
            collection.error(&format!("more than {INDEXES_MAX} indexes"));
        }
        let mut names = HashSet::new();
        for item in items {
            let Some(index) = index(&collection, &item, is_old_form) else {
                continue;
            };
            // Search indexes have names of their own.
            if !index.is_search && !names.insert(index.name.clone()) {
                item.error(&format!(
                    "another index of this collection has the name {}",
                    quoted(&index.name)
                ));
            }
            indexes.push(index);
        }
    }
    indexes
}

fn check_collection(field: &Field<'_>) {
    let name = field.key();
    let is_legal = !name.is_empty()
        && name.len() <= COLLECTION_BYTES_MAX
        && !name.contains(['$', '\0'])
        && !name.starts_with("system.")
        && !name.starts_with('.')
        && !name.ends_with('.');
    if !is_legal {
        field.error("not a name of a collection that an app can have");
    }
}

fn index(collection: &Field<'_>, item: &Field<'_>, is_old_form: bool) -> Option<ManagedIndex> {
    let names: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
    let snake_names: Vec<&str> = OPTIONS
        .iter()
        .filter_map(|option| option.snake_name)
        .collect();
    let old_keys: &[&str] = if is_old_form { OLD_KEYS } else { &[] };
    let known = [
        KEYS,
        &names,
        &snake_names,
        WITHOUT_EFFECT,
        TYPE_KEYS,
        old_keys,
    ];
    let section = item.mapping(&known)?;
    if is_search(&section) {
        let name = match section.field("name") {
            Some(field) => index_name(&field)?,
            None => SEARCH_INDEX_NAME.to_owned(),
        };
        return Some(ManagedIndex {
            collection: collection.key().to_owned(),
            name,
            keys: Vec::new(),
            options: Vec::new(),
            is_search: true,
        });
    }
    let mut options = Vec::new();
    collect_options(&section, &mut options);
    if is_old_form {
        let nested = section.field("options");
        if let Some(nested) =
            nested.and_then(|field| field.mapping(&[&names, &snake_names, WITHOUT_EFFECT]))
        {
            collect_options(&nested, &mut options);
        }
    }
    let keys = section.required("keys").and_then(|field| keys(&field))?;
    if keys.len() > 1 && options.iter().any(|(name, _)| name == EXPIRY) {
        item.error("`expireAfterSeconds` needs an index of one field");
    }
    let name = match section.field("name") {
        Some(field) => index_name(&field)?,
        None => default_name(&keys),
    };
    Some(ManagedIndex {
        collection: collection.key().to_owned(),
        name,
        keys,
        options,
        is_search: false,
    })
}

fn keys(field: &Field<'_>) -> Option<Vec<IndexKey>> {
    let section = field.open_mapping()?;
    let keys: Vec<_> = section.fields().map(|field| key(&field)).collect();
    if keys.is_empty() || keys.len() > INDEX_KEYS_MAX {
        field.error(&format!("an index has 1 to {INDEX_KEYS_MAX} fields"));
        return None;
    }
    keys.into_iter().collect()
}

fn key(field: &Field<'_>) -> Option<IndexKey> {
    let path = field.key();
    let is_part = |part: &str| {
        !part.is_empty() && !part.contains('\0') && (!part.starts_with('$') || part == "$**")
    };
    if !path.split('.').all(is_part) {
        field.error("not a path of a field");
        return None;
    }
    let direction = match field.kind() {
        Kind::Integer(1) | Kind::Float(1.0) => Some(Direction::Ascending),
        Kind::Integer(-1) | Kind::Float(-1.0) => Some(Direction::Descending),
        Kind::Text(text) => SPECIAL
            .into_iter()
            .find(|direction| direction.as_str() == text),
        _ => None,
    };
    let direction = direction
        .or_else(|| field.unexpected("1, -1, \"text\", \"2d\", \"2dsphere\" or \"hashed\""))?;
    Some(IndexKey {
        field: path.to_owned(),
        direction,
    })
}

fn index_name(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if text.is_empty()
        || text.len() > INDEX_NAME_BYTES_MAX
        || text.contains('\0')
        || text.contains('*')
    {
        field.error(&format!(
            "an index name has 1 to {INDEX_NAME_BYTES_MAX} bytes without `*` and NUL"
        ));
        return None;
    }
    Some(text.to_owned())
}

fn default_name(keys: &[IndexKey]) -> String {
    let parts: Vec<_> = keys
        .iter()
        .map(|key| format!("{}_{}", key.field, key.direction.as_str()))
        .collect();
    parts.join("_")
}

fn collect_options(section: &Section<'_>, options: &mut Vec<(String, Value)>) {
    for field in section.fields() {
        if WITHOUT_EFFECT.contains(&field.key()) {
            without_effect(&field);
            continue;
        }
        let is_named = |option: &&IndexOption| {
            option.name == field.key() || option.snake_name == Some(field.key())
        };
        let Some(option) = OPTIONS.iter().find(is_named) else {
            continue;
        };
        if options.iter().any(|(name, _)| name == option.name) {
            field.error(&format!("`{}` is given twice", option.name));
        } else if option.form.is_kept(&field) {
            options.extend(field.value().map(|value| (option.name.to_owned(), value)));
        }
    }
}

/// Reads `type`. Search indexes are not built, and warned about: no stage that searches them is served, so that none would be
/// of use.
fn is_search(section: &Section<'_>) -> bool {
    let Some(field) = section.field("type") else {
        if let Some(definition) = section.field("definition") {
            definition.error("belongs to the types `search` and `vectorSearch`");
        }
        return false;
    };
    match field.text() {
        Some("regular") => without_effect(&field),
        Some("search" | "vectorSearch") => {
            field.warning("search indexes are not available; this one is not built");
            return true;
        }
        Some(text) => field.error(&format!(
            "the index type {} is not supported; known: regular, search, vectorSearch",
            quoted(text)
        )),
        None => {}
    }
    false
}

struct IndexOption {
    /// The server's name.
    name: &'static str,
    /// The same in the spelling of the other keys of a manifest.
    snake_name: Option<&'static str>,
    form: Form,
}

/// What an option's value looks like.
#[derive(Clone, Copy)]
enum Form {
    Boolean,
    Seconds,
    Small,
    Number,
    Text,
    Mapping,
}

impl Form {
    /// Reports a value of another form.
    fn is_kept(self, field: &Field<'_>) -> bool {
        match self {
            Self::Boolean => field.boolean().is_some(),
            Self::Seconds => field.count(0..=EXPIRY_SECONDS_MAX).is_some(),
            Self::Small => field.count(0..=SMALL_MAX).is_some(),
            Self::Number => {
                let is_number = matches!(field.kind(), Kind::Integer(_) | Kind::Float(_));
                is_number || field.unexpected::<()>("a number").is_some()
            }
            Self::Text => field.text().is_some(),
            Self::Mapping => field.open_mapping().is_some(),
        }
    }
}

const fn option(name: &'static str, snake_name: Option<&'static str>, form: Form) -> IndexOption {
    IndexOption {
        name,
        snake_name,
        form,
    }
}

const EXPIRY: &str = "expireAfterSeconds";

/// The options of `createIndexes` that an app may set.
const OPTIONS: &[IndexOption] = &[
    option("unique", None, Form::Boolean),
    option("sparse", None, Form::Boolean),
    option("hidden", None, Form::Boolean),
    option(EXPIRY, Some("expire_after_seconds"), Form::Seconds),
    option(
        "partialFilterExpression",
        Some("partial_filter_expression"),
        Form::Mapping,
    ),
    option("collation", None, Form::Mapping),
    option("weights", None, Form::Mapping),
    option("default_language", None, Form::Text),
    option("language_override", None, Form::Text),
    option("textIndexVersion", Some("text_index_version"), Form::Small),
    option("2dsphereIndexVersion", None, Form::Small),
    option("bits", None, Form::Small),
    option("min", None, Form::Number),
    option("max", None, Form::Number),
    option(
        "wildcardProjection",
        Some("wildcard_projection"),
        Form::Mapping,
    ),
];

/// As servers call a search index without a name.
const SEARCH_INDEX_NAME: &str = "default";

const KEYS: &[&str] = &["keys", "name"];

/// Of search indexes; `type` may also be `regular`.
const TYPE_KEYS: &[&str] = &["type", "definition"];

const OLD_KEYS: &[&str] = &["options"];

/// Since version 4.2 of the server every index is built in one way and `background` is ignored.
const WITHOUT_EFFECT: &[&str] = &["background"];

const SPECIAL: [Direction; 4] = [
    Direction::Text,
    Direction::Flat,
    Direction::Sphere,
    Direction::Hashed,
];

/// A compound index has up to 32 fields, and one of them is the scope field.
const INDEX_KEYS_MAX: usize = 31;

/// A collection has up to 64 indexes, and one of them is that of `_id`.
const INDEXES_MAX: usize = 63;

/// A namespace has up to 255 bytes; the database takes at least two with its dot.
const COLLECTION_BYTES_MAX: usize = 253;

/// The server's limit for the whole of namespace and index name was 127 bytes until 4.2; a longer name helps nobody.
const INDEX_NAME_BYTES_MAX: usize = 127;

/// The server's limit of `expireAfterSeconds`.
const EXPIRY_SECONDS_MAX: u32 = 2_147_483_647;

/// Versions of index formats and bits of precision: the largest is 32.
const SMALL_MAX: u32 = 32;
