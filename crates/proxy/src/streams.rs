//! Change streams: what has to be so before one is opened, and how one ends.
//!
//! Whose an event of a shared collection is, the document before the change says. So the physical collections keep these
//! documents (`changeStreamPreAndPostImages`), from their making or from the moment at which a stream may need them.

use bson::doc;
use mdb_scope::{
    CollectionFacts, CursorFacts, ForeignCollection, Isolation, ReplyRule, StreamReach,
    check_database, ends_stream, stream_reach,
};
use mdb_upstream::Lease;
use mdb_wire::Document;
use mongodb::error::Error as DriverError;

use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::namespaces::{Known, Place, server_code};

/// Up to how many documents a drop hides from streams before it deletes them. Each is written once more for it; beyond,
/// streams see deletes in front of the drop.
const HIDDEN_BY_DROP_MAX: u64 = 10_000;

/// 6.0: the first with documents as they were before a change.
const IMAGES_WIRE_VERSION: i32 = 17;

impl Journey<'_> {
    /// Whether the upstream can keep documents as they were before a change.
    pub(crate) fn keeps_images(&self) -> bool {
        let hello = self.hello.as_ref();
        hello.is_some_and(|h| h.wire_version_max >= IMAGES_WIRE_VERSION)
    }

    /// What a stream on a database or on the deployment has to know: whether all collections of the app are its own.
    pub(crate) async fn stream_facts(&self) -> Result<CollectionFacts, Error> {
        if stream_reach(self.command) == Some(StreamReach::Database) {
            check_database(self.command, self.control_database())?;
        }
        let is_own = match stream_reach(self.command) {
            Some(reach) if self.identity.app.isolation.is_dedicated() => {
                self.shared_collections(reach).await?.is_empty()
            }
            _ => false,
        };
        if is_own {
            return Ok(CollectionFacts::dedicated());
        }
        let with_images = match stream_reach(self.command) {
            Some(reach) => self.all_with_images(reach).await?,
            None => Vec::new(),
        };
        Ok(CollectionFacts {
            with_images,
            ..CollectionFacts::default()
        })
    }

    /// Opens a stream on a shared collection.
    pub(crate) async fn open_stream(
        &self,
        place: Place<'_>,
        known: &Known,
        foreign: &[ForeignCollection],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut facts = self.with_images(place, &known.facts).await?;
        // What is refused must leave no trace.
        let mut scoped = self.rewrite(on(&facts, foreign))?;
        let Some(prepared) = self.prepare(place, known, out).await? else {
            return Ok(());
        };
        if let Some(made) = prepared.made {
            facts = self.with_images(place, &made.facts).await?;
            scoped = self.rewrite(on(&facts, foreign))?;
        }
        self.exchange(&mut scoped, on(&facts, foreign), out)
            .await
            .map(|_| ())
    }

    /// Makes sure that every shared collection in which the app has something keeps documents as they were before a
    /// change. Those in which it will have something get there with its first write.
    pub(crate) async fn let_keep_images(&self, facts: &CollectionFacts) -> Result<(), Error> {
        let Some(reach) = stream_reach(self.command).filter(|_| !facts.is_dedicated()) else {
            return Ok(());
        };
        for (database, collection) in self.shared_collections(reach).await? {
            let place = Place {
                database: &database,
                collection: &collection,
                ..self.place("")
            };
            self.namespace(self.forward.namespaces.watched(place))
                .await?;
        }
        Ok(())
    }

    async fn shared_collections(&self, reach: StreamReach) -> Result<Vec<(String, String)>, Error> {
        let databases = match reach {
            StreamReach::Deployment => self.own_databases().await?,
            _ => vec![self.command.database.to_owned()],
        };
        let mut shared = Vec::new();
        for database in databases {
            let own = self.own_collections(&database).await?;
            let own = own
                .into_iter()
                .filter(|listed| listed.isolation == Isolation::Shared);
            shared.extend(own.map(|listed| (database.clone(), listed.name)));
        }
        Ok(shared)
    }

    /// The cursor of a stream that ends with this reply, where the server does not end it by itself.
    pub(crate) fn ended_stream(
        &self,
        lease: &Lease,
        rule: ReplyRule,
        ground: Ground<'_>,
        reply: Document<'_>,
    ) -> Option<CursorFacts> {
        if !ends_stream(rule, reply) {
            return None;
        }
        let id = reply.find("cursor")?.as_document()?.find("id")?;
        let cursor = self.cursor(lease, rule, ground, id.as_integer()?);
        Some(cursor.facts())
    }

    /// Closes a cursor upstream that its client takes for closed.
    pub(crate) async fn close_upstream(&self, cursor: Option<CursorFacts>) {
        let Some(cursor) = cursor else { return };
        let none = CollectionFacts::default();
        let ground = Ground::of(&none);
        let scoped = self.with_facts(ground, |facts| self.scope.kill_cursors(facts, &cursor));
        let Ok(mut scoped) = scoped else { return };
        // If it fails the cursor's member is gone, or closes the cursor when nobody has used it for a while.
        let mut ignored = Vec::new();
        let closed = self
            .exchange_with(&mut scoped, ground, &mut ignored, &mut |_, _, _| Ok(0))
            .await;
        if let Err(error) = closed {
            tracing::debug!(%error, "a cursor that its client does not know could not be closed");
        }
    }

    /// Deletes the app's documents of a shared collection. Gives their number.
    ///
    /// Where streams are possible, documents first lose their owner: a stream of the app then shows none of the deletes.
    pub(crate) async fn delete_documents(
        &self,
        place: Place<'_>,
        keeps_images: bool,
    ) -> Result<u64, Error> {
        let field = self.scope.field().as_str();
        let own = doc! {field: self.scope.app().as_str()};
        let gone = doc! {field: self.scope.gone()};
        let documents = place.documents();
        let delete = async {
            if !keeps_images {
                return documents.delete_many(own).await.map(|d| d.deleted_count);
            }
            let count = documents
                .count_documents(own.clone())
                .limit(HIDDEN_BY_DROP_MAX + 1)
                .await?;
            if count == 0 {
                return Ok(0);
            }
            let mut hidden = 0;
            if count <= HIDDEN_BY_DROP_MAX {
                // Of a drop that broke off.
                documents.delete_many(gone.clone()).await?;
                let hide = documents.update_many(own.clone(), doc! {"$set": gone.clone()});
                hidden = hide.await?.modified_count;
                documents.delete_many(gone).await?;
            }
            let rest = documents.delete_many(own).await?.deleted_count;
            Ok::<_, DriverError>(hidden + rest)
        };
        self.at_length(delete).await
    }

    /// Tells the app's streams that it dropped a shared collection: by a document that comes and goes, and is nobody's.
    pub(crate) async fn mark_dropped(&self, place: Place<'_>) -> Result<(), Error> {
        let field = self.scope.field().as_str();
        let gone = doc! {field: self.scope.gone()};
        let mut marker = gone.clone();
        marker.insert(self.scope.dropped_field(), "collection");
        let documents = place.documents();
        let mark = async {
            documents.insert_one(marker).await?;
            documents.delete_many(gone).await
        };
        self.driver(unless_refused("insert", async { mark.await.map(|_| ()) }))
            .await
    }

    /// Tells the app's streams that it dropped a database, which stays: by a collection that comes and goes.
    pub(crate) async fn mark_dropped_database(&self) -> Result<(), Error> {
        let client = self.shared.upstream.control();
        let marker = client
            .database(self.command.database)
            .collection::<bson::Document>(self.scope.dropped_database());
        let mark = async {
            marker.insert_one(doc! {}).await?;
            marker.drop().await
        };
        self.driver(unless_refused("create and drop", mark)).await
    }
}

/// A collection and those that the stages name.
fn on<'g>(facts: &'g CollectionFacts, foreign: &'g [ForeignCollection]) -> Ground<'g> {
    Ground {
        foreign,
        ..Ground::of(facts)
    }
}

/// The drop itself is done: it does not fail because its streams cannot be told.
async fn unless_refused(
    what: &'static str,
    mark: impl Future<Output = Result<(), DriverError>>,
) -> Result<(), DriverError> {
    match mark.await {
        Err(error) if server_code(&error).is_some() => {
            tracing::warn!(%error, what, "change streams are not told of a drop");
            Ok(())
        }
        other => other,
    }
}

impl Error {
    /// The same of a change stream: a new attempt may resume it.
    pub(crate) fn resumable(mut self) -> Self {
        match &mut self {
            Self::Upstream { labels, .. }
            | Self::Exchange { labels, .. }
            | Self::Control { labels, .. }
            | Self::ShuttingDown { labels, .. } => {
                *labels = crate::labels::RESUMABLE_CHANGE_STREAM;
            }
            _ => {}
        }
        self
    }
}
