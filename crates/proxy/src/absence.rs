//! What a command tells of a collection that other apps have, and the app has not.

use std::sync::Arc;

use mdb_scope::{Behind, CommandSpec, names_index, needs_index};
use mdb_wire::{Command, Document};

use crate::error::Error;
use crate::forward::Journey;
use crate::namespaces::{Known, Place};

/// How many views may stand on one another, as on a server (6.0.5).
const VIEWS_MAX: usize = 20;

impl Journey<'_> {
    /// What is to be known of a collection where the reply would tell whether there is one, whosever it is: of one that the app
    /// does not have, that a collection of its own is not there.
    pub(crate) async fn absence(
        &self,
        place: Place<'_>,
        known: Arc<Known>,
    ) -> Result<Arc<Known>, Error> {
        if known.facts.is_view && names_index(self.command) {
            return Ok(Arc::new(known.over(self.behind(place).await?)));
        }
        let known = if self.fails_without_index(&known) {
            // Another proxy may have made the index just now.
            let newest = self.forward.namespaces.refresh(place);
            self.namespace(newest).await?
        } else if self.tells_of_collection() && known.exists {
            known
        } else {
            return Ok(known);
        };
        Ok(if self.has(place, &known).await? {
            known
        } else {
            Arc::new(Known::dedicated(false))
        })
    }

    /// The collection behind a view.
    async fn behind(&self, view: Place<'_>) -> Result<Behind, Error> {
        let mut name = view.collection.to_owned();
        for _ in 0..VIEWS_MAX {
            let control = view.control();
            let entry = control.entry(self.scope.app(), view.database, &name);
            let entry = self.driver(entry).await?;
            let source =
                entry.and_then(|entry| entry.view?.get_str("viewOn").map(str::to_owned).ok());
            if let Some(source) = source {
                name = source;
                continue;
            }
            let place = Place {
                collection: &name,
                isolation: self.identity.app.isolation.of(&name),
                ..view
            };
            let known = self
                .namespace(self.forward.namespaces.refresh(place))
                .await?;
            return Ok(match self.has(place, &known).await? {
                _ if known.facts.is_view => Behind::Unknown,
                true => Behind::Collection(Box::new(known.facts.clone())),
                false => Behind::Absent,
            });
        }
        Ok(Behind::Unknown)
    }

    /// Whether the reply tells if there is a collection: a plan does so, and the error of a tailable cursor, which only capped
    /// collections have.
    fn tells_of_collection(&self) -> bool {
        let is_tailable = self.command.body.find("tailable").and_then(|t| t.as_flag());
        self.explains() || self.spec.name == "find" && is_tailable == Some(true)
    }

    /// Whether the command fails on a shared collection for an index that the app does not have. Where the app does not have the
    /// collection either, a server finds nothing in it, or says that.
    fn fails_without_index(&self, known: &Known) -> bool {
        !known.facts.is_dedicated()
            && known.facts.indexes.is_empty()
            && !self.in_transaction()
            && !may_create(self.spec, self.command)
            && needs_index(self.command)
    }
}

/// Whether this holds of any statement of an `update`.
fn any_statement(command: &Command<'_>, holds: impl Fn(Document<'_>) -> bool) -> bool {
    let in_sequence = command.sequence("updates");
    let in_body = command.body.find("updates").and_then(|e| e.as_array());
    in_sequence.is_some_and(|s| s.documents().any(&holds))
        || in_body.is_some_and(|a| a.elements().filter_map(|e| e.as_document()).any(&holds))
}

/// Whether a command can bring its collection into being: an insert, or any upsert.
pub(crate) fn may_create(spec: &CommandSpec, command: &Command<'_>) -> bool {
    let upserts =
        |statement: Document<'_>| statement.find("upsert").and_then(|e| e.as_flag()) == Some(true);
    match spec.name {
        "insert" => true,
        "findAndModify" => upserts(command.body),
        "update" => any_statement(command, upserts),
        _ => false,
    }
}
