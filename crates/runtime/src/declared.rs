//! From `managed_indexes` of manifests to the worker that builds them, and from the worker to the proxy.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bson::{Bson, Document};
use mdb_indexer::Namespace;
use mdb_indexer::declared::{Apps, Declaration, Declared, Place, Unanswered, Wish, Worker};
use mdb_manifest::{AppManifest, Direction, ManagedIndex, Value};
use mdb_proxy::{Behalf, FoundCollection, Shared, find_collections};

use crate::credentials::apps_of;

/// What the worker needs of the proxy. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredIndexes {
    shared: Arc<Shared>,
    declared: Declared,
    /// Made when they are first needed.
    behalves: Arc<Mutex<HashMap<String, Behalf>>>,
}

impl DeclaredIndexes {
    /// `declared` is what [`Shared`]'s news are told to.
    pub(crate) fn new(shared: Arc<Shared>, declared: Declared) -> Self {
        Self {
            shared,
            declared,
            behalves: Arc::default(),
        }
    }

    /// From now on manifests say this, whose users are in force already. Apps that nobody can log in to are left alone, as are
    /// those that have no manifest any more. Returns at once.
    pub(crate) fn apply(&self, manifests: &[AppManifest]) {
        self.behalves().clear();
        let is_served = |manifest: &&AppManifest| !manifest.credentials.is_empty();
        let served: Vec<_> = manifests.iter().filter(is_served).collect();
        let slugs: HashSet<&str> = served
            .iter()
            .map(|manifest| manifest.slug.as_str())
            .collect();
        for gone in self.declared.apps() {
            if !slugs.contains(gone.as_str()) {
                self.declared.forget(&gone);
                self.shared.metrics.set_degraded_indexes(&gone, 0);
            }
        }
        for manifest in served {
            self.declared
                .apply(manifest.slug.as_str(), declaration(manifest));
        }
    }

    /// The worker, to be run once.
    pub(crate) fn worker(&self, control_database: &str) -> Worker<Self> {
        let shared = &self.shared;
        Worker::new(
            self.declared.clone(),
            self.clone(),
            shared.upstream.control(),
            control_database,
            shared.metrics.clone(),
        )
    }

    fn behalf(&self, app: &str) -> Result<Behalf, Unanswered> {
        if let Some(behalf) = self.behalves().get(app) {
            return Ok(behalf.clone());
        }
        let in_force = self
            .shared
            .with_users(|users| apps_of(users).get(app).map(|&found| Arc::clone(found)));
        let Some(in_force) = in_force else {
            return Err(Unanswered("the app is not served any more".to_owned()));
        };
        let behalf = Behalf::new(Arc::clone(&self.shared), in_force);
        self.behalves().insert(app.to_owned(), behalf.clone());
        Ok(behalf)
    }

    /// A value is whole between any two calls, so a panic elsewhere does not spoil it.
    fn behalves(&self) -> MutexGuard<'_, HashMap<String, Behalf>> {
        self.behalves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Apps for DeclaredIndexes {
    async fn run(&self, place: &Place, command: Document) -> Result<Document, Unanswered> {
        let behalf = self.behalf(&place.app)?;
        let reply = behalf.run(&place.database, &command).await;
        reply.map_err(|error| Unanswered(error.to_string()))
    }

    async fn physical(&self, place: &Place) -> Result<Vec<Namespace>, Unanswered> {
        let behalf = self.behalf(&place.app)?;
        let names = behalf.physical_names(&place.collection).await;
        let names = names.map_err(|error| Unanswered(error.to_string()))?;
        let namespace = |collection| Namespace {
            database: place.database.clone(),
            collection,
        };
        Ok(names.map(namespace).into())
    }

    async fn find(&self, wanted: Vec<(String, Vec<String>)>) -> Result<Vec<Place>, Unanswered> {
        let wanted: Result<Vec<_>, _> = wanted
            .into_iter()
            .map(|(app, names)| Ok((self.behalf(&app)?, names)))
            .collect();
        let found = find_collections(&self.shared, &wanted?).await;
        let found = found.map_err(|error| Unanswered(error.to_string()))?;
        let place = |found: FoundCollection| Place {
            app: found.app.as_str().to_owned(),
            database: found.database,
            collection: found.collection,
        };
        Ok(found.into_iter().map(place).collect())
    }
}

/// What a manifest says of indexes, in the worker's terms.
fn declaration(manifest: &AppManifest) -> Declaration {
    let mut indexes: BTreeMap<String, Vec<Wish>> = BTreeMap::new();
    let mut search: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for index in &manifest.managed_indexes {
        let collection = index.collection.clone();
        if index.is_search {
            search
                .entry(collection)
                .or_default()
                .push(index.name.clone());
        } else {
            indexes.entry(collection).or_default().push(wish(index));
        }
    }
    Declaration {
        indexes,
        search,
        prune: manifest.prune,
    }
}

fn wish(index: &ManagedIndex) -> Wish {
    let key = index.keys.iter();
    let key = key.map(|key| (key.field.clone(), direction(key.direction)));
    let options = index.options.iter();
    let options = options.map(|(name, value)| (name.clone(), bson(value)));
    Wish::new(index.name.clone(), key.collect(), options)
}

fn direction(direction: Direction) -> Bson {
    match direction {
        Direction::Ascending => Bson::Int32(1),
        Direction::Descending => Bson::Int32(-1),
        special => Bson::String(special.as_str().to_owned()),
    }
}

fn bson(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Boolean(value) => Bson::Boolean(*value),
        Value::Integer(value) => i32::try_from(*value).map_or(Bson::Int64(*value), Bson::Int32),
        Value::Float(value) => Bson::Double(*value),
        Value::Text(value) => Bson::String(value.clone()),
        Value::List(values) => Bson::Array(values.iter().map(bson).collect()),
        Value::Mapping(fields) => {
            let field = |(name, value): &(String, Value)| (name.clone(), bson(value));
            Bson::Document(fields.iter().map(field).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_manifest_says_what_create_indexes_says() {
        let text = "version: \"3.0\"\nslug: a\nprune: true\nmanaged_indexes:\n  c:\n    - keys: { a: 1, g: 2dsphere }\n      \
                    unique: false\n      partialFilterExpression: { a: { $gt: 1.5 }, b: [x, null, 4294967296] }\n";
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), text).unwrap();
        let loaded = mdb_manifest::load_apps(directory.path(), &|_| None).unwrap();
        let declaration = declaration(&loaded.apps[0]);
        assert!(declaration.prune);
        let filter = doc! {"a": {"$gt": 1.5}, "b": ["x", null, 4_294_967_296_i64]};
        let expected = doc! {
            "key": {"a": 1, "g": "2dsphere"}, "name": "a_1_g_2dsphere", "partialFilterExpression": filter,
        };
        assert_eq!(declaration.indexes["c"][0].definition(), expected);
    }
}
