//! The end of a transaction in which a command was refused.

use mdb_scope::CollectionFacts;
use mdb_wire::{Command, Document, Writer};

use crate::belongings::TRANSACTION_FIELDS;
use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;

/// Said before the server looks at the transaction, which goes on (6.0.5); not so of a stage of an `aggregate`.
const NOT_IN_TRANSACTION: i32 = 263;

impl Journey<'_> {
    /// Aborts the command's transaction upstream, if the server would have: a command that fails aborts the transaction that
    /// it belongs to (6.0.5), also when it fails in the proxy. Nothing else comes of it; the client hears of its own command.
    pub(crate) async fn abandon(&self, error: &Error) {
        let is_refused = match error {
            Error::Refusal(refusal) => {
                refusal.code != NOT_IN_TRANSACTION || self.spec.name == "aggregate"
            }
            _ => false,
        };
        if is_refused && self.in_transaction() && self.abort().await.is_err() {
            // A transaction that could not be reached ends by itself.
            tracing::debug!("a refused command's transaction was not aborted");
        }
    }

    /// Aborts the command's transaction upstream.
    pub(crate) async fn abort(&self) -> Result<(), Error> {
        let mut w = Writer::default();
        let mark = w.begin();
        w.int32(b"abortTransaction", 1);
        for key in TRANSACTION_FIELDS {
            if let Some(element) = self.command.body.find(key) {
                w.element(&element);
            }
        }
        w.string(b"$db", "admin");
        w.end(mark);
        let bytes = w.into_bytes();
        let Ok(body) = Document::parse(&bytes) else {
            return Ok(());
        };
        let command = Command::inner(body, "admin")?;
        let journey = self.with_command(&command)?;
        let none = CollectionFacts::default();
        let mut scoped = journey.rewrite(Ground::of(&none))?;
        journey
            .exchange(&mut scoped, Ground::of(&none), &mut Vec::new())
            .await?;
        Ok(())
    }
}
