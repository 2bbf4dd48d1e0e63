//! How a client gets more of a cursor.

use mdb_scope::{CollectionFacts, Refusal, ReplyRule, check_get_more, cursor_not_found};
use mdb_wire::{Element, Kind};
use tokio::time::Instant;

use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::listing::collection_uuid;
use crate::namespaces::Place;

/// `QueryPlanKilled`.
const KILLED: i32 = 175;

impl Journey<'_> {
    /// Servers look at the size of a batch before they look for its cursor.
    ///
    /// # Errors
    /// 14 for what is no number, 51024 below 0, in mongod's words (5.0.4, 6.0.5).
    fn check_batch_size(&self) -> Result<(), Refusal> {
        let size = self.command.body.find("batchSize");
        let is_null = |e: &Element<'_>| matches!(e.kind, Kind::Null | Kind::Undefined);
        let Some(size) = size.filter(|size| !is_null(size)) else {
            return Ok(());
        };
        if size.as_flag().is_none() && size.kind != Kind::Decimal128 || size.kind == Kind::Boolean {
            return Err(Refusal::wrong_number("getMore.batchSize", size.kind.name()));
        }
        let Some(size) = size.as_truncated() else {
            return Ok(());
        };
        if size < 0 {
            return Err(Refusal::below_minimum(format!(
                "BSON field 'batchSize' value must be >= 0, actual value '{size}'"
            )));
        }
        Ok(())
    }

    /// `getMore`: goes to the member that holds the cursor, and tells the proxy when that is exhausted or gone.
    pub(crate) async fn get_more(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        check_get_more(self.spec, self.command, self.is_before_five())?;
        let id = self.command.target.as_integer().unwrap_or_default();
        let app = &self.identity.app.id;
        let cursor = self.shared.cursors.look_up(app, id, Instant::now());
        let Some(cursor) = cursor else {
            self.check_batch_size()?;
            return Err(cursor_not_found(&self.command.target).into());
        };
        let facts_of_cursor = cursor.facts();
        let none = CollectionFacts {
            isolation: cursor.isolation,
            ..CollectionFacts::default()
        };
        let ground = Ground {
            foreign: &cursor.foreign,
            continues: Some((cursor.upstream_id, id)),
            ..Ground::of(&none)
        };
        let mut scoped = self.with_facts(ground, |facts| {
            self.scope
                .get_more(self.spec, self.command, facts, &facts_of_cursor)
        })?;
        if let Some(why) = self.shared.cursors.ended(app, id) {
            self.shared.cursors.close(app, id);
            self.close_upstream(Some(facts_of_cursor)).await;
            return Err(Refusal::query_plan_killed(&*why).into());
        }
        let mut is_open = false;
        let result = self
            .exchange_with(&mut scoped, ground, out, &mut |_, _, _| {
                is_open = true;
                Ok(id)
            })
            .await;
        let ended = match &result {
            Ok(exchanged) if exchanged.seen.is_ok => !is_open,
            Ok(exchanged) => exchanged.seen.code.is_some_and(ends_cursor),
            Err(_) => true,
        };
        if ended {
            self.shared.cursors.close(app, id);
        }
        let exchanged = result.map_err(|error| match cursor.rule {
            ReplyRule::Events { .. } => error.resumable(),
            _ => error,
        })?;
        self.close_upstream(exchanged.ended).await;
        Ok(())
    }
}

impl Journey<'_> {
    /// Ends the app's cursors of finds in a shared collection that was dropped, or renamed `to` another one.
    pub(crate) fn end_finds(&self, of: Place<'_>, to: Option<Place<'_>>) {
        let (app, database) = (self.scope.app(), of.database);
        let what = match to {
            None => "collection dropped".to_owned(),
            Some(to) => format!(
                "collection renamed from '{database}.{}' to '{}.{}'",
                of.collection, to.database, to.collection
            ),
        };
        let uuid = bson::Uuid::from_bytes(collection_uuid(app, database, of.collection));
        let why = format!("{what}. UUID {uuid}");
        let cursors = &self.shared.cursors;
        cursors.end_finds(app, (database, of.collection), &why);
    }
}

/// Codes after which the server has no such cursor any more.
fn ends_cursor(code: i32) -> bool {
    // CursorNotFound, CursorKilled, QueryPlanKilled, OperationFailed, CappedPositionLost.
    matches!(code, 43 | 237 | KILLED | 96 | 136)
}
