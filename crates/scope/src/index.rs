//! Index definitions: as the app states them, and as they are stored.
//!
//! A shared index is not neutral (a compound one over two arrays makes another app's insert fail), so each app's index is partial:
//! over its own documents, led by the scope field, named `SLUG.name`. The physical definition says all that the app's own says,
//! so no catalog is kept of indexes.

use mdb_wire::{Command, Document, Element, Writer};

use crate::apply::{Outcome, begin, seal};
use crate::body::Body;
use crate::commands::CommandSpec;
use crate::facts::{
    AutomaticIndexes, CollectionFacts, Facts, OwnIndex, base_id_index_name, base_index_name,
};
use crate::hint::is_id_key;
use crate::namespace;
use crate::refusal::Refusal;
use crate::scope::{Scope, no_repeats};
use crate::scoped::{ReplyRule, Retry, Routing, Scoped};
use crate::{filter, generic};

mod automatic;
mod checks;
mod dropping;
mod printed;

pub use automatic::{automatic_index_app, automatic_index_name, automatic_index_shown};
pub(crate) use automatic::{show_filters, write_named};
pub(crate) use checks::{id_index as check_id_index, write_dedicated};
pub use dropping::{dropped, dropped_indexes, drops_all};
pub(crate) use printed::{print_key, print_value};

/// Fields of one key pattern: the server's 32 less the scope field.
const KEY_FIELDS_MAX: usize = 31;
/// Indexes of one command; a collection has at most 64.
const INDEXES_MAX: usize = 64;

/// Whether an option decides which documents are in the index.
fn is_filter(option: &Element<'_>) -> bool {
    option.key == b"partialFilterExpression" || (option.key == b"sparse" && !is_dense(option))
}

/// `sparse: false` and its like, which servers keep and show, beside a partial filter as well.
fn is_dense(option: &Element<'_>) -> bool {
    option.key == b"sparse" && option.as_flag() == Some(false)
}

/// How an index's key is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// The scope field in front.
    Prefixed,
    /// The scope field behind: `2d` has to come first.
    Suffixed,
    /// Without the scope field: TTL and wildcard indexes take one field only.
    Bare,
}

/// What is done with an option of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treat {
    Pass,
    Own,
    Drop,
    Refuse,
}

static OPTIONS: &[(&str, Treat)] = &[
    ("key", Treat::Own),
    ("name", Treat::Own),
    ("partialFilterExpression", Treat::Own),
    ("sparse", Treat::Own),
    ("wildcardProjection", Treat::Own),
    ("ns", Treat::Drop),
    // Without effect on every server that is served.
    ("dropDups", Treat::Drop),
    ("background", Treat::Pass),
    ("unique", Treat::Pass),
    ("expireAfterSeconds", Treat::Pass),
    ("hidden", Treat::Pass),
    ("collation", Treat::Pass),
    ("v", Treat::Pass),
    ("weights", Treat::Pass),
    ("default_language", Treat::Pass),
    ("language_override", Treat::Pass),
    ("textIndexVersion", Treat::Pass),
    ("2dsphereIndexVersion", Treat::Pass),
    ("bits", Treat::Pass),
    ("min", Treat::Pass),
    ("max", Treat::Pass),
    ("storageEngine", Treat::Refuse),
    ("bucketSize", Treat::Refuse),
    ("clustered", Treat::Refuse),
    ("prepareUnique", Treat::Pass),
    ("columnstoreProjection", Treat::Refuse),
];

/// One definition that an app asked for, checked.
struct Wish<'a> {
    key: Document<'a>,
    name: &'a str,
    definition: Document<'a>,
    partial: Option<Document<'a>>,
    is_sparse: bool,
    layout: Layout,
}

impl Scope {
    /// Rewrites `createIndexes`: each definition becomes one over the app's documents only. `None` where all that was asked for
    /// is the index on `_id`, which is there.
    ///
    /// # Errors
    /// 67, 72, 197 for definitions that cannot be had on a shared collection.
    pub fn create_indexes(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
    ) -> Result<Option<Scoped>, Refusal> {
        let body = Body::read(self, spec, command, facts)?;
        let indexes = command.body.find("indexes");
        let indexes = checks::list(indexes, facts.wire_version)?;
        let ignores = checks::ignores_unknown(command);
        let mut wishes = Vec::new();
        for element in indexes.elements() {
            let definition = checks::item(&element, facts.wire_version)?;
            no_repeats(definition, "an index definition")?;
            checks::options(definition, ignores, facts.wire_version)?;
            let wish = self.wish(definition, facts.wire_version);
            match wish.map_err(checks::specified(definition))? {
                Some(wish) => {
                    checks::complete(definition, wish.key, wish.name)?;
                    check_sparse(&wish, facts.wire_version)?;
                    wishes.push(wish);
                }
                None => checks::of_id(definition)?,
            }
            if wishes.len() > INDEXES_MAX {
                return Err(Refusal::cannot_create_index(
                    "too many indexes in one command",
                ));
            }
        }
        if wishes.is_empty() {
            return if indexes.is_empty() {
                Err(Refusal::bad_value(
                    "Must specify at least one index to create",
                ))
            } else {
                Ok(None)
            };
        }
        let mut w = begin(command);
        let mark = w.begin();
        w.string(b"createIndexes", namespace::collection_of(command)?);
        let array = w.begin_array(b"indexes");
        for (index, wish) in wishes.iter().enumerate() {
            let key = mdb_wire::writer::IndexKey::new(index);
            self.physical(&mut w, key.as_bytes(), wish, facts.wire_version);
        }
        w.end(array);
        body.fields(&mut w, false)?;
        w.end(mark);
        seal(w, facts, definition_outcome()).map(Some)
    }

    /// Rewrites `dropIndexes` to drop these physical indexes.
    pub fn drop_indexes(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        physical_names: &[&str],
    ) -> Result<Scoped, Refusal> {
        let body = Body::read(self, spec, command, facts)?;
        let mut w = begin(command);
        let mark = w.begin();
        w.string(b"dropIndexes", namespace::collection_of(command)?);
        let array = w.begin_array(b"index");
        for (index, name) in physical_names.iter().enumerate() {
            w.string(mdb_wire::writer::IndexKey::new(index).as_bytes(), name);
        }
        w.end(array);
        body.fields(&mut w, false)?;
        w.end(mark);
        seal(w, facts, definition_outcome())
    }

    /// Checks one definition; `None` for the index on `_id`.
    fn wish<'a>(
        &self,
        definition: Document<'a>,
        wire_version: i32,
    ) -> Result<Option<Wish<'a>>, Refusal> {
        let key = checks::object(definition, "key")?.ok_or_else(|| checks::missing("key"))?;
        self.check_key(key)?;
        let name = checks::name(definition)?;
        if is_id_key(key) {
            return Ok(None);
        }
        checks::flags(definition, wire_version)?;
        checks::object(definition, "collation")?;
        let partial = checks::object(definition, "partialFilterExpression")?;
        if let Some(filter) = partial {
            self.check_partial(filter)?;
        }
        let flag = |option: &str| {
            definition
                .find(option)
                .is_some_and(|e| e.as_flag() == Some(true))
        };
        let collation = definition.find("collation");
        let is_collated = collation.map(|c| generic::collation(&c)).transpose()?;
        if let Some(projection) = definition.find("wildcardProjection") {
            let projection = projection.as_document().unwrap_or(Document::EMPTY);
            no_repeats(projection, "a wildcardProjection")?;
        }
        if (flag("unique") || flag("prepareUnique")) && is_collated == Some(true) {
            return Err(Refusal::cannot_create_index(
                "a unique index with a collation is not available on a shared collection: apps whose names look alike to the collation would collide",
            ));
        }
        Ok(Some(Wish {
            layout: layout_of(key, definition),
            is_sparse: flag("sparse"),
            key,
            name,
            definition,
            partial,
        }))
    }

    fn check_key(&self, key: Document<'_>) -> Result<(), Refusal> {
        no_repeats(key, "an index key")?;
        if key.is_empty() {
            return Err(Refusal::cannot_create_index("Index keys cannot be empty."));
        }
        if key.elements().count() > KEY_FIELDS_MAX {
            return Err(Refusal::cannot_create_index(format!(
                "an index has at most {KEY_FIELDS_MAX} fields here"
            )));
        }
        for field in key.elements() {
            if self.field().begins(field.key) || field.key.first() == Some(&b'~') {
                return Err(Refusal::cannot_create_index(format!(
                    "field '{}' is reserved and cannot be part of an index",
                    field.name()
                )));
            }
            let is_wild_text = field.key == b"$**" && field.as_str() == Some("text");
            let kind = field.as_str();
            let is_known = |kind: &&str| KINDS.contains(kind) || OTHER_KINDS.contains(kind);
            if let Some(unknown) = kind.filter(|kind| !is_known(kind)) {
                let text = format!("Unknown index plugin '{unknown}'");
                return Err(Refusal::cannot_create_index(text));
            }
            if is_wild_text || kind.is_some_and(|k| !KINDS.contains(&k)) {
                return Err(Refusal::cannot_create_index(format!(
                    "an index of kind '{}' on '{}' is not available on a shared collection",
                    kind.unwrap_or_default(),
                    field.name()
                )));
            }
        }
        Ok(())
    }

    fn check_partial(&self, filter: Document<'_>) -> Result<(), Refusal> {
        let mut names_scope = false;
        filter::predicates(filter, &mut |p| names_scope |= self.field().begins(p.key));
        if names_scope {
            return Err(Refusal::cannot_create_index(
                "a partial filter cannot name the reserved field",
            ));
        }
        filter::relative(filter)
    }

    fn physical(&self, w: &mut Writer, key: &[u8], wish: &Wish<'_>, wire_version: i32) {
        let field = self.field().as_str();
        let document = w.begin_document(key);
        let pattern = w.begin_document(b"key");
        if wish.layout == Layout::Prefixed {
            w.int32(field.as_bytes(), 1);
        }
        for part in wish.key.elements() {
            w.element(&part);
        }
        if wish.layout == Layout::Suffixed {
            w.int32(field.as_bytes(), 1);
        }
        // Before 5.0 the key pattern alone tells indexes apart: a field that no document has makes it the app's own.
        if wire_version < 13 && wish.layout != Layout::Bare {
            w.int32(self.filler().as_bytes(), 1);
        }
        w.end(pattern);
        w.string(b"name", &self.physical_name(wish.name));
        let mut is_bound = false;
        for option in wish.definition.elements() {
            match treat_of(option.key) {
                Some(Treat::Pass) => w.element(&option),
                Some(Treat::Own) if is_dense(&option) => w.element(&option),
                Some(Treat::Own) if option.key == b"wildcardProjection" => {
                    self.wildcard_projection(w, &option);
                }
                // Where the app says it: the server keeps the order of options.
                Some(Treat::Own) if is_filter(&option) && !is_bound => {
                    self.physical_filter(w, wish);
                    is_bound = true;
                }
                _ => {}
            }
        }
        if !is_bound {
            self.physical_filter(w, wish);
        }
        w.end(document);
    }

    /// An exclusion leaves the scope field out as well; an inclusion does so by itself.
    fn wildcard_projection(&self, w: &mut Writer, option: &Element<'_>) {
        let projection = option.as_document().unwrap_or(Document::EMPTY);
        let first = projection.elements().find(|e| e.key != b"_id");
        let document = w.begin_document(option.key);
        for field in projection.elements() {
            w.element(&field);
        }
        if first.is_some_and(|e| e.as_flag() == Some(false)) {
            w.int32(self.field().as_str().as_bytes(), 0);
        }
        w.end(document);
    }

    /// The app's documents only. The form tells what the app asked for: nothing, `sparse` (the fields' existence beside the
    /// condition) or a filter of its own (in an `$and`). A native `sparse` would count the scope field as present.
    fn physical_filter(&self, w: &mut Writer, wish: &Wish<'_>) {
        let filter = w.begin_document(b"partialFilterExpression");
        if let Some(user) = wish.partial {
            let and = w.begin_array(b"$and");
            let condition = w.begin_document(b"0");
            self.stamp(w);
            w.end(condition);
            w.document(b"1", user);
            w.end(and);
        } else {
            self.stamp(w);
            if wish.is_sparse {
                exists(w, wish.key);
            }
        }
        w.end(filter);
    }

    /// The name of an app's index upstream. Slugs have no dot, so it belongs to one app only.
    pub fn physical_name(&self, name: &str) -> String {
        format!("{}.{name}", self.app())
    }

    /// A field that no document has, at the end of the keys of the app's indexes on servers before 5.0.
    pub(crate) fn filler(&self) -> String {
        format!("~{}", self.app())
    }

    /// Reads a physical definition, a document of `listIndexes`, as one of the app's own. `None` for any other.
    pub fn own_index(&self, physical: Document<'_>) -> Option<OwnIndex> {
        let physical_name = physical.find("name")?.as_str()?;
        let (slug, name) = physical_name.split_once('.')?;
        if slug != self.app().as_str() {
            return None;
        }
        let filter = physical.find("partialFilterExpression")?.as_document()?;
        let mut logical = Writer::default();
        let mark = logical.begin();
        let key = physical.find("key")?.as_document()?;
        let is_prefixed = key
            .first()
            .is_some_and(|f| f.key == self.field().as_str().as_bytes());
        // In the order of the server: 4.4 has `unique` in front of the key.
        for option in physical.elements() {
            match option.key {
                b"name" => logical.string(b"name", name),
                b"partialFilterExpression" => self.logical_filter(&mut logical, filter)?,
                b"key" | b"wildcardProjection" => {
                    let pattern = logical.begin_document(option.key);
                    self.logical_key(&mut logical, option.as_document()?);
                    logical.end(pattern);
                }
                other if matches!(treat_of(other), Some(Treat::Pass)) || is_dense(&option) => {
                    logical.element(&option);
                }
                _ => {}
            }
        }
        logical.end(mark);
        let mut own_key = Writer::default();
        let mark = own_key.begin();
        self.logical_key(&mut own_key, key);
        own_key.end(mark);
        Some(OwnIndex {
            name: name.to_owned(),
            physical_name: physical_name.to_owned(),
            key: own_key.into_bytes(),
            definition: logical.into_bytes(),
            is_prefixed,
            has_filler: key.find(&self.filler()).is_some(),
        })
    }

    fn logical_key(&self, w: &mut Writer, key: Document<'_>) {
        let field = self.field().as_str().as_bytes();
        for part in key.elements() {
            if part.key != field && part.key.first() != Some(&b'~') {
                w.element(&part);
            }
        }
    }

    /// Writes `sparse` or the app's own filter; `None` if the filter does not bind the index to the app.
    fn logical_filter(&self, w: &mut Writer, filter: Document<'_>) -> Option<()> {
        let first = filter.first()?;
        if first.raw == self.stamp_element() {
            if filter.elements().count() > 1 {
                w.boolean(b"sparse", true);
            }
            return Some(());
        }
        let mut branches = first
            .as_array()
            .filter(|_| first.key == b"$and")?
            .elements();
        let condition = branches.next()?.as_document()?;
        if condition.first()?.raw != self.stamp_element() {
            return None;
        }
        let user = branches.next()?.as_document()?;
        w.document(b"partialFilterExpression", user);
        Some(())
    }

    /// What is known of a collection from its `listIndexes`.
    pub fn collection_facts<'d>(
        &self,
        physical: &(impl Iterator<Item = Document<'d>> + Clone),
    ) -> CollectionFacts {
        let field = self.field().as_str();
        let has = |name: String| {
            physical
                .clone()
                .any(|d| d.find("name").and_then(|n| n.as_str()) == Some(name.as_str()))
        };
        let has_base_indexes = has(base_index_name(field)) && has(base_id_index_name(field));
        let own = physical.clone().filter_map(|d| self.own_index(d));
        let stored_key = |d: Document<'d>| {
            self.own_index(d)?;
            Some(d.find("key")?.as_document()?.bytes().to_vec())
        };
        let mut facts = CollectionFacts::new(has_base_indexes, own.collect());
        // They serve as the app's own would, so they must not be kept from it for the sake of an order.
        let automatic = physical.clone();
        let automatic = automatic.filter_map(|d| self.automatic_leading_field(d));
        let listed = facts.leading_fields.len();
        facts.leading_fields.extend(automatic);
        let count = facts.leading_fields.len().saturating_sub(listed);
        let own_keys = physical.clone().filter_map(stored_key);
        facts.automatic = AutomaticIndexes::beside(count, own_keys);
        facts
    }
}

/// Index kinds that can be told apart by app.
const KINDS: &[&str] = &["text", "2d", "2dsphere", "hashed"];

/// Those that servers know besides.
const OTHER_KINDS: &[&str] = &[
    "geoHaystack",
    "columnstore",
    "wildcard",
    "queryable_encrypted_range",
];

pub(crate) fn definition_outcome() -> Outcome {
    Outcome::new(Routing::Primary, Retry::Write, ReplyRule::Plain)
}

fn treat_of(name: &[u8]) -> Option<Treat> {
    OPTIONS
        .iter()
        .find(|(n, _)| n.as_bytes() == name)
        .map(|(_, treat)| *treat)
}

fn layout_of(key: Document<'_>, definition: Document<'_>) -> Layout {
    let is_wildcard = key.elements().any(|f| f.key.ends_with(b"$**"));
    let is_flat = key.elements().any(|f| f.as_str() == Some("2d"));
    if is_wildcard || definition.find("expireAfterSeconds").is_some() {
        Layout::Bare
    } else if is_flat {
        Layout::Suffixed
    } else {
        Layout::Prefixed
    }
}

/// Before 6.0 a partial filter has no `$or`, by which several fields are sparse.
fn check_sparse(wish: &Wish<'_>, wire_version: i32) -> Result<(), Refusal> {
    if wish.is_sparse && wire_version < 17 && wish.key.elements().count() > 1 {
        return Err(Refusal::cannot_create_index(
            "a sparse index on several fields is not available on a server before 6.0; leave sparse out, or index one field",
        ));
    }
    Ok(())
}

/// A sparse index holds the documents that have at least one of its fields.
fn exists(w: &mut Writer, key: Document<'_>) {
    let one = |w: &mut Writer, field: &Element<'_>| {
        let predicate = w.begin_document(field.key);
        w.boolean(b"$exists", true);
        w.end(predicate);
    };
    let mut fields = key.elements();
    if let (Some(only), None) = (fields.next(), fields.next()) {
        one(w, &only);
        return;
    }
    let or = w.begin_array(b"$or");
    for (index, field) in key.elements().enumerate() {
        let branch = w.begin_document(mdb_wire::writer::IndexKey::new(index).as_bytes());
        one(w, &field);
        w.end(branch);
    }
    w.end(or);
}
