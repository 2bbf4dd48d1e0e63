//! Indexes that the proxy makes by itself: of no app, and shown to none.

use mdb_wire::Document;

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
