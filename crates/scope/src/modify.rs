//! `collMod` on a shared collection and `renameCollection`: what of them concerns the app alone.

use mdb_wire::{Command, Document, Element, Kind};

use crate::apply::{begin, check_sequences, seal};
use crate::arguments::{Take, unavailable};
use crate::body::Body;
use crate::commands::CommandSpec;
use crate::facts::{CollectionFacts, Facts, Isolation, OwnIndex};
use crate::hint::is_id_key;
use crate::index::{definition_outcome, print_key};
use crate::namespace;
use crate::refusal::Refusal;
use crate::scope::{Scope, no_repeats};
use crate::scoped::Scoped;
use crate::versions::{WIRE_VERSION_5_0, WIRE_VERSION_6_0};

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

/// Those of servers before 6.0: 5.0 refuses the others, and 4.4 passes over them.
const MEMBERS_BEFORE_6_0: &[&[u8]] = &[b"name", b"keyPattern", b"expireAfterSeconds", b"hidden"];

/// The members that a server has.
pub(crate) fn members_of(wire_version: i32) -> &'static [&'static [u8]] {
    if wire_version < WIRE_VERSION_6_0 {
        MEMBERS_BEFORE_6_0
    } else {
        MEMBERS
    }
}

/// Checks that `collMod.index` has no member but those that clients may state, in mongod's words (4.4.2, 5.0.4, 6.0.5).
///
/// # Errors
/// 14, 40413, 40415, on a server before 5.0 72 and 10065.
pub(crate) fn members(index: &Element<'_>, wire_version: i32) -> Result<(), Refusal> {
    let Some(document) = index.as_document() else {
        return Err(if wire_version < WIRE_VERSION_5_0 {
            Refusal::cluster_time_shape("invalid parameter: expected an object (index)")
        } else {
            Refusal::wrong_kind("collMod.index", index.kind.name(), "object")
        });
    };
    no_repeats(document, "collMod.index")?;
    let known = members_of(wire_version);
    document.elements().try_for_each(|member| {
        if known.contains(&member.key) {
            return check_member(&member, wire_version);
        }
        if wire_version < WIRE_VERSION_5_0 {
            return Ok(());
        }
        Err(Refusal::unknown_field(format!(
            "BSON field 'collMod.index.{}' is an unknown field.",
            member.name()
        )))
    })
}

/// Checks the kind of a member of `collMod.index` that the proxy reads.
fn check_member(member: &Element<'_>, wire_version: i32) -> Result<(), Refusal> {
    let is_old = wire_version < WIRE_VERSION_5_0;
    let (is_right, expected, old) = match member.key {
        b"name" => (
            member.kind == Kind::String,
            "string",
            "Index name must be a string.",
        ),
        b"keyPattern" => (
            member.kind == Kind::Document,
            "object",
            "Key pattern must be an object.",
        ),
        b"expireAfterSeconds" => (
            member.kind != Kind::Boolean && member.as_flag().is_some(),
            "number",
            "expireAfterSeconds field must be a number",
        ),
        _ => return Ok(()),
    };
    if is_right || (member.kind == Kind::Null && !is_old) {
        return Ok(());
    }
    let path = format!("collMod.index.{}", member.name());
    Err(match expected {
        _ if is_old => Refusal::invalid_options(old),
        "number" => Refusal::wrong_number(&path, member.kind.name()),
        _ => Refusal::wrong_kind(&path, member.kind.name(), expected),
    })
}

/// Checks of a `collMod`, before anybody looks whether there is such a collection, from 5.0 on the shape of `index`, and the
/// option that came with 6.0, in mongod's words (4.4.2, 5.0.4, 6.0.5).
///
/// # Errors
/// 14, 40413, 40415, on a server before 5.0 72.
pub fn check_known_options(command: &Command<'_>, wire_version: i32) -> Result<(), Refusal> {
    if wire_version >= WIRE_VERSION_5_0 {
        let index = changed(command, wire_version);
        index.map_or(Ok(()), |index| members(&index, wire_version))?;
    }
    let option = "changeStreamPreAndPostImages";
    if wire_version >= WIRE_VERSION_6_0 || command.body.find(option).is_none() {
        return Ok(());
    }
    Err(if wire_version < WIRE_VERSION_5_0 {
        Refusal::invalid_options(format!("unknown option to collMod: {option}"))
    } else {
        Refusal::unknown_field(format!(
            "BSON field 'collMod.{option}' is an unknown field."
        ))
    })
}

/// What a `collMod` says of an index. From 5.0 on null says nothing (4.4.2, 5.0.4, 6.0.5).
pub(crate) fn changed<'a>(command: &Command<'a>, wire_version: i32) -> Option<Element<'a>> {
    let index = command.body.find("index")?;
    (index.kind != Kind::Null || wire_version < WIRE_VERSION_5_0).then_some(index)
}

impl Scope {
    /// Rewrites `collMod` of a shared collection: an own index, by its physical name. `None` where nothing is left to send.
    /// What it says of `changeStreamPreAndPostImages` is checked: the physical collection has them for all apps, and the
    /// catalog says which app has asked for them. What it says of a validator is checked, and left to
    /// [`Scope::set_validator`].
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
            row.is_some_and(|a| matches!(a.take, Take::Unshared(_)))
        };
        check_validation(command, facts.wire_version)?;
        if let Some(field) = fields.find(is_of_all) {
            return Err(unavailable(field.name(), SHARED));
        }
        check_is_no_view(command, facts.wire_version)?;
        check_images(command, "collMod")?;
        let Some(index) = changed(command, facts.wire_version) else {
            let flag = command.body.find("dryRun");
            if flag.and_then(|flag| flag.as_flag()) == Some(true) {
                let text = "dry run mode requires an valid index modification.";
                return Err(Refusal::invalid_options(text));
            }
            return Ok(None);
        };
        members(&index, facts.wire_version)?;
        let change = index.as_document().unwrap_or(Document::EMPTY);
        let Some(own) = changed_index(command, change, facts.collection)? else {
            return check_id_index(change, facts.wire_version).map(|()| None);
        };
        check_change(change, own, facts.wire_version)?;
        let body = Body::read(self, spec, command, facts)?;
        let mut w = begin(command);
        let mark = w.begin();
        w.string(b"collMod", namespace::collection_of(command)?);
        let written = w.begin_document(b"index");
        w.string(b"name", &own.physical_name);
        for member in change.elements() {
            let is_known = members_of(facts.wire_version).contains(&member.key);
            if is_known && !matches!(member.key, b"name" | b"keyPattern") {
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
            // From 6.0 on the server also takes a UUID, which tells whether another collection has it.
            if flag.kind != Kind::Boolean {
                let (path, found) = ("renameCollection.dropTarget", flag.kind.name());
                return Err(if facts.wire_version < WIRE_VERSION_6_0 {
                    Refusal::wrong_kind(path, found, "bool")
                } else {
                    Refusal::type_mismatch(format!(
                        "BSON field '{path}' is the wrong type '{found}', expected types '[bool, binData']"
                    ))
                });
            }
            w.element(&flag);
        }
        body.fields(&mut w, false)?;
        w.end(mark);
        seal(w, facts, definition_outcome())
    }
}

/// The own index that `collMod.index` means; `None` for that on `_id`.
fn changed_index<'f>(
    command: &Command<'_>,
    change: Document<'_>,
    collection: &'f CollectionFacts,
) -> Result<Option<&'f OwnIndex>, Refusal> {
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
                return Ok(None);
            }
            collection
                .indexes
                .iter()
                .find(|i| name.as_str() == Some(&i.name))
        }
        (None, Some(pattern)) => {
            let key = pattern.as_document().unwrap_or(Document::EMPTY);
            if is_id_key(key) {
                return Ok(None);
            }
            let found = collection.indexes_of(key);
            if found.len() > 1 {
                let shown: Vec<String> = found.iter().map(|index| index.printed()).collect();
                return Err(Refusal::ambiguous_key(format!(
                    "index keyPattern {} matches {} indexes, must use index name. Conflicting indexes:{}",
                    print_key(key),
                    found.len(),
                    shown.join(", ")
                )));
            }
            found.first().copied()
        }
    };
    found.map(Some).ok_or_else(|| {
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

/// Checks a change of the index on `_id`, of which none has an effect, in mongod's words (4.4.2, 5.0.4, 6.0.5).
fn check_id_index(change: Document<'_>, wire_version: i32) -> Result<(), Refusal> {
    let is_old = wire_version < WIRE_VERSION_6_0;
    let expires = change.find("expireAfterSeconds").is_some();
    let hidden = change.find("hidden");
    let unique = change.find("unique").filter(|_| !is_old);
    let prepares = !is_old && change.find("prepareUnique").is_some();
    if !expires && hidden.is_none() && unique.is_none() && !prepares {
        return Err(nothing_to_change(wire_version));
    }
    if expires {
        return Err(Refusal::invalid_options(if is_old {
            "no expireAfterSeconds field to update"
        } else {
            "the _id field does not support TTL indexes"
        }));
    }
    if hidden.is_some_and(|flag| !is_old || flag.as_flag() == Some(true)) {
        return Err(Refusal::bad_value("can't hide _id index"));
    }
    match unique.and_then(|flag| flag.as_flag()) {
        Some(false) => Err(Refusal::bad_value("Cannot make index non-unique")),
        _ => Ok(()),
    }
}

/// A `collMod.index` that says what index, and nothing else.
fn nothing_to_change(wire_version: i32) -> Refusal {
    Refusal::invalid_options(if wire_version < WIRE_VERSION_6_0 {
        "no expireAfterSeconds or hidden field"
    } else {
        "no expireAfterSeconds, hidden, unique, or prepareUnique field"
    })
}

fn check_change(change: Document<'_>, own: &OwnIndex, wire_version: i32) -> Result<(), Refusal> {
    let definition = Document::parse(&own.definition).unwrap_or(Document::EMPTY);
    let unique = ["unique", "prepareUnique"];
    let unique = unique.iter().find_map(|m| change.find(m));
    let unique = unique.filter(|_| wire_version >= WIRE_VERSION_6_0);
    if let (Some(member), Some(_)) = (&unique, definition.find("collation")) {
        let name = member.name();
        return Err(Refusal::invalid_options(format!(
            "collMod.index.{name} of an index with a collation, to which apps whose names look alike would collide, is not available on a shared collection; drop the index and create it anew"
        )));
    }
    let expires = change.find("expireAfterSeconds");
    if expires.is_none() && change.find("hidden").is_none() && unique.is_none() {
        return Err(nothing_to_change(wire_version));
    }
    if expires.is_some() && definition.find("expireAfterSeconds").is_none() {
        return Err(Refusal::invalid_options(
            "an index of a shared collection cannot become a TTL index; drop it and create it with expireAfterSeconds",
        ));
    }
    Ok(())
}

/// Refuses what is said of a view, in mongod's words (4.4.2, 5.0.4, 6.0.5).
fn check_is_no_view(command: &Command<'_>, wire_version: i32) -> Result<(), Refusal> {
    let given = |name: &str| command.body.find(name).is_some();
    let text = if wire_version < WIRE_VERSION_6_0 {
        let named = ["viewOn", "pipeline"].into_iter().find(|name| given(name));
        named.map(|name| format!("'{name}' option only supported on a view"))
    } else {
        let named = ["pipeline", "viewOn"].into_iter().find(|name| given(name));
        named.map(|name| format!("option only supported on a view: {name}"))
    };
    text.map_or(Ok(()), |text| Err(Refusal::invalid_options(text)))
}

/// Checks what is said of a validator.
///
/// # Errors
/// 2, 14, and on servers before 5.0 10065, 13111, in mongod's words (4.4.2, 5.0.4, 6.0.5).
fn check_validation(command: &Command<'_>, wire_version: i32) -> Result<(), Refusal> {
    let is_old = wire_version < WIRE_VERSION_5_0;
    if let Some(validator) = command.body.find("validator") {
        let is_none = validator.kind == Kind::Null && !is_old;
        if validator.kind != Kind::Document && !is_none {
            return Err(if is_old {
                let text = "invalid parameter: expected an object (validator)";
                Refusal::cluster_time_shape(text)
            } else {
                Refusal::type_mismatch(format!(
                    "BSON field 'collMod.validator' is the wrong type '{}', expected type 'object'",
                    validator.kind.name()
                ))
            });
        }
    }
    for (field, words, values) in VALIDATION {
        let Some(element) = command.body.find(field) else {
            continue;
        };
        let kind = element.kind.name();
        let text = match element.as_str() {
            Some(value) if values.contains(&value) => continue,
            Some(value) if is_old => format!("invalid validation {words}: {value}"),
            Some(value) => format!(
                "Enumeration value '{value}' for field 'collMod.{field}' is not a valid value."
            ),
            None if is_old => {
                let text = format!("wrong type for field ({field}) {kind} != string");
                return Err(Refusal::wrong_name_kind(text));
            }
            None => {
                let path = format!("collMod.{field}");
                return Err(Refusal::wrong_kind(&path, kind, "string"));
            }
        };
        return Err(Refusal::bad_value(text));
    }
    Ok(())
}

/// Fields beside a validator, what a server before 5.0 calls them, and their values.
pub(crate) const VALIDATION: [(&str, &str, &[&str]); 2] = [
    ("validationLevel", "level", &["off", "strict", "moderate"]),
    ("validationAction", "action", &["error", "warn"]),
];

/// Checks `changeStreamPreAndPostImages`, in mongod's words (6.0.5): `{enabled: BOOL}`.
///
/// # Errors
/// 14, 40414, 40415.
pub(crate) fn check_images(command: &Command<'_>, name: &str) -> Result<(), Refusal> {
    let images = command.body.find("changeStreamPreAndPostImages");
    let Some(images) = images.filter(|images| images.kind != Kind::Null) else {
        return Ok(());
    };
    let path = format!("{name}.changeStreamPreAndPostImages");
    let Some(document) = images.as_document() else {
        return Err(Refusal::wrong_kind(&path, images.kind.name(), "object"));
    };
    no_repeats(document, &path)?;
    if let Some(unknown) = document.elements().find(|e| e.key != b"enabled") {
        let text = format!(
            "BSON field '{path}.{}' is an unknown field.",
            unknown.name()
        );
        return Err(Refusal::unknown_field(text));
    }
    match document.find("enabled") {
        Some(enabled) if enabled.kind == Kind::Boolean => Ok(()),
        Some(enabled) if enabled.kind != Kind::Null => {
            let path = format!("{path}.enabled");
            Err(Refusal::wrong_kind(&path, enabled.kind.name(), "bool"))
        }
        _ => Err(Refusal::missing_field(format!(
            "BSON field '{path}.enabled' is missing but a required field"
        ))),
    }
}
