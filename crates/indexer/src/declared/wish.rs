//! An index as a manifest asks for it, and the index that stands in for it while it is built.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document, doc};

/// One index of one collection, in the app's own terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Unlike those of the collection's other wishes.
    pub name: String,
    /// Fields in their order.
    pub key: Document,
    /// The other fields of a `createIndexes` definition, by their names. None that says nothing, as `unique: false`.
    options: BTreeMap<String, Bson>,
}

/// Options that say nothing when they are false.
const FLAGS: [&str; 3] = ["unique", "sparse", "hidden"];

/// What `collMod` changes in place.
const MODIFIABLE: [&str; 2] = ["expireAfterSeconds", "hidden"];

/// The server's limit of fields, less the scope field and the one that a stand-in has more.
const STAND_IN_KEY_FIELDS_MAX: usize = 30;

impl Wish {
    /// From the parts of a definition.
    pub fn new(
        name: impl Into<String>,
        key: Document,
        options: impl IntoIterator<Item = (String, Bson)>,
    ) -> Self {
        let says = |(name, value): &(String, Bson)| {
            !(FLAGS.contains(&name.as_str()) && *value == Bson::Boolean(false))
        };
        Self {
            name: name.into(),
            key,
            options: options.into_iter().filter(says).collect(),
        }
    }

    /// From what [`Wish::definition`] gave.
    pub(crate) fn read(definition: &Document) -> Option<Self> {
        let is_option = |name: &str| !matches!(name, "key" | "name");
        let options = definition.iter().filter(|(name, _)| is_option(name));
        let options = options.map(|(name, value)| (name.clone(), value.clone()));
        Some(Self::new(
            definition.get_str("name").ok()?,
            definition.get_document("key").ok()?.clone(),
            options,
        ))
    }

    /// As it stands in `createIndexes`.
    pub fn definition(&self) -> Document {
        let mut definition = doc! {"key": &self.key, "name": &self.name};
        definition.extend(self.options.clone());
        definition
    }

    /// Whether both are the same but for their names.
    pub(crate) fn is_same_index(&self, other: &Self) -> bool {
        self.key == other.key && self.options == other.options
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.options.get(flag) == Some(&Bson::Boolean(true))
    }

    pub(crate) fn option(&self, name: &str) -> Option<&Bson> {
        self.options.get(name)
    }

    /// Whether `collMod` makes the one of the other.
    pub(crate) fn is_modification_of(&self, other: &Self) -> bool {
        let names: BTreeSet<&String> = self.options.keys().chain(other.options.keys()).collect();
        let differs = |name: &&&String| self.options.get(**name) != other.options.get(**name);
        let keeps_expiry = self.options.contains_key("expireAfterSeconds")
            == other.options.contains_key("expireAfterSeconds");
        self.key == other.key
            && keeps_expiry
            && names
                .iter()
                .filter(differs)
                .all(|name| MODIFIABLE.contains(&name.as_str()))
    }

    /// An index that can stand beside this one and does its work while it is built: a unique one refuses the same values, any
    /// other serves the same queries. `None` where the server takes no two such indexes, or none would do.
    pub(crate) fn stand_in(&self) -> Option<Self> {
        let is_text = self.key.values().any(|v| v.as_str() == Some("text"));
        let is_wildcard = self.key.keys().any(|field| field.ends_with("$**"));
        let expires = self.options.contains_key("expireAfterSeconds");
        if is_text || is_wildcard || expires {
            return None;
        }
        let mut stand_in = self.clone();
        stand_in.name = stand_in_name(&self.name);
        if self.has("unique") {
            // A filter that holds for every document makes it another index (5.0).
            let any = doc! {"_id": {"$exists": true}};
            let filter = match self.options.get("partialFilterExpression") {
                Some(filter) => doc! {"$and": [filter.clone(), any]},
                None if self.has("sparse") => {
                    let (field, _) = self.key.iter().next().filter(|_| self.key.len() == 1)?;
                    doc! {"$and": [{field: {"$exists": true}}, any]}
                }
                None => any,
            };
            stand_in.options.remove("sparse");
            let name = "partialFilterExpression".to_owned();
            stand_in.options.insert(name, filter.into());
            return Some(stand_in);
        }
        if self.key.contains_key("_id") || self.key.len() > STAND_IN_KEY_FIELDS_MAX {
            return None;
        }
        stand_in.key.insert("_id", 1);
        Some(stand_in)
    }
}

/// How the stand-in of an index is called.
pub(crate) fn stand_in_name(name: &str) -> String {
    format!("{name}~")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(definition: &Document) -> Wish {
        Wish::read(definition).unwrap()
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let said = wish(&doc! {"key": {"a": 1}, "name": "n", "unique": false, "sparse": true});
        assert_eq!(
            said.definition(),
            doc! {"key": {"a": 1}, "name": "n", "sparse": true}
        );
        assert_eq!(wish(&said.definition()), said);
    }

    #[test]
    fn expiry_and_hiding_are_modified() {
        let of = |options: Document| {
            let mut definition = doc! {"key": {"a": 1}, "name": "n"};
            definition.extend(options);
            wish(&definition)
        };
        for (one, other, expected) in [
            (doc! {}, doc! {"hidden": true}, true),
            (doc! {"hidden": true}, doc! {}, true),
            (
                doc! {"expireAfterSeconds": 1},
                doc! {"expireAfterSeconds": 2},
                true,
            ),
            (doc! {}, doc! {"expireAfterSeconds": 2}, false),
            (doc! {"expireAfterSeconds": 2}, doc! {}, false),
            (doc! {}, doc! {"unique": true}, false),
            (doc! {"hidden": true}, doc! {"unique": true}, false),
        ] {
            let found = of(one.clone()).is_modification_of(&of(other.clone()));
            assert_eq!(found, expected, "{one} {other}");
        }
    }

    #[test]
    fn what_stands_in() {
        let cases = [
            (
                doc! {"key": {"a": 1, "b": -1}, "name": "n"},
                Some(doc! {"key": {"a": 1, "b": -1, "_id": 1}, "name": "n~"}),
            ),
            (
                doc! {"key": {"g": "2dsphere"}, "name": "n", "hidden": true},
                Some(doc! {"key": {"g": "2dsphere", "_id": 1}, "name": "n~", "hidden": true}),
            ),
            (
                doc! {"key": {"a": 1}, "name": "n", "unique": true},
                Some(
                    doc! {"key": {"a": 1}, "name": "n~", "partialFilterExpression": {"_id": {"$exists": true}}, "unique": true},
                ),
            ),
            (
                doc! {"key": {"a": 1}, "name": "n", "unique": true, "sparse": true},
                Some(
                    doc! {"key": {"a": 1}, "name": "n~", "partialFilterExpression": {"$and": [{"a": {"$exists": true}}, {"_id": {"$exists": true}}]}, "unique": true},
                ),
            ),
            (
                doc! {"key": {"a": 1}, "name": "n", "unique": true, "partialFilterExpression": {"b": 1}},
                Some(
                    doc! {"key": {"a": 1}, "name": "n~", "partialFilterExpression": {"$and": [{"b": 1}, {"_id": {"$exists": true}}]}, "unique": true},
                ),
            ),
            (
                doc! {"key": {"a": 1, "b": 1}, "name": "n", "unique": true, "sparse": true},
                None,
            ),
            (doc! {"key": {"t": "text"}, "name": "n"}, None),
            (doc! {"key": {"$**": 1}, "name": "n"}, None),
            (
                doc! {"key": {"at": 1}, "name": "n", "expireAfterSeconds": 5},
                None,
            ),
            (doc! {"key": {"a": 1, "_id": 1}, "name": "n"}, None),
        ];
        for (definition, expected) in cases {
            let found = wish(&definition).stand_in();
            assert_eq!(found.map(|s| s.definition()), expected, "{definition}");
        }
    }
}
