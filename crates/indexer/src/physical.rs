//! Indexes as the server has them.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mdb_scope::{AppId, Isolation, automatic_index_name, automatic_index_shown};
use mdb_shape::{Direction, ExistingIndex, IndexKey};
use mongodb::Client;
use mongodb::error::{Error as DriverError, ErrorKind};

use crate::table::Namespace;

/// The wire version from which indexes of one key with other filters may stand side by side (5.0).
const WIRE_OF_TWINS: i32 = 13;

/// An index that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) namespace: Namespace,
    pub(crate) isolation: Isolation,
    /// Of one app's documents only.
    pub(crate) app: Option<AppId>,
    pub(crate) key: IndexKey,
    pub(crate) collation: Option<Vec<u8>>,
}

impl Wanted {
    /// Its name upstream.
    pub(crate) fn name(&self) -> String {
        let key = self.key.to_string();
        let key = match &self.collation {
            None => key,
            Some(bytes) => {
                let collation: Document = bson::deserialize_from_slice(bytes).unwrap_or_default();
                let strength = collation.get_i32("strength").unwrap_or(3);
                let locale = collation.get_str("locale").unwrap_or_default();
                format!("{key}_{locale}_{strength}")
            }
        };
        automatic_index_name(self.app.as_ref(), &key)
    }

    /// Its name in the control database.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name())
    }

    /// Its definition.
    pub(crate) fn definition(&self, field: &str, wire_version: i32) -> Document {
        let mut key = Document::new();
        if self.isolation == Isolation::Shared {
            key.insert(field, 1);
        }
        for (path, direction) in &self.key.0 {
            key.insert(path, direction.as_i32());
        }
        if let Some(app) = self.app.as_ref().filter(|_| wire_version < WIRE_OF_TWINS) {
            key.insert(format!("~{app}"), 1);
        }
        let mut definition = doc! {"key": key, "name": self.name()};
        if let Some(app) = &self.app {
            definition.insert("partialFilterExpression", doc! {field: app.as_str()});
        }
        if let Some(bytes) = &self.collation
            && let Ok(collation) = bson::deserialize_from_slice::<Document>(bytes)
        {
            definition.insert("collation", collation);
        }
        definition
    }
}

/// The indexes of one collection.
#[derive(Debug, Default)]
pub(crate) struct Existing {
    pub(crate) all: Vec<Document>,
}

impl Existing {
    /// `None` if there is no such collection.
    pub(crate) async fn read(
        client: &Client,
        namespace: &Namespace,
    ) -> Result<Option<Self>, DriverError> {
        let database = client.database(&namespace.database);
        let command = doc! {"listIndexes": &namespace.collection};
        match database.run_cursor_command(command).await {
            Ok(cursor) => {
                let all = cursor.try_collect().await?;
                Ok(Some(Self { all }))
            }
            // No such collection, or a view.
            Err(error) if matches!(code_of(&error), Some(26 | 166)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Document> {
        let mut all = self.all.iter();
        all.find(|index| index.get_str("name").is_ok_and(|n| n == name))
    }

    /// How many of them are automatic.
    pub(crate) fn automatic(&self) -> usize {
        let names = self.all.iter().filter_map(|i| i.get_str("name").ok());
        names.filter(|n| automatic_index_shown(n).is_some()).count()
    }

    /// Those that serve every document that `wanted` would: without a filter of their own, or of the same app.
    pub(crate) fn serving(&self, wanted: &Wanted, field: &str) -> Vec<ExistingIndex> {
        self.all
            .iter()
            .filter_map(|index| serving(index, wanted, field))
            .collect()
    }
}

fn serving(index: &Document, wanted: &Wanted, field: &str) -> Option<ExistingIndex> {
    let is_set = |option: &str| index.get_bool(option).unwrap_or(false);
    if is_set("hidden") || is_set("sparse") {
        return None;
    }
    match (index.get_document("partialFilterExpression"), &wanted.app) {
        (Err(_), _) => {}
        (Ok(filter), Some(app)) if *filter == doc! {field: app.as_str()} => {}
        _ => return None,
    }
    let mut fields = Vec::new();
    for (place, (path, direction)) in index.get_document("key").ok()?.iter().enumerate() {
        let direction = direction_of(direction)?;
        let is_scope = wanted.isolation == Isolation::Shared && place == 0;
        if is_scope != (path == field && wanted.isolation == Isolation::Shared) {
            return None;
        }
        if !is_scope && !path.starts_with('~') {
            fields.push((path.clone(), Direction::of(direction)));
        }
    }
    let collation = index.get_document("collation").ok();
    Some(ExistingIndex {
        key: IndexKey(fields),
        collation: match (collation, &wanted.collation) {
            (None, _) => None,
            (Some(there), Some(bytes)) if says(there, bytes) => Some(bytes.clone()),
            // Another one.
            (Some(_), _) => Some(Vec::new()),
        },
    })
}

/// Whether another index serves whatever this automatic one serves, by their definitions: it goes on behind its fields, or holds
/// the documents of all apps as well.
pub(crate) fn is_covered(index: &Document, by: &Document) -> bool {
    let filter = |index: &Document| index.get_document("partialFilterExpression").ok().cloned();
    let is_set = |option: &str| by.get_bool(option).unwrap_or(false);
    let (Some(own), Some(other)) = (plain_key(index), plain_key(by)) else {
        return false;
    };
    let (filtered, other_filter) = (filter(index), filter(by));
    let holds_all = other_filter.is_none() || other_filter == filtered;
    let is_more = own.0.len() < other.0.len() || (filtered.is_some() && other_filter.is_none());
    let is_automatic = by
        .get_str("name")
        .is_ok_and(|name| automatic_index_shown(name).is_some());
    !is_set("hidden")
        && !is_set("sparse")
        && holds_all
        && index.get("collation") == by.get("collation")
        && own.is_prefix_of(&other)
        && (is_more || !is_automatic)
}

/// The key of an index, without what tells those of several apps apart; `None` if it is of a special kind.
fn plain_key(index: &Document) -> Option<IndexKey> {
    let fields = index.get_document("key").ok()?.iter();
    let fields = fields.filter(|(path, _)| !path.starts_with('~'));
    let key = fields.map(|(path, direction)| {
        let direction = direction_of(direction)?;
        Some((path.clone(), Direction::of(direction)))
    });
    key.collect::<Option<_>>().map(IndexKey)
}

/// 1 or -1; `None` for a field of a special kind.
fn direction_of(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        #[allow(clippy::cast_possible_truncation, reason = "1 or -1")]
        Bson::Double(n) => Some(*n as i64),
        _ => None,
    }
}

/// Whether the server's whole collation is what a shorter one asked for.
fn says(there: &Document, wanted: &[u8]) -> bool {
    let wanted: Document = bson::deserialize_from_slice(wanted).unwrap_or_default();
    let said: BTreeMap<_, _> = wanted.iter().collect();
    said.iter()
        .all(|(name, value)| there.get(name) == Some(value))
}

/// Whether the server is building an index there, for whomever. Seen: 4.4.2, 5.0.4 and 6.0.5 list an index from the beginning of
/// its build, with a `buildUUID` when asked for it.
pub(crate) async fn is_being_built(
    client: &Client,
    namespace: &Namespace,
) -> Result<bool, DriverError> {
    let command = doc! {"listIndexes": &namespace.collection, "includeBuildUUIDs": true};
    let database = client.database(&namespace.database);
    match database.run_cursor_command(command).await {
        Ok(cursor) => {
            let all: Vec<Document> = cursor.try_collect().await?;
            Ok(all.iter().any(|index| index.contains_key("buildUUID")))
        }
        // No such collection, a view, or a name that no collection can have.
        Err(error) if matches!(code_of(&error), Some(26 | 73 | 166)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The code of an error that the server sent.
pub(crate) fn code_of(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(isolation: Isolation, app: Option<&str>) -> Wanted {
        Wanted {
            namespace: Namespace {
                database: "shop".to_owned(),
                collection: "products".to_owned(),
            },
            isolation,
            app: app.map(|slug| AppId::parse(slug).unwrap()),
            key: IndexKey(vec![
                ("category".to_owned(), Direction::Ascending),
                ("price".to_owned(), Direction::Descending),
            ]),
            collation: None,
        }
    }

    #[test]
    fn definitions() {
        let name = "category_1_price_-1";
        for (wanted, wire_version, expected) in [
            (
                wanted(Isolation::Shared, None),
                17,
                doc! {"key": {"app_id": 1, "category": 1, "price": -1}, "name": format!("_auto.{name}")},
            ),
            (
                wanted(Isolation::Shared, Some("a")),
                17,
                doc! {"key": {"app_id": 1, "category": 1, "price": -1}, "name": format!("_auto:a.{name}"),
                "partialFilterExpression": {"app_id": "a"}},
            ),
            (
                wanted(Isolation::Shared, Some("a")),
                9,
                doc! {"key": {"app_id": 1, "category": 1, "price": -1, "~a": 1}, "name": format!("_auto:a.{name}"),
                "partialFilterExpression": {"app_id": "a"}},
            ),
            (
                wanted(Isolation::Dedicated, None),
                17,
                doc! {"key": {"category": 1, "price": -1}, "name": format!("_auto.{name}")},
            ),
        ] {
            assert_eq!(wanted.definition("app_id", wire_version), expected);
        }
    }

    #[test]
    fn what_serves_is_of_the_same_documents() {
        let key = doc! {"app_id": 1, "category": -1, "price": 1, "x": 1};
        let of = |slug: &str| doc! {"app_id": slug};
        for (index, expected) in [
            (doc! {"key": &key, "name": "i"}, true),
            (doc! {"key": &key, "name": "i", "hidden": true}, false),
            (doc! {"key": &key, "name": "i", "sparse": true}, false),
            (
                doc! {"key": &key, "name": "i", "partialFilterExpression": of("a")},
                true,
            ),
            (
                doc! {"key": &key, "name": "i", "partialFilterExpression": of("b")},
                false,
            ),
            (
                doc! {"key": &key, "name": "i", "collation": {"locale": "de"}},
                false,
            ),
            (
                doc! {"key": {"app_id": 1, "category": "text"}, "name": "i"},
                false,
            ),
            (
                doc! {"key": {"category": 1, "price": -1}, "name": "i"},
                false,
            ),
            (
                doc! {"key": {"app_id": 1, "category": 1, "price": -1, "~a": 1}, "name": "i"},
                true,
            ),
        ] {
            let wanted = wanted(Isolation::Shared, Some("a"));
            let existing = Existing {
                all: vec![index.clone()],
            };
            let candidate = mdb_shape::Candidate {
                key: wanted.key.clone(),
                collation: None,
                serves: Vec::new(),
            };
            let there = existing.serving(&wanted, "app_id");
            let is_served = there.iter().any(|index| candidate.is_served_by(index));
            assert_eq!(is_served, expected, "{index}");
        }
    }

    #[test]
    fn what_covers_an_index_is_longer_or_of_more_documents() {
        let key = doc! {"app_id": 1, "a": 1, "b": -1};
        let longer = doc! {"app_id": 1, "a": 1, "b": -1, "c": 1};
        let of = |slug: &str| doc! {"app_id": slug};
        let own = doc! {"key": {"app_id": 1, "a": 1, "b": -1, "~s": 1}, "name": "_auto:s.x", "partialFilterExpression": of("s")};
        let with = |key: &Document, name: &str, more: Document| {
            let mut index = doc! {"key": key, "name": name};
            index.extend(more);
            index
        };
        let filtered = |slug: &str| doc! {"partialFilterExpression": of(slug)};
        for (by, expected) in [
            (with(&longer, "_auto:s.y", filtered("s")), true),
            (with(&longer, "_auto:t.y", filtered("t")), false),
            (with(&longer, "_auto.y", doc! {}), true),
            (with(&key, "_auto.x", doc! {}), true),
            (with(&key, "s.mine", filtered("s")), true),
            (with(&key, "_auto:s.x", filtered("s")), false),
            (with(&longer, "_auto.y", doc! {"hidden": true}), false),
            (with(&longer, "y", doc! {"sparse": true}), false),
            (
                with(&longer, "y", doc! {"collation": {"locale": "de"}}),
                false,
            ),
            (
                with(&doc! {"app_id": 1, "a": 1, "b": 1, "c": 1}, "y", doc! {}),
                false,
            ),
            (with(&doc! {"app_id": 1, "a": 1}, "y", doc! {}), false),
            (
                with(
                    &doc! {"app_id": 1, "a": 1, "b": -1, "c": "text"},
                    "y",
                    doc! {},
                ),
                false,
            ),
        ] {
            assert_eq!(is_covered(&own, &by), expected, "{by}");
        }
    }
}
