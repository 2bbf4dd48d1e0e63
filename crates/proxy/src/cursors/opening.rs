//! Cursors that a command opens.

use mdb_scope::{Isolation, ReplyRule};
use mdb_upstream::Lease;
use mdb_wire::Command;
use tokio::time::Instant;

use super::Cursor;
use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;

impl Journey<'_> {
    /// Enters a cursor that the command opened, and gives the id for its client.
    pub(crate) fn open_cursor(
        &self,
        lease: &Lease,
        rule: ReplyRule,
        ground: Ground<'_>,
        upstream_id: i64,
    ) -> Result<i64, Error> {
        let cursor = self.cursor(lease, rule, ground, upstream_id);
        let cursors = &self.shared.cursors;
        let (app, max) = (&self.identity.app, self.shared.limits.cursors_per_app_max);
        let id = cursors.open(app, cursor, max, Instant::now())?;
        if let Some(owner) = &self.operation.owner {
            cursors.assign(id, owner);
        }
        Ok(id)
    }

    /// A cursor that the command opened, as it would be entered.
    pub(crate) fn cursor(
        &self,
        lease: &Lease,
        rule: ReplyRule,
        ground: Ground<'_>,
        upstream_id: i64,
    ) -> Cursor {
        let body = self.command.body;
        let lsid = body.find("lsid").and_then(|e| e.as_document()?.find("id"));
        let is_endless = body.find("noCursorTimeout").and_then(|e| e.as_flag()) == Some(true);
        Cursor {
            app: self.identity.app.id.clone(),
            server: lease.server().clone(),
            upstream_id,
            database: self.command.database.into(),
            collection: cursor_collection(self.command).into(),
            // The name of a cursor of a database is the same upstream.
            isolation: match self.command.target.as_str() {
                Some(_) => ground.collection.isolation,
                None => Isolation::Shared,
            },
            lsid: lsid
                .and_then(|id| id.as_binary())
                .map(|(_, bytes)| bytes.into()),
            rule,
            foreign: ground.foreign.into(),
            command: self.spec.name,
            no_cursor_timeout: is_endless,
            client: self.operation.client,
        }
    }
}

/// What `getMore` will name as the cursor's collection.
fn cursor_collection<'a>(command: &Command<'a>) -> &'a str {
    match command.name {
        b"bulkWrite" => "$cmd.bulkWrite",
        // The name that servers give to cursors of a database.
        _ => command.target.as_str().unwrap_or("$cmd.aggregate"),
    }
}
