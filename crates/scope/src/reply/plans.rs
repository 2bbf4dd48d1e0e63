//! Plans that the server keeps, as `$planCacheStats` shows them.

use mdb_wire::{Document, Element, Kind, Writer};

use crate::index::automatic_index_shown;

/// Copies a value; automatic indexes are called as an `explain` calls them.
pub(super) fn write(w: &mut Writer, element: &Element<'_>) {
    let shown = element.as_str().filter(|_| element.key == b"indexName");
    if let Some(shown) = shown.and_then(automatic_index_shown) {
        w.string(element.key, shown);
        return;
    }
    let (members, mark) = match element.kind {
        Kind::Document => (element.as_document(), w.begin_document(element.key)),
        Kind::Array => (element.as_array(), w.begin_array(element.key)),
        _ => return w.element(element),
    };
    let members = members.unwrap_or(Document::EMPTY);
    members.elements().for_each(|member| write(w, &member));
    w.end(mark);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn automatic_indexes_are_called_as_in_a_plan() {
        let plan = |auto: &str| {
            doc! {"plans": [{"indexName": auto, "inputs": [{"indexName": "mine", "n": 1}], "name": "_auto.a_1"}]}
        };
        let bytes = bson::serialize_to_vec(&plan("_auto:shop.a_1_b_-1")).unwrap();
        let mut w = Writer::default();
        let mark = w.begin();
        for element in Document::parse(&bytes).unwrap().elements() {
            write(&mut w, &element);
        }
        w.end(mark);
        let written = bson::Document::from_reader(&w.into_bytes()[..]).unwrap();
        assert_eq!(written, plan("a_1_b_-1"));
    }
}
