//! Indexes that manifests ask for: built, changed and dropped in the background, as the app itself would do it.
//!
//! - [`Declared`] is told what manifests say and which collections came to be, and tells what could not be built.
//! - [`Worker`] looks at each collection that has wishes: `plan` compares, `carry_out` does what is to be done, under the lease
//!   of [`crate::lease`].
//! - Physical forms are not known here: commands go through [`Apps`], in the app's own terms.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bson::Document;
use tokio::sync::Notify;

use crate::table::Namespace;

mod carry_out;
mod plan;
mod reason;
mod records;
mod wish;
mod worker;

pub use reason::Reason;
pub use wish::Wish;
pub use worker::Worker;

/// Collections that came to be and that nobody has looked at yet. Beyond it all of them are looked for.
const MADE_MAX: usize = 10_000;

/// A collection of an app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The app's slug.
    pub app: String,
    /// The database.
    pub database: String,
    /// The app's name for the collection.
    pub collection: String,
}

impl Place {
    fn id(&self) -> String {
        format!("{}/{}.{}", self.app, self.database, self.collection)
    }

    /// From what [`Place::id`] gave. Neither slugs nor names of databases hold what ends them.
    fn of_id(id: &str) -> Option<Self> {
        let (app, namespace) = id.split_once('/')?;
        let (database, collection) = namespace.split_once('.')?;
        Some(Self {
            app: app.to_owned(),
            database: database.to_owned(),
            collection: collection.to_owned(),
        })
    }

    fn namespace(&self) -> String {
        format!("{}.{}", self.database, self.collection)
    }
}

/// No answer: the deployment is not reachable at the moment.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// Works for apps, in their own terms.
pub trait Apps: Send + Sync + 'static {
    /// Runs a command of the app on a database and gives the reply, also one that says `ok: 0`.
    fn run(
        &self,
        place: &Place,
        command: Document,
    ) -> impl Future<Output = Result<Document, Unanswered>> + Send;

    /// Where the documents of a collection may be upstream: beside those of other apps, or apart.
    fn physical(
        &self,
        place: &Place,
    ) -> impl Future<Output = Result<Vec<Namespace>, Unanswered>> + Send;

    /// Where these apps have collections of these names, in any database.
    fn find(
        &self,
        wanted: Vec<(String, Vec<String>)>,
    ) -> impl Future<Output = Result<Vec<Place>, Unanswered>> + Send;
}

/// What one manifest says of indexes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declaration {
    /// By the name of a collection, in any database.
    pub indexes: BTreeMap<String, Vec<Wish>>,
    /// Names of search indexes, likewise: they cannot be had.
    pub search: BTreeMap<String, Vec<String>>,
    /// Whether what was built and is asked for no more is dropped.
    pub prune: bool,
}

impl Declaration {
    fn is_about(&self, collection: &str) -> bool {
        self.indexes.contains_key(collection) || self.search.contains_key(collection)
    }

    /// The collections that it is about.
    pub(crate) fn collections(&self) -> BTreeSet<String> {
        let all = self.indexes.keys().chain(self.search.keys());
        all.cloned().collect()
    }
}

/// An index that could not be built.
#[derive(Debug, Clone, PartialEq)]
pub struct Degraded {
    /// Where it should be.
    pub place: Place,
    /// Its name.
    pub index: String,
    /// Why it is not.
    pub reason: Reason,
}

/// What manifests ask for. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    apps: BTreeMap<String, Arc<Declaration>>,
    /// Apps whose collections are to be looked for.
    changed: BTreeSet<String>,
    made: BTreeSet<Place>,
    degraded: BTreeMap<Place, BTreeMap<String, Reason>>,
}

impl Declared {
    /// From now on the app's manifest says this. Returns at once: the work is done in the background.
    pub fn apply(&self, app: &str, declaration: Declaration) {
        let mut state = self.state();
        let before = state.apps.get(app);
        if before.is_some_and(|before| **before == declaration) {
            return;
        }
        state.apps.insert(app.to_owned(), Arc::new(declaration));
        state.changed.insert(app.to_owned());
        drop(state);
        self.news.notify_one();
    }

    /// The app has no manifest any more. What it has stays as it is.
    pub fn forget(&self, app: &str) {
        let mut state = self.state();
        state.apps.remove(app);
        state.changed.remove(app);
        state.degraded.retain(|place, _| place.app != app);
    }

    /// The apps that have a manifest.
    pub fn apps(&self) -> Vec<String> {
        self.state().apps.keys().cloned().collect()
    }

    /// An app has made a collection. Costs a look into a map, and never waits for work.
    pub fn made(&self, app: &str, database: &str, collection: &str) {
        let mut state = self.state();
        let declaration = state.apps.get(app);
        if !declaration.is_some_and(|of| of.is_about(collection)) {
            return;
        }
        if state.made.len() < MADE_MAX {
            state.made.insert(Place {
                app: app.to_owned(),
                database: database.to_owned(),
                collection: collection.to_owned(),
            });
        } else {
            state.changed.insert(app.to_owned());
        }
        drop(state);
        self.news.notify_one();
    }

    /// What could not be built, in the order of apps and collections.
    pub fn degraded(&self) -> Vec<Degraded> {
        let state = self.state();
        let of_place = |(place, indexes): (&Place, &BTreeMap<String, Reason>)| {
            let of_index = |(index, reason): (&String, &Reason)| Degraded {
                place: place.clone(),
                index: index.clone(),
                reason: reason.clone(),
            };
            indexes.iter().map(of_index).collect::<Vec<_>>()
        };
        state.degraded.iter().flat_map(of_place).collect()
    }

    /// A value is whole between any two calls, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn declaration(collection: &str) -> Declaration {
        let wish = Wish::new("a", doc! {"a": 1}, []);
        Declaration {
            indexes: BTreeMap::from([(collection.to_owned(), vec![wish])]),
            ..Declaration::default()
        }
    }

    #[test]
    fn ids_tell_places() {
        let place = Place {
            app: "shop".to_owned(),
            database: "main".to_owned(),
            collection: "a/b.c".to_owned(),
        };
        assert_eq!(place.id(), "shop/main.a/b.c");
        assert_eq!(Place::of_id(&place.id()), Some(place));
        assert_eq!(Place::of_id("shop"), None);
    }

    #[test]
    fn only_what_is_asked_for_is_news() {
        let declared = Declared::default();
        declared.apply("shop", declaration("orders"));
        declared.made("shop", "main", "orders");
        declared.made("shop", "main", "other");
        declared.made("notes", "main", "orders");
        assert_eq!(declared.state().made.len(), 1);
        declared.state().changed.clear();
        declared.apply("shop", declaration("orders"));
        assert!(declared.state().changed.is_empty());
        declared.apply("shop", declaration("other"));
        assert!(declared.state().changed.contains("shop"));
        declared.forget("shop");
        assert!(declared.state().changed.is_empty() && declared.apps().is_empty());
    }

    #[test]
    fn what_cannot_be_remembered_is_looked_for() {
        let declared = Declared::default();
        declared.apply("shop", declaration("orders"));
        declared.state().changed.clear();
        for database in 0..=MADE_MAX {
            declared.made("shop", &database.to_string(), "orders");
        }
        assert_eq!(declared.state().made.len(), MADE_MAX);
        assert!(declared.state().changed.contains("shop"));
    }
}
