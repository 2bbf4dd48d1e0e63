//! `docs/errors.md`: every code that the proxy answers with.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use mdb_auth::AuthError;
use mdb_proxy::labels::{self, Labels};
use mdb_proxy::{
    ApiError, AwaitingFlaw, CertificateError, Error, HelloError, LegacyError, Limit, SaslError,
    TopologyVersion, code_name,
};
use mdb_scope::{AppId, REFUSAL_CODES, STATE_CHANGE_CODES};
use mdb_telemetry::LeasePurpose;
use mdb_upstream::{ExchangeError, Exhaustion, Held, Sent, UpstreamError};

use crate::{begin, check_page};

#[test]
fn the_page_of_errors_is_fresh() {
    let mut page = begin("Error codes");
    page.push_str(ERRORS);
    page.push_str("## Refusals\n\nNothing was sent upstream. The connection stays.\n\n| code | name | meaning |\n|---|---|---|\n");
    let mut rows: Vec<(i32, &str)> = REFUSAL_CODES.to_vec();
    rows.sort_unstable();
    for (code, name) in rows {
        let meaning = MEANINGS.iter().find(|(known, _)| *known == code);
        let (_, meaning) = meaning.unwrap_or_else(|| panic!("{code} has no meaning in MEANINGS"));
        writeln!(page, "| {code} | {name} | {meaning} |").unwrap();
    }
    page.push_str(
        "\n## Messages that cannot be read\n\n| code | name | meaning |\n|---|---|---|\n",
    );
    for (code, meaning) in MALFORMED {
        writeln!(page, "| {code} | {} | {meaning} |", code_name(*code)).unwrap();
    }
    section(&mut page, "Log-in and hand-shake", &handshake_errors());
    section(
        &mut page,
        "Limits",
        &[
            Limit::ConnectionsOfApp.into(),
            Limit::CommandsOfApp { labels: &[] }.into(),
            Limit::FailedLogins.into(),
            Limit::CursorsOfApp.into(),
            Limit::SessionsOfApp.into(),
            Limit::UnreadOfApp { labels: &[] }.into(),
        ],
    );
    section(
        &mut page,
        "The upstream and the proxy itself",
        &upstream_errors(),
    );
    let codes: Vec<String> = STATE_CHANGE_CODES.iter().map(ToString::to_string).collect();
    writeln!(page, "\n## Codes that never reach a client\n\n{}: they speak of a member of the deployment, and a driver would \
         take them as speaking of the proxy. In their place stands 6 HostUnreachable, with the labels that the server gave.",
        codes.join(", ")).unwrap();
    page.push_str(LABELS);
    check_page("errors.md", &page);
}

#[test]
fn every_meaning_has_its_code() {
    for (code, _) in MEANINGS {
        let is_known = REFUSAL_CODES.iter().any(|(known, _)| known == code);
        assert!(is_known, "{code} is no refusal");
    }
}

const ERRORS: &str = "An error of the proxy looks like one of the server: `{ok: 0, errmsg, code, codeName, errorLabels?}`. The text \
    says what, why, and what to do instead. Errors of the upstream server pass with their code; their texts are put into \
    the app's own terms, and a text that would still name the scope field is withheld.\n\n";

const MEANINGS: &[(i32, &str)] = &[
    (
        24,
        "A transaction that would wait for somebody who waits for it, before MongoDB 5.0; it can be tried again.",
    ),
    (
        2,
        "A value or an operator that is not taken, or a read that names the scope field.",
    ),
    (4, "A field that must be there is not."),
    (
        181,
        "A key pattern that several indexes of the app have: name one.",
    ),
    (50808, "A `$changeStream` that is no object, before 6.0."),
    (13111, "A name in `$out` that is no text."),
    (
        17385,
        "`$out` into a collection whose name belongs to servers.",
    ),
    (
        31319,
        "`$merge` into a collection whose name belongs to servers.",
    ),
    (
        5_786_801,
        "`$merge` into an object without the name of a collection.",
    ),
    (5_860_400, "A `$geoNear` without `near`."),
    (16605, "A `$geoNear` without `near`, before 6.0."),
    (16606, "A `$geoNear` without `distanceField`."),
    (
        9,
        "Something that cannot be parsed, or an update operator that is not known.",
    ),
    (
        13,
        "Not logged in, not allowed by the roles, not available to apps, or a document of another owner.",
    ),
    (14, "A field of the wrong kind."),
    (15, "Nested too deep."),
    (16, "Too many statements, or none."),
    (
        20,
        "A stage that change streams do not have, as the server says it.",
    ),
    (26, "The app has no such collection."),
    (27, "The app has no such index."),
    (43, "The app has no such cursor."),
    (48, "The app has the collection already."),
    (
        50,
        "The upstream worked longer on a figure than the command may wait.",
    ),
    (59, "No such command."),
    (66, "A change of the scope field."),
    (67, "The index cannot be had on a shared collection."),
    (72, "An option that is not available."),
    (
        73,
        "A name of a database or collection that an app cannot have.",
    ),
    (76, "The state of replication is not shown to apps."),
    (85, "An index with these options has another name."),
    (86, "An index with this name has other options."),
    (115, "Not for this kind of command."),
    (160, "`maxStalenessSeconds` below 90."),
    (166, "A view was named where only a collection has figures."),
    (168, "An expression that is not known or not available."),
    (197, "An option of an index that is not known."),
    (
        260,
        "`resumeAfter` with the token of an `invalidate`, as the server says it.",
    ),
    (
        224,
        "A condition on whole documents where there is none: in `$pull`, array filters, partial indexes.",
    ),
    (263, "Not inside a transaction."),
    (
        10334,
        "The command would be larger than the upstream takes.",
    ),
    (31082, "No search here."),
    (
        31325,
        "An expression in a projection that is not known or not available.",
    ),
    (15998, "A path with an empty name."),
    (5_255_100, "A `dropDatabase` of something else than 1."),
    (
        31160,
        "A `query` of `findAndModify` that is no object (4.4).",
    ),
    (
        31174,
        "A `sort` of `findAndModify` that is no object (4.4).",
    ),
    (
        31175,
        "`fields` of `findAndModify` that are no object (4.4).",
    ),
    (40353, "A path that ends with a dot."),
    (51177, "A field that `findAndModify` does not have (4.4)."),
    (40323, "A stage that is not an object with one field."),
    (40324, "A stage that is not known."),
    (40413, "A field stands twice where that matters."),
    (40414, "A required field is missing."),
    (40415, "A field that is not known or not available."),
    (40602, "A stage in the wrong place."),
    (
        13297,
        "A database exists whose name differs from this one in case only.",
    ),
    (15959, "A `$match` that is no object."),
    (51024, "A number is smaller than allowed."),
    (
        50737,
        "A cursor that a session has opened, without the session.",
    ),
    (
        50738,
        "A cursor that another session of the app has opened.",
    ),
    (15973, "A `$sort` that is no object."),
    (15974, "A sort that is neither a direction nor a `$meta`."),
    (15952, "An accumulator that no server knows."),
    (
        16410,
        "A name that begins with `$` in a sort, where paths stand.",
    ),
    (17276, "A variable that no server knows."),
    (207, "An id of a session that is no UUID."),
    (
        10065,
        "A `$clusterTime`, or a `$geoNear`, that is no object.",
    ),
    (
        50889,
        "A number of a transaction on a command that has none.",
    ),
    (31138, "A `$meta` in a sort that no server knows."),
    (
        17399,
        "The collection exists, and a view was to be made; before 6.0.",
    ),
    (17308, "An argument of `$meta` that no server knows."),
    (17312, "An expression in a sort that is no `$meta`."),
    (40104, "An option that `$graphLookup` does not have."),
    (
        117,
        "A shared collection that changes too fast for `validate`.",
    ),
    (
        175,
        "A cursor whose plan ended with an index or a collection.",
    ),
    (17307, "A `$meta` of something else than a name."),
    (34413, "A condition beside `$near` that it does not take."),
    (28803, "A `$indexStats` with members."),
    (40166, "A `$collStats` that is no object (before 5.0)."),
    (40168, "What `$collStats` does not have (before 5.0)."),
    (
        40279,
        "A `storageStats` of `$collStats` that is no object (before 5.0).",
    ),
    (
        40280,
        "A scale of `storageStats` that is none (before 5.0).",
    ),
    (
        40480,
        "A `count` of `$collStats` that is no object (before 5.0).",
    ),
    (5_447_000, "A `$collStats` that is no object."),
    (50001, "A collection without an index on `_id`."),
    (40169, "A `$facet` that is no object."),
    (40170, "A branch of `$facet` that is no array."),
    (40171, "A stage of a branch of `$facet` that is no object."),
    (40236, "A field of `$group` that is named like an operator."),
    (6_188_500, "A `$changeStream` that is no object."),
    (28748, "An option that `$sample` does not have."),
    (28811, "An option that `$unwind` does not have."),
    (40197, "An option that `$bucket` does not have."),
    (40245, "An option that `$bucketAuto` does not have."),
    (51173, "`min` or `max` without `hint`."),
    (167, "A view whose pipeline writes."),
    (
        16990,
        "`$out` into something that is neither a name nor an object.",
    ),
    (16994, "`$out` into an object other than `{db, coll}`."),
    (
        31441,
        "A stage that writes in the pipeline of a `$unionWith`.",
    ),
    (31465, "A field twice among those that `$merge` matches by."),
    (40600, "A stage in a `$facet` that cannot stand there."),
    (40601, "A stage that writes, with another one behind it."),
    (40603, "A `$geoNear` that is not first."),
    (51047, "A stage that writes in the pipeline of a `$lookup`."),
    (
        51178,
        "`$merge` into something that is neither a name nor an object.",
    ),
    (51186, "Fields of `$merge` to match by that are no names."),
    (51187, "No field of `$merge` to match by."),
    (51273, "`new` among the variables of a `$merge`."),
];

/// What the decoder and the reading of commands answer.
const MALFORMED: &[(i32, &str)] = &[
    (15, "A document nested too deep. The connection is closed."),
    (17, "The bytes are no message. The connection is closed."),
    (
        22,
        "A document that is not well formed. The connection is closed.",
    ),
    (59, "An empty command."),
    (73, "`$db` is no name of a database."),
    (40413, "A field of the command stands twice."),
    (40431, "A document sequence stands twice."),
    (
        40433,
        "A field stands in the body and as a document sequence.",
    ),
    (40571, "`$db` is missing."),
];

const LABELS: &str = "\n## Labels\n\n\
    Drivers add no labels to errors of a current server, so the proxy adds them to its own.\n\n\
    | the command | labels when it was lost on its way |\n|---|---|\n\
    | a read outside of a transaction, a `getMore` | none: drivers retry reads by the code |\n\
    | a write with `txnNumber` | `RetryableWriteError`; with `NoWritesPerformed` if nothing was sent |\n\
    | a write without `txnNumber` | none |\n\
    | a statement in a transaction | `TransientTransactionError` |\n\
    | `commitTransaction`, `abortTransaction` | `RetryableWriteError` |\n\n\
    50, where a command's own `maxTimeMS` has passed, has none, as from a server.\n";

fn section(page: &mut String, title: &str, errors: &[Error]) {
    writeln!(
        page,
        "\n## {title}\n\n| code | name | text |\n|---|---|---|"
    )
    .unwrap();
    for error in errors {
        let (code, name, text) = (error.code(), error.code_name(), error.client_text());
        writeln!(page, "| {code} | {name} | {text} |").unwrap();
    }
}

fn handshake_errors() -> Vec<Error> {
    let awaiting = |flaw| HelloError::Awaiting {
        flaw,
        as_mongos: true,
    };
    let missing = SaslError::Missing {
        command: "saslStart",
        field: "payload",
    };
    vec![
        AuthError::BadCredentials.into(),
        AuthError::MechanismUnavailable("NAME".to_owned()).into(),
        AuthError::NoConversation.into(),
        AuthError::OwnNonce.into(),
        SaslError::ConversationId.into(),
        missing.into(),
        SaslError::PayloadKind.into(),
        SaslError::PayloadText.into(),
        SaslError::OtherIdentity.into(),
        CertificateError::NotShown.into(),
        CertificateError::Unwritable.into(),
        CertificateError::OtherUser.into(),
        CertificateError::NoUser("SUBJECT".to_owned()).into(),
        CertificateError::Database.into(),
        CertificateError::Mechanism("NAME".to_owned()).into(),
        Error::Revoked,
        HelloError::MetadataAgain.into(),
        HelloError::MetadataMissing("driver", "name").into(),
        HelloError::ApplicationName.into(),
        awaiting(AwaitingFlaw::Half).into(),
        awaiting(AwaitingFlaw::NegativeCounter).into(),
        awaiting(AwaitingFlaw::Wait).into(),
        awaiting(AwaitingFlaw::CounterAhead).into(),
        awaiting(AwaitingFlaw::ExhaustWithoutWait).into(),
        ApiError::Kind {
            field: "apiVersion",
            found: "int",
            expected: "string",
        }
        .into(),
        ApiError::Version.into(),
        ApiError::NoVersion.into(),
        ApiError::Strict("buildInfo").into(),
        ApiError::StrictField("create", "size").into(),
        ApiError::StrictTextIndex.into(),
        ApiError::StrictStage("$indexStats".to_owned()).into(),
        LegacyError::Command.into(),
        LegacyError::NumberToReturn(0).into(),
        LegacyError::Exhaust.into(),
        LegacyError::Query.into(),
    ]
}

fn upstream_errors() -> Vec<Error> {
    let labels: Labels = labels::NONE;
    let waited = Duration::ZERO;
    let upstream = |error| Error::Upstream { error, labels };
    let exhausted = Exhaustion {
        server: "host:27017".into(),
        held: Held::default(),
        connecting: 0,
        waiting: 0,
        app: AppId::parse("shop").unwrap(),
        held_by_app: Held::default().with(LeasePurpose::Command, 75),
        per_app_max: 75,
        waited: Duration::from_secs(5),
    };
    let exhausted = UpstreamError::PoolExhausted(Box::new(exhausted));
    let unreachable = UpstreamError::Connect {
        server: "host:27017".into(),
        source: io::ErrorKind::ConnectionRefused.into(),
    };
    let broken = ExchangeError {
        kind: mdb_upstream::ExchangeErrorKind::Spent,
        sent: Sent::MaybeSome,
    };
    let version = TopologyVersion {
        process_id: [0; 12],
        counter: 0,
    };
    vec![
        upstream(UpstreamError::NoServer {
            wanted: "primary",
            waited,
        }),
        upstream(UpstreamError::Deadline { waited }),
        upstream(UpstreamError::TooManyWaiting { waiting: 0 }),
        upstream(exhausted),
        upstream(unreachable),
        Error::Exchange {
            error: broken,
            labels,
        },
        Error::Control {
            error: None,
            labels,
        },
        Error::ShuttingDown { version, labels },
        Error::Incident {
            id: 0,
            what: "".into(),
        },
    ]
}
