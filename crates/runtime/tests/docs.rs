//! The documentation says what the program does: generated pages are fresh, links lead somewhere, examples load.
//!
//! `UPDATE_DOCS=1 cargo test -p mdb-runtime --test docs` writes the generated pages anew.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mdb_auth::AuthError;
use mdb_manifest::{load_apps, load_config};
use mdb_proxy::labels::{self, Labels};
use mdb_proxy::{
    ApiError, AwaitingFlaw, Error, HelloError, LegacyError, Limit, SaslError, TopologyVersion,
    code_name,
};
use mdb_scope::{
    Action, Argument, COMMANDS, CommandSpec, Denial, Duty, GENERIC, REFUSAL_CODES, REFUSED, Rule,
    STAGES, STATE_CHANGE_CODES, StageDuty, Take,
};
use mdb_telemetry::{
    AuthenticationOutcome, CheckoutFailure, CloseReason, CommandOutcome, ConnectionState,
    ExchangeErrorKind, Kind, Label, Mechanism, MetricSpec, UpstreamCloseReason, catalogue,
};
use mdb_upstream::{ExchangeError, Sent, UpstreamError};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a generated page with the one in the repository, or writes it.
fn check_page(file: &str, page: &str) {
    let path = root().join("docs").join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/{file} is not fresh; run: UPDATE_DOCS=1 cargo test -p mdb-runtime --test docs"
    );
}

fn begin(title: &str) -> String {
    format!(
        "# {title}\n\n<!-- Generated from the program's tables by crates/runtime/tests/docs.rs; do not edit. -->\n\n"
    )
}

/// Names as code, separated by commas.
fn coded<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

// Commands.

#[test]
fn the_page_of_commands_is_fresh() {
    let mut page = begin("Commands");
    page.push_str(
        "A command, or an argument of a command, that has no row here is refused. Command names are case-sensitive, as on the \
         server.\n\n## Commands that are served\n\n\
         *Who*: `proxy` answers from what it knows; `catalog` is composed by the proxy, which asks the upstream in its own name; \
         `upstream` is rewritten and forwarded. *Needs* names the action that the roles of the credential must grant. A command \
         marked *open* is also answered before log-in.\n\n\
         | command | who | needs | open | what happens |\n|---|---|---|---|---|\n",
    );
    for row in COMMANDS {
        let mut names = vec![row.name];
        names.extend(row.aliases);
        let open = if row.before_authentication { "yes" } else { "" };
        let (who, needs, what) = (who(row), needs(row), row.summary);
        writeln!(
            page,
            "| {} | {who} | {needs} | {open} | {what} |",
            coded(names)
        )
        .unwrap();
    }
    page.push_str(ROLES);
    page.push_str(
        "\n## Arguments\n\n### Of every command that is not answered by the proxy alone\n\n",
    );
    arguments(&mut page, GENERIC);
    for row in COMMANDS.iter().filter(|row| !row.arguments.is_empty()) {
        writeln!(page, "\n### {}\n", row.name).unwrap();
        arguments(&mut page, row.arguments);
    }
    page.push_str("\n## Commands that are refused\n");
    for group in REFUSED {
        let code = denial_code(group.denial);
        let name = code_name(code);
        let advice = group.advice;
        writeln!(page, "\n### {}\n\n{code} {name}: {advice}.\n", group.title).unwrap();
        if !group.names.is_empty() {
            writeln!(page, "{}", coded(group.names.iter().copied())).unwrap();
        }
        if !group.prefixes.is_empty() {
            let prefixes = coded(group.prefixes.iter().copied());
            writeln!(page, "\nEvery name that begins with {prefixes}.").unwrap();
        }
    }
    page.push_str(
        "\n### Everything else\n\n59 CommandNotFound, as from a server that does not have it.\n",
    );
    check_page("commands.md", &page);
}

const ROLES: &str = "\n## Roles\n\n\
    | action | `read` | `readWrite` | `dbAdmin` |\n|---|---|---|---|\n\
    | find | yes | yes | |\n\
    | insert, update, remove | | yes | |\n\
    | listCollections, listIndexes | yes | yes | yes |\n\
    | createCollection, dropCollection, createIndex, dropIndex | | yes | yes |\n\n\
    Roles hold for every database of the app. What they do not allow is refused with 13, naming the action and the namespace.\n";

fn who(row: &CommandSpec) -> &'static str {
    match row.duty {
        Duty::Local(_) => "proxy",
        Duty::Catalog(_) => "catalog",
        Duty::Forward(_) => "upstream",
        Duty::Refuse(_) => "nobody",
    }
}

fn needs(row: &CommandSpec) -> &'static str {
    match (row.duty, row.action) {
        (Duty::Forward(Rule::Explain), _) => "that of the inner command",
        (_, Action::None) => "",
        (_, action) => action.name(),
    }
}

fn denial_code(denial: Denial) -> i32 {
    match denial {
        Denial::Policy => 13,
        Denial::Unknown => 59,
        Denial::Shared => 20,
        Denial::Search => 31082,
        Denial::NoReplication => 76,
    }
}

fn arguments(page: &mut String, table: &[Argument]) {
    page.push_str("| argument | what is done with it |\n|---|---|\n");
    for argument in table {
        writeln!(page, "| `{}` | {} |", argument.name, take(argument.take)).unwrap();
    }
}

fn take(take: Take) -> String {
    let text = match take {
        Take::Pass => "passed on",
        Take::Drop => "accepted, not forwarded",
        Take::Filter => "joined to the app's condition, which is there also without it",
        Take::Projection => "passed on without the scope field",
        Take::Sort => "passed on without the scope field",
        Take::Hint => "an index of the app, by name or key",
        Take::Bound => "kept inside the app's part of the index",
        Take::Collation => {
            "passed on; the app's condition is written so that no collation loosens it"
        }
        Take::Let => "expressions, checked",
        Take::Pipeline => "stages by their own table; the app's condition comes first",
        Take::Documents => "each document is stamped with the app",
        Take::Updates => "each statement's filter is joined to the app's condition",
        Take::Deletes => "each statement's filter is joined to the app's condition",
        Take::Update => "operators, replacement or pipeline; the scope field cannot be changed",
        Take::ArrayFilters => "checked, passed on",
        Take::Key => "a path; the scope field has no values",
        Take::Session => "the session id is mapped into the app's own space",
        Take::ReadConcern => "`level`, `afterClusterTime`, `atClusterTime`",
        Take::WriteConcern => "`w`, `j`, `wtimeout`, `fsync`",
        Take::ReadPreference => "read by the proxy to choose a member",
        Take::QueryOptions => "as `$readPreference`, the way old drivers put it",
        Take::Own => "read by the proxy",
        Take::Refuse(why) => return format!("refused with 72: {why}"),
    };
    text.to_owned()
}

// Stages.

#[test]
fn the_page_of_stages_is_fresh() {
    let mut page = begin("Aggregation stages");
    page.push_str(
        "A stage without a row is refused: 40324, or 13 for a name that begins with `$_`. A refused stage gives 13. Pipelines of \
         an update may hold the stages marked *update*; another stage there gives 72.\n\n\
         ## Stages that are served\n\n| stage | update | what is done with it |\n|---|---|---|\n",
    );
    for row in STAGES {
        if let Some(what) = served(row.duty) {
            let update = if row.in_update { "yes" } else { "" };
            writeln!(page, "| `{}` | {update} | {what} |", row.name).unwrap();
        }
    }
    page.push_str(
        "\n## Stages that are refused\n\n| stage | why, and what to do instead |\n|---|---|\n",
    );
    for row in STAGES {
        if let StageDuty::Refuse(why) = row.duty {
            writeln!(page, "| `{}` | {why} |", row.name).unwrap();
        }
    }
    check_page("stages.md", &page);
}

fn served(duty: StageDuty) -> Option<&'static str> {
    Some(match duty {
        StageDuty::Pass => "Passed on.",
        StageDuty::Match => "A filter: its operators are checked.",
        StageDuty::Sort => "Passed on without the scope field.",
        StageDuty::Expressions => "Its expressions are checked.",
        StageDuty::Facet => "Each pipeline in it by this table.",
        StageDuty::Lookup => {
            "The joined collection is bound to the app. Its pipeline by this table."
        }
        StageDuty::GraphLookup => "Every step of the search is bound to the app.",
        StageDuty::UnionWith => {
            "The added collection is bound to the app. Its pipeline by this table."
        }
        StageDuty::Documents => "Only as the first stage of a pipeline without a collection.",
        StageDuty::Refuse(_) => return None,
    })
}

// Errors.

#[test]
fn the_page_of_errors_is_fresh() {
    let mut page = begin("Error codes");
    page.push_str(ERRORS);
    page.push_str("## Refusals\n\nNothing was sent upstream. The connection stays.\n\n| code | name | meaning |\n|---|---|---|\n");
    let mut rows: Vec<(i32, &str)> = REFUSAL_CODES.to_vec();
    rows.extend(SINGLE_CODES);
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
        &[Limit::ConnectionsOfApp.into(), Limit::CursorsOfApp.into()],
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
        let is_known = REFUSAL_CODES
            .iter()
            .chain(SINGLE_CODES)
            .any(|(known, _)| known == code);
        assert!(is_known, "{code} is no refusal");
    }
}

const ERRORS: &str = "An error of the proxy looks like one of the server: `{ok: 0, errmsg, code, codeName, errorLabels?}`. The text \
    says what, why, and what to do instead. Errors of the upstream server pass with their code; their texts are put into \
    the app's own terms, and a text that would still name the scope field is withheld.\n\n";

/// Refusals that are made in one place only, with their names.
const SINGLE_CODES: &[(i32, &str)] = &[
    (160, "MaxStalenessOutOfRange"),
    (197, "InvalidIndexSpecificationOption"),
    (51173, "Location51173"),
];

const MEANINGS: &[(i32, &str)] = &[
    (
        2,
        "A value or an operator that is not taken, or a read that names the scope field.",
    ),
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
    (20, "Not available on shared collections."),
    (26, "The app has no such collection."),
    (27, "The app has no such index."),
    (43, "The app has no such cursor."),
    (48, "The app has the collection already."),
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
    (168, "An expression that is not known or not available."),
    (197, "An option of an index that is not known."),
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
    (40323, "A stage that is not an object with one field."),
    (40324, "A stage that is not known."),
    (40413, "A field stands twice where that matters."),
    (40414, "A required field is missing."),
    (40415, "A field that is not known or not available."),
    (40602, "A stage in the wrong place."),
    (51173, "`min` or `max` without `hint`."),
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
    | `commitTransaction`, `abortTransaction` | `RetryableWriteError` |\n";

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
        HelloError::MetadataAgain.into(),
        HelloError::ApplicationName.into(),
        awaiting(AwaitingFlaw::Half).into(),
        awaiting(AwaitingFlaw::Version).into(),
        awaiting(AwaitingFlaw::NegativeCounter).into(),
        awaiting(AwaitingFlaw::Wait).into(),
        awaiting(AwaitingFlaw::CounterAhead).into(),
        awaiting(AwaitingFlaw::ExhaustWithoutWait).into(),
        ApiError::Version.into(),
        ApiError::NoVersion.into(),
        ApiError::Strict("buildInfo").into(),
        LegacyError::Command.into(),
        LegacyError::Query.into(),
    ]
}

fn upstream_errors() -> Vec<Error> {
    let labels: Labels = labels::NONE;
    let waited = Duration::ZERO;
    let upstream = |error| Error::Upstream { error, labels };
    let exhausted = UpstreamError::PoolExhausted {
        server: "host:27017".into(),
        in_use: 0,
        connecting: 0,
        waiting: 0,
        waited,
    };
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
        Error::Incident { id: 0, what: "" },
    ]
}

// Metrics.

#[test]
fn the_page_of_metrics_is_fresh() {
    let mut page = begin("Metrics");
    page.push_str(
        "`GET /metrics` on the admin address gives them in the Prometheus text format. Values of labels come from the manifests, the \
         configuration and closed sets; no client can make new series. What to alarm on: \
         [operations.md](operations.md#metrics-to-alarm-on).\n",
    );
    for metric in catalogue() {
        writeln!(page, "\n## {}\n\n{}\n", metric.name, metric.help).unwrap();
        match metric.kind {
            Kind::Counter => page.push_str("A counter.\n"),
            Kind::Gauge => page.push_str("A gauge.\n"),
            Kind::Histogram(bounds) => {
                let bounds: Vec<String> = bounds.iter().map(ToString::to_string).collect();
                writeln!(page, "A histogram with the bounds {}.", bounds.join(", ")).unwrap();
            }
        }
        if !metric.labels.is_empty() {
            page.push_str("\n| label | values |\n|---|---|\n");
        }
        for label in metric.labels {
            writeln!(page, "| `{label}` | {} |", values(metric, label)).unwrap();
        }
    }
    check_page("metrics.md", &page);
}

/// What a label can be. A metric or label that is not here fails the test.
fn values(metric: &MetricSpec, label: &str) -> String {
    let name = metric.name.trim_start_matches("mdb_runtime_");
    match (name, label) {
        (_, "app") => "a slug".to_owned(),
        (_, "listener") => "an address of a listener".to_owned(),
        (_, "command") => "a name of [commands.md](commands.md), or `other`".to_owned(),
        (_, "code") => "a name of [errors.md](errors.md)".to_owned(),
        ("commands_total", "outcome") => all::<CommandOutcome>(),
        ("client_connections_closed_total", "reason") => all::<CloseReason>(),
        ("authentications_total", "outcome") => all::<AuthenticationOutcome>(),
        ("authentications_total", "mechanism") => all::<Mechanism>(),
        ("upstream_connections", "state") => all::<ConnectionState>(),
        ("upstream_connections_closed_total", "reason") => all::<UpstreamCloseReason>(),
        ("upstream_checkout_failures_total", "reason") => all::<CheckoutFailure>(),
        ("upstream_exchange_errors_total", "kind") => all::<ExchangeErrorKind>(),
        other => panic!("{other:?} is not described"),
    }
}

fn all<L: Label>() -> String {
    coded(L::ALL.iter().map(|value| value.text()))
}

// Links and examples.

/// Every page that people read, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = root();
    let mut paths = vec![
        root.join("README.md"),
        root.join("CHANGELOG.md"),
        root.join("crates/README.md"),
    ];
    for directory in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root.join(directory)).unwrap();
        let entries = entries.map(|entry| entry.unwrap().path());
        paths.extend(entries.filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// What stands in `](…)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

/// The anchor that a heading gets: lower case, blanks as hyphens, of the rest only letters, digits, `-` and `_`.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let kept = heading.trim_start_matches('#').trim().chars().filter(kept);
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for (path, text) in pages() {
        for link in links(&prose(&text)).filter(|link| !link.contains("://")) {
            seen += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let has_anchor = || {
                let text = fs::read_to_string(&target).unwrap_or_default();
                let headings = prose(&text);
                headings
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == fragment)
            };
            if !target.exists() || !(fragment.is_empty() || has_anchor()) {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(seen > 20, "only {seen} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The blocks of code that begin with "```FORMAT KIND", with their format and text.
fn blocks(kind: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in ["README.md", "docs/configuration.md"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for block in text.split("\n```").skip(1) {
            let (first, body) = block.split_once('\n').unwrap_or((block, ""));
            if let Some((format, found_kind)) = first.split_once(' ')
                && found_kind == kind
            {
                found.push((format.to_owned(), body.to_owned()));
            }
        }
    }
    found
}

/// Makes the files that `{ file: PATH }` names.
fn make_secrets(directory: &Path, text: &str) {
    for rest in text.split("file: ").skip(1) {
        let path = rest.split([' ', '}', '\n']).next().unwrap_or_default();
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mongodb://localhost\n").unwrap();
    }
}

/// Every environment variable has a value that serves as a password and as a connection string.
#[allow(
    clippy::unnecessary_wraps,
    reason = "the signature is that of a look-up"
)]
fn environment(_name: &str) -> Option<String> {
    Some("mongodb://localhost".to_owned())
}

#[test]
fn examples_of_configuration_load() {
    let blocks = blocks("config");
    assert!(!blocks.is_empty());
    for (format, text) in blocks {
        let directory = tempfile::tempdir().unwrap();
        make_secrets(directory.path(), &text);
        let path = directory.path().join(format!("config.{format}"));
        fs::write(&path, &text).unwrap();
        let loaded = load_config(&path, &environment);
        assert!(loaded.is_ok(), "{}\n{text}", loaded.unwrap_err());
    }
}

#[test]
fn examples_of_manifests_load() {
    let blocks = blocks("manifest");
    assert!(!blocks.is_empty());
    for (format, text) in blocks {
        let directory = tempfile::tempdir().unwrap();
        make_secrets(directory.path(), &text);
        fs::write(directory.path().join(format!("app.{format}")), &text).unwrap();
        let loaded = load_apps(directory.path(), &environment);
        assert!(loaded.is_ok(), "{}\n{text}", loaded.unwrap_err());
    }
}
