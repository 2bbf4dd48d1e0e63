//! The write concern of what the proxy does in several steps of its own, as of a `drop` from a shared collection.

use mdb_scope::{Awaited, COMPOSED_WRITES, CollectionFacts, awaited};
use mdb_wire::Document;

use crate::catalog::patch_reply;
use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;

impl Journey<'_> {
    /// What is to be awaited by the command's write concern, once it is done.
    fn awaited(&self) -> Awaited {
        if self.in_transaction() {
            return Awaited::Nothing;
        }
        awaited(self.command)
    }

    /// Whether the server takes the write concern of a command, asked before anything is written. Otherwise what it says is
    /// appended to `out`.
    pub(crate) async fn takes_write_concern(&self, out: &mut Vec<u8>) -> Result<bool, Error> {
        if !COMPOSED_WRITES.contains(&self.spec.name) || self.awaited() != Awaited::Unchecked {
            return Ok(true);
        }
        let mut answer = Vec::new();
        if self.ask_for_write_concern(true, &mut answer).await? {
            return Ok(true);
        }
        out.extend(answer);
        Ok(false)
    }

    /// Waits for the write concern of a command whose reply begins at `start`; where it does not hold, the reply says so. Where
    /// that cannot be found out, the command fails: what it has done may be lost.
    pub(crate) async fn await_write_concern(
        &self,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), Error> {
        let is_write = COMPOSED_WRITES.contains(&self.spec.name) || self.spec.name == "aggregate";
        if !is_write || self.awaited() == Awaited::Nothing {
            return Ok(());
        }
        let reply = out.get(start..).unwrap_or_default();
        let reply = Document::parse_shallow(reply).unwrap_or(Document::EMPTY);
        let is_done = reply.find("ok").and_then(|ok| ok.as_flag()) == Some(true);
        if !is_done || reply.find("writeConcernError").is_some() {
            return Ok(());
        }
        let mut answer = Vec::new();
        if !self.ask_for_write_concern(false, &mut answer).await? {
            out.truncate(start);
            out.extend(answer);
            return Ok(());
        }
        let answer = Document::parse_shallow(&answer).unwrap_or(Document::EMPTY);
        let Some(error) = answer.find("writeConcernError") else {
            return Ok(());
        };
        patch_reply(out, start, &mut |w, element| {
            if element.key == b"ok" {
                w.element(&error);
            }
            w.element(element);
        });
        Ok(())
    }

    /// Whether the server takes it; its answer is appended to `out`.
    async fn ask_for_write_concern(&self, checks: bool, out: &mut Vec<u8>) -> Result<bool, Error> {
        let none = CollectionFacts::default();
        let ground = Ground::of(&none);
        let mut scoped = self.with_facts(ground, |facts| {
            self.scope.awaiting(self.command, facts, checks)
        })?;
        Ok(self.exchange(&mut scoped, ground, out).await?.is_ok)
    }
}
