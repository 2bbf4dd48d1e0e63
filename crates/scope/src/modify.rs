//! `collMod` on a shared collection and `renameCollection`: what of them concerns the app alone.

use mdb_wire::{Command, Document, Element, Kind};

use crate::apply::{begin, check_sequences, seal};
use crate::arguments::{Take, unavailable};
use crate::body::Body;
use crate::commands::CommandSpec;
use crate::facts::{CollectionFacts, Facts, Isolation, OwnIndex};
use crate::hint::{is_id_key, same_key};
use crate::index::{definition_outcome, print_key};
use crate::namespace;
use crate::refusal::Refusal;
use crate::scope::{Scope, no_repeats};
use crate::scoped::Scoped;

/// What a shared collection cannot be changed into.
const SHARED: &str = "the collection is shared with other apps; make it dedicated in the app's manifest before it is created";

/// Members of `collMod.index`.
const MEMBERS: &[&[u8]] = &[
    b"name",
    b"keyPattern",
    b"expireAfterSeconds",
    b"hidden",
    b"unique",
    b"prepareUnique",
];

/// Checks that `collMod.index` has no member but those that clients may state.
///
/// # Errors
/// 14, 40413, 40415.
pub(crate) fn members(index: &Element<'_>) -> Result<(), Refusal> {
    let Some(document) = index.as_document() else {
        let found = index.kind.name();
        return Err(Refusal::wrong_kind("collMod.index", found, "object"));
    };
    no_repeats(document, "collMod.index")?;
    match document.elements().find(|m| !MEMBERS.contains(&m.key)) {
        None => Ok(()),
        Some(member) => Err(Refusal::unknown_field(format!(
            "BSON field 'collMod.index.{}' is an unknown field.",
            member.name()
        ))),
    }
}

impl Scope {
    /// Rewrites `collMod` of a shared collection: an own index, by its physical name. `None` where nothing is left to do: with
    /// `changeStreamPreAndPostImages` alone, which the proxy decides for all apps.
    ///
    /// # Errors
    /// 72 for whatever concerns other apps as well, 27 for an index that the app does not have.
    pub fn coll_mod(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
    ) -> Result<Option<Scoped>, Refusal> {
        check_sequences(spec, command)?;
        let mut fields = command.body.elements();
        let is_of_all = |field: &Element<'_>| {
            let row = spec
                .arguments
                .iter()
                .find(|a| a.name.as_bytes() == field.key);
            field.key == b"validator" || row.is_some_and(|a| matches!(a.take, Take::Unshared(_)))
        };
        if let Some(field) = fields.find(is_of_all) {
            return Err(unavailable(field.name(), SHARED));
        }
        if let Some(field) = ["pipeline", "viewOn"]
            .iter()
            .find_map(|f| command.body.find(f))
        {
            let name = field.name();
            let text = format!("option only supported on a view: {name}");
            return Err(Refusal::invalid_options(text));
        }
        if let Some(images) = command.body.find("changeStreamPreAndPostImages") {
            check_images(&images)?;
        }
        let Some(index) = command.body.find("index") else {
            return Ok(None);
        };
        members(&index)?;
        let change = index.as_document().unwrap_or(Document::EMPTY);
        let own = changed_index(command, change, facts.collection)?;
        check_change(change, own)?;
        let body = Body::read(self, spec, command, facts)?;
        let mut w = begin(command);
        let mark = w.begin();
        w.string(b"collMod", namespace::collection_of(command)?);
        let written = w.begin_document(b"index");
        w.string(b"name", &own.physical_name);
        for member in change.elements() {
            if matches!(member.key, b"expireAfterSeconds" | b"hidden") {
                w.element(&member);
            }
        }
        w.end(written);
        body.fields(&mut w, false)?;
        w.end(mark);
        seal(w, facts, definition_outcome()).map(Some)
    }

    /// Rewrites `renameCollection` of a collection that is the app's own, within its database.
    ///
    /// # Errors
    /// 14 for a `dropTarget` that is no boolean, 73 for a name that is too long.
    pub fn rename(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        database: &str,
        (from, to): (&str, &str),
    ) -> Result<Scoped, Refusal> {
        check_sequences(spec, command)?;
        let body = Body::read(self, spec, command, facts)?;
        let mut w = begin(command);
        let mark = w.begin();
        for (key, name) in [(b"renameCollection".as_slice(), from), (b"to", to)] {
            namespace::check_collection(name)?;
            let physical = self.physical_collection(name, Isolation::Dedicated);
            namespace::check_length(database, &physical)?;
            w.string(key, &format!("{database}.{physical}"));
        }
        if let Some(flag) = command.body.find("dropTarget") {
            // The server also takes a UUID, which tells whether another collection has it.
            if flag.kind != Kind::Boolean {
                return Err(Refusal::type_mismatch(format!(
                    "BSON field 'renameCollection.dropTarget' is the wrong type '{}', expected types '[bool, binData']",
                    flag.kind.name()
                )));
            }
            w.element(&flag);
        }
        body.fields(&mut w, false)?;
        w.end(mark);
        seal(w, facts, definition_outcome())
    }
}

/// The own index that `collMod.index` means.
fn changed_index<'f>(
    command: &Command<'_>,
    change: Document<'_>,
    collection: &'f CollectionFacts,
) -> Result<&'f OwnIndex, Refusal> {
    let (name, pattern) = (change.find("name"), change.find("keyPattern"));
    let found = match (&name, &pattern) {
        (Some(_), Some(_)) => {
            let text = "Cannot specify both key pattern and name.";
            return Err(Refusal::invalid_options(text));
        }
        (None, None) => {
            let text = "Must specify either index name or key pattern.";
            return Err(Refusal::invalid_options(text));
        }
        (Some(name), None) => {
            if name.as_str() == Some("_id_") {
                return Err(id_index(change));
            }
            collection
                .indexes
                .iter()
                .find(|i| name.as_str() == Some(&i.name))
        }
        (None, Some(pattern)) => {
            let key = pattern.as_document().unwrap_or(Document::EMPTY);
            if is_id_key(key) {
                return Err(id_index(change));
            }
            let is_meant =
                |i: &&OwnIndex| Document::parse(&i.key).is_ok_and(|own| same_key(own, key));
            collection.indexes.iter().find(is_meant)
        }
    };
    found.ok_or_else(|| {
        let wanted = match (name.as_ref().and_then(Element::as_str), &pattern) {
            (Some(name), _) => name.to_owned(),
            (None, pattern) => {
                let key = pattern.as_ref().and_then(Element::as_document);
                print_key(key.unwrap_or(Document::EMPTY))
            }
        };
        let (database, collection) = (
            command.database,
            command.target.as_str().unwrap_or_default(),
        );
        Refusal::index_not_found(format!(
            "cannot find index {wanted} for ns {database}.{collection}"
        ))
    })
}

fn id_index(change: Document<'_>) -> Refusal {
    if change.find("hidden").is_some() {
        return Refusal::bad_value("can't hide _id index");
    }
    Refusal::invalid_options("the _id field does not support TTL indexes")
}

fn check_change(change: Document<'_>, own: &OwnIndex) -> Result<(), Refusal> {
    if let Some(member) = ["unique", "prepareUnique"]
        .iter()
        .find_map(|m| change.find(m))
    {
        return Err(Refusal::invalid_options(format!(
            "collMod.index.{} is not available on a shared collection; drop the index and create it anew",
            member.name()
        )));
    }
    let expires = change.find("expireAfterSeconds");
    if expires.is_none() && change.find("hidden").is_none() {
        return Err(Refusal::invalid_options(
            "no expireAfterSeconds, hidden, unique, or prepareUnique field",
        ));
    }
    let definition = Document::parse(&own.definition).unwrap_or(Document::EMPTY);
    if expires.is_some() && definition.find("expireAfterSeconds").is_none() {
        return Err(Refusal::invalid_options(
            "an index of a shared collection cannot become a TTL index; drop it and create it with expireAfterSeconds",
        ));
    }
    Ok(())
}

/// `{enabled: BOOL}`.
fn check_images(images: &Element<'_>) -> Result<(), Refusal> {
    const PATH: &str = "collMod.changeStreamPreAndPostImages";
    let Some(document) = images.as_document() else {
        return Err(Refusal::wrong_kind(PATH, images.kind.name(), "object"));
    };
    match document.find("enabled") {
        Some(enabled) if enabled.kind == Kind::Boolean => Ok(()),
        Some(enabled) => {
            let path = format!("{PATH}.enabled");
            Err(Refusal::wrong_kind(&path, enabled.kind.name(), "bool"))
        }
        None => Err(Refusal::missing_field(format!(
            "BSON field '{PATH}.enabled' is missing but a required field"
        ))),
    }
}
