//! Indexes that the proxy makes by itself: of no app, and shown to none.

use std::borrow::Cow;

use mdb_wire::{Document, Element, Writer};

use crate::app::AppId;
use crate::scope::Scope;

/// What the names of automatic indexes begin with. No slug begins so, and an app's own indexes on shared collections begin
/// with its slug.
const PREFIX: &str = "_auto";

/// The physical name of an automatic index: for all documents of its collection, or for those of one app.
pub fn automatic_index_name(app: Option<&AppId>, key: &str) -> String {
    match app {
        Some(app) => format!("{PREFIX}:{app}.{key}"),
        None => format!("{PREFIX}.{key}"),
    }
}

/// What an automatic index is called where its name cannot be left out, as in a plan: as MongoDB calls one of its fields.
/// `None` for any other index.
pub fn automatic_index_shown(physical: &str) -> Option<&str> {
    let rest = physical.strip_prefix(PREFIX)?;
    match rest.strip_prefix('.') {
        Some(key) => Some(key),
        None => rest.strip_prefix(':')?.split_once('.').map(|(_, key)| key),
    }
}

/// The app whose documents alone an automatic index holds.
pub fn automatic_index_app(physical: &str) -> Option<&str> {
    let rest = physical.strip_prefix(PREFIX)?.strip_prefix(':')?;
    rest.split_once('.').map(|(app, _)| app)
}

/// In front of a name it makes one that no index has: servers refuse names with zero bytes (67), and take them in a filter of
/// the plan cache. Seen on 4.4.2, 5.0.4 and 6.0.5.
const NOBODYS: char = '\0';

/// What is said upstream for an app's name of an index where the server does not say whether there is one.
fn said_upstream(name: &str) -> Cow<'_, str> {
    match automatic_index_shown(name.trim_start_matches(NOBODYS)) {
        Some(_) => Cow::Owned(format!("{NOBODYS}{name}")),
        None => Cow::Borrowed(name),
    }
}

/// The app's name of what [`said_upstream`] gave.
fn said_by_app(name: &str) -> Cow<'_, str> {
    let is_mapped = automatic_index_shown(name.trim_start_matches(NOBODYS)).is_some();
    let own = name.strip_prefix(NOBODYS).filter(|_| is_mapped);
    Cow::Borrowed(own.unwrap_or(name))
}

/// Copies an array of names and keys of indexes with other names.
fn write_names(w: &mut Writer, element: &Element<'_>, other: fn(&str) -> Cow<'_, str>) {
    let Some(named) = element.as_array() else {
        return w.element(element);
    };
    let array = w.begin_array(element.key);
    for one in named.elements() {
        match one.as_str() {
            Some(name) => w.string(one.key, &other(name)),
            None => w.element(&one),
        }
    }
    w.end(array);
}

/// Indexes of a filter of the plan cache: the name of an automatic one becomes that of none. Where none of a filter is there,
/// servers scan the collection, so it is as if the app had named something else that is not there.
pub(crate) fn write_named(w: &mut Writer, element: &Element<'_>) {
    write_names(w, element, said_upstream);
}

/// `filters` of `planCacheListFilters`, with the names that the app has said.
pub(crate) fn show_filters(w: &mut Writer, element: &Element<'_>) {
    let filters = element.as_array().unwrap_or(Document::EMPTY);
    let array = w.begin_array(element.key);
    for filter in filters.elements() {
        let members = filter.as_document().unwrap_or(Document::EMPTY);
        let document = w.begin_document(filter.key);
        for member in members.elements() {
            match member.key {
                b"indexes" => write_names(w, &member, said_by_app),
                _ => w.element(&member),
            }
        }
        w.end(document);
    }
    w.end(array);
}

impl Scope {
    /// The first field, behind the scope field, of an automatic index that holds the app's documents. `None` for any other
    /// index.
    pub(crate) fn automatic_leading_field(&self, physical: Document<'_>) -> Option<Vec<u8>> {
        let name = physical.find("name")?.as_str()?;
        automatic_index_shown(name)?;
        let owner = name.strip_prefix(PREFIX)?.strip_prefix(':');
        let is_anothers = owner
            .and_then(|rest| rest.split_once('.'))
            .is_some_and(|(slug, _)| slug != self.app().as_str());
        let is_hidden = physical.find("hidden").and_then(|e| e.as_flag()) == Some(true);
        if is_anothers || is_hidden {
            return None;
        }
        let key = physical.find("key")?.as_document()?;
        let field = self.field().as_str().as_bytes();
        let mut fields = key.elements().filter(|e| e.key != field);
        fields.next().map(|e| e.key.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn a_name_that_an_app_cannot_have_is_nobodys_upstream_and_comes_back() {
        let indexes =
            bson::bson!(["_auto.a_1", "a_1", "\0_auto:shop.a_1", "\0a_1", {"_auto.a_1": 1}]);
        let upstream =
            bson::bson!(["\0_auto.a_1", "a_1", "\0\0_auto:shop.a_1", "\0a_1", {"_auto.a_1": 1}]);
        let written = |write: fn(&mut Writer, &Element<'_>), document: bson::Document| {
            let bytes = bson::serialize_to_vec(&document).unwrap();
            let mut w = Writer::default();
            let mark = w.begin();
            for element in Document::parse(&bytes).unwrap().elements() {
                write(&mut w, &element);
            }
            w.end(mark);
            bson::Document::from_reader(&w.into_bytes()[..]).unwrap()
        };
        let said = written(write_named, doc! {"indexes": &indexes});
        assert_eq!(said, doc! {"indexes": &upstream});
        let of = |indexes: &bson::Bson| {
            let query = doc! {"indexes": "\0_auto.a_1", "x": ["\0_auto.a_1"]};
            doc! {"filters": [{"query": query, "sort": {}, "projection": {}, "indexes": indexes}]}
        };
        assert_eq!(written(show_filters, of(&upstream)), of(&indexes));
        let other = doc! {"indexes": "_auto.a_1"};
        assert_eq!(written(write_named, other.clone()), other);
    }

    #[test]
    fn names_tell_whose_an_index_is() {
        let shop = AppId::parse("shop").unwrap();
        for (app, key, name) in [
            (None, "a_1_b_-1", "_auto.a_1_b_-1"),
            (None, "shop.a_1", "_auto.shop.a_1"),
            (Some(&shop), "a.b_1", "_auto:shop.a.b_1"),
        ] {
            assert_eq!(automatic_index_name(app, key), name);
            assert_eq!(automatic_index_shown(name), Some(key));
        }
        for other in [
            "auto.a_1",
            "app_id_1",
            "shop.a_1",
            "_automatic",
            "_auto:a_1",
        ] {
            assert_eq!(automatic_index_shown(other), None, "{other}");
        }
        // The name of no app's index can be one.
        assert!(AppId::parse("_auto").is_err());
    }
}
