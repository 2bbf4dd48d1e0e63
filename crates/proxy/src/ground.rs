//! What is known of the collections that one command names.

use mdb_scope::{
    Aside, CollectionFacts, CommandSpec, ForeignCollection, Isolation, Refusal, WrittenCollection,
    check_namespace, collection_of, foreign_collections, look_up, written_collection,
};
use mdb_wire::{Command, Document};

use crate::control::Entry;
use crate::error::Error;
use crate::forward::Journey;
use crate::joining::document;
use crate::namespaces::{Known, Place};
use crate::random;

/// How many other collections the stages of one command may name. A pipeline has at most 1000 stages; each name that is not
/// known yet costs a question to the upstream.
const FOREIGN_MAX: usize = 100;

/// The command's own collection, and those that its stages name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) collection: &'a CollectionFacts,
    /// Of a `bulkWrite`, those of its `nsInfo`.
    pub(crate) namespaces: &'a [CollectionFacts],
    pub(crate) foreign: &'a [ForeignCollection],
    /// Of a `getMore`: the cursor's id upstream, and the client's.
    pub(crate) continues: Option<(i64, i64)>,
}

impl<'a> Ground<'a> {
    /// A collection, and no other.
    pub(crate) fn of(collection: &'a CollectionFacts) -> Self {
        Self {
            collection,
            namespaces: &[],
            foreign: &[],
            continues: None,
        }
    }

    /// The collections that are the app's own: database, and the app's name.
    pub(crate) fn dedicated(
        &self,
        database: &'a str,
        own_name: Option<&'a str>,
    ) -> Vec<(&'a str, &'a str)> {
        let own = own_name.filter(|_| self.collection.is_dedicated());
        let foreign = self.foreign.iter();
        let foreign = foreign.filter(|f| f.isolation == Isolation::Dedicated);
        own.into_iter()
            .map(|name| (database, name))
            .chain(foreign.map(|f| (f.database.as_str(), f.collection.as_str())))
            .collect()
    }

    /// Whether any of them is shared, if only through a view.
    pub(crate) fn shares(&self) -> bool {
        let is_shared = |f: &ForeignCollection| f.isolation == Isolation::Shared;
        let of_own = self.collection.is_dedicated() && !self.collection.is_view;
        !of_own || self.foreign.iter().any(is_shared)
    }
}

impl<'a> Journey<'a> {
    /// The same way for another command of the same client.
    pub(crate) fn with_command<'b>(&self, command: &'b Command<'b>) -> Result<Journey<'b>, Refusal>
    where
        'a: 'b,
    {
        Ok(Journey {
            forward: self.forward,
            shared: self.shared,
            identity: self.identity,
            scope: self.scope,
            spec: look_up(command.name, command.database)?,
            command,
            hello: self.hello.clone(),
            deadline: self.deadline,
            operation: self.operation,
        })
    }

    /// Looks up the collections that the command's stages name.
    pub(crate) async fn foreign(&self) -> Result<Vec<ForeignCollection>, Error> {
        if !matches!(
            self.spec.name,
            "aggregate" | "explain" | "create" | "collMod"
        ) {
            return Ok(Vec::new());
        }
        let named = foreign_collections(self.command);
        if named.len() > FOREIGN_MAX {
            return Err(Refusal::invalid_length(format!(
                "the stages of one command may name {FOREIGN_MAX} collections; {} are named",
                named.len()
            ))
            .into());
        }
        let mut found = Vec::with_capacity(named.len());
        for (database, collection) in named {
            check_namespace(self.command, database, collection, self.control_database())?;
            let place = Place {
                database,
                ..self.place(collection)
            };
            let known = self
                .namespace(self.forward.namespaces.look_up(place))
                .await?;
            let isolation = if self.defines(place) || self.makes_own(place, &known).await? {
                Isolation::Dedicated
            } else {
                known.facts.isolation
            };
            let is_replaced = isolation == Isolation::Shared && self.is_replaced(place);
            let aside = (is_replaced && self.may_replace())
                .then(|| self.scope.aside(u128::from_le_bytes(random::bytes())));
            found.push(ForeignCollection {
                database: database.to_owned(),
                collection: collection.to_owned(),
                isolation,
                near: known.facts.near.clone(),
                automatic: known.facts.automatic.clone(),
                aside,
            });
        }
        Ok(found)
    }

    /// Whether it is the view that the command defines: one that shows itself is told so, rather than shown what is shared.
    fn defines(&self, place: Place<'_>) -> bool {
        let is_view = self.command.body.find("viewOn").is_some();
        is_view
            && place.database == self.command.database
            && self.command.target.as_str() == Some(place.collection)
    }

    /// Whether the command's `$out` replaces the collection.
    fn is_replaced(&self, place: Place<'_>) -> bool {
        written_collection(self.command).is_some_and(|written| {
            written.replaces
                && written.database == place.database
                && written.collection == place.collection
        })
    }

    /// Whether the command's `$out` makes the collection the app's own, as the app has nothing under that name beside other
    /// apps.
    async fn makes_own(&self, place: Place<'_>, known: &Known) -> Result<bool, Error> {
        Ok(self.is_replaced(place)
            && !known.facts.is_dedicated()
            && !self.has(place, known).await?)
    }

    /// The collection that the command's last stage writes.
    fn written(&self) -> Option<(Place<'a>, WrittenCollection<'a>)> {
        let written = written_collection(self.command)?;
        let place = Place {
            database: written.database,
            ..self.place(written.collection)
        };
        Some((place, written))
    }

    /// Makes the collection that the command's last stage writes ready for it, after the command was rewritten. Gives
    /// whether that has changed where its documents are.
    pub(crate) async fn prepare_written(
        &self,
        foreign: &mut [ForeignCollection],
    ) -> Result<Writing<'a>, Error> {
        let none = Writing {
            place: None,
            is_entered: false,
            has_moved: false,
            aside: None,
            made: None,
        };
        let Some((place, written)) = self.written() else {
            return Ok(none);
        };
        // The server does neither in a transaction.
        if self.in_transaction() {
            return Ok(none);
        }
        let is_it = |f: &&mut ForeignCollection| {
            f.database == place.database && f.collection == place.collection
        };
        let Some(found) = foreign.iter_mut().find(is_it) else {
            return Ok(none);
        };
        let namespaces = &self.forward.namespaces;
        if self.spec.name == "explain" {
            if found.isolation == Isolation::Shared && !written.replaces {
                self.namespace(namespaces.exist(place)).await?;
            }
            return Ok(none);
        }
        if let Some(aside) = &found.aside {
            return self.set_aside(place, aside.clone()).await;
        }
        if written.replaces {
            return self.enter_written(place).await;
        }
        if found.isolation == Isolation::Dedicated {
            let known = self.namespace(namespaces.look_up(place)).await?;
            let place = known.is_own_to_be().then_some(place);
            return Ok(Writing { place, ..none });
        }
        let (known, is_new) = self.make_ready(place).await?;
        let has_moved = known.facts.isolation != found.isolation;
        found.isolation = known.facts.isolation;
        let made = (is_new && !known.facts.is_dedicated()).then_some(place);
        Ok(Writing {
            has_moved,
            made,
            ..none
        })
    }

    /// Tells the catalog of a collection of the app's own that is about to be: another proxy that is about to make it a
    /// shared one looks there.
    async fn enter_written(&self, place: Place<'a>) -> Result<Writing<'a>, Error> {
        let known = self
            .namespace(self.forward.namespaces.look_up(place))
            .await?;
        let mut is_entered = false;
        if !(known.facts.is_dedicated() && known.exists) {
            let entry = Entry::new(place.database, place.collection, Isolation::Dedicated);
            let before = place.control();
            let before = before.enter(self.scope.app(), &entry);
            let before = self.driver(before).await?;
            if before == Some(Isolation::Shared) {
                return Err(Refusal::namespace_exists(format!(
                    "Collection {}.{} was made meanwhile, and is shared: $out cannot replace it",
                    place.database, place.collection
                ))
                .into());
            }
            is_entered = before.is_none();
        }
        Ok(Writing {
            place: Some(place),
            is_entered,
            has_moved: false,
            aside: None,
            made: None,
        })
    }

    /// A stage that has written nothing has made no collection either. Documents that anybody has put there meanwhile keep it.
    async fn take_back_empty(&self, made: Place<'_>) -> Result<(), Error> {
        let app = self.scope.app();
        let holds = self.holds_documents(made.database, made.collection);
        if self.driver(holds).await? {
            return Ok(());
        }
        let leave = made.control();
        let leave = leave.leave(app, made.database, made.collection);
        self.driver(leave).await?;
        self.forward.namespaces.forget(made);
        Ok(())
    }

    /// After the stage has run: what is known of the collection is old, and if there is none, the catalog must not have it.
    /// The reply of the command begins at `start`; what fails behind it takes its place.
    pub(crate) async fn finish_written(
        &self,
        writing: Writing<'a>,
        is_done: bool,
        (start, out): (usize, &mut Vec<u8>),
    ) -> Result<(), Error> {
        if let Some(made) = writing.made {
            return self.take_back_empty(made).await;
        }
        let Some(place) = writing.place else {
            return Ok(());
        };
        if let Some(aside) = &writing.aside {
            let mut failed = Vec::new();
            let is_whole = is_done && is_at_end(out.get(start..).unwrap_or_default());
            let replaced = self.replace(place, aside, is_whole, &mut failed).await?;
            if is_done && !is_whole {
                return Err(Error::incident("a stage that writes left a cursor open"));
            }
            if replaced == Written::Failed {
                out.truncate(start);
                out.extend(failed);
                return Ok(());
            }
            return self.await_write_concern(out, start).await;
        }
        self.forward.namespaces.forget(place);
        if writing.is_entered && is_done {
            self.tell_changed(place).await?;
            self.tell_made(place);
            return self.views_follow(place.database, place.collection).await;
        }
        if is_done {
            self.tell_made(place);
        }
        if writing.is_entered {
            let leave = place.control();
            let leave = leave.leave(self.scope.app(), place.database, place.collection);
            self.driver(leave).await?;
        }
        Ok(())
    }
}

/// A `$out` that is about to run, or a `$merge` that makes its collection.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    place: Option<Place<'a>>,
    /// Whether the catalog has it for this command alone.
    is_entered: bool,
    /// Whether the collection turned out to be elsewhere than the command was rewritten for.
    pub(crate) has_moved: bool,
    /// What is filled first, where a shared collection is replaced.
    aside: Option<Aside>,
    /// The shared collection that the app did not have before.
    made: Option<Place<'a>>,
}

impl<'a> Writing<'a> {
    /// A `$out` over a shared collection.
    pub(crate) fn replacing(place: Place<'a>, aside: Aside) -> Self {
        Self {
            place: Some(place),
            is_entered: false,
            has_moved: false,
            aside: Some(aside),
            made: None,
        }
    }

    /// The collection that is replaced, and what is filled first.
    pub(crate) fn aside(&self) -> Option<(Place<'a>, &Aside)> {
        self.place.zip(self.aside.as_ref())
    }
}

/// What became of documents that a stage has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// They are where they belong, or there were none to be put there.
    Done,
    /// They are not, and the reply says why.
    Failed,
}

/// Whether a reply has a cursor that is closed.
fn is_at_end(reply: &[u8]) -> bool {
    let cursor = document(reply)
        .find("cursor")
        .and_then(|cursor| cursor.as_document());
    let id = cursor.and_then(|cursor| cursor.find("id")?.as_integer());
    id == Some(0)
}

/// The collection that a command names, if it works on one.
pub(crate) fn target<'a>(
    spec: &CommandSpec,
    command: &Command<'a>,
) -> Result<Option<&'a str>, Refusal> {
    if spec.name == "explain" {
        let inner = command.target.as_document().and_then(Document::first);
        return Ok(inner.and_then(|first| first.as_str()));
    }
    let is_collectionless = spec.name == "aggregate" && command.target.as_integer() == Some(1);
    if !spec.on_collection || is_collectionless {
        return Ok(None);
    }
    collection_of(command).map(Some)
}
