//! Fields that any command may carry: session, concerns, read preference, collation.

use std::fmt;

use mdb_wire::{Document, Element, Kind, Writer};

use crate::arguments::Take;
use crate::before_five;
use crate::refusal::Refusal;
use crate::scope::{Scope, no_repeats};
use crate::versions::{WIRE_VERSION_5_0, WIRE_VERSION_6_0};

/// Reads the 16 bytes of a session id: a binary of subtype 4. The server takes no other subtype (6.0.5).
pub(crate) fn session_id(element: &Element<'_>) -> Option<[u8; 16]> {
    match element.as_binary() {
        Some((4, bytes)) => bytes.try_into().ok(),
        _ => None,
    }
}

/// Reads `lsid`: `{id: UUID}`. Any other member would name a session of another user.
pub(crate) fn client_session(element: &Element<'_>) -> Result<[u8; 16], Refusal> {
    let Some(lsid) = element.as_document() else {
        let found = element.kind.name();
        return Err(Refusal::wrong_kind(
            "OperationSessionInfo.lsid",
            found,
            "object",
        ));
    };
    no_repeats(lsid, "lsid")?;
    if let Some(other) = lsid.elements().find(|e| e.key != b"id") {
        return Err(if OF_OTHER_USERS.contains(&other.key) {
            Refusal::invalid_options(format!("lsid may hold 'id' only, found '{}'", other.name()))
        } else {
            Refusal::unknown_field(format!(
                "BSON field 'OperationSessionInfo.lsid.{}' is an unknown field.",
                other.name()
            ))
        });
    }
    let id = lsid.find("id").ok_or_else(|| {
        Refusal::missing_field(
            "BSON field 'OperationSessionInfo.lsid.id' is missing but a required field",
        )
    })?;
    session_id(&id).ok_or_else(|| no_session_id(&id))
}

/// What a server says to something else where the id of a session is (6.0.5).
fn no_session_id(id: &Element<'_>) -> Refusal {
    const PATH: &str = "OperationSessionInfo.lsid.id";
    let Some((subtype, _)) = id.as_binary() else {
        return Refusal::wrong_kind(PATH, id.kind.name(), "binData");
    };
    let found = match subtype {
        0 => "general",
        1 => "function",
        2 => "binary(deprecated)",
        3 => "UUID(deprecated)",
        4 => {
            return Refusal::invalid_uuid(
                "uuid must be a 16-byte binary field with UUID (4) subtype",
            );
        }
        5 => "MD5",
        _ => "Custom",
    };
    Refusal::type_mismatch(format!(
        "BSON field '{PATH}' is the wrong binData type '{found}', expected type 'UUID'"
    ))
}

/// Members of an `lsid` that servers and their users may state.
const OF_OTHER_USERS: &[&[u8]] = &[b"uid", b"txnNumber", b"txnUUID"];

/// Writes `lsid` in the app's own space.
pub(crate) fn session(scope: &Scope, w: &mut Writer, id: [u8; 16]) {
    let lsid = w.begin_document(b"lsid");
    w.binary(b"id", 4, &scope.sessions().upstream_id(id));
    w.end(lsid);
}

const READ_CONCERN: &[&str] = &["level", "afterClusterTime", "atClusterTime"];
const WRITE_CONCERN: &[&str] = &["w", "j", "wtimeout", "fsync"];
const COLLATION: &[&str] = &[
    "locale",
    "caseLevel",
    "caseFirst",
    "strength",
    "numericOrdering",
    "alternate",
    "maxVariable",
    "normalization",
    "backwards",
    "version",
];

/// Checks that a read concern has no member but those that a client may state.
pub(crate) fn read_concern(element: &Element<'_>) -> Result<(), Refusal> {
    let Some(document) = element.as_document() else {
        return Err(Refusal::failed_to_parse(
            "readConcern field should be an object",
        ));
    };
    no_repeats(document, "readConcern")?;
    let known = |e: &Element<'_>| READ_CONCERN.iter().any(|k| k.as_bytes() == e.key);
    match document.elements().find(|e| !known(e)) {
        None => Ok(()),
        Some(member) => Err(Refusal::invalid_options(format!(
            "Unrecognized option in readConcern: {}",
            member.name()
        ))),
    }
}

/// Checks that a write concern has no member but those that a client may state, in mongod's words (4.4.2, 5.0.4, 6.0.5).
pub(crate) fn write_concern(
    element: &Element<'_>,
    command: &str,
    wire_version: i32,
) -> Result<(), Refusal> {
    let is_old = wire_version < WIRE_VERSION_5_0;
    let Some(document) = element.as_document() else {
        let found = element.kind.name();
        return Err(match command {
            "aggregate" if is_old => {
                Refusal::type_mismatch(format!("writeConcern must be an object, not a {found}"))
            }
            "aggregate" | "findAndModify" if !is_old => {
                Refusal::wrong_kind(&format!("{command}.writeConcern"), found, "object")
            }
            _ => Refusal::type_mismatch(format!(
                "\"writeConcern\" had the wrong type. Expected object, found {found}"
            )),
        });
    };
    no_repeats(document, element.name())?;
    let Some(member) = unknown_member(document, WRITE_CONCERN) else {
        return Ok(());
    };
    let name = member.name();
    let unknown =
        |of: &str| Refusal::unknown_field(format!("BSON field '{of}.{name}' is an unknown field."));
    Err(if wire_version >= WIRE_VERSION_6_0 {
        unknown("WriteConcernOptions")
    } else if is_old || command == "aggregate" {
        Refusal::failed_to_parse(format!("unrecognized write concern field: {name}"))
    } else {
        unknown(element.name())
    })
}

fn unknown_member<'a>(document: Document<'a>, known: &[&str]) -> Option<Element<'a>> {
    let mut members = document.elements();
    members.find(|e| !known.iter().any(|k| k.as_bytes() == e.key))
}

pub(crate) fn members(element: &Element<'_>, known: &[&str]) -> Result<(), Refusal> {
    let Some(document) = element.as_document() else {
        return Err(Refusal::wrong_kind(
            element.name(),
            element.kind.name(),
            "object",
        ));
    };
    no_repeats(document, element.name())?;
    match unknown_member(document, known) {
        None => Ok(()),
        Some(member) => Err(Refusal::unknown_field(format!(
            "BSON field '{}.{}' is an unknown field.",
            element.name(),
            member.name()
        ))
        // Of a collation a server says it of the statement that has it.
        .of_statement()),
    }
}

/// Whether a collation is in effect that compares otherwise than byte by byte. `{}` is none; a collection whose own
/// default is another is not served.
pub(crate) fn collation(element: &Element<'_>) -> Result<bool, Refusal> {
    if is_null(element) {
        return Ok(false);
    }
    let Some(document) = element.as_document() else {
        return Err(Refusal::wrong_kind(
            "collation",
            element.kind.name(),
            "object",
        ));
    };
    members(element, COLLATION)?;
    if document.is_empty() {
        return Ok(false);
    }
    let mut members = document.elements();
    let is_simple = matches!(
        (members.next(), members.next()),
        (Some(only), None) if only.key == b"locale" && only.as_string() == Some(b"simple".as_slice())
    );
    Ok(!is_simple)
}

/// The same of a command on such a server, which has words of its own before 5.0 (4.4.2, 5.0.4, 6.0.5).
pub(crate) fn collation_on(
    element: &Element<'_>,
    command: &str,
    wire_version: i32,
) -> Result<bool, Refusal> {
    if wire_version < WIRE_VERSION_5_0 {
        before_five::check_collation(element, command)?;
    } else if element.kind != Kind::Document && !is_null(element) {
        let path = format!("{command}.collation");
        return Err(Refusal::wrong_kind(&path, element.kind.name(), "object"));
    }
    collation(element)
}

/// Members of a collation.
pub(crate) fn unknown_of_collation(document: Document<'_>) -> Option<Element<'_>> {
    unknown_member(document, COLLATION)
}

/// What servers take for a field that is not there.
pub(crate) fn is_null(element: &Element<'_>) -> bool {
    matches!(element.kind, Kind::Null | Kind::Undefined)
}

/// A field that must be a document; `null` and absence are `{}`, as the server reads filters of some commands.
pub(crate) fn document_or_null<'a>(
    element: &Element<'a>,
    path: impl fmt::Display,
) -> Result<Document<'a>, Refusal> {
    match element.kind {
        Kind::Null | Kind::Undefined => Ok(Document::EMPTY),
        _ => document(element, path),
    }
}

/// A field that must be a document. `path` is written in a refusal only.
pub(crate) fn document<'a>(
    element: &Element<'a>,
    path: impl fmt::Display,
) -> Result<Document<'a>, Refusal> {
    element
        .as_document()
        .ok_or_else(|| Refusal::wrong_kind(&path.to_string(), element.kind.name(), "object"))
}

/// Checks whether a field is the flag that it should be, in mongod's words (4.4.2, 5.0.4, 6.0.5).
///
/// # Errors
/// 14.
pub(crate) fn flag(
    command: &str,
    take: Take,
    element: &Element<'_>,
    wire_version: i32,
) -> Result<(), Refusal> {
    let found = element.kind.name();
    let is_old = wire_version < WIRE_VERSION_5_0;
    match (take, element.key) {
        (Take::Own, b"explain") if element.kind != Kind::Boolean => {
            Err(Refusal::type_mismatch(if is_old {
                format!("explain must be a boolean, not a {found}")
            } else {
                "explain must be a boolean".to_owned()
            }))
        }
        // These do not look at it.
        (Take::Bypass, _) if is_old && matches!(command, "aggregate" | "findAndModify") => Ok(()),
        (Take::Bypass, _) if element.as_flag().is_none() && !is_null(element) => {
            let path = format!("{command}.{}", element.name());
            Err(Refusal::wrong_flag(&path, found))
        }
        _ => Ok(()),
    }
}

/// Fields of a `find` that a server reads by hand: null is none of them.
const FIND_OBJECTS: &[&[u8]] = &[
    b"filter",
    b"projection",
    b"sort",
    b"min",
    b"max",
    b"collation",
];

/// Checks a field of a `find` that must be an object, in mongod's words (5.0.4, 6.0.5).
///
/// # Errors
/// 14.
pub(crate) fn find_object(element: &Element<'_>) -> Result<(), Refusal> {
    if element.kind == Kind::Document || !FIND_OBJECTS.contains(&element.key) {
        return Ok(());
    }
    Err(Refusal::type_mismatch(format!(
        "Expected field {}to be of type object",
        element.name()
    )))
}
