//! `currentOp`, `killOp`, `killAllSessions`: an app looks after its own operations and sessions.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use mdb_scope::{
    CollectionFacts, OperationsStage, Refusal, Routing, ServerAddress, foreign_collections,
};
use mdb_upstream::MemberKind;
use mdb_wire::writer::IndexKey;
use mdb_wire::{Document, Element, Kind, Writer};
use mongodb::error::Error as DriverError;
use tokio::time::timeout;

use crate::api;
use crate::catalog::patch_reply;
use crate::error::Error;
use crate::figures::first_batch;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::listing::ListFilter;
use crate::local::now_millis;
use crate::operations::Listed;
use crate::reply;
use crate::whereabouts::{Whereabouts, end, running};

/// The subtype of BSON binaries that are UUIDs.
const UUID: u8 = 4;

/// Fields of `currentOp` that are no conditions on operations.
const NO_CONDITIONS: &[&[u8]] = &[
    b"$all",
    b"$ownOps",
    b"$truncateOps",
    b"$db",
    b"lsid",
    b"$clusterTime",
    b"$readPreference",
    b"comment",
    b"maxTimeMS",
    b"apiVersion",
    b"apiStrict",
    b"apiDeprecationErrors",
];

/// How long a client waits for members beside the primary to kill sessions. One that serves takes milliseconds.
const KILL_ELSEWHERE_MAX: Duration = Duration::from_secs(2);

/// What the cursor of operations is on, as a server names it.
const AGGREGATE: &str = "$cmd.aggregate";

impl Journey<'_> {
    /// The operations that the client may see and end: those of its own user, with the role `dbAdmin` those of its app.
    fn operations(&self) -> Vec<Listed> {
        let user = (!self.identity.grants.admin).then_some(self.identity.username.as_str());
        self.shared.operations.of(&self.identity.app.id, user)
    }

    /// `currentOp`.
    pub(crate) fn current_op(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.only_on_admin()?;
        let body = self.command.body;
        let is_no_condition = |e: &Element<'_>| NO_CONDITIONS.contains(&e.key);
        let filter = ListFilter::of_fields(body, is_no_condition)?;
        let own_alone = body.find("$ownOps").and_then(|e| e.as_flag()) == Some(true);
        let user = self.identity.username.as_str();
        let is_meant = |listed: &&Listed| {
            (!own_alone || listed.operation.identity.username == user)
                && (filter.is_empty() || filter.takes(&shown(listed)))
        };
        let listed = self.operations();
        reply::ok(out, |w| {
            let array = w.begin_array(b"inprog");
            for (index, listed) in listed.iter().filter(is_meant).enumerate() {
                write(w, index, listed);
            }
            w.end(array);
        });
        Ok(())
    }

    /// An `aggregate` that begins with `$currentOp` or `$listLocalSessions`: operations and sessions are composed here, the
    /// stages behind run upstream.
    pub(crate) async fn operations_of(
        &self,
        stage: OperationsStage,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        api::check_stage(self.command.body)?;
        if stage.all_users && !self.identity.grants.admin {
            let text = "not authorized on admin to execute command { aggregate: 1 }: operations and sessions of all users take the role dbAdmin";
            return Err(Refusal::unauthorized(text).into());
        }
        if !foreign_collections(self.command).is_empty() {
            let text = "not authorized on admin to execute command { aggregate: 1 }: no collection can be joined with operations or sessions";
            return Err(Refusal::unauthorized(text).into());
        }
        let user = (!stage.all_users).then_some(self.identity.username.as_str());
        let listed = self.shared.operations.of(&self.identity.app.id, user);
        let mut w = Writer::default();
        let mark = w.begin();
        if stage.lists_sessions {
            self.write_sessions(&mut w, &listed, stage.all_users);
        } else {
            for (index, listed) in listed.iter().enumerate() {
                write(&mut w, index, listed);
            }
        }
        w.end(mark);
        let documents = w.into_bytes();
        let namespace = format!("{}.{AGGREGATE}", self.command.database);
        if self.stages_behind().is_empty() {
            first_batch(&documents, &namespace, out);
            return Ok(());
        }
        let name = if stage.lists_sessions {
            "$listLocalSessions"
        } else {
            "$currentOp"
        };
        let start = out.len();
        self.go_on(name, &documents, out).await?;
        patch_reply(out, start, &mut |w, element| {
            let Some(cursor) = element.as_document().filter(|_| element.key == b"cursor") else {
                w.element(element);
                return;
            };
            let mark = w.begin_document(b"cursor");
            for member in cursor.elements() {
                match member.key {
                    b"ns" => w.string(b"ns", &namespace),
                    _ => w.element(&member),
                }
            }
            w.end(mark);
        });
        Ok(())
    }

    /// The sessions of operations that run, and of all users those that hold cursors and transactions as well.
    fn write_sessions(&self, w: &mut Writer, listed: &[Listed], all_users: bool) {
        let command = |l: &Listed| session_of(Document::parse(&l.operation.command).ok()?);
        let mut sessions: BTreeSet<[u8; 16]> = listed.iter().filter_map(command).collect();
        if all_users {
            let app = &self.identity.app.id;
            sessions.extend(self.shared.cursors.sessions(app));
            sessions.extend(self.shared.operations.transactions_of(app));
        }
        for (index, session) in sessions.iter().enumerate() {
            let entry = w.begin_document(IndexKey::new(index).as_bytes());
            let id = w.begin_document(b"_id");
            w.binary(b"id", UUID, session);
            w.end(id);
            w.date_time(b"lastUse", now_millis());
            w.end(entry);
        }
    }

    /// `killOp`. The reply is the same whether there is such an operation or not, as on a server.
    pub(crate) async fn kill_op(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.only_on_admin()?;
        let id = operation_id(self.command.body.find("op"))?;
        let found = self.operations();
        let found = found.iter().find(|l| i64::from(l.operation.id) == id);
        if let Some((server, local)) = found.and_then(|l| l.operation.place.clone()) {
            let local = local.to_string();
            self.driver(end_operation(self, Whereabouts { server, local }))
                .await?;
        }
        reply::ok(out, |w| w.string(b"info", "attempting to kill op"));
        Ok(())
    }

    /// `killAllSessions`, and `killSessions` of none: every session of the app that has anything open here.
    pub(crate) async fn kill_all_sessions(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.check_users()?;
        api::check(self.spec, self.command.body)?;
        if !self.identity.grants.admin {
            let text = "killSessions without sessions means those of all users of the app, which takes the role dbAdmin; name sessions";
            return Err(Refusal::unauthorized(text).into());
        }
        let app = &self.identity.app.id;
        let mut sessions: BTreeSet<[u8; 16]> = self.shared.cursors.sessions(app);
        sessions.extend(self.shared.operations.transactions_of(app));
        let running = self.shared.operations.of(app, None);
        let own = self.session();
        let running = running
            .iter()
            .filter_map(|l| session_of(Document::parse(&l.operation.command).ok()?));
        sessions.extend(running.filter(|session| Some(*session) != own));
        let sessions: Vec<[u8; 16]> = sessions.into_iter().collect();
        if sessions.is_empty() {
            reply::ok(out, |_| ());
            return Ok(());
        }
        let there = self.end_sessions(&sessions, Routing::Primary, out);
        let (ended, ()) = tokio::join!(there, self.kill_elsewhere(&sessions));
        ended?;
        self.close_sessions(&sessions);
        Ok(())
    }

    /// `killSessions` of some. As by a mongos, which the proxy is to its clients, they are killed on every member: each has
    /// cursors of its own. The reply is the primary's.
    pub(crate) async fn kill_sessions(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let none = CollectionFacts::default();
        let ground = Ground::of(&none);
        let mut scoped = self.rewrite(ground)?;
        let sessions = self.command.target.as_array().unwrap_or(Document::EMPTY);
        let sessions: Vec<[u8; 16]> = sessions
            .elements()
            .filter_map(|session| id_of(session.as_document()?))
            .collect();
        let there = self.exchange(&mut scoped, ground, out);
        let (told, ()) = tokio::join!(there, self.kill_elsewhere(&sessions));
        if told?.is_ok {
            self.close_sessions(&sessions);
        }
        Ok(())
    }

    /// Kills sessions on the members beside the primary that can be reached, for a moment: what a client may still know of
    /// there is closed by the proxy, and a member that says nothing must not make the client wait.
    async fn kill_elsewhere(&self, sessions: &[[u8; 16]]) {
        let topology = self.shared.upstream.topology().borrow().clone();
        let others = topology.members.iter();
        let others =
            others.filter(|m| matches!(m.kind, MemberKind::Secondary | MemberKind::Mongos));
        let kills = others.map(async |member| {
            let kill = self.kill_sessions_at(&member.address, sessions);
            if !matches!(timeout(KILL_ELSEWHERE_MAX, kill).await, Ok(Ok(()))) {
                let (app, server) = (self.identity.app.id.as_str(), &*member.address);
                tracing::debug!(
                    app,
                    server,
                    "a member did not say that it has killed sessions"
                );
            }
        });
        join_all(kills).await;
    }

    /// Forgets the cursors of sessions that were killed.
    fn close_sessions(&self, sessions: &[[u8; 16]]) {
        let app = &self.identity.app.id;
        for session in sessions {
            self.shared.cursors.close_session(app, session);
        }
    }

    /// Ends sessions of the app on one member, by the client's ids: each member has cursors of its own.
    pub(crate) async fn kill_sessions_at(
        &self,
        server: &ServerAddress,
        sessions: &[[u8; 16]],
    ) -> Result<(), Error> {
        let there = Routing::Member(server.clone());
        self.end_sessions(sessions, there, &mut Vec::new()).await
    }

    async fn end_sessions(
        &self,
        sessions: &[[u8; 16]],
        there: Routing,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let none = CollectionFacts::default();
        let ground = Ground::of(&none);
        let mut scoped = self.with_facts(ground, |facts| {
            self.scope.kill_sessions(facts, sessions, there)
        })?;
        self.exchange(&mut scoped, ground, out).await?;
        Ok(())
    }

    /// Whether the command is a `killSessions` of an empty list, which means all.
    pub(crate) fn names_no_session(&self) -> bool {
        let sessions = self.command.target.as_array();
        self.spec.name == "killSessions" && sessions.is_some_and(Document::is_empty)
    }

    fn session(&self) -> Option<[u8; 16]> {
        session_of(self.command.body)
    }

    /// `killAllSessions` names users; others' than the app's own are nobody's.
    fn check_users(&self) -> Result<(), Error> {
        let target = &self.command.target;
        if self.spec.name == "killAllSessions" && target.as_array().is_none() {
            let path = "KillAllSessionsCmd.killAllSessions";
            return Err(Refusal::wrong_kind(path, target.kind.name(), "array").into());
        }
        let users = target.as_array().unwrap_or(Document::EMPTY);
        let is_own = |user: &Document<'_>| {
            user.find("user").and_then(|u| u.as_str()) == Some(self.identity.username.as_str())
        };
        let mut users = users.elements().filter_map(|u| u.as_document());
        if self.spec.name != "killAllSessions" || users.all(|user| is_own(&user)) {
            return Ok(());
        }
        Err(Refusal::unauthorized("killAllSessions ends sessions of the calling user only").into())
    }

    /// Refuses what servers take on `admin` only.
    pub(crate) fn only_on_admin(&self) -> Result<(), Error> {
        if self.command.database == "admin" {
            return Ok(());
        }
        let name = self.spec.name;
        let text = format!("{name} may only be run against the admin database.");
        Err(Refusal::unauthorized(text).into())
    }
}

pub(crate) fn session_of(body: Document<'_>) -> Option<[u8; 16]> {
    id_of(body.find("lsid")?.as_document()?)
}

fn id_of(session: Document<'_>) -> Option<[u8; 16]> {
    session.find("id")?.as_binary()?.1.try_into().ok()
}

/// Ends what runs on a member for a connection that the proxy holds there.
async fn end_operation(journey: &Journey<'_>, place: Whereabouts) -> Result<(), DriverError> {
    let admin = journey.shared.upstream.control().database("admin");
    for id in running(&admin, &place, bson::Document::new()).await? {
        end(&admin, &place, &id).await?;
    }
    Ok(())
}

/// The same as conditions see it.
fn shown(listed: &Listed) -> bson::Document {
    let mut w = Writer::default();
    let mark = w.begin();
    write(&mut w, 0, listed);
    w.end(mark);
    let bytes = w.into_bytes();
    let entries = bson::Document::from_reader(bytes.as_slice());
    let entry = entries.ok().and_then(|mut entries| entries.remove("0"));
    entry
        .and_then(|entry| entry.as_document().cloned())
        .unwrap_or_default()
}

/// One entry of `inprog`, by the field names of 6.0.
fn write(w: &mut Writer, index: usize, listed: &Listed) {
    let operation = &listed.operation;
    let command = Document::parse(&operation.command).unwrap_or(Document::EMPTY);
    let entry = w.begin_document(IndexKey::new(index).as_bytes());
    w.string(b"type", "op");
    w.string(b"desc", &format!("conn{}", listed.connection));
    w.int64(b"connectionId", i64::from(listed.connection));
    w.string(b"client", &listed.peer.to_string());
    if let Some(application) = &listed.application {
        w.string(b"appName", application);
    }
    w.boolean(b"active", true);
    let users = w.begin_array(b"effectiveUsers");
    let user = w.begin_document(b"0");
    w.string(b"user", &operation.identity.username);
    w.end(user);
    w.end(users);
    w.int32(b"opid", operation.id);
    if let Some(lsid) = command.find("lsid") {
        w.element(&lsid);
    }
    let seconds = i64::try_from(listed.elapsed.as_secs()).unwrap_or(i64::MAX);
    let micros = i64::try_from(listed.elapsed.as_micros()).unwrap_or(i64::MAX);
    w.int64(b"secs_running", seconds);
    w.int64(b"microsecs_running", micros);
    w.string(b"op", kind(operation.spec.name));
    w.string(b"ns", &namespace(command));
    w.document(b"command", command);
    w.end(entry);
}

/// Reads `op` of `killOp`.
fn operation_id(op: Option<Element<'_>>) -> Result<i64, Refusal> {
    let Some(op) = op else {
        return Err(Refusal::no_such_key("Missing expected field \"op\""));
    };
    if !matches!(
        op.kind,
        Kind::Int32 | Kind::Int64 | Kind::Double | Kind::Decimal128
    ) {
        return Err(Refusal::type_mismatch(format!(
            "Expected field \"op\" to have numeric type, but found {}",
            op.kind.name()
        )));
    }
    op.as_integer().ok_or_else(|| {
        Refusal::bad_value(
            "Expected field \"op\" to have a value exactly representable as a 64-bit integer",
        )
    })
}

/// What servers call the kind of an operation.
fn kind(command: &str) -> &'static str {
    match command {
        "find" => "query",
        "getMore" => "getmore",
        "insert" => "insert",
        "update" => "update",
        "delete" => "remove",
        _ => "command",
    }
}

fn namespace(command: Document<'_>) -> String {
    let database = command
        .find("$db")
        .and_then(|db| db.as_str())
        .unwrap_or_default();
    let collection = command
        .find("collection")
        .or(command.first())
        .and_then(|first| first.as_str().map(str::to_owned))
        .unwrap_or_else(|| "$cmd".to_owned());
    format!("{database}.{collection}")
}
