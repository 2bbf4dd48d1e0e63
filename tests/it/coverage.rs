//! The tables of commands, stages, operators and arguments against a real mongod: it knows no name without a row, and what
//! a row says of its version is true.

mod arguments;
mod operators;

use bson::{Bson, Document, doc};
use mdb_auth::Mechanism;
use mdb_scope::{
    COMMANDS, DATED, EXPRESSIONS, Edition, FILTER_FIELD, FILTER_TOP, Operator, REFUSED,
    RefusedGroup, Release, STAGES, Versions, servers_of,
};
use mdb_testbed::{Deployment, ROOT_PASSWORD, ROOT_USER};
use mdb_tests::{RawClient, keys};

/// Names in the statistics of commands that nobody can send.
const STATISTICS_ONLY: &[&str] = &["<UNKNOWN>", "replSetStepDownWithForce"];

/// A standalone with access control and with test commands: it has all that the version has.
struct Server {
    deployment: Deployment,
    release: Release,
}

impl Server {
    async fn start() -> Self {
        let with_test_commands = ["--setParameter", "enableTestCommands=1"];
        let builder = Deployment::standalone().with_auth();
        let deployment = builder
            .mongod_args(&with_test_commands)
            .start()
            .await
            .unwrap();
        let mut parts = deployment.version().split('.').map(|p| p.parse().unwrap());
        let release = Release(parts.next().unwrap(), parts.next().unwrap());
        Self {
            deployment,
            release,
        }
    }

    /// Nobody: no command that does anything is run for it.
    async fn stranger(&self) -> RawClient {
        let host = &self.deployment.hosts()[0];
        RawClient::connect(host.parse().unwrap()).await
    }

    async fn root(&self) -> RawClient {
        let mut client = self.stranger().await;
        client
            .log_in(Mechanism::ScramSha256, ROOT_USER, ROOT_PASSWORD)
            .await;
        client
    }

    fn has(&self, versions: Versions) -> bool {
        versions.includes(self.release)
    }
}

/// Collects what is wrong, so that one run shows all of it.
#[derive(Default)]
struct Flaws(Vec<String>);

impl Flaws {
    /// A name that the server knows or not, and the servers that its row states.
    fn compare(&mut self, server: &Server, what: &str, name: &str, knows: bool, stated: Versions) {
        if knows != server.has(stated) {
            let answer = if knows { "knows" } else { "does not know" };
            let Release(major, minor) = server.release;
            self.0.push(format!(
                "{what} {name}: its row says {stated}, and {major}.{minor} {answer} it"
            ));
        }
    }

    fn missing(&mut self, what: &str, name: &str) {
        self.0.push(format!("{what} {name} has no row"));
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// Every name of a command that has a row.
fn command_names() -> Vec<&'static str> {
    let served = COMMANDS.iter().flat_map(|row| {
        let aliases = row.aliases.iter().copied();
        aliases.chain([row.name])
    });
    served
        .chain(REFUSED.iter().flat_map(RefusedGroup::rows))
        .collect()
}

#[tokio::test]
async fn every_name_of_the_server_has_a_row() {
    let server = Server::start().await;
    let mut root = server.root().await;
    let mut flaws = Flaws::default();
    let listed = root.ok(&doc! {"listCommands": 1, "$db": "admin"}).await;
    let status = root.ok(&doc! {"serverStatus": 1, "$db": "admin"}).await;
    let metrics = status.get_document("metrics").unwrap();
    let counted = |path: &str| keys(metrics.get_document(path).unwrap());
    let rows = command_names();
    let commands = keys(listed.get_document("commands").unwrap());
    let in_use = counted("commands");
    assert!(commands.len() > 200 && in_use.len() > 200);
    for name in commands.into_iter().chain(in_use) {
        if !rows.contains(&name) && !STATISTICS_ONLY.contains(&name) {
            flaws.missing("command", name);
        }
    }
    let stages = counted("aggStageCounters");
    assert!(stages.len() > 50);
    for name in stages {
        if !STAGES.iter().any(|row| row.name == name) {
            flaws.missing("stage", name);
        }
    }
    let operators = metrics.get_document("operatorCounters").unwrap();
    for (kind, names) in operators {
        for name in keys(names.as_document().unwrap()) {
            if !has_row(kind, name) {
                flaws.missing(kind, name);
            }
        }
    }
    assert!(operators.len() >= 3);
    flaws.none();
}

/// Whether an operator of one group of the server's counters has a row that says so.
fn has_row(kind: &str, name: &str) -> bool {
    let expression = |place: fn(&Operator) -> Option<Versions>| {
        EXPRESSIONS
            .iter()
            .any(|row| row.name == name && place(row).is_some())
    };
    match kind {
        "expressions" => expression(|row| row.versions),
        "groupAccumulators" => expression(|row| row.accumulator),
        "windowAccumulators" => expression(|row| row.window),
        "match" => [FILTER_TOP, FILTER_FIELD]
            .iter()
            .any(|table| table.iter().any(|row| row.name == name)),
        other => panic!("the server counts a kind of operators that is not known here: {other}"),
    }
}

/// The server looks a command up before it asks who sends it: 59 without access means that it has no such command.
#[tokio::test]
async fn commands_are_of_the_servers_that_their_rows_state() {
    let server = Server::start().await;
    let mut flaws = Flaws::default();
    let mut count = 0;
    for name in command_names() {
        let (versions, edition) = servers_of(name);
        if edition != Edition::Mongod {
            continue;
        }
        let mut stranger = server.stranger().await;
        let command = doc! {name: 1, "$db": "admin"};
        let code = code(&stranger.command(&command).await);
        flaws.compare(&server, "command", name, code != 59, versions);
        count += 1;
    }
    let dated = DATED.iter().filter(|d| d.edition == Edition::Mongod);
    assert!(count > dated.flat_map(|d| d.names).count());
    flaws.none();
}

#[tokio::test]
async fn stages_are_of_the_servers_that_their_rows_state() {
    let server = Server::start().await;
    let mut root = server.root().await;
    let mut flaws = Flaws::default();
    for row in STAGES.iter().filter(|row| row.edition == Edition::Mongod) {
        let stage = doc! {row.name: Bson::Int32(1)};
        let aggregate = doc! {"aggregate": "c", "pipeline": [stage], "cursor": {}, "$db": "d"};
        let knows = code(&root.command(&aggregate).await) != 40324;
        flaws.compare(&server, "stage", row.name, knows, row.versions);
    }
    flaws.none();
}

/// The code of a reply or of its first write error; 0 if there is none.
fn code(reply: &Document) -> i32 {
    let own = reply.get_i32("code");
    let of_write = || {
        let errors = reply.get_array("writeErrors").ok()?;
        errors.first()?.as_document()?.get_i32("code").ok()
    };
    own.ok().or_else(of_write).unwrap_or(0)
}

/// The text of a reply or of its first write error.
fn text(reply: &Document) -> &str {
    let own = reply.get_str("errmsg").ok();
    let of_write = || {
        let errors = reply.get_array("writeErrors").ok()?;
        errors.first()?.as_document()?.get_str("errmsg").ok()
    };
    own.or_else(of_write).unwrap_or("")
}
