//! `bulkWrite`: statements on several collections at once.

use std::sync::Arc;

use mdb_scope::{
    AutomaticIndexes, CollectionFacts, ForeignCollection, Refusal, bulk_collections, bulk_creates,
};
use mdb_wire::Document;

use crate::automatic::ParallelArrays;
use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::namespaces::{Known, Place};
use crate::reply;

/// How many collections one command may name. Each name that is not known yet costs a question to the upstream.
const NAMESPACES_MAX: usize = 1000;

/// What is known of the collections of one command, in the order of its `nsInfo`.
struct Namespaces {
    facts: Vec<CollectionFacts>,
    named: Vec<ForeignCollection>,
}

impl Namespaces {
    fn of(places: &[Place<'_>], known: &[Arc<Known>]) -> Self {
        let named = |(place, known): (&Place<'_>, &Arc<Known>)| ForeignCollection {
            database: place.database.to_owned(),
            collection: place.collection.to_owned(),
            isolation: known.facts.isolation,
            near: known.facts.near.clone(),
            automatic: AutomaticIndexes::default(),
            aside: None,
        };
        Self {
            facts: known.iter().map(|known| known.facts.clone()).collect(),
            named: places.iter().zip(known).map(named).collect(),
        }
    }

    fn ground<'a>(&'a self, none: &'a CollectionFacts) -> Ground<'a> {
        Ground {
            namespaces: &self.facts,
            foreign: &self.named,
            ..Ground::of(none)
        }
    }
}

impl Journey<'_> {
    /// Rewrites and sends the command, after its collections were made ready as for the commands of its statements.
    pub(crate) async fn bulk(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let none = CollectionFacts::default();
        let places = self.bulk_places()?;
        let mut known = Vec::with_capacity(places.len());
        for place in &places {
            let found = self.forward.namespaces.look_up(*place);
            known.push(self.namespace(found).await?);
        }
        let mut namespaces = Namespaces::of(&places, &known);
        // What is refused must leave no trace: collections are made after the command was rewritten.
        let mut scoped = self.rewrite(namespaces.ground(&none))?;
        let prepared = self.prepare_bulk(&places, &mut known, out).await?;
        let Some((is_made, entered)) = prepared else {
            return Ok(());
        };
        if is_made {
            namespaces = Namespaces::of(&places, &known);
            scoped = self.rewrite(namespaces.ground(&none))?;
        }
        let start = out.len();
        let seen = self.exchange(&mut scoped, namespaces.ground(&none), out);
        if seen.await?.is_ok {
            for place in entered.into_iter().filter_map(|index| places.get(index)) {
                self.enter_behind(*place, start, out).await?;
                if !reply::is_ok(out.get(start..).unwrap_or_default()) {
                    return Ok(());
                }
            }
            let made = places.iter().zip(&known).enumerate();
            made.filter(|(index, (_, known))| {
                known.is_own_to_be() && bulk_creates(self.command, *index)
            })
            .for_each(|(_, (place, _))| self.made_own(*place));
        }
        Box::pin(self.give_way_to_bulk(&places, &known, out.get(start..).unwrap_or_default()))
            .await;
        Ok(())
    }

    /// Drops automatic indexes because of which documents could not be stored. The statements are not sent again: others of the
    /// command may have been executed.
    async fn give_way_to_bulk(&self, places: &[Place<'_>], known: &[Arc<Known>], reply: &[u8]) {
        let has_errors = Document::parse_shallow(reply).is_ok_and(|reply| {
            let errors = reply.find("nErrors").and_then(|n| n.as_integer());
            errors.is_some_and(|n| n > 0) || reply.find("code").is_some()
        });
        if !has_errors {
            return;
        }
        let arrays = ParallelArrays::of_bulk_reply(reply);
        if arrays.is_empty() {
            return;
        }
        for (place, known) in places.iter().zip(known) {
            self.makes_room(*place, known, &arrays).await;
        }
    }

    fn bulk_places(&self) -> Result<Vec<Place<'_>>, Refusal> {
        // A server before 8.0 does not have the command: that is said first.
        if self.hello.as_ref().is_none_or(|h| h.wire_version_max < 25) {
            return Ok(Vec::new());
        }
        let names = bulk_collections(self.command, self.control_database())?;
        if names.len() > NAMESPACES_MAX {
            return Err(Refusal::invalid_length(format!(
                "one bulkWrite may name {NAMESPACES_MAX} collections; {} are named",
                names.len()
            )));
        }
        let place = |(database, collection)| Place {
            database,
            ..self.place(collection)
        };
        Ok(names.into_iter().map(place).collect())
    }

    /// Makes the collections that statements may bring into being. Gives whether anything was made, and the places of those
    /// that the transaction has to enter; `None` if the transaction is aborted, and the reply in `out` says so.
    async fn prepare_bulk(
        &self,
        places: &[Place<'_>],
        known: &mut [Arc<Known>],
        out: &mut Vec<u8>,
    ) -> Result<Option<(bool, Vec<usize>)>, Error> {
        let (mut is_made, mut entered) = (false, Vec::new());
        for (index, (place, known)) in places.iter().zip(known).enumerate() {
            if !bulk_creates(self.command, index) || known.is_ready() {
                continue;
            }
            is_made = true;
            if self.in_transaction() {
                let Some(prepared) = self.prepare_inside(*place, out).await? else {
                    return Ok(None);
                };
                entered.extend(prepared.enters.then_some(index));
                if let Some(made) = prepared.made {
                    *known = made;
                }
                continue;
            }
            (*known, _) = self.make_ready(*place).await?;
        }
        Ok(Some((is_made, entered)))
    }
}
