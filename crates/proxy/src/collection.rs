//! Collections that come and go: `create`, and the end of those that are the app's own.

use std::sync::Arc;

use bson::doc;
use mdb_scope::{
    Isolation, Refusal, WIRE_VERSION_6_0, check_creation, check_has_id_index, collection_of,
    note_of_creation,
};

use crate::automatic::hide_count;
use crate::control::Entry;
use crate::error::Error;
use crate::forward::Journey;
use crate::namespaces::{Known, Place, server_code};
use crate::reply;

/// Options of `create` that no app may set, and why.
const REFUSED_OPTIONS: &[(&str, &str)] = &[
    ("storageEngine", "the storage is shared"),
    ("indexOptionDefaults", "the storage is shared"),
    ("encryptedFields", "it names collections of its own"),
    ("temp", "it is internal to servers"),
];

/// Options that a collection of several apps cannot have: one that has them becomes the app's own.
const DEDICATED_OPTIONS: &[&str] = &[
    "capped",
    "size",
    "max",
    "viewOn",
    "pipeline",
    "collation",
    "validator",
    "validationLevel",
    "validationAction",
    "timeseries",
    "expireAfterSeconds",
    "clusteredIndex",
];

impl Journey<'_> {
    /// `create`.
    pub(crate) async fn create(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let collection = collection_of(self.command)?;
        let given = |option: &str| {
            let element = self.command.body.find(option);
            element.is_some_and(|e| e.as_flag() != Some(false))
        };
        let hello = self.hello.as_ref();
        check_creation(self.command, hello.map_or(0, |h| h.wire_version_max))?;
        if let Some((option, why)) = REFUSED_OPTIONS.iter().find(|(option, _)| given(option)) {
            return Err(Refusal::invalid_options(format!(
                "option '{option}' is not available to apps: {why}"
            ))
            .into());
        }
        let place = self.place(collection);
        let known = self
            .namespace(self.forward.namespaces.refresh(place))
            .await?;
        let wants_own = DEDICATED_OPTIONS.iter().any(|option| given(option));
        if known.facts.is_dedicated() {
            return self.create_dedicated(place, &known, out).await;
        }
        if wants_own {
            if self.has(place, &known).await? {
                return Err(self.exists(collection));
            }
            return self
                .create_dedicated(place, &Known::dedicated(false), out)
                .await;
        }
        if let Some(refused) = check_has_id_index(self.command).err() {
            let is_there = self.has(place, &known).await?;
            return Err(if is_there {
                self.exists(collection)
            } else {
                refused.into()
            });
        }
        if self.in_transaction() {
            return self.create_inside(place, &known, out).await;
        }
        let (known, is_new) = self.namespace(self.forward.namespaces.ready(place)).await?;
        if known.facts.is_dedicated() {
            return self.create_dedicated(place, &known, out).await;
        }
        if !is_new {
            // It may be ready in this proxy and yet be new to the catalog, after a drop by another one.
            let entry = Entry::new(place.database, collection, Isolation::Shared);
            let control = place.control();
            let enter = control.enter(self.scope.app(), &entry);
            if self.driver(enter).await?.is_some() {
                return Err(self.exists(collection));
            }
        }
        self.modify_images(place).await?;
        self.tell_made(place);
        self.views_follow(place.database, collection).await?;
        reply::ok(out, |w| {
            if let Some(note) = note_of_creation(self.command) {
                w.string(b"note", note);
            }
        });
        Ok(())
    }

    /// Makes a shared collection before a command outside of transactions that may create it, and tells of it.
    pub(crate) async fn make_ready(&self, place: Place<'_>) -> Result<(Arc<Known>, bool), Error> {
        let (made, is_new) = self.namespace(self.forward.namespaces.ready(place)).await?;
        self.tell_made(place);
        if is_new {
            Box::pin(self.views_follow(place.database, place.collection)).await?;
        }
        Ok((made, is_new))
    }

    pub(crate) fn exists(&self, collection: &str) -> Error {
        let database = self.command.database;
        let hello = self.hello.as_ref();
        let is_old = hello.is_some_and(|h| h.wire_version_max < WIRE_VERSION_6_0);
        // A view has words of its own, and before 6.0 a code (4.4.2, 5.0.4, 6.0.5).
        if self.command.body.find("viewOn").is_some() {
            let text = format!(
                "Cannot create collection {database}.{collection} - collection already exists."
            );
            return if is_old {
                Refusal::view_exists(text).into()
            } else {
                Refusal::namespace_exists(text).into()
            };
        }
        Refusal::namespace_exists(if is_old {
            format!("Collection already exists. NS: {database}.{collection}")
        } else {
            format!("Collection {database}.{collection} already exists.")
        })
        .into()
    }

    /// Makes a collection of the app's own. The catalog is told first: another proxy that is about to make it a shared one
    /// looks there.
    async fn create_dedicated(
        &self,
        place: Place<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if !known.exists {
            self.views_agree(place).await?;
        }
        let app = self.scope.app();
        let control = place.control();
        let entry = Entry {
            view: self.view_definition(),
            ..Entry::new(place.database, place.collection, Isolation::Dedicated)
        };
        let is_entered = !self.in_transaction() && !known.exists;
        if is_entered {
            let before = self.driver(control.enter(app, &entry)).await?;
            if before == Some(Isolation::Shared) {
                return Err(self.exists(place.collection));
            }
        }
        let made = self.dedicated(known, out).await;
        if is_entered && !matches!(made, Ok(true)) {
            self.driver(control.leave(app, place.database, place.collection))
                .await?;
        }
        self.forward.namespaces.forget(place);
        if is_entered && matches!(made, Ok(true)) {
            // Who has looked between the entry and the collection saw a shared one.
            self.tell_changed(place).await?;
            self.tell_made(place);
            self.views_follow(place.database, place.collection).await?;
        }
        made.map(|_| ())
    }

    /// What the app says of a view: the server knows only the definition that is bound to the app.
    fn view_definition(&self) -> Option<bson::Document> {
        let body = bson::Document::from_reader(self.command.body.bytes()).ok()?;
        let mut view = doc! {"viewOn": body.get("viewOn")?};
        view.insert(
            "pipeline",
            body.get("pipeline")
                .cloned()
                .unwrap_or(bson::Bson::Array(Vec::new())),
        );
        if let Some(collation) = body.get("collation") {
            view.insert("collation", collation);
        }
        Some(view)
    }

    /// Sends a command of the catalog on a collection that is the app's own. Gives whether it succeeded.
    pub(crate) async fn dedicated(&self, known: &Known, out: &mut Vec<u8>) -> Result<bool, Error> {
        let foreign = self.foreign().await?;
        let ground = known.ground(&foreign);
        let mut scoped = self.with_facts(ground, |facts| {
            self.scope.dedicated(self.spec, self.command, facts)
        })?;
        let seen = self.exchange(&mut scoped, ground, out).await?;
        Ok(seen.is_ok)
    }

    /// The same, also of one that the app does not have: what a private server says of that.
    pub(crate) async fn as_own(&self, out: &mut Vec<u8>) -> Result<bool, Error> {
        Box::pin(self.dedicated(&Known::dedicated(false), out)).await
    }

    /// What is known of a collection that the app has beside others; `None` for one of its own and for one that it does not
    /// have.
    pub(crate) async fn shared_one(&self, place: Place<'_>) -> Result<Option<Arc<Known>>, Error> {
        let known = self
            .namespace(self.forward.namespaces.refresh(place))
            .await?;
        known.served()?;
        let is_shared = !known.facts.is_dedicated() && self.has(place, &known).await?;
        Ok(is_shared.then_some(known))
    }

    /// `drop` of a collection or view of the app's own.
    pub(crate) async fn drop_dedicated(
        &self,
        place: Place<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let start = out.len();
        let is_ok = self.dedicated(known, out).await?;
        hide_count(out, start, known.facts.automatic.count, &["nIndexesWas"]);
        self.forward.namespaces.forget(place);
        if is_ok {
            let leave = place.control();
            let leave = leave.leave(self.scope.app(), place.database, place.collection);
            self.driver(leave).await?;
        }
        Ok(())
    }

    /// The same as part of a `dropDatabase`.
    pub(crate) async fn remove_dedicated(&self, place: Place<'_>) -> Result<(), Error> {
        let app = self.scope.app();
        let name = self
            .scope
            .physical_collection(place.collection, Isolation::Dedicated);
        let database = place.client.database(place.database);
        let drop = async {
            match database.run_command(doc! {"drop": &*name}).await {
                // Gone already: another proxy drops the same database.
                Err(error) if server_code(&error) == Some(26) => Ok(()),
                other => other.map(|_| ()),
            }
        };
        self.driver(drop).await?;
        self.forward.namespaces.forget(place);
        let leave = place.control();
        self.driver(leave.leave(app, place.database, place.collection))
            .await
            .map(|_| ())
    }
}
