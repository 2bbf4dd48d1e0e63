//! Commands in an app's name without a client: what is done for an app in the background, in the app's own terms.

use std::collections::HashSet;
use std::sync::Arc;

use bson::doc;
use mdb_scope::{AppId, Isolation};
use mdb_wire::{Command, Document};

use crate::catalog::holds_documents;
use crate::control::Control;
use crate::dispatch::Call;
use crate::error::Error;
use crate::identity::{App, Grants, Identity, Validity};
use crate::labels;
use crate::operations::Running;
use crate::reply;
use crate::shared::Shared;

/// The user name under which the proxy works for an app. No client can have it: names are not empty.
const NOBODY: &str = "";

/// Works for one app. Its commands take the same way as those of the app's clients, but for the client.
#[derive(Debug, Clone)]
pub struct Behalf {
    shared: Arc<Shared>,
    identity: Arc<Identity>,
}

/// A collection that an app has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCollection {
    /// Whose it is.
    pub app: AppId,
    /// In this database.
    pub database: String,
    /// By the app's name for it.
    pub collection: String,
}

impl Behalf {
    /// For an app that need not have users.
    pub fn new(shared: Arc<Shared>, app: Arc<App>) -> Self {
        let identity = Identity {
            app,
            username: NOBODY.to_owned(),
            grants: Grants {
                read: true,
                write: true,
                admin: true,
            },
            validity: Validity::default(),
        };
        Self {
            shared,
            identity: Arc::new(identity),
        }
    }

    /// The app.
    pub fn app(&self) -> &AppId {
        &self.identity.app.id
    }

    /// Runs a command and gives its reply, as the app would see it. A refusal, be it of the proxy or of the upstream, is a
    /// reply with `ok: 0`.
    ///
    /// # Errors
    /// Where there was no reply: the upstream is not reachable, or did not answer in time.
    pub async fn run(
        &self,
        database: &str,
        command: &bson::Document,
    ) -> Result<bson::Document, Error> {
        let mut body = command.clone();
        body.insert("$db", database);
        let bytes = body.to_vec().unwrap_or_default();
        let body = Document::parse(&bytes).unwrap_or(Document::EMPTY);
        let call = Call::new(Command::inner(body, database)?, false)?;
        let mut out = Vec::new();
        let forward = &self.shared.forward;
        let operation = Running::unlisted();
        let done = forward.command(&self.shared, &self.identity, &call, &operation, &mut out);
        match Box::pin(done).await {
            Ok(()) => {}
            Err(error) if error.is_outage() => return Err(error),
            Err(error) => {
                if let Error::Unprivileged(reason) = &error {
                    tracing::error!(app = %self.app(), reason, "the upstream refused what is done for an app in the background");
                }
                out.clear();
                reply::for_error(&error, &mut out);
            }
        }
        bson::Document::from_reader(&out[..])
            .map_err(|_| Error::incident("a reply that is no document"))
    }

    /// The names that a collection of the app may have upstream: beside other apps' documents, and apart.
    ///
    /// # Errors
    /// Where the upstream does not answer.
    pub async fn physical_names(&self, collection: &str) -> Result<[String; 2], Error> {
        let shared = &*self.shared;
        let scope = shared.forward.make_scope(shared, &self.identity.app);
        let lost = |error| Error::control(Some(error), labels::NONE);
        let scope = scope.await.map_err(lost)?;
        let name = |isolation| {
            scope
                .physical_collection(collection, isolation)
                .into_owned()
        };
        Ok([Isolation::Shared, Isolation::Dedicated].map(name))
    }

    /// Which of these collections the app has in a database with these physical collections.
    async fn collections(
        &self,
        database: &str,
        physical: &HashSet<String>,
        names: &[String],
    ) -> Result<Vec<String>, mongodb::error::Error> {
        let shared = &*self.shared;
        let scope = shared.forward.make_scope(shared, &self.identity.app);
        let scope = scope.await?;
        let (mut own, mut beside) = (Vec::new(), Vec::new());
        for name in names {
            if physical.contains(&*scope.physical_collection(name, Isolation::Dedicated)) {
                own.push(name.clone());
            } else if physical.contains(name) {
                beside.push(name);
            }
        }
        if beside.is_empty() {
            return Ok(own);
        }
        let client = shared.upstream.control();
        let control = Control::new(client, shared.forward.control_database());
        let entries = control.entries(self.app(), Some(database)).await?;
        for name in beside {
            let entry = entries.iter().find(|e| e.collection == *name);
            let is_sure = entry.is_some_and(|e| !e.is_provisional);
            if is_sure || holds_documents(client, scope, database, name).await? {
                own.push(name.clone());
            }
        }
        Ok(own)
    }
}

/// Where apps have collections of these names: all databases are looked through once for all of them. Views are left out.
///
/// # Errors
/// Where the upstream does not answer.
pub async fn find_collections(
    shared: &Shared,
    wanted: &[(Behalf, Vec<String>)],
) -> Result<Vec<FoundCollection>, Error> {
    let lost = |error| Error::control(Some(error), labels::NONE);
    let client = shared.upstream.control();
    let mut found = Vec::new();
    let control_database = shared.forward.control_database();
    for database in client.list_database_names().await.map_err(lost)? {
        if ["admin", "local", "config", control_database].contains(&database.as_str()) {
            continue;
        }
        let names = client.database(&database);
        let names = names.list_collection_names();
        let names = names.filter(doc! {"type": {"$ne": "view"}}).await;
        let physical: HashSet<String> = names.map_err(lost)?.into_iter().collect();
        for (behalf, names) in wanted {
            let own = behalf.collections(&database, &physical, names).await;
            found.extend(own.map_err(lost)?.into_iter().map(|name| FoundCollection {
                app: behalf.app().clone(),
                database: database.clone(),
                collection: name,
            }));
        }
    }
    Ok(found)
}
