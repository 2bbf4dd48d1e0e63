//! `renameCollection` of a shared collection: the app's documents go to the other name, all at once.
//!
//! They move in a transaction, so that what other connections and other proxies write meanwhile is either moved with them,
//! or fails and is tried again by the server, or comes after the rename and stays under the old name, as on a server.

use bson::{Document, RawDocumentBuf, doc};
use futures_util::FutureExt;
use mdb_scope::{Duty, Isolation, Refusal, base_index_name};
use mdb_upstream::DeploymentKind;
use mdb_wire::Command;
use mongodb::error::{Error as DriverError, ErrorKind};
use mongodb::options::{AggregateOptions, Hint, ReadConcern, WriteConcern};
use mongodb::{ClientSession, Collection};

use crate::catalog;
use crate::error::Error;
use crate::forward::Journey;
use crate::images;
use crate::namespaces::{Known, Place, server_code};
use crate::reply;

/// Documents that one transaction moves at most. Transactions end after 60 seconds, and hold all that they write in memory.
pub(crate) const DOCUMENTS_MAX: i64 = 50_000;
/// Their bytes at most, for the same reason.
pub(crate) const BYTES_MAX: i64 = 256 * 1024 * 1024;
/// Documents that are read, and written, at a time.
const BATCH: usize = 1000;

/// A key that another document has.
const DUPLICATE_KEY: i32 = 11000;

/// What a transaction moves.
struct Removal {
    from: Collection<RawDocumentBuf>,
    to: Collection<RawDocumentBuf>,
    /// The app's documents, as a filter.
    own: Document,
    /// The mark of documents that streams do not show when they go, as an update, where streams are possible.
    gone: Option<Document>,
    /// The index that has the app's documents in the order of their records.
    by: Option<String>,
    /// The field that documents lose in a collection of the app's own.
    taken_out: Option<String>,
    drops_target: bool,
}

/// Documents, their bytes, and the bytes of the largest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    documents: i64,
    bytes: i64,
    pub(crate) largest: i64,
}

impl Weight {
    /// Refuses more than one transaction moves.
    pub(crate) fn check(self, refused: impl Fn() -> Refusal) -> Result<(), Refusal> {
        if self.documents > DOCUMENTS_MAX || self.bytes > BYTES_MAX {
            return Err(refused());
        }
        Ok(())
    }
}

impl<'a> Journey<'a> {
    /// Renames a shared collection of the app.
    ///
    /// # Errors
    /// 48 if the app has a collection of the new name, 13 where there are no transactions and for more than is moved at
    /// once, 72 if another app has one of the `_id`s under the new name.
    pub(crate) async fn rename_shared(
        &self,
        (from, source): (Place<'a>, &Known),
        to: Place<'a>,
        drops_target: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if from.collection == to.collection {
            return Err(self.same_name(drops_target).into());
        }
        let target = self.forward.namespaces.refresh(to);
        let target = self.namespace(target).await?;
        let has_target = self.has(to, &target).await?;
        if target.facts.is_view {
            let (database, name) = (to.database, to.collection);
            let text = format!("a view already exists with that name: {database}.{name}");
            return Err(Refusal::namespace_exists(text).into());
        }
        if has_target && (!drops_target || target.facts.is_dedicated()) {
            return Err(Refusal::namespace_exists("target namespace exists").into());
        }
        self.check_movable(from, source).await?;
        if !self.make_target(source, to, has_target, out).await? {
            return Ok(());
        }
        let target = self.forward.namespaces.refresh(to);
        let is_own = self.namespace(target).await?.facts.is_dedicated();
        let validation = self.validation_of(from).await?;
        if has_target && self.validation_of(to).await?.is_some() {
            // That of what is dropped: it says nothing of what comes in its place.
            self.define_validation(to, None).await?;
        }
        let removal = self.removal(source, (from, to), is_own, has_target);
        let moved = self.at_length(relocate(from.client, removal)).await;
        if !matches!(moved, Ok(true)) && !has_target {
            self.alongside(doc! {"drop": to.collection}, to, &mut Vec::new())
                .await?;
        }
        if !moved? {
            return Err(clash(to).into());
        }
        let follow = self.options_follow((from, to), validation, is_own, out);
        if !follow.await? {
            return Ok(());
        }
        self.forget_shared(from, source).await?;
        self.end_finds(from, Some(to));
        self.end_finds(to, None);
        if source.keeps_images() {
            self.mark_dropped(from).await?;
        }
        reply::ok(out, |_| {});
        Ok(())
    }

    /// What a server says of a new name that is the old one (4.4.2, 5.0.4, 6.0.5).
    fn same_name(&self, drops_target: bool) -> Refusal {
        if !self.is_before_five() {
            Refusal::illegal_operation("Can't rename a collection to itself")
        } else if drops_target {
            Refusal::namespace_not_found("collection not found to rename")
        } else {
            Refusal::namespace_exists("target namespace exists")
        }
    }

    /// Gives the new collection what the app has said of the old one. If that fails the reply says why.
    async fn options_follow(
        &self,
        (from, to): (Place<'_>, Place<'_>),
        validation: Option<Document>,
        is_own: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        let wants_images = self.wants_images(from).await?;
        // Only now: documents that were there before a validator need not keep to it.
        let mut change = validation.unwrap_or_default();
        if is_own && wants_images {
            change.insert(images::OPTION, doc! {"enabled": true});
        }
        if !change.is_empty() {
            let mut command = doc! {"collMod": to.collection};
            command.extend(change);
            if !self.alongside(command, to, out).await? {
                return Ok(false);
            }
        }
        if !is_own && self.wants_images(to).await? != wants_images {
            self.define_images(to, wants_images).await?;
        }
        Ok(true)
    }

    /// Refuses what a transaction cannot move.
    async fn check_movable(&self, from: Place<'_>, source: &Known) -> Result<(), Error> {
        let refused = |why: String| {
            Refusal::unauthorized(format!(
                "not authorized on admin to execute command {{ renameCollection: ... }}: {why}"
            ))
        };
        if !self.has_transactions() {
            return Err(refused("the collection is shared with other apps, and without a replica set there are no transactions to move the documents in; write them to another collection and drop this one".to_owned()).into());
        }
        let weight = self.weigh_own(from, source).await?;
        weight.check(|| refused(format!("the collection is shared with other apps, and more than {DOCUMENTS_MAX} documents or {BYTES_MAX} bytes are not moved at once; write them to another collection and drop this one")))?;
        Ok(())
    }

    /// Whether the deployment has transactions.
    pub(crate) fn has_transactions(&self) -> bool {
        let kind = self.hello.as_ref().map(|hello| hello.kind);
        kind != Some(DeploymentKind::Standalone)
    }

    /// How much a transaction would move of the app's part of a shared collection.
    pub(crate) async fn weigh_own(&self, of: Place<'_>, known: &Known) -> Result<Weight, Error> {
        let field = self.scope.field().as_str();
        let own = doc! {field: self.scope.app().as_str()};
        // With one plan, no index of another app that goes meanwhile ends it (6.0.5).
        let by = known.facts.has_base_indexes;
        let by = by.then(|| Hint::Name(base_index_name(field)));
        self.weigh(of.documents(), own, by).await
    }

    /// How much a transaction would move of a collection; more than it moves at most is not looked at.
    pub(crate) async fn weigh(
        &self,
        documents: Collection<Document>,
        of: Document,
        by: Option<Hint>,
    ) -> Result<Weight, Error> {
        let size = doc! {"$bsonSize": "$$ROOT"};
        let sum = doc! {
            "_id": null, "documents": {"$sum": 1_i64}, "bytes": {"$sum": &size}, "largest": {"$max": size},
        };
        let stages = [
            doc! {"$match": of},
            doc! {"$limit": DOCUMENTS_MAX + 1},
            doc! {"$group": sum},
        ];
        let measure = async {
            let options = AggregateOptions::builder().hint(by).build();
            let mut sums = documents.aggregate(stages).with_options(options).await?;
            let has_any = sums.advance().await?;
            has_any.then(|| sums.deserialize_current()).transpose()
        };
        let sums: Option<Document> = self.at_length(measure).await?;
        let of = |name: &str| {
            let sums = sums.as_ref();
            sums.and_then(|sums| bson_integer(sums.get(name)?))
                .unwrap_or(0)
        };
        Ok(Weight {
            documents: of("documents"),
            bytes: of("bytes"),
            largest: of("largest"),
        })
    }

    /// Makes the collection of the new name, with the indexes of the old one and no others. If that fails the reply says why.
    async fn make_target(
        &self,
        source: &Known,
        to: Place<'_>,
        has_target: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        let first = if has_target {
            doc! {"dropIndexes": to.collection, "index": "*"}
        } else {
            doc! {"create": to.collection}
        };
        if !self.alongside(first, to, out).await? {
            return Ok(false);
        }
        let indexes: Vec<Document> = source
            .facts
            .indexes
            .iter()
            .filter_map(|index| Document::from_reader(index.definition.as_slice()).ok())
            .collect();
        if indexes.is_empty() {
            return Ok(true);
        }
        let create = doc! {"createIndexes": to.collection, "indexes": indexes};
        let is_made = self.alongside(create, to, out).await?;
        if !is_made && !has_target {
            self.alongside(doc! {"drop": to.collection}, to, &mut Vec::new())
                .await?;
        }
        Ok(is_made)
    }

    /// Runs another command of the catalog on the app's behalf. If it fails its reply is the client's.
    async fn alongside(
        &self,
        mut command: Document,
        at: Place<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        command.insert("$db", at.database);
        let bytes = command.to_vec().unwrap_or_default();
        let body = mdb_wire::Document::parse(&bytes).unwrap_or(mdb_wire::Document::EMPTY);
        let command = Command::inner(body, at.database)?;
        let journey = self.with_command(&command)?;
        let Duty::Catalog(row) = journey.spec.duty else {
            return Ok(false);
        };
        let start = out.len();
        Box::pin(catalog::answer(&journey, row, out)).await?;
        let is_ok = reply::is_ok(out.get(start..).unwrap_or_default());
        if is_ok {
            out.truncate(start);
        }
        Ok(is_ok)
    }

    fn removal(
        &self,
        source: &Known,
        (from, to): (Place<'_>, Place<'_>),
        is_own: bool,
        drops_target: bool,
    ) -> Removal {
        let field = self.scope.field().as_str();
        let isolation = if is_own {
            Isolation::Dedicated
        } else {
            Isolation::Shared
        };
        let name = self.scope.physical_collection(to.collection, isolation);
        Removal {
            from: from.documents().clone_with_type(),
            to: to.client.database(to.database).collection(&name),
            own: doc! {field: self.scope.app().as_str()},
            gone: source
                .keeps_images()
                .then(|| doc! {field: self.scope.gone()}),
            by: source
                .facts
                .has_base_indexes
                .then(|| base_index_name(field)),
            taken_out: is_own.then(|| field.to_owned()),
            drops_target,
        }
    }
}

/// Moves the documents, as often as other writes are in the way. Gives whether no other app has one of their `_id`s.
async fn relocate(client: &mongodb::Client, removal: Removal) -> Result<bool, DriverError> {
    let mut session = client.start_session().await?;
    let moved = session
        .start_transaction()
        .read_concern(ReadConcern::snapshot())
        .write_concern(WriteConcern::majority())
        .and_run(removal, |session, removal| removal.run(session).boxed())
        .await;
    match moved {
        Err(error) if is_duplicate(&error) => Ok(false),
        other => other.map(|()| true),
    }
}

impl Removal {
    async fn run(&self, session: &mut ClientSession) -> Result<(), DriverError> {
        let own = || self.own.clone();
        if self.drops_target {
            self.to.delete_many(own()).session(&mut *session).await?;
        }
        let found = self
            .from
            .find(own())
            .batch_size(u32::try_from(BATCH).unwrap_or(u32::MAX));
        let found = match &self.by {
            Some(index) => found.hint(Hint::Name(index.clone())),
            None => found,
        };
        let mut cursor = found.session(&mut *session).await?;
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            while batch.len() < BATCH
                && let Some(document) = cursor.next(&mut *session).await
            {
                batch.push(self.as_moved(document?)?);
            }
            if batch.is_empty() {
                break;
            }
            self.to.insert_many(batch).session(&mut *session).await?;
        }
        let mut left = own();
        if let Some(gone) = &self.gone {
            let hide = doc! {"$set": gone.clone()};
            self.from
                .update_many(own(), hide)
                .session(&mut *session)
                .await?;
            left = gone.clone();
        }
        self.from.delete_many(left).session(session).await?;
        Ok(())
    }

    fn as_moved(&self, document: RawDocumentBuf) -> Result<RawDocumentBuf, DriverError> {
        let Some(field) = &self.taken_out else {
            return Ok(document);
        };
        let mut kept = RawDocumentBuf::new();
        for element in document.iter_elements() {
            let element = element?;
            if element.key().as_str() != field {
                kept.append(element.key(), element.value()?);
            }
        }
        Ok(kept)
    }
}

fn bson_integer(value: &bson::Bson) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}

fn is_duplicate(error: &DriverError) -> bool {
    match error.kind.as_ref() {
        ErrorKind::InsertMany(failed) => {
            let mut errors = failed.write_errors.iter().flatten();
            errors.any(|error| error.code == DUPLICATE_KEY)
        }
        _ => server_code(error) == Some(DUPLICATE_KEY),
    }
}

/// What the app is told where another one has one of its `_id`s.
fn clash(to: Place<'_>) -> Refusal {
    Refusal::invalid_options(format!(
        "an _id of the collection is taken in {}.{}: collections of that name are shared, and _id is unique over all apps; choose another name, or make it dedicated",
        to.database, to.collection
    ))
}
