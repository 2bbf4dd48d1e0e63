use super::*;
use crate::codes::code_name;
use crate::error::{
    ApiError, AwaitingFlaw, CertificateError, HelloError, LegacyError, Limit, SaslError,
};
use crate::labels;
use bson::{Bson, Document, doc};
use mdb_auth::AuthError;
use mdb_scope::Refusal;
use mdb_upstream::UpstreamError;
use mdb_wire::frame::Malformed;
use mdb_wire::{CommandError, DecodeError};

fn read(bytes: &[u8]) -> Document {
    bson::deserialize_from_slice(bytes).unwrap()
}

fn awaiting(flaw: AwaitingFlaw, as_mongos: bool) -> Error {
    HelloError::Awaiting { flaw, as_mongos }.into()
}

/// One of every kind, with the code and the name that its reply carries.
fn errors() -> Vec<(Error, i32, &'static str)> {
    let missing = SaslError::Missing {
        command: "saslStart",
        field: "mechanism",
    };
    let version = TopologyVersion {
        process_id: [1; 12],
        counter: 4,
    };
    let wrong_kind = ApiError::Kind {
        field: "apiVersion",
        found: "int",
        expected: "string",
    };
    let malformed = DecodeError {
        request_id: None,
        what: Malformed::Section,
    };
    vec![
        (malformed.into(), 15, "Overflow"),
        (CommandError::NoDatabase.into(), 40571, "Location40571"),
        (AuthError::BadCredentials.into(), 18, "AuthenticationFailed"),
        (
            AuthError::MechanismUnavailable("X".into()).into(),
            334,
            "MechanismUnavailable",
        ),
        (AuthError::NoConversation.into(), 17, "ProtocolError"),
        (SaslError::ConversationId.into(), 17, "ProtocolError"),
        (missing.into(), 40414, "Location40414"),
        (SaslError::PayloadKind.into(), 14, "TypeMismatch"),
        (SaslError::PayloadText.into(), 9, "FailedToParse"),
        (SaslError::OtherIdentity.into(), 13, "Unauthorized"),
        (CertificateError::Database.into(), 17, "ProtocolError"),
        (
            CertificateError::NotShown.into(),
            18,
            "AuthenticationFailed",
        ),
        (
            CertificateError::Unwritable.into(),
            18,
            "AuthenticationFailed",
        ),
        (
            CertificateError::OtherUser.into(),
            18,
            "AuthenticationFailed",
        ),
        (
            CertificateError::NoUser("CN=x".into()).into(),
            11,
            "UserNotFound",
        ),
        (
            CertificateError::Mechanism("X".into()).into(),
            2,
            "BadValue",
        ),
        (
            HelloError::MetadataAgain.into(),
            186,
            "ClientMetadataCannotBeMutated",
        ),
        (
            HelloError::ApplicationName.into(),
            184,
            "ClientMetadataAppNameTooLarge",
        ),
        (awaiting(AwaitingFlaw::Half, true), 51760, "Location51760"),
        (awaiting(AwaitingFlaw::Half, false), 31368, "Location31368"),
        (
            awaiting(AwaitingFlaw::CounterAhead, true),
            51761,
            "Location51761",
        ),
        (
            awaiting(AwaitingFlaw::CounterAhead, false),
            31382,
            "Location31382",
        ),
        (
            awaiting(AwaitingFlaw::ExhaustWithoutWait, true),
            51763,
            "Location51763",
        ),
        (wrong_kind.into(), 14, "TypeMismatch"),
        (ApiError::Version.into(), 322, "APIVersionError"),
        (ApiError::Strict("buildInfo").into(), 323, "APIStrictError"),
        (ApiError::NoVersion.into(), 4_886_600, "Location4886600"),
        (
            LegacyError::Command.into(),
            352,
            "UnsupportedOpQueryCommand",
        ),
        (LegacyError::Query.into(), 5_739_101, "Location5739101"),
        (Refusal::cursor_not_found("no").into(), 43, "CursorNotFound"),
        (
            Limit::ConnectionsOfApp.into(),
            462,
            "IngressRequestRateLimitExceeded",
        ),
        (Limit::CursorsOfApp.into(), 146, "ExceededMemoryLimit"),
        (
            Limit::CommandsOfApp {
                labels: labels::OVERLOADED,
            }
            .into(),
            462,
            "IngressRequestRateLimitExceeded",
        ),
        (
            Limit::FailedLogins.into(),
            462,
            "IngressRequestRateLimitExceeded",
        ),
        (Limit::SessionsOfApp.into(), 261, "TooManyLogicalSessions"),
        (
            Limit::UnreadOfApp { labels: &[] }.into(),
            146,
            "ExceededMemoryLimit",
        ),
        (
            Error::Upstream {
                error: UpstreamError::NoServer {
                    wanted: "primary",
                    waited: std::time::Duration::ZERO,
                },
                labels: labels::RETRYABLE_UNWRITTEN,
            },
            133,
            "FailedToSatisfyReadPreference",
        ),
        (
            Error::ShuttingDown {
                version,
                labels: labels::NONE,
            },
            91,
            "ShutdownInProgress",
        ),
        (
            Error::Control {
                error: None,
                labels: labels::RETRYABLE_UNWRITTEN,
            },
            6,
            "HostUnreachable",
        ),
        (Error::Revoked, 13, "Unauthorized"),
        (Error::incident("a foreign document"), 8, "UnknownError"),
    ]
}

#[test]
fn every_error_has_a_reply_as_mongod_would_write_it() {
    for (error, code, name) in errors() {
        let mut out = Vec::new();
        for_error(&error, &mut out);
        let reply = read(&out);
        assert_eq!(reply.keys().next().map(String::as_str), Some("ok"));
        assert_eq!(reply.get("ok"), Some(&Bson::Double(0.0)), "{error}");
        assert_eq!(reply.get_i32("code").ok(), Some(code), "{error}");
        assert_eq!(reply.get_str("codeName").ok(), Some(name), "{error}");
        assert!(!reply.get_str("errmsg").unwrap().is_empty(), "{error}");
        assert_eq!(code_name(code), name, "{error}");
        let labels: Vec<Bson> = error.labels().iter().map(|&l| l.into()).collect();
        assert_eq!(
            reply.get_array("errorLabels").ok(),
            (!labels.is_empty()).then_some(&labels),
            "{error}"
        );
    }
}

#[test]
fn only_a_shutdown_tells_a_topology_version() {
    for (error, code, _) in errors() {
        let mut out = Vec::new();
        for_error(&error, &mut out);
        let version = read(&out).get_document("topologyVersion").ok().cloned();
        let expected = doc! {
            "processId": bson::oid::ObjectId::from_bytes([1; 12]),
            "counter": 4_i64,
        };
        assert_eq!(version, (code == 91).then_some(expected), "{error}");
    }
}

#[test]
fn clients_do_not_read_what_is_for_operators() {
    let incident = Error::incident("a foreign document");
    assert!(!incident.client_text().contains("foreign"));
    assert!(incident.to_string().contains("foreign"));
    let malformed = AuthError::Malformed(mdb_auth::Flaw::Nonce);
    assert_eq!(
        Error::from(malformed).client_text(),
        "Authentication failed."
    );
}

#[test]
fn a_reply_stands_behind_what_was_there() {
    let mut out = vec![9, 9];
    ok(&mut out, |writer| writer.int32(b"n", 1));
    assert_eq!(out[..2], [9, 9]);
    assert_eq!(read(&out[2..]), doc! {"n": 1, "ok": 1.0});
    let failure = read(&for_query_failure(&LegacyError::Query.into()));
    assert_eq!(failure.get_i32("code").ok(), Some(5_739_101));
    assert!(failure.get_str("$err").is_ok());
}
