//! Automatic indexes give way to documents that they do not take: those with arrays in two of their fields.

use mdb_scope::{ForeignCollection, Glance, Race, glance};
use mdb_wire::Document;

use crate::automatic::ParallelArrays;
use crate::error::Error;
use crate::forward::Journey;
use crate::namespaces::{Known, Place};
use crate::reply;

impl Journey<'_> {
    /// Drops automatic indexes because of which the reply behind `start` says that documents could not be stored, and stores
    /// those that can be sent again: not what an update of many had begun, nor what is of a transaction. The app's next write
    /// finds the indexes gone. Gives what the new reply says, if there is one.
    pub(crate) async fn store_after_all(
        &self,
        place: Place<'_>,
        known: &Known,
        foreign: &[ForeignCollection],
        (start, out): (usize, &mut Vec<u8>),
    ) -> Result<Option<Glance>, Error> {
        let arrays = ParallelArrays::of_reply(out.get(start..).unwrap_or_default());
        if !self.makes_room(place, known, &arrays).await || self.in_transaction() {
            return Ok(None);
        }
        match self.spec.name {
            "insert" | "update" => self.send_rest(known, foreign, (start, out)).await,
            "findAndModify" => {
                out.truncate(start);
                self.resend(known, foreign, out).await.map(Some)
            }
            // A stage that writes does not say what it has written.
            _ => Ok(None),
        }
    }

    /// Drops automatic indexes that hold two of these arrays. Gives whether any is gone; where that fails, what the server said
    /// of the write counts.
    pub(crate) async fn makes_room(
        &self,
        place: Place<'_>,
        known: &Known,
        arrays: &[ParallelArrays],
    ) -> bool {
        let gives_way = self.give_way_to_arrays(place, known, arrays).await;
        gives_way.unwrap_or_else(|error| {
            tracing::debug!(%error, "an automatic index could not make room");
            false
        })
    }

    /// Sends the statements that failed, and, where they are ordered, those behind them; makes one reply of both.
    async fn send_rest(
        &self,
        known: &Known,
        foreign: &[ForeignCollection],
        (start, out): (usize, &mut Vec<u8>),
    ) -> Result<Option<Glance>, Error> {
        let mut race = Race::of_arrays(self.command);
        let first = out.get(start..).unwrap_or_default();
        let first = Document::parse_shallow(first).unwrap_or(Document::EMPTY);
        let Some(statements) = race.after_reply(first, false) else {
            return Ok(None);
        };
        let ground = known.ground(foreign);
        let mut scoped = self.with_facts(ground, |facts| {
            self.scope
                .apply_again(self.spec, self.command, facts, statements)
        })?;
        let mut second = Vec::new();
        self.exchange(&mut scoped, ground, &mut second).await?;
        if !reply::is_ok(&second) {
            // Nothing of the rest was done: what was said first counts.
            return Ok(None);
        }
        let last = Document::parse_shallow(&second).unwrap_or(Document::EMPTY);
        let is_late = true;
        race.after_reply(last, is_late);
        out.truncate(start);
        out.extend(race.reply(last));
        let whole = out.get(start..).unwrap_or_default();
        Ok(Document::parse_shallow(whole).ok().map(glance))
    }
}
