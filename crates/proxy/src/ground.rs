//! What is known of the collections that one command names.

use mdb_scope::{
    CollectionFacts, CommandSpec, ForeignCollection, Refusal, check_namespace, collection_of,
    foreign_collections,
};
use mdb_wire::{Command, Document};

use crate::error::Error;
use crate::forward::Journey;
use crate::namespaces::Place;

/// How many other collections the stages of one command may name. A pipeline has at most 1000 stages; each name that is not
/// known yet costs a question to the upstream.
const FOREIGN_MAX: usize = 100;

/// The command's own collection, and those that its stages name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) collection: &'a CollectionFacts,
    pub(crate) foreign: &'a [ForeignCollection],
}

impl<'a> Ground<'a> {
    /// A collection, and no other.
    pub(crate) fn of(collection: &'a CollectionFacts) -> Self {
        Self {
            collection,
            foreign: &[],
        }
    }

    /// The collections that are the app's own, by the app's names.
    pub(crate) fn dedicated(&self, own_name: Option<&'a str>) -> Vec<&'a str> {
        let own = own_name.filter(|_| self.collection.is_dedicated());
        let foreign = self.foreign.iter();
        let foreign = foreign.filter(|f| f.isolation == mdb_scope::Isolation::Dedicated);
        own.into_iter()
            .chain(foreign.map(|f| f.collection.as_str()))
            .collect()
    }
}

impl<'a> Journey<'a> {
    /// The same way for another command of the same client.
    pub(crate) fn with_command<'b>(
        &self,
        spec: &'static CommandSpec,
        command: &'b Command<'b>,
    ) -> Journey<'b>
    where
        'a: 'b,
    {
        Journey {
            forward: self.forward,
            shared: self.shared,
            identity: self.identity,
            scope: self.scope,
            spec,
            command,
            hello: self.hello.clone(),
            deadline: self.deadline,
            operation: self.operation,
        }
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
            found.push(ForeignCollection {
                database: database.to_owned(),
                collection: collection.to_owned(),
                isolation: known.facts.isolation,
            });
        }
        Ok(found)
    }
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
