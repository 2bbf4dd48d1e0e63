//! The way of a command to the upstream and back.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mdb_scope::{
    AppId, CollectionFacts, CommandSpec, Duty, Facts, FieldName, ForeignCollection, Glance,
    Refusal, Rule, Scope, Scoped, check_namespace, figures_stage, operations_stage, stream_reach,
};
use mdb_upstream::ServerHello;
use mdb_wire::{Command, Document};
use mongodb::error::Error as DriverError;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::absence::may_create;
use crate::api;
use crate::canary::Canary;
use crate::catalog;
use crate::cluster_time::ClusterTime;
use crate::control::{Control, KEY_BYTES};
use crate::deadline::Deadline;
use crate::dispatch::Call;
use crate::errands::Turns;
use crate::error::Error;
use crate::ground::{Ground, target};
use crate::identity::{App, Identity};
use crate::joining::{Joined, Prepared};
use crate::labels::when_lost;
use crate::namespaces::notices::follow;
use crate::namespaces::{Known, Namespaces, Place};
use crate::news::News;
use crate::operations::Running;
use crate::replacement::sweep;
use crate::reply;
use crate::sharding;
use crate::shared::Shared;

/// 4.4: what is assumed of an upstream that answered a command before its hello was seen.
const WIRE_VERSION_DEFAULT: i32 = 9;

/// How long a transaction waits to learn of a collection before 5.0. Whoever changes a collection there waits for the locks of the
/// transaction, and whoever looks at it waits behind him: so the transaction would wait for itself. It is told to begin anew,
/// as by a server that cannot lock.
const LOOK_UP_IN_TRANSACTION_MAX: Duration = Duration::from_secs(1);

/// Carries commands upstream.
#[derive(Debug)]
pub struct Forward {
    field: FieldName,
    control_database: String,
    session_key: OnceCell<[u8; KEY_BYTES]>,
    pub(crate) cluster_time: ClusterTime,
    pub(crate) namespaces: Arc<Namespaces>,
    pub(crate) joined: Joined,
    pub(crate) canary: Option<Canary>,
    pub(crate) news: News,
    follows: OnceLock<()>,
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
    pub(crate) deadline: Deadline,
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
            joined: Joined::default(),
            canary: None,
            news: News::default(),
            follows: OnceLock::new(),
        }
    }

    /// The same with an app whose marked documents are planted in every shared collection.
    #[must_use]
    pub fn with_canary(self, app: AppId) -> Self {
        let canary = Some(Canary::new(app));
        Self { canary, ..self }
    }

    /// The same with somebody who is told of collections that apps have made. Must not wait: commands do.
    #[must_use]
    pub fn with_news(self, tell: impl Fn(&AppId, &str, &str) + Send + Sync + 'static) -> Self {
        let news = News::to(tell);
        Self { news, ..self }
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
        let journey = self.journey(shared, identity, call, operation).await?;
        let start = out.len();
        let result = match call.spec.duty {
            Duty::Catalog(row) => {
                let composed = Box::pin(catalog::answer(&journey, row, out)).await;
                composed.map(|()| reply::gossip(out, start, &self.cluster_time))
            }
            Duty::Forward(Rule::GetMore) => journey.get_more(out).await,
            Duty::Forward(Rule::Bulk) => Box::pin(journey.bulk(out)).await,
            Duty::Forward(Rule::Sessions) if journey.names_no_session() => {
                journey.kill_all_sessions(out).await
            }
            Duty::Forward(Rule::Sessions) if call.spec.name == "killSessions" => {
                Box::pin(journey.kill_sessions(out)).await
            }
            _ => journey.travel(out).await,
        };
        if let Err(error) = &result {
            journey.abandon(error).await;
        }
        result
    }

    /// What a command needs on its way.
    pub(crate) async fn journey<'a>(
        &'a self,
        shared: &'a Shared,
        identity: &'a Arc<Identity>,
        call: &'a Call<'a>,
        operation: &'a Running,
    ) -> Result<Journey<'a>, Error> {
        let Call { spec, command, .. } = call;
        let deadline = Deadline::of(command, shared.upstream.wait_max());
        let scope = self.scope(shared, identity, deadline, command).await?;
        Ok(Journey {
            forward: self,
            shared,
            identity,
            scope,
            spec,
            command,
            hello: shared.upstream.hello().borrow().clone(),
            deadline,
            operation,
        })
    }

    /// The app's scope; made when its first command comes, as its session key is stored upstream.
    async fn scope<'i>(
        &self,
        shared: &Shared,
        identity: &'i Arc<Identity>,
        deadline: Deadline,
        command: &Command<'_>,
    ) -> Result<&'i Scope, Error> {
        if let Some(scope) = identity.app.scope.get() {
            return Ok(scope);
        }
        let made = self.make_scope(shared, &identity.app);
        deadline.within(command, made).await
    }

    /// The app's scope, without a command that would wait for it.
    pub(crate) async fn make_scope<'a>(
        &self,
        shared: &Shared,
        app: &'a App,
    ) -> Result<&'a Scope, DriverError> {
        if let Some(scope) = app.scope.get() {
            return Ok(scope);
        }
        let control = Control::new(shared.upstream.control(), &self.control_database);
        self.follows.get_or_init(|| self.follow(shared));
        let key = self.session_key.get_or_try_init(|| control.session_key());
        let key = key.await?;
        if let Some(canary) = &self.canary {
            canary.learn(&control).await?;
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

impl Forward {
    pub(crate) fn control_database(&self) -> &str {
        &self.control_database
    }

    /// Begins to listen to what other proxies change, and to clear away what they leave.
    fn follow(&self, shared: &Shared) {
        let known = Arc::downgrade(&self.namespaces);
        let client = shared.upstream.control().clone();
        let control_database = self.control_database.clone();
        tokio::spawn(sweep(
            known.clone(),
            client.clone(),
            control_database.clone(),
        ));
        tokio::spawn(follow(known, client, control_database));
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
            errands: self.errands(),
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
            namespaces: ground.namespaces,
            foreign: ground.foreign,
            keeps_to_base: false,
        })
    }

    /// A command that is rewritten by its row and sent.
    pub(crate) async fn travel(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(stage) = operations_stage(self.command, self.is_before_five())? {
            return Box::pin(self.operations_of(stage, out)).await;
        }
        let mut foreign = self.foreign().await?;
        let Some(collection) = target(self.spec, self.command)? else {
            return self.travel_nowhere(foreign, out).await;
        };
        let start = out.len();
        if sharding::answer(self.spec, self.command, collection, out)? {
            reply::gossip(out, start, &self.forward.cluster_time);
            return Ok(());
        }
        check_namespace(
            self.command,
            self.command.database,
            collection,
            self.control_database(),
        )?;
        let place = self.place(collection);
        let known = self.forward.namespaces.look_up(place);
        let mut known = self.namespace(known).await?;
        let figures = figures_stage(self.command).filter(|_| !known.facts.is_dedicated());
        if let Some(stage) = figures {
            api::check_stage(self.command.body)?;
            return Box::pin(self.figures_of(stage, place, out)).await;
        }
        if stream_reach(self.command).is_some() && !known.facts.is_dedicated() {
            return Box::pin(self.open_stream(place, &known, &foreign, out)).await;
        }
        known = self.absence(place, known).await?;
        // What is refused must leave no trace: the collection is made after the command was rewritten.
        let mut scoped = self.rewrite(known.ground(&foreign))?;
        let Some(prepared) = self.prepare(place, &known, out).await? else {
            return Ok(());
        };
        if let Some(made) = prepared.made {
            scoped = self.rewrite(made.ground(&foreign))?;
            known = made;
        }
        let writing = self.prepare_written(&mut foreign).await?;
        if writing.has_moved {
            scoped = self.rewrite(known.ground(&foreign))?;
        }
        let seen = {
            let sent = pin!(self.exchange(&mut scoped, known.ground(&foreign), out));
            self.keeping(&writing, sent).await
        };
        let is_done = seen.as_ref().is_ok_and(|seen| seen.is_ok);
        self.finish_written(writing, is_done, (start, out)).await?;
        let mut seen = seen?;
        if is_done && prepared.enters {
            self.enter_behind(place, start, out).await?;
        }
        if is_done && known.is_own_to_be() && may_create(self.spec, self.command) {
            self.made_own(place);
        }
        if seen.parallel_arrays > 0 {
            let gives_way = self.store_after_all(place, &known, &foreign, (start, out));
            seen = Box::pin(gives_way).await?.unwrap_or(seen);
        }
        if scoped.hints_base() && seen.is_hint_unknown {
            out.truncate(start);
            self.travel_anew(place, &foreign, out).await?;
        }
        Ok(())
    }

    /// Whether the reply is a plan.
    pub(crate) fn explains(&self) -> bool {
        let flag = self.command.body.find("explain");
        self.spec.name == "explain"
            || self.spec.name == "aggregate" && flag.and_then(|f| f.as_flag()) == Some(true)
    }

    /// Sends a command again whose server does not know a base index: someone has dropped the collection behind the proxy, and
    /// what is known of it is wrong.
    async fn travel_anew(
        &self,
        place: Place<'_>,
        foreign: &[ForeignCollection],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.forward.namespaces.forget(place);
        let known = self
            .namespace(self.forward.namespaces.look_up(place))
            .await?;
        self.resend(&known, foreign, out).await.map(|_| ())
    }

    /// Rewrites a command once more and sends it.
    pub(crate) async fn resend(
        &self,
        known: &Known,
        foreign: &[ForeignCollection],
        out: &mut Vec<u8>,
    ) -> Result<Glance, Error> {
        let mut scoped = self.rewrite(known.ground(foreign))?;
        self.exchange(&mut scoped, known.ground(foreign), out).await
    }

    /// The same for a command that works on no collection: its documents come with it, it is a stream of a database, or it is
    /// about sessions.
    async fn travel_nowhere(
        &self,
        foreign: Vec<ForeignCollection>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let facts = self.stream_facts().await?;
        self.travel_from(&facts, foreign, out).await
    }

    /// The same where nothing has to be made but what the last stage writes.
    pub(crate) async fn travel_from(
        &self,
        facts: &CollectionFacts,
        mut foreign: Vec<ForeignCollection>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut scoped = self.rewrite(Ground {
            foreign: &foreign,
            ..Ground::of(facts)
        })?;
        self.let_keep_images(facts).await?;
        let writing = self.prepare_written(&mut foreign).await?;
        let ground = Ground {
            foreign: &foreign,
            ..Ground::of(facts)
        };
        if writing.has_moved {
            scoped = self.rewrite(ground)?;
        }
        let start = out.len();
        let seen = {
            let sent = pin!(self.exchange(&mut scoped, ground, out));
            self.keeping(&writing, sent).await
        };
        let is_done = seen.as_ref().is_ok_and(|seen| seen.is_ok);
        self.finish_written(writing, is_done, (start, out)).await?;
        seen.map(|_| ())
    }

    /// The collection that the command names, if it names one.
    pub(crate) fn collection_name(&self) -> Option<&'a str> {
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

    /// Makes the collection before a command that may create it. `None` if that has aborted the command's transaction, and
    /// the reply in `out` says so.
    pub(crate) async fn prepare(
        &self,
        place: Place<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<Option<Prepared>, Error> {
        let namespaces = &self.forward.namespaces;
        let with = |made| Prepared {
            made: Some(made),
            enters: false,
        };
        if stream_reach(self.command).is_some() && !known.keeps_images() {
            let watched = self.namespace(namespaces.watched(place)).await?;
            return Ok(Some(with(watched)));
        }
        if may_create(self.spec, self.command) && !known.is_ready() {
            if self.in_transaction() {
                return Box::pin(self.prepare_inside(place, out)).await;
            }
            return self
                .make_ready(place)
                .await
                .map(|(made, _)| Some(with(made)));
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
        Ok(Some(Prepared::default()))
    }

    /// Awaits what is learned of a namespace, no longer than the command may wait.
    pub(crate) async fn namespace<T>(
        &self,
        work: impl Future<Output = Result<T, crate::namespaces::NamespaceError>>,
    ) -> Result<T, Error> {
        use crate::namespaces::NamespaceError;
        let labels = when_lost(self.command, true);
        let is_locking = self.in_transaction() && !self.begins_transaction();
        let holds_up_itself = is_locking && self.is_before_five();
        let mut end = self.deadline.of_step();
        if holds_up_itself {
            end = end.min(Instant::now() + LOOK_UP_IN_TRANSACTION_MAX);
        }
        match tokio::time::timeout_at(end, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(NamespaceError::Refused(refusal))) => Err(refusal.into()),
            Ok(Err(NamespaceError::Driver(error))) => Err(Error::control(Some(error), labels)),
            Err(_) if holds_up_itself => Err(Refusal::lock_timeout(format!(
                "Unable to look at a collection of {} within {} ms: a change of it waits for this transaction",
                self.command.database,
                LOOK_UP_IN_TRANSACTION_MAX.as_millis()
            ))
            .into()),
            Err(_) => Err(self.deadline.passed(labels)),
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
        let surplus = self.shared.surplus.clone();
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
                errands: Turns {
                    own: &identity.app.errands,
                    surplus: &surplus,
                },
            };
            if let Err(error) = namespaces.refresh(place).await {
                tracing::debug!(%error, "facts of a collection could not be read anew");
            }
        });
    }
}

impl Journey<'_> {
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
