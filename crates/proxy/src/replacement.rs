//! `$out` over a shared collection: the pipeline fills a collection of its own, which nobody can name, and from there a
//! transaction replaces the app's documents, all at once.

use std::pin::Pin;
use std::sync::Weak;
use std::time::Duration;

use bson::{Document, RawArrayBuf, RawDocumentBuf, doc};
use futures_util::FutureExt;
use mdb_scope::{Aside, Refusal, ReplyRule, ReplyView, Scope, glance};
use mdb_wire::Writer;
use mongodb::error::Error as DriverError;
use mongodb::options::{ReadConcern, WriteConcern};
use mongodb::{Client, ClientSession, Collection};
use tokio::time::sleep;

use crate::automatic::ParallelArrays;
use crate::codes::code_name;
use crate::control::Control;
use crate::error::Error;
use crate::forward::Journey;
use crate::ground::{Writing, Written};
use crate::namespaces::{Known, Namespaces, Place, server_code};
use crate::relocation::{BYTES_MAX, DOCUMENTS_MAX, Weight};

/// How often the one who fills a collection says that it does.
const RENEW_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// When one is taken for left behind of which nobody says so. More than the clocks of proxies differ.
const LEFT_AFTER: Duration = Duration::from_secs(60 * 60);
/// Between two looks for such.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Documents, and their bytes, that are written at a time.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What the server says of a document that it does not store: a member of `writeErrors`.
#[derive(Debug, Clone)]
struct NotStored(Document);

/// What a transaction puts in the place of what.
struct Replacement<'a> {
    scope: &'a Scope,
    client: Client,
    database: String,
    collection: String,
    by: Collection<RawDocumentBuf>,
}

impl<'a> Journey<'a> {
    /// Whether a `$out` of the command may replace documents of a shared collection. Plans do not: they would name what is
    /// aside.
    pub(crate) fn may_replace(&self) -> bool {
        self.spec.name == "aggregate" && !self.explains() && self.has_transactions()
    }

    /// Makes ready for the pipeline. Refuses what a transaction cannot take away.
    pub(crate) async fn set_aside(
        &self,
        place: Place<'a>,
        aside: Aside,
    ) -> Result<Writing<'a>, Error> {
        let refused = "$out replaces documents of a shared collection all at once";
        let known = self.forward.namespaces.look_up(place);
        let known = self.namespace(known).await?;
        self.weigh_own(place, &known)
            .await?
            .check(|| out_of_bounds(refused))?;
        // So that the collection is the app's also where nothing is written.
        let ready = self.forward.namespaces.ready(place);
        if self.namespace(ready).await?.0.facts.is_dedicated() {
            return Err(Refusal::namespace_exists(format!(
                "Collection {}.{} was made the app's own meanwhile; send the command again",
                place.database, place.collection
            ))
            .into());
        }
        let control = place.control();
        let begin = control.begin_aside(place.database, aside.as_str());
        self.driver(begin).await?;
        Ok(Writing::replacing(place, aside))
    }

    /// Does the work, and says meanwhile that what is aside is in use.
    pub(crate) async fn keeping<T>(
        &self,
        writing: &Writing<'a>,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        let Some((place, aside)) = writing.aside() else {
            return work.await;
        };
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(RENEW_INTERVAL) => {}
            }
            let control = place.control();
            if let Err(error) = control.begin_aside(place.database, aside.as_str()).await {
                tracing::debug!(%error, "a collection that is filled could not be said to be in use");
            }
        }
    }

    /// After the pipeline has run: its documents take the place of the app's. What the server says against it is appended to
    /// `out`, and everything is as before.
    pub(crate) async fn replace(
        &self,
        place: Place<'a>,
        aside: &Aside,
        is_done: bool,
        out: &mut Vec<u8>,
    ) -> Result<Written, Error> {
        let replaced = if is_done {
            Box::pin(self.replace_by(place, aside, out)).await
        } else {
            Ok(Written::Done)
        };
        let control = place.control();
        let discard = discard(place.client, &control, place.database, aside.as_str());
        if let Err(error) = self.driver(discard).await {
            // It is found later.
            tracing::debug!(%error, "a collection that was filled could not be dropped");
        }
        replaced
    }

    async fn replace_by(
        &self,
        place: Place<'a>,
        aside: &Aside,
        out: &mut Vec<u8>,
    ) -> Result<Written, Error> {
        let database = place.client.database(place.database);
        let by: Collection<RawDocumentBuf> = database.collection(aside.as_str());
        let weight = self.weigh(by.clone_with_type(), doc! {}, None).await?;
        weight.check(|| out_of_bounds("$out over a shared collection writes all at once"))?;
        self.check_room(weight)?;
        let refresh = self.forward.namespaces.refresh(place);
        let known = self.namespace(refresh).await?;
        let mut has_given_way = false;
        loop {
            let replacement = Replacement {
                scope: self.scope,
                client: place.client.clone(),
                database: place.database.to_owned(),
                collection: place.collection.to_owned(),
                by: by.clone(),
            };
            let not_stored = match self.at_length(replacement.run()).await? {
                None => {
                    self.end_finds(place, None);
                    return Ok(Written::Done);
                }
                Some(NotStored(error)) => error,
            };
            let arrays = ParallelArrays::of_errors([&not_stored]);
            if !arrays.is_empty() && !has_given_way {
                has_given_way = true;
                if Box::pin(self.give_way_to_arrays(place, &known, &arrays)).await? {
                    continue;
                }
            }
            self.tell_not_stored(place, &known, not_stored, out)?;
            return Ok(Written::Failed);
        }
    }

    /// Whether the largest document has room for the scope field.
    fn check_room(&self, weight: Weight) -> Result<(), Refusal> {
        let bytes_max = self
            .hello
            .as_ref()
            .map_or(mdb_wire::limits::DOCUMENT_BYTES_MAX_DEFAULT, |hello| {
                usize::try_from(hello.max_bson_object_size).unwrap_or_default()
            });
        let bytes_max = bytes_max.saturating_sub(self.scope.stamp_bytes());
        if usize::try_from(weight.largest).unwrap_or(usize::MAX) <= bytes_max {
            return Ok(());
        }
        Err(Refusal::object_too_large(format!(
            "object to insert too large. size in bytes: {}, max size: {bytes_max}",
            weight.largest
        )))
    }

    /// Writes what the server said as the end of the client's command, in the app's terms.
    fn tell_not_stored(
        &self,
        place: Place<'_>,
        known: &Known,
        mut error: Document,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        error.remove("index");
        if !self.is_before_five() {
            let text = error.get_str("errmsg").unwrap_or_default();
            let text = format!("PlanExecutor error during aggregation :: caused by :: {text}");
            error.insert("errmsg", text);
        }
        error.insert("ok", 0.0);
        let code = error.get_i32("code").unwrap_or_default();
        error.insert("codeName", code_name(code).into_owned());
        let bytes = error.to_vec().unwrap_or_default();
        let answer = mdb_wire::Document::parse(&bytes).unwrap_or(mdb_wire::Document::EMPTY);
        let view = ReplyView {
            scope: self.scope,
            rule: ReplyRule::Plain,
            collection: &known.facts,
            database: place.database,
            dedicated: &[],
            continues: None,
            shares: true,
        };
        let mut w = Writer::new(std::mem::take(out));
        let mark = w.begin();
        let written = view.write(&mut w, answer, &glance(answer), &mut |id| id);
        w.end(mark);
        *out = w.into_bytes();
        written.map_err(|incident| Error::incident(incident.to_string()))
    }
}

fn out_of_bounds(what: &str) -> Refusal {
    Refusal::unauthorized(format!(
        "stage $out is not allowed here: {what}, which cannot be done with more than {DOCUMENTS_MAX} documents or {BYTES_MAX} \
         bytes; use $merge, another name, or a dedicated collection"
    ))
}

impl Replacement<'_> {
    /// Replaces the documents, as often as other writes are in the way. Gives what the server does not store, if anything:
    /// then nothing has changed.
    async fn run(self) -> Result<Option<NotStored>, DriverError> {
        let mut session = self.client.start_session().await?;
        let replaced = session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(WriteConcern::majority())
            .and_run(self, |session, replacement| {
                replacement.attempt(session).boxed()
            })
            .await;
        match replaced {
            Ok(()) => Ok(None),
            Err(error) => match error.get_custom::<NotStored>() {
                Some(not_stored) => Ok(Some(not_stored.clone())),
                None => Err(error),
            },
        }
    }

    async fn attempt(&self, session: &mut ClientSession) -> Result<(), DriverError> {
        let database = self.client.database(&self.database);
        let target: Collection<Document> = database.collection(&self.collection);
        let own = doc! {self.scope.field().as_str(): self.scope.app().as_str()};
        target.delete_many(own).session(&mut *session).await?;
        let mut found = self.by.find(doc! {}).await?;
        let mut batch = Batch::default();
        while found.advance().await? {
            let document = mdb_wire::Document::parse(found.current().as_bytes());
            let stamped = self.scope.stamped(document.map_err(DriverError::custom)?);
            if !batch.has_room(stamped.len()) {
                self.store(session, std::mem::take(&mut batch)).await?;
            }
            batch.push(stamped)?;
        }
        self.store(session, batch).await
    }

    async fn store(&self, session: &mut ClientSession, batch: Batch) -> Result<(), DriverError> {
        if batch.count == 0 {
            return Ok(());
        }
        let mut insert = RawDocumentBuf::new();
        insert.append(bson::cstr!("insert"), self.collection.as_str());
        insert.append(bson::cstr!("documents"), batch.documents);
        let database = self.client.database(&self.database);
        let stored = database.run_raw_command(insert).session(session).await?;
        let errors = stored.get_array("writeErrors").ok();
        match errors.and_then(|errors| errors.first()?.as_document()) {
            Some(error) => Err(DriverError::custom(NotStored(error.clone()))),
            None => Ok(()),
        }
    }
}

/// Documents that are written together.
#[derive(Default)]
struct Batch {
    documents: RawArrayBuf,
    count: usize,
    bytes: usize,
}

impl Batch {
    fn has_room(&self, bytes: usize) -> bool {
        self.count == 0 || (self.count < BATCH && self.bytes.saturating_add(bytes) <= BATCH_BYTES)
    }

    fn push(&mut self, document: Vec<u8>) -> Result<(), DriverError> {
        self.count += 1;
        self.bytes += document.len();
        self.documents.push(RawDocumentBuf::from_bytes(document)?);
        Ok(())
    }
}

/// Drops what is aside, and forgets it.
async fn discard(
    client: &Client,
    control: &Control<'_>,
    database: &str,
    aside: &str,
) -> Result<(), DriverError> {
    match client
        .database(database)
        .run_command(doc! {"drop": aside})
        .await
    {
        // Never made.
        Err(error) if server_code(&error) == Some(26) => {}
        other => drop(other?),
    }
    control.end_aside(database, aside).await
}

/// Drops what proxies that are gone have left aside, until the namespaces are gone.
pub(crate) async fn sweep(known: Weak<Namespaces>, client: Client, control_database: String) {
    while known.strong_count() > 0 {
        let control = Control::new(&client, &control_database);
        if let Err(error) = sweep_once(&client, &control).await {
            tracing::debug!(%error, "collections that were left aside could not be looked for");
        }
        sleep(SWEEP_INTERVAL).await;
    }
}

async fn sweep_once(client: &Client, control: &Control<'_>) -> Result<(), DriverError> {
    let left = control
        .asides_before(bson::DateTime::now(), LEFT_AFTER)
        .await?;
    for (database, aside) in left.iter().filter(|(_, aside)| Aside::is_one(aside)) {
        discard(client, control, database, aside).await?;
        tracing::info!(
            database,
            aside,
            "a collection that a $out had left was dropped"
        );
    }
    Ok(())
}
