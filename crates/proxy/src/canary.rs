//! Marked documents of one app, planted in every shared collection: none of them may ever leave for another app.

use std::sync::Arc;

use bson::doc;
use mdb_scope::AppId;
use memchr::memmem::Finder;
use mongodb::Client;
use mongodb::error::Error as DriverError;
use quick_cache::sync::Cache;
use tokio::sync::OnceCell;

use crate::control::Control;

/// Collections that are remembered as planted. One that is forgotten is planted again, which changes nothing.
const PLANTED_MAX: usize = 20_000;

/// The app whose documents are marked, and the mark.
#[derive(Debug)]
pub(crate) struct Canary {
    app: AppId,
    mark: OnceCell<Mark>,
    planted: Arc<Cache<Box<str>, ()>>,
}

#[derive(Debug)]
struct Mark {
    text: String,
    finder: Finder<'static>,
}

impl Canary {
    pub(crate) fn new(app: AppId) -> Self {
        Self {
            app,
            mark: OnceCell::new(),
            planted: Arc::new(Cache::new(PLANTED_MAX)),
        }
    }

    /// Learns the mark, which all proxies of the deployment share.
    pub(crate) async fn learn(&self, control: &Control<'_>) -> Result<(), DriverError> {
        let read = || async {
            let text = control.canary_mark().await?;
            let finder = Finder::new(&text).into_owned();
            Ok(Mark { text, finder })
        };
        self.mark.get_or_try_init(read).await.map(|_| ())
    }

    /// Whether a reply for `app` carries the mark of another's documents.
    pub(crate) fn sings(&self, app: &AppId, reply: &[u8]) -> bool {
        *app != self.app
            && self
                .mark
                .get()
                .is_some_and(|mark| mark.finder.find(reply).is_some())
    }

    /// Plants a marked document in a shared collection, unless it was done, without letting anybody wait.
    pub(crate) fn plant(&self, client: &Client, field: &str, database: &str, collection: &str) {
        let namespace = format!("{database}.{collection}").into_boxed_str();
        let Some(mark) = self.mark.get() else {
            return;
        };
        if self.planted.get(&namespace).is_some() {
            return;
        }
        self.planted.insert(namespace.clone(), ());
        let documents = client
            .database(database)
            .collection::<bson::Document>(collection);
        let own = doc! {"_id": &mark.text, field: self.app.as_str()};
        // Names that queries of apps ask for.
        let fields = doc! {"$setOnInsert": {
            "name": &mark.text, "title": &mark.text, "email": &mark.text, "status": &mark.text,
            "value": &mark.text, "tags": [&mark.text], "data": {"value": &mark.text},
        }};
        let planted = Arc::clone(&self.planted);
        tokio::spawn(async move {
            if let Err(error) = documents.update_one(own, fields).upsert(true).await {
                planted.remove(&namespace);
                tracing::warn!(%namespace, %error, "the canary's document could not be planted");
            }
        });
    }
}
