//! Commands that change what a collection is: `collMod`, `renameCollection`, and those for collections of the app's own only.

use bson::doc;
use mdb_scope::{
    CollectionFacts, Isolation, Refusal, WIRE_VERSION_5_0, WIRE_VERSION_6_0, check_collection,
    check_known_options, check_namespace, collection_of, foreign_collections,
};
use mdb_wire::{Command, Document, Element, Writer};

use crate::catalog::patch_reply;
use crate::control::Entry;
use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::namespaces::{Known, Place};
use crate::reply;

impl<'a> Journey<'a> {
    /// `collMod`.
    pub(crate) async fn coll_mod(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let wire_version = self.hello.as_ref().map_or(i32::MAX, |h| h.wire_version_max);
        check_known_options(self.command, wire_version)?;
        let place = self.place(collection_of(self.command)?);
        let Some(known) = self.shared_one(place).await? else {
            return match self.modify_own(place, out).await {
                // A server looks for the collection first (6.0.5).
                Err(Error::Refusal(refusal)) if !self.is_there(place).await? => {
                    tracing::debug!(%refusal, "a collection that is not there was to be changed");
                    Err(Refusal::namespace_not_found("ns does not exist").into())
                }
                modified => modified,
            };
        };
        let ground = Ground::of(&known.facts);
        let scoped = self.with_facts(ground, |facts| {
            self.scope.coll_mod(self.spec, self.command, facts)
        })?;
        if self.says_validation() {
            let start = out.len();
            let is_done = self.modify_validation(place, &known, out).await?;
            if !is_done {
                return Ok(());
            }
            if scoped.is_none() {
                return self.modify_images(place).await;
            }
            out.truncate(start);
        }
        let Some(mut scoped) = scoped else {
            self.modify_images(place).await?;
            reply::ok(out, |_| {});
            return Ok(());
        };
        self.wait_until_free(place).await?;
        if self.exchange(&mut scoped, ground, out).await?.is_ok {
            self.modify_images(place).await?;
        }
        self.tell_changed(place).await?;
        self.namespace(self.forward.namespaces.refresh(place))
            .await?;
        Ok(())
    }

    /// Whether the app has a collection or view of that name.
    async fn is_there(&self, place: Place<'_>) -> Result<bool, Error> {
        let known = self.forward.namespaces.refresh(place);
        let known = self.namespace(known).await?;
        self.has(place, &known).await
    }

    /// `collMod` of a collection or view of the app's own. What it does not say of a view stays.
    async fn modify_own(&self, place: Place<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let body = self.command.body;
        let says = |field: &str| body.find(field).is_some();
        if says("index") {
            self.check_own_index(place).await?;
        }
        let wire_version = self.hello.as_ref().map_or(i32::MAX, |h| h.wire_version_max);
        let is_fatal =
            |(option, since): &(&'static str, i32)| wire_version >= *since && says(option);
        if let Some((option, _)) = FATAL_ON_VIEWS.into_iter().find(is_fatal) {
            return self.modify_stored(place, option, wire_version, out).await;
        }
        if !says("viewOn") && !says("pipeline") {
            return self.as_own(out).await.map(|_| ());
        }
        let control = place.control();
        let app = self.scope.app();
        let entry = control.entry(app, place.database, place.collection);
        let Some(mut view) = self.driver(entry).await?.and_then(|entry| entry.view) else {
            return self.as_own(out).await.map(|_| ());
        };
        let said = bson::Document::from_reader(body.bytes()).unwrap_or_default();
        for part in ["viewOn", "pipeline"] {
            if let Some(value) = said.get(part) {
                view.insert(part, value.clone());
            }
        }
        let bytes = view.to_vec().unwrap_or_default();
        let definition = Document::parse(&bytes).unwrap_or(Document::EMPTY);
        let mut w = Writer::default();
        let mark = w.begin();
        let is_other = |e: &Element<'_>| !matches!(e.key, b"viewOn" | b"pipeline");
        let other = body.elements().filter(is_other);
        let is_part = |e: &Element<'_>| !is_other(e);
        let parts = definition.elements().filter(is_part);
        other.chain(parts).for_each(|element| w.element(&element));
        w.end(mark);
        let bytes = w.into_bytes();
        let whole = Document::parse(&bytes).unwrap_or(Document::EMPTY);
        let command = Command::inner(whole, self.command.database)?;
        if self.with_command(&command)?.as_own(out).await? {
            let stored = control.define_view(app, place.database, place.collection, &view);
            self.driver(stored).await?;
        }
        Ok(())
    }

    /// `collMod` with an option on which servers die where it meets a view: only of what is none, and by its UUID where servers
    /// know that of a `collMod`, so that nothing else can have the name by then.
    async fn modify_stored(
        &self,
        place: Place<'_>,
        option: &str,
        wire_version: i32,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let known = self
            .namespace(self.forward.namespaces.refresh(place))
            .await?;
        let is_collection = known.facts.uuid.is_some();
        let why = match option {
            _ if known.facts.is_view => format!("option not supported on a view: {option}"),
            // A server says the same of what is not there in other words: the caller knows.
            _ if !known.exists => "no such collection".to_owned(),
            "expireAfterSeconds" if is_collection && wire_version < WIRE_VERSION_6_0 => {
                "'expireAfterSeconds' option is only supported on collections clustered by _id"
                    .to_owned()
            }
            "cappedSize" | "cappedMax" if !is_collection => "Collection must be capped.".to_owned(),
            _ => {
                let mut by_uuid = Known::dedicated(true);
                if wire_version >= WIRE_VERSION_6_0 {
                    by_uuid.facts.uuid = known.facts.uuid;
                }
                return Box::pin(self.dedicated(&by_uuid, out)).await.map(|_| ());
            }
        };
        Err(Refusal::invalid_options(why).into())
    }

    /// A command for collections of the app's own only.
    pub(crate) async fn unshared(&self, why: &str, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let place = self.place(collection_of(self.command)?);
        if self.shared_one(place).await?.is_some() {
            return Err(self.not_on_shared(why));
        }
        match self
            .command
            .body
            .find("toCollection")
            .and_then(|to| to.as_str())
        {
            Some(to) => self.clone_own(to, out).await,
            None => self.as_own(out).await.map(|_| ()),
        }
    }

    async fn clone_own(&self, to: &'a str, out: &mut Vec<u8>) -> Result<(), Error> {
        check_collection(to)?;
        let target = self.place(to);
        let existed = self.enter_own(target).await?;
        let start = out.len();
        let made = self.as_own(out).await;
        if matches!(made, Ok(false)) {
            self.say_logical(out, start, &[to]);
        }
        self.settle_own(target, existed, &made).await?;
        made.map(|_| ())
    }

    /// `renameCollection` within a database: across databases the server copies the documents through a collection whose name
    /// says nothing of the app.
    pub(crate) async fn rename_collection(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        self.only_on_admin()?;
        let to = self.command.body.find("to").ok_or_else(|| {
            Refusal::missing_field(
                "BSON field 'renameCollection.to' is missing but a required field",
            )
        })?;
        let (database, from) = self.parts(&self.command.target)?;
        let (to_database, to) = self.parts(&to)?;
        if database != to_database {
            return Err(Refusal::unauthorized(
                "a collection is renamed within its database only; copy the documents and drop the old one",
            )
            .into());
        }
        let at = |collection: &'a str| Place {
            database,
            ..self.place(collection)
        };
        let own = CollectionFacts::dedicated();
        let ground = Ground::of(&own);
        // Refused before anything is entered.
        let mut scoped = self.with_facts(ground, |facts| {
            self.scope
                .rename(self.spec, self.command, facts, database, (from, to))
        })?;
        if let Some(source) = self.shared_one(at(from)).await? {
            let flag = self.command.body.find("dropTarget");
            let drops_target = flag.and_then(|flag| flag.as_flag()) == Some(true);
            return self
                .rename_shared((at(from), &source), at(to), drops_target, out)
                .await;
        }
        let source = self.forward.namespaces.look_up(at(from));
        let source = self.namespace(source).await?;
        // Of what is not there the server says so, whatever there is under the new name.
        let moves = from != to && source.facts.is_dedicated() && source.exists;
        if moves {
            self.drop_automatic_ones(at(from), &source).await?;
        }
        let existed = moves && self.enter_own(at(to)).await?;
        let start = out.len();
        let renamed = self
            .exchange(&mut scoped, ground, out)
            .await
            .map(|seen| seen.is_ok);
        if moves {
            self.settle_own(at(to), existed, &renamed).await?;
        }
        if renamed? {
            let control = at(from).control();
            let leave = control.leave(self.scope.app(), database, from);
            self.driver(leave).await?;
            self.forward.namespaces.forget(at(from));
        } else {
            self.say_logical(out, start, &[from, to]);
        }
        Ok(())
    }

    /// Database and collection of a namespace.
    fn parts(&self, element: &Element<'a>) -> Result<(&'a str, &'a str), Refusal> {
        let Some(name) = element.as_str() else {
            let path = format!("renameCollection.{}", element.name());
            return Err(Refusal::wrong_kind(&path, element.kind.name(), "string"));
        };
        let parts = name.split_once('.');
        let (database, collection) = parts.ok_or_else(|| {
            Refusal::invalid_namespace(format!("Invalid namespace specified '{name}'"))
        })?;
        check_namespace(self.command, database, collection, self.control_database())?;
        Ok((database, collection))
    }

    /// Texts of a command of `admin` name collections of another database.
    fn say_logical(&self, out: &mut Vec<u8>, start: usize, names: &[&str]) {
        patch_reply(out, start, &mut |w, element| {
            let Some(text) = element.as_str().filter(|_| element.key == b"errmsg") else {
                w.element(element);
                return;
            };
            let logical = |text: String, name: &&str| {
                let physical = self.scope.physical_collection(name, Isolation::Dedicated);
                text.replace(&format!(".{physical}"), &format!(".{name}"))
            };
            w.string(b"errmsg", &names.iter().fold(text.to_owned(), logical));
        });
    }

    fn not_on_shared(&self, why: &str) -> Error {
        let (database, name) = (self.command.database, self.spec.name);
        Refusal::unauthorized(format!(
            "not authorized on {database} to execute command {{ {name}: ... }}: {why}"
        ))
        .into()
    }

    /// Tells the catalog that a collection is about to be the app's own. Gives whether it was that before.
    async fn enter_own(&self, target: Place<'_>) -> Result<bool, Error> {
        let exists = || Error::from(Refusal::namespace_exists("target namespace exists"));
        if self.shared_one(target).await?.is_some() {
            return Err(exists());
        }
        let entry = Entry::new(target.database, target.collection, Isolation::Dedicated);
        let control = target.control();
        match self.driver(control.enter(self.scope.app(), &entry)).await? {
            Some(Isolation::Shared) => Err(exists()),
            before => Ok(before.is_some()),
        }
    }

    /// Takes the entry back where nothing was made; else what is known of the name, and the views that read it, follow.
    async fn settle_own(
        &self,
        target: Place<'_>,
        existed: bool,
        made: &Result<bool, Error>,
    ) -> Result<(), Error> {
        self.forward.namespaces.forget(target);
        if matches!(made, Ok(true)) {
            self.tell_changed(target).await?;
            self.tell_made(target);
            return self.views_follow(target.database, target.collection).await;
        }
        if existed {
            return Ok(());
        }
        let control = target.control();
        let leave = control.leave(self.scope.app(), target.database, target.collection);
        self.driver(leave).await.map(|_| ())
    }

    /// Checks that the app's views on a name have the collation of the view that is about to be made under it. The server
    /// knows them as views on what else could be there.
    ///
    /// # Errors
    /// 167, in mongod's words (6.0.5).
    pub(crate) async fn views_agree(&self, place: Place<'_>) -> Result<(), Error> {
        let body = bson::Document::from_reader(self.command.body.bytes()).unwrap_or_default();
        if !body.contains_key("viewOn") {
            return Ok(());
        }
        let Place {
            database,
            collection,
            ..
        } = place;
        let control = place.control();
        for entry in self
            .driver(control.entries(self.scope.app(), Some(database)))
            .await?
        {
            let Some(view) = entry.view else { continue };
            let is_on_it = view.get_str("viewOn").is_ok_and(|on| on == collection);
            if is_on_it && collation(&view) != collation(&body) {
                let text = format!(
                    "View {database}.{collection} has a collation that does not match the collation of view {database}.{}",
                    entry.collection
                );
                return Err(Refusal::stage_in_view(text).into());
            }
        }
        Ok(())
    }

    /// Binds the app's views that name a collection to it as it is now: one that came into being after them may be of the other
    /// kind than they were bound to.
    pub(crate) async fn views_follow(&self, database: &str, collection: &str) -> Result<(), Error> {
        let control =
            crate::control::Control::new(self.shared.upstream.control(), self.control_database());
        let entries = control.entries(self.scope.app(), Some(database));
        for entry in self.driver(entries).await? {
            let Some(view) = entry.view else { continue };
            let mut body = doc! {"collMod": &entry.collection};
            let parts = view.into_iter().filter(|(part, _)| part != "collation");
            body.extend(parts.chain([("$db".to_owned(), database.into())]));
            let bytes = body.to_vec().unwrap_or_default();
            let command = Document::parse(&bytes).unwrap_or(Document::EMPTY);
            let command = Command::inner(command, database)?;
            let names = foreign_collections(&command);
            if !names.iter().any(|(_, name)| *name == collection) {
                continue;
            }
            let mut ignored = Vec::new();
            let bound = self.with_command(&command)?.as_own(&mut ignored).await;
            if !matches!(bound, Ok(true)) {
                let view = format!("{database}.{}", entry.collection);
                tracing::info!(app = %self.scope.app(), view, "a view could not be bound to a collection that was made anew");
            }
        }
        Ok(())
    }
}

/// Options of `collMod` that end the server's process where the collection is a view, and the wire version since which servers
/// have them: `expireAfterSeconds` that of 5.0.4, the sizes that of 6.0.5.
const FATAL_ON_VIEWS: [(&str, i32); 3] = [
    ("cappedSize", WIRE_VERSION_5_0 + 1),
    ("cappedMax", WIRE_VERSION_5_0 + 1),
    ("expireAfterSeconds", WIRE_VERSION_5_0),
];

/// The collation of a view, as far as it is not that of every view.
fn collation(view: &bson::Document) -> Option<&bson::Document> {
    let collation = view.get_document("collation").ok();
    collation.filter(|collation| !matches!(collation.get_str("locale"), Ok("simple")))
}
