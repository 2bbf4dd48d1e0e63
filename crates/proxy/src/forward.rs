//! The way of a command to the upstream and back.

use std::sync::Arc;

use mdb_scope::{
    AppId, CollectionFacts, CommandSpec, CursorFacts, Duty, Facts, FieldName, Glance, Incident,
    Refusal, ReplyRule, ReplyView, Rule, Scope, Scoped, check_namespace, cursor_not_found,
    figures_stage, glance, stream_reach,
};
use mdb_upstream::{Lease, Sent, ServerHello};
use mdb_wire::frame::HEADER_BYTES;
use mdb_wire::{Command, Document, Writer};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::canary::Canary;
use crate::catalog;
use crate::cluster_time::ClusterTime;
use crate::control::{Control, KEY_BYTES};
use crate::deadline::{wait_max, within};
use crate::dispatch::Call;
use crate::error::Error;
use crate::ground::{Ground, target};
use crate::identity::Identity;
use crate::labels::when_lost;
use crate::namespaces::{Known, Namespaces, Place};
use crate::operations::Running;
use crate::reply;
use crate::shared::Shared;

/// Flags and the kind of the one section, in front of a reply's body.
const REPLY_BODY_AT: usize = HEADER_BYTES + 4 + 1;
/// 4.4: what is assumed of an upstream that answered a command before its hello was seen.
const WIRE_VERSION_DEFAULT: i32 = 9;

/// Carries commands upstream.
#[derive(Debug)]
pub struct Forward {
    field: FieldName,
    control_database: String,
    session_key: OnceCell<[u8; KEY_BYTES]>,
    pub(crate) cluster_time: ClusterTime,
    pub(crate) namespaces: Arc<Namespaces>,
    canary: Option<Canary>,
}

/// One command on its way.
pub(crate) struct Journey<'a> {
    pub(crate) forward: &'a Forward,
    pub(crate) shared: &'a Shared,
    pub(crate) identity: &'a Arc<Identity>,
    pub(crate) scope: &'a Scope,
    pub(crate) spec: &'static CommandSpec,
    pub(crate) command: &'a Command<'a>,
    pub(crate) hello: Option<Arc<ServerHello>>,
    pub(crate) deadline: Instant,
    pub(crate) operation: &'a Running,
}

impl Forward {
    /// For a scope field and a control database; both are the same in every proxy of the deployment.
    pub fn new(field: FieldName, control_database: String) -> Self {
        Self {
            field,
            control_database,
            session_key: OnceCell::new(),
            cluster_time: ClusterTime::default(),
            namespaces: Arc::default(),
            canary: None,
        }
    }

    /// The same with an app whose marked documents are planted in every shared collection.
    #[must_use]
    pub fn with_canary(self, app: AppId) -> Self {
        let canary = Some(Canary::new(app));
        Self { canary, ..self }
    }

    /// Appends the body of the reply to `out`, which holds the reply's header.
    pub(crate) async fn command(
        &self,
        shared: &Shared,
        identity: &Arc<Identity>,
        call: &Call<'_>,
        operation: &Running,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Call { spec, command, .. } = call;
        let deadline = Instant::now() + wait_max(command);
        let scope = self.scope(shared, identity, deadline, command).await?;
        let hello = shared.upstream.hello().borrow().clone();
        let journey = Journey {
            forward: self,
            shared,
            identity,
            scope,
            spec,
            command,
            hello,
            deadline,
            operation,
        };
        let start = out.len();
        let result = match spec.duty {
            Duty::Catalog(row) => {
                let composed = Box::pin(catalog::answer(&journey, row, out)).await;
                composed.map(|()| reply::gossip(out, start, &self.cluster_time))
            }
            Duty::Forward(Rule::GetMore) => journey.get_more(out).await,
            Duty::Forward(Rule::Sessions) if journey.names_no_session() => {
                journey.kill_all_sessions(out).await
            }
            _ => journey.travel(out).await,
        };
        if let Err(error) = &result {
            journey.abandon(error).await;
        }
        result
    }

    /// The app's scope; made when its first command comes, as its session key is stored upstream.
    async fn scope<'i>(
        &self,
        shared: &Shared,
        identity: &'i Arc<Identity>,
        deadline: Instant,
        command: &Command<'_>,
    ) -> Result<&'i Scope, Error> {
        let app = &identity.app;
        if let Some(scope) = app.scope.get() {
            return Ok(scope);
        }
        let control = Control::new(shared.upstream.control(), &self.control_database);
        let key = self.session_key.get_or_try_init(|| control.session_key());
        let key = within(deadline, command, key).await?;
        if let Some(canary) = &self.canary {
            within(deadline, command, canary.learn(&control)).await?;
        }
        let made = app
            .scope
            .get_or_init(|| async {
                let session_key = app_key(key, &app.id);
                let is_hidden = !app.expose_scope_field;
                Scope::new(app.id.clone(), self.field.clone(), is_hidden, session_key)
                    .with_id_policy(app.id_policy)
            })
            .await;
        Ok(made)
    }
}

/// Each app's own key, from the one that all proxies share.
fn app_key(shared: &[u8; KEY_BYTES], app: &AppId) -> [u8; 16] {
    let mut digest = Sha256::new();
    digest.update(b"mdb-runtime session key\0");
    digest.update(shared);
    digest.update(app.as_str());
    let digest = digest.finalize();
    let mut key = [0; 16];
    for (place, byte) in key.iter_mut().zip(digest) {
        *place = byte;
    }
    key
}

impl<'a> Journey<'a> {
    pub(crate) fn place(&self, collection: &'a str) -> Place<'a> {
        Place {
            scope: self.scope,
            client: self.shared.upstream.control(),
            control_database: &self.forward.control_database,
            database: self.command.database,
            collection,
            isolation: self.identity.app.isolation.of(collection),
            keeps_images: self.keeps_images(),
        }
    }

    pub(crate) fn control_database(&self) -> &'a str {
        &self.forward.control_database
    }

    pub(crate) fn in_transaction(&self) -> bool {
        self.command.body.find("autocommit").is_some()
    }

    /// Facts for rewriting, with the cluster time to send along.
    pub(crate) fn with_facts<T>(
        &self,
        ground: Ground<'_>,
        rewrite: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        let newest = self.forward.cluster_time.newest();
        let newest = newest
            .as_deref()
            .and_then(|bytes| Document::parse_shallow(bytes).ok());
        let bytes = |n: Option<i32>, default: usize| {
            n.and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
        };
        let hello = self.hello.as_deref();
        rewrite(&Facts {
            wire_version: hello.map_or(WIRE_VERSION_DEFAULT, |h| h.wire_version_max),
            document_bytes_max: bytes(
                hello.map(|h| h.max_bson_object_size),
                mdb_wire::limits::DOCUMENT_BYTES_MAX_DEFAULT,
            ),
            message_bytes_max: bytes(
                hello.map(|h| h.max_message_size_bytes),
                mdb_wire::limits::MESSAGE_BYTES_MAX_DEFAULT,
            ),
            cluster_time: newest,
            checks_cluster_time: self.shared.upstream.has_authentication(),
            control_database: &self.forward.control_database,
            collection: ground.collection,
            foreign: ground.foreign,
        })
    }

    /// A command that is rewritten by its row and sent.
    pub(crate) async fn travel(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let foreign = self.foreign().await?;
        let Some(collection) = target(self.spec, self.command)? else {
            let facts = self.stream_facts().await?;
            let ground = Ground {
                collection: &facts,
                foreign: &foreign,
            };
            let mut scoped = self.rewrite(ground)?;
            self.let_keep_images(&facts).await?;
            return self.exchange(&mut scoped, ground, out).await.map(|_| ());
        };
        check_namespace(
            self.command,
            self.command.database,
            collection,
            self.control_database(),
        )?;
        let place = self.place(collection);
        let mut known = self
            .namespace(self.forward.namespaces.look_up(place))
            .await?;
        let figures = figures_stage(self.command).filter(|_| !known.facts.is_dedicated());
        if let Some(stage) = figures {
            return Box::pin(self.figures_of(stage, place, out)).await;
        }
        // What is refused must leave no trace: the collection is made after the command was rewritten.
        let mut scoped = self.rewrite(known.ground(&foreign))?;
        if let Some(made) = self.prepare(place, &known).await? {
            scoped = self.rewrite(made.ground(&foreign))?;
            known = made;
        }
        let start = out.len();
        let seen = self
            .exchange(&mut scoped, known.ground(&foreign), out)
            .await?;
        if scoped.hints_base() && seen.is_hint_unknown {
            // Someone has dropped the collection behind the proxy: what is known of it is wrong.
            out.truncate(start);
            self.forward.namespaces.forget(place);
            let known = self
                .namespace(self.forward.namespaces.look_up(place))
                .await?;
            let mut scoped = self.rewrite(known.ground(&foreign))?;
            self.exchange(&mut scoped, known.ground(&foreign), out)
                .await?;
        }
        Ok(())
    }

    /// The collection that the command names, if it names one.
    fn collection_name(&self) -> Option<&'a str> {
        match self.spec.name {
            "getMore" => self.command.body.find("collection")?.as_str(),
            _ => target(self.spec, self.command).ok()?,
        }
    }

    pub(crate) fn rewrite(&self, ground: Ground<'_>) -> Result<Scoped, Refusal> {
        self.with_facts(ground, |facts| {
            self.scope.apply(self.spec, self.command, facts)
        })
    }

    /// Makes the collection before a command that may create it; then gives what is known of it now.
    async fn prepare(&self, place: Place<'_>, known: &Known) -> Result<Option<Arc<Known>>, Error> {
        let namespaces = &self.forward.namespaces;
        let in_transaction = self.in_transaction();
        if stream_reach(self.command).is_some() && !known.keeps_images() {
            return self.namespace(namespaces.watched(place)).await.map(Some);
        }
        if may_create(self.spec, self.command) && !known.is_ready(in_transaction) {
            let (made, is_new) = self
                .namespace(namespaces.ready(place, in_transaction))
                .await?;
            if is_new && !in_transaction {
                Box::pin(self.views_follow(place.database, place.collection)).await?;
            }
            return Ok(Some(made));
        }
        if !known.exists && in_transaction {
            return self.namespace(namespaces.exist(place)).await.map(Some);
        }
        if let Some(canary) = &self.forward.canary
            && known.exists
            && !known.facts.is_dedicated()
        {
            let field = self.scope.field().as_str();
            canary.plant(place.client, field, place.database, place.collection);
        }
        if Namespaces::wants_refresh(known) {
            self.refresh_behind(place.collection);
        }
        Ok(None)
    }

    /// Awaits what is learned of a namespace, no longer than the command may wait.
    pub(crate) async fn namespace<T>(
        &self,
        work: impl Future<Output = Result<T, crate::namespaces::NamespaceError>>,
    ) -> Result<T, Error> {
        use crate::namespaces::NamespaceError;
        let labels = when_lost(self.command, true);
        match tokio::time::timeout_at(self.deadline, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(NamespaceError::Refused(refusal))) => Err(refusal.into()),
            Ok(Err(NamespaceError::Driver(error))) => Err(Error::control(Some(error), labels)),
            Err(_) => Err(Error::control(None, labels)),
        }
    }

    /// Reads facts anew without letting the command wait.
    fn refresh_behind(&self, collection: &str) {
        let namespaces = Arc::clone(&self.forward.namespaces);
        let client = self.shared.upstream.control().clone();
        let identity = Arc::clone(self.identity);
        let control_database = self.forward.control_database.clone();
        let (database, collection) = (self.command.database.to_owned(), collection.to_owned());
        let keeps_images = self.keeps_images();
        tokio::spawn(async move {
            let Some(scope) = identity.app.scope.get() else {
                return;
            };
            let place = Place {
                scope,
                client: &client,
                control_database: &control_database,
                database: &database,
                collection: &collection,
                isolation: identity.app.isolation.of(&collection),
                keeps_images,
            };
            if let Err(error) = namespaces.refresh(place).await {
                tracing::debug!(%error, "facts of a collection could not be read anew");
            }
        });
    }

    async fn get_more(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let id = self.command.target.as_integer().unwrap_or_default();
        let app = &self.identity.app.id;
        let cursor = self.shared.cursors.look_up(app, id, Instant::now());
        let Some(cursor) = cursor else {
            return Err(cursor_not_found(&self.command.target).into());
        };
        let facts_of_cursor = cursor.facts();
        let none = CollectionFacts {
            isolation: cursor.isolation,
            ..CollectionFacts::default()
        };
        let ground = Ground::of(&none);
        let mut scoped = self.with_facts(ground, |facts| {
            self.scope
                .get_more(self.spec, self.command, facts, &facts_of_cursor)
        })?;
        let mut is_open = false;
        let result = self
            .exchange_with(&mut scoped, ground, out, &mut |_, _, _| {
                is_open = true;
                Ok(id)
            })
            .await;
        let ended = match &result {
            Ok(exchanged) if exchanged.seen.is_ok => !is_open,
            Ok(exchanged) => exchanged.seen.code.is_some_and(ends_cursor),
            Err(_) => true,
        };
        if ended {
            self.shared.cursors.close(app, id);
        }
        let exchanged = result.map_err(|error| match cursor.rule {
            ReplyRule::Events { .. } => error.resumable(),
            _ => error,
        })?;
        self.close_upstream(exchanged.ended).await;
        Ok(())
    }

    /// Sends a command and writes its reply; a cursor in it is entered.
    pub(crate) async fn exchange(
        &self,
        scoped: &mut Scoped,
        ground: Ground<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Glance, Error> {
        let isolation = ground.collection.isolation;
        let result = self
            .exchange_with(scoped, ground, out, &mut |lease, rule, upstream_id| {
                if upstream_id == 0 {
                    Ok(0)
                } else {
                    self.open_cursor(lease, rule, isolation, upstream_id)
                }
            })
            .await;
        if let Err(Error::Limit(_)) = &result {
            tracing::warn!(app = %self.identity.app.id, "an app holds too many open cursors");
        }
        let exchanged = result?;
        self.close_upstream(exchanged.ended).await;
        Ok(exchanged.seen)
    }

    /// Sends a command until there is a reply to pass on or nothing more may be tried, and writes the reply.
    pub(crate) async fn exchange_with(
        &self,
        scoped: &mut Scoped,
        ground: Ground<'_>,
        out: &mut Vec<u8>,
        map_cursor: &mut (dyn FnMut(&Lease, ReplyRule, i64) -> Result<i64, Error> + Send),
    ) -> Result<Exchanged, Error> {
        let mut attempt = Attempt::default();
        loop {
            let lent = self
                .shared
                .upstream
                .lend(scoped.routing(), self.deadline)
                .await;
            let mut lease = lent.map_err(|error| Error::Upstream {
                error,
                labels: when_lost(self.command, attempt.is_unbegun()),
            })?;
            let local = lease.local_address();
            self.operation
                .at(local.map(|local| (lease.server().clone(), local)));
            let frame = match lease.exchange(scoped).await {
                Ok(frame) => frame,
                Err(error) if attempt.after_failure(scoped.retry(), error.sent) => {
                    self.shared.metrics.retry();
                    continue;
                }
                Err(error) => {
                    let is_unsent = error.sent == Sent::Nothing && attempt.is_unbegun();
                    let labels = when_lost(self.command, is_unsent);
                    return Err(Error::Exchange { error, labels });
                }
            };
            let body = frame.get(REPLY_BODY_AT..).unwrap_or_default();
            if let Some(canary) = &self.forward.canary
                && canary.sings(&self.identity.app.id, body)
            {
                return Err(Error::incident(
                    "a document of the canary in a reply to another app",
                ));
            }
            let reply = Document::parse_shallow(body)
                .map_err(|_| Error::incident("a reply that is no document"))?;
            self.forward.cluster_time.learn(reply);
            let seen = glance(reply);
            if let Some(code) = seen.state_change {
                self.shared
                    .upstream
                    .report(lease.server(), lease.generation(), code);
            }
            let upserts_by_id = scoped.is_upsert_by_id() && !self.in_transaction();
            if attempt.after_reply(scoped.retry(), upserts_by_id, &seen) {
                self.shared.metrics.retry();
                continue;
            }
            let dedicated = ground.dedicated(self.collection_name());
            let view = ReplyView {
                scope: self.scope,
                rule: scoped.rule(),
                collection: ground.collection,
                database: self.command.database,
                dedicated: &dedicated,
            };
            write_reply(&view, reply, &seen, &lease, out, map_cursor)?;
            let isolation = ground.collection.isolation;
            let ended = self.ended_stream(&lease, scoped.rule(), isolation, reply);
            return Ok(Exchanged { seen, ended });
        }
    }
}

/// A command that was answered.
pub(crate) struct Exchanged {
    pub(crate) seen: Glance,
    /// A cursor that is still open upstream and that the client takes for closed.
    pub(crate) ended: Option<CursorFacts>,
}

/// Writes a reply for the client; `map_cursor` enters the cursor in it.
fn write_reply(
    view: &ReplyView<'_>,
    reply: Document<'_>,
    seen: &Glance,
    lease: &Lease,
    out: &mut Vec<u8>,
    map_cursor: &mut (dyn FnMut(&Lease, ReplyRule, i64) -> Result<i64, Error> + Send),
) -> Result<(), Error> {
    out.reserve(reply.bytes().len());
    let mut w = Writer::new(std::mem::take(out));
    let mark = w.begin();
    let mut failure = None;
    let written = view.write(&mut w, reply, seen, &mut |upstream_id| {
        map_cursor(lease, view.rule, upstream_id).unwrap_or_else(|error| {
            failure = Some(error);
            0
        })
    });
    w.end(mark);
    *out = w.into_bytes();
    if let Some(error) = failure {
        return Err(error);
    }
    written.map_err(|incident| match incident {
        Incident::UpstreamUnauthorized(text) => Error::Unprivileged(text),
        _ => Error::incident(incident.to_string()),
    })
}

/// Whether a command can bring its collection into being: an insert, or any upsert.
fn may_create(spec: &CommandSpec, command: &Command<'_>) -> bool {
    let upserts =
        |statement: Document<'_>| statement.find("upsert").and_then(|e| e.as_flag()) == Some(true);
    match spec.name {
        "insert" => true,
        "findAndModify" => upserts(command.body),
        "update" => {
            let in_sequence = command.sequence("updates");
            let in_body = command.body.find("updates").and_then(|e| e.as_array());
            in_sequence.is_some_and(|s| s.documents().any(upserts))
                || in_body
                    .is_some_and(|a| a.elements().filter_map(|e| e.as_document()).any(upserts))
        }
        _ => false,
    }
}

/// Codes after which the server has no such cursor any more.
fn ends_cursor(code: i32) -> bool {
    // CursorNotFound, CursorKilled, QueryPlanKilled, OperationFailed, CappedPositionLost.
    matches!(code, 43 | 237 | 175 | 96 | 136)
}

impl Journey<'_> {
    /// Whether the upstream is older than 7.0, which forgives a `drop` of nothing.
    pub(crate) fn is_before_seven(&self) -> bool {
        self.hello.as_ref().is_none_or(|h| h.wire_version_max < 21)
    }

    /// Whether the upstream is older than 5.0, which names the database that was dropped.
    pub(crate) fn is_before_five(&self) -> bool {
        self.hello.as_ref().is_none_or(|h| h.wire_version_max < 13)
    }

    /// Refuses what servers do not do in a transaction either.
    pub(crate) fn refuse_in_transaction(&self) -> Result<(), Error> {
        if !self.in_transaction() {
            return Ok(());
        }
        Err(Refusal::not_in_transaction(format!(
            "Cannot run '{}' in a multi-document transaction.",
            self.spec.name
        ))
        .into())
    }
}
