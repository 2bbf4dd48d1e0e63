//! The shape of the fields that every command may have, as a mongod checks it before it looks at the command (4.4.2, 5.0.4,
//! 6.0.5): of commands that are sent as well, so that both are told the same.

use mdb_wire::{Command, Document, Element, Kind};

use crate::commands::{CommandSpec, Duty};
use crate::generic;
use crate::preference;
use crate::refusal::Refusal;

/// Commands beside those that the proxy answers itself that take no write concern.
const WITHOUT_WRITE_CONCERN: &[&str] = &[
    "collStats",
    "count",
    "dataSize",
    "dbStats",
    "distinct",
    "endSessions",
    "find",
    "getMore",
    "killCursors",
    "killSessions",
    "listCollections",
    "listDatabases",
    "listIndexes",
    "refreshSessions",
];

/// Checks session, number of transaction, concerns, read preference and cluster time.
///
/// # Errors
/// 2, 4, 9, 14, 40413, 40414, 40415, 72, 207, 10065, 50889.
pub fn check_common(spec: &CommandSpec, command: &Command<'_>) -> Result<(), Refusal> {
    let body = command.body;
    let given = |name: &str| body.find(name).filter(|e| !is_null(e));
    if let Some(session) = given("lsid") {
        generic::client_session(&session)?;
    }
    if let Some(number) = given("txnNumber") {
        check_number(spec, body, &number)?;
    }
    if given("startTransaction").is_some() && given("autocommit").is_none() {
        return Err(Refusal::invalid_options(
            "'startTransaction' field requires 'autocommit' field to also be specified",
        ));
    }
    if given("autocommit").is_some() && given("txnNumber").is_none() && !is_without_session(spec) {
        return Err(Refusal::invalid_options(
            "'autocommit' field requires a transaction number to also be specified",
        ));
    }
    if let Some(preference) = body.find("$readPreference") {
        preference::read_preference(&preference)?;
    }
    if let Some(time) = given("$clusterTime") {
        check_cluster_time(&time)?;
    }
    let is_answered = matches!(spec.duty, Duty::Local(_));
    if (is_answered || WITHOUT_WRITE_CONCERN.contains(&spec.name))
        && given("writeConcern").is_some()
    {
        return Err(Refusal::invalid_options(
            "Command does not support writeConcern",
        ));
    }
    match body.find("readConcern") {
        Some(concern)
            if spec.name == "aggregate" && concern.kind != Kind::Document && !is_null(&concern) =>
        {
            let kind = concern.kind.name();
            Err(Refusal::wrong_kind("aggregate.readConcern", kind, "object"))
        }
        Some(concern) => check_read_concern(&concern),
        None => Ok(()),
    }
}

fn is_null(element: &Element<'_>) -> bool {
    matches!(element.kind, Kind::Null | Kind::Undefined)
}

/// Whether the command has nothing to do with sessions: what it says of transactions is told of in other words.
fn is_without_session(spec: &CommandSpec) -> bool {
    spec.before_authentication || matches!(spec.name, "listCommands" | "whatsmyuri")
}

fn check_number(
    spec: &CommandSpec,
    body: Document<'_>,
    number: &Element<'_>,
) -> Result<(), Refusal> {
    if number.kind != Kind::Int64 {
        return Err(Refusal::wrong_kind(
            "OperationSessionInfo.txnNumber",
            number.kind.name(),
            "long",
        ));
    }
    if body.find("autocommit").is_some() || !matches!(spec.duty, Duty::Local(_) | Duty::Catalog(_))
    {
        return Ok(());
    }
    if is_without_session(spec) {
        return Err(Refusal::unwanted_number(
            "It is illegal to provide a txnNumber for this command",
        ));
    }
    match body.find("lsid") {
        Some(_) => Ok(()),
        None => Err(Refusal::invalid_options(
            "Transaction number requires a session ID to also be specified",
        )),
    }
}

fn check_cluster_time(element: &Element<'_>) -> Result<(), Refusal> {
    let Some(document) = element.as_document() else {
        return Err(Refusal::cluster_time_shape(
            "invalid parameter: expected an object ($clusterTime)",
        ));
    };
    match document.find("clusterTime") {
        None => Err(Refusal::no_such_key(
            "Missing expected field \"clusterTime\"",
        )),
        Some(time) => of_kind(&time, Kind::Timestamp),
    }
}

fn check_read_concern(element: &Element<'_>) -> Result<(), Refusal> {
    generic::read_concern(element)?;
    let members = element.as_document().unwrap_or(Document::EMPTY);
    for member in members.elements() {
        match member.key {
            b"level" => {
                of_kind(&member, Kind::String)?;
                if !member.as_str().is_some_and(|level| LEVELS.contains(&level)) {
                    return Err(Refusal::failed_to_parse(
                        "readConcern.level must be either 'local', 'majority', 'linearizable', 'available', or 'snapshot'",
                    ));
                }
            }
            _ => of_kind(&member, Kind::Timestamp)?,
        }
    }
    Ok(())
}

/// What servers say of a member of another kind.
pub(crate) fn of_kind(element: &Element<'_>, expected: Kind) -> Result<(), Refusal> {
    if element.kind == expected {
        return Ok(());
    }
    Err(Refusal::type_mismatch(format!(
        "\"{}\" had the wrong type. Expected {}, found {}",
        element.name(),
        expected.name(),
        element.kind.name()
    )))
}

const LEVELS: &[&str] = &["local", "majority", "linearizable", "available", "snapshot"];

#[cfg(test)]
mod tests {
    use bson::{Binary, Bson, Document as Doc, Timestamp, doc, spec::BinarySubtype};

    use super::*;
    use crate::commands::look_up;

    fn told(body: &Doc) -> Option<(i32, String)> {
        let bytes = bson::serialize_to_vec(body).unwrap();
        let command = Command::inner(Document::parse(&bytes).unwrap(), "d").unwrap();
        let spec = look_up(command.name, "d").unwrap();
        check_common(spec, &command)
            .err()
            .map(|refusal| (refusal.code, refusal.text))
    }

    fn id(subtype: BinarySubtype, length: usize) -> Bson {
        let bytes = vec![7; length];
        Bson::Binary(Binary { subtype, bytes })
    }

    /// What servers said (4.4.2, 5.0.4, 6.0.5), to `ping` and to `find`.
    #[test]
    fn each_field_is_told_of_as_by_a_server() {
        let uuid = || id(BinarySubtype::Uuid, 16);
        let cases: [(Doc, i32, &str); 16] = [
            (
                doc! {"lsid": 1},
                14,
                "'OperationSessionInfo.lsid' is the wrong type 'int'",
            ),
            (
                doc! {"lsid": {}},
                40414,
                "'OperationSessionInfo.lsid.id' is missing",
            ),
            (
                doc! {"lsid": {"id": "x"}},
                14,
                "'string', expected type 'binData'",
            ),
            (
                doc! {"lsid": {"id": uuid(), "bad": 1}},
                40415,
                "lsid.bad' is an unknown field.",
            ),
            (
                doc! {"lsid": {"id": id(BinarySubtype::Uuid, 15)}},
                207,
                "uuid must be a 16-byte",
            ),
            (
                doc! {"lsid": {"id": id(BinarySubtype::Generic, 16)}},
                14,
                "'general', expected type 'UUID'",
            ),
            (doc! {"txnNumber": 1}, 14, "'int', expected type 'long'"),
            (doc! {"startTransaction": true}, 72, "requires 'autocommit'"),
            (
                doc! {"$readPreference": 1},
                14,
                "expected object but got int",
            ),
            (
                doc! {"$readPreference": {}},
                4,
                "Missing expected field \"mode\"",
            ),
            (
                doc! {"$readPreference": {"mode": "bad"}},
                2,
                "Could not parse $readPreference mode 'bad'",
            ),
            (
                doc! {"$clusterTime": 1},
                10065,
                "expected an object ($clusterTime)",
            ),
            (
                doc! {"$clusterTime": {"clusterTime": 1}},
                14,
                "Expected timestamp, found int",
            ),
            (
                doc! {"writeConcern": {"w": 1}},
                72,
                "does not support writeConcern",
            ),
            (
                doc! {"readConcern": Bson::Null},
                9,
                "readConcern field should be an object",
            ),
            (
                doc! {"readConcern": {"bad": 1}},
                72,
                "Unrecognized option in readConcern: bad",
            ),
        ];
        for (fields, code, part) in cases {
            for command in [doc! {"ping": 1}, doc! {"find": "c"}] {
                let mut body = command;
                body.extend(fields.clone());
                let (found, text) = told(&body).unwrap_or_default();
                assert_eq!(found, code, "{body}");
                assert!(text.contains(part), "{body}: {text}");
            }
        }
    }

    #[test]
    fn what_servers_take_is_taken() {
        let time = Bson::Timestamp(Timestamp {
            time: 1,
            increment: 1,
        });
        for body in [
            doc! {"ping": 1, "lsid": Bson::Null, "txnNumber": Bson::Null},
            doc! {"ping": 1, "lsid": {"id": id(BinarySubtype::Uuid, 16)}, "readConcern": {}},
            doc! {"find": "c", "$clusterTime": {"clusterTime": time.clone()}, "readConcern": {"level": "majority", "afterClusterTime": time}},
            doc! {"insert": "c", "txnNumber": 1_i64, "writeConcern": {"w": 1}, "$readPreference": {"mode": "primary"}},
        ] {
            assert_eq!(told(&body), None, "{body}");
        }
    }

    #[test]
    fn a_number_needs_a_session_and_a_command_that_has_numbers() {
        let of = |name: &str| told(&doc! {name: 1, "txnNumber": 1_i64}).map(|(code, _)| code);
        assert_eq!(of("ping"), Some(50889));
        assert_eq!(of("listDatabases"), Some(72));
        let transaction = doc! {"find": "c", "autocommit": false};
        assert_eq!(told(&transaction).map(|(code, _)| code), Some(72));
        assert_eq!(
            told(&doc! {"ping": 1, "txnNumber": 1_i64, "autocommit": false}),
            None
        );
    }
}
