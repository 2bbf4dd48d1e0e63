//! What other proxies change, told by the catalog: without it a proxy would learn only when it reads a collection's facts
//! anew.

use std::sync::Weak;
use std::time::Duration;

use bson::Document;
use futures_util::StreamExt;
use mdb_scope::{AppId, named_by_entry};
use mongodb::Client;
use mongodb::error::Error as DriverError;
use tokio::time::sleep;

use super::{Namespaces, server_code};
use crate::control::Control;

/// Between attempts to listen, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The upstream has no change streams (40573: a standalone), or does not let the proxy's user open one (13).
const UNAVAILABLE: [i32; 2] = [40573, 13];

/// Forgets what the catalog says has changed, until the namespaces are gone.
pub(crate) async fn follow(known: Weak<Namespaces>, client: Client, control_database: String) {
    let mut pause = PAUSE_MIN;
    loop {
        let control = Control::new(&client, &control_database);
        match listen(&known, &control, &mut pause).await {
            Ok(()) => return,
            Err(error) if server_code(&error).is_some_and(|code| UNAVAILABLE.contains(&code)) => {
                tracing::debug!(%error, "changes of other proxies are seen when facts are read anew");
                return;
            }
            Err(error) => tracing::debug!(%error, "changes of other proxies are not seen at once"),
        }
        if known.strong_count() == 0 {
            return;
        }
        sleep(pause).await;
        pause = PAUSE_MAX.min(pause * 2);
    }
}

/// Listens as long as the stream goes on. `Ok` when nobody needs the facts any more.
async fn listen(
    known: &Weak<Namespaces>,
    control: &Control<'_>,
    pause: &mut Duration,
) -> Result<(), DriverError> {
    let mut changes = control.changes().await?;
    *pause = PAUSE_MIN;
    // What has changed before is not told.
    match known.upgrade() {
        Some(namespaces) => namespaces.forget_all(),
        None => return Ok(()),
    }
    while let Some(change) = changes.next().await {
        let key: Option<Document> = change?.document_key;
        let Some(namespaces) = known.upgrade() else {
            return Ok(());
        };
        let id = key.as_ref().and_then(|key| key.get_str("_id").ok());
        if let Some((slug, database, collection)) = id.and_then(named_by_entry)
            && let Ok(app) = AppId::parse(slug)
        {
            namespaces.forget_named(&app, database, collection);
        }
    }
    Err(DriverError::custom(
        "the stream of changes of the catalog has ended",
    ))
}
