//! Of what kinds the fields of a hello must be, as a mongod says (6.0.5).

use mdb_scope::Refusal;
use mdb_wire::{Document, Element, Kind};

use crate::connection::ClientMetadata;
use crate::error::HelloError;

const NUMBERS: &[Kind] = &[Kind::Int32, Kind::Int64, Kind::Double, Kind::Decimal128];
const FLAGS: &[Kind] = &[
    Kind::Boolean,
    Kind::Int32,
    Kind::Int64,
    Kind::Double,
    Kind::Decimal128,
];

/// Fields that must be of one of these kinds. What is not listed is not looked at.
const KINDS: &[(&str, &[Kind])] = &[
    ("topologyVersion", &[Kind::Document]),
    ("maxAwaitTimeMS", NUMBERS),
    ("helloOk", FLAGS),
    ("loadBalanced", &[Kind::Boolean]),
    ("compression", &[Kind::Array]),
    ("saslSupportedMechs", &[Kind::String, Kind::Document]),
    ("speculativeAuthenticate", &[Kind::Document]),
];

/// A field that is there and not null.
pub(super) fn given<'a>(body: Document<'a>, name: &str) -> Option<Element<'a>> {
    let is_given = |field: &Element<'_>| !matches!(field.kind, Kind::Null | Kind::Undefined);
    body.find(name).filter(is_given)
}

/// Checks all fields but `client`.
pub(super) fn check(body: Document<'_>) -> Result<(), Refusal> {
    for (name, kinds) in KINDS {
        if let Some(field) = given(body, name).filter(|field| !kinds.contains(&field.kind)) {
            return Err(wrong_kind(name, &field, kinds));
        }
    }
    let names = given(body, "compression").and_then(|names| names.as_array());
    for name in names.into_iter().flat_map(Document::elements) {
        is_of(&name, "compression", &[Kind::String])?;
    }
    let user = given(body, "saslSupportedMechs");
    let user = user.as_ref().and_then(Element::as_string);
    if user.is_some_and(|user| !user.contains(&b'.')) {
        return Err(Refusal::bad_value(
            "UserName must contain a '.' separated database.user pair",
        ));
    }
    Ok(())
}

/// `processId` and `counter` of a `topologyVersion`.
pub(super) fn version_of(version: Document<'_>) -> Result<([u8; 12], i64), Refusal> {
    for member in version.elements() {
        match member.key {
            b"processId" => is_of(&member, "topologyVersion", &[Kind::ObjectId])?,
            b"counter" => is_of(&member, "topologyVersion", &[Kind::Int64])?,
            _ => {
                let name = member.name();
                return Err(Refusal::unknown_field(format!(
                    "BSON field 'hello.topologyVersion.{name}' is an unknown field."
                )));
            }
        }
    }
    let missing = |name: &str| {
        Refusal::missing_field(format!(
            "BSON field 'hello.topologyVersion.{name}' is missing but a required field"
        ))
    };
    let process = version.find("processId");
    let process = process.and_then(|process| process.value.try_into().ok());
    let counter = version.find("counter");
    let counter = counter.and_then(|counter| counter.as_integer());
    Ok((
        process.ok_or_else(|| missing("processId"))?,
        counter.ok_or_else(|| missing("counter"))?,
    ))
}

fn is_of(member: &Element<'_>, parent: &str, kinds: &[Kind]) -> Result<(), Refusal> {
    if kinds.contains(&member.kind) {
        return Ok(());
    }
    let path = format!("{parent}.{}", member.name());
    Err(wrong_kind(&path, member, kinds))
}

fn wrong_kind(path: &str, field: &Element<'_>, kinds: &[Kind]) -> Refusal {
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    let path = format!("hello.{path}");
    Refusal::wrong_kind(&path, field.kind.name(), &kinds.join(", "))
}

/// Fields of `client` that must be there, and be texts.
const REQUIRED: &[(&str, &str)] = &[("driver", "name"), ("driver", "version"), ("os", "type")];

/// Reads what a client says of itself.
pub(super) fn client(client: Document<'_>) -> Result<ClientMetadata, crate::error::Error> {
    for part in ["application", "driver", "os"] {
        let kind = client.find(part).map(|part| part.kind);
        if kind.is_some_and(|kind| kind != Kind::Document) {
            return Err(Refusal::type_mismatch(format!(
                "The '{part}' field is required to be a BSON document in the client metadata document"
            ))
            .into());
        }
    }
    let field = |part: &str, name: &str| client.find(part)?.as_document()?.find(name);
    for (part, name) in REQUIRED {
        if field(part, name).is_none() {
            return Err(HelloError::MetadataMissing(part, name).into());
        }
    }
    for (part, name) in [("application", "name")].iter().chain(REQUIRED) {
        if field(part, name).is_some_and(|field| field.kind != Kind::String) {
            return Err(Refusal::type_mismatch(format!(
                "The '{part}.{name}' field must be a string in the client metadata document"
            ))
            .into());
        }
    }
    Ok(ClientMetadata::read(client)?)
}
