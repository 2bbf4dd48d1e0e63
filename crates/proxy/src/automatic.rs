//! Automatic indexes on the way of commands: an app does not see them, and they make room for what it wants.

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mdb_scope::{Isolation, Refusal, automatic_index_name, automatic_index_shown, drops_all};
use mdb_wire::Command;
use mongodb::error::Error as DriverError;

use crate::builds::run_behind;
use crate::catalog::patch_reply;
use crate::error::Error;
use crate::figures::number;
use crate::forward::Journey;
use crate::namespaces::{Known, Place, server_code};
use crate::reply;

mod arrays;

pub(crate) use arrays::ParallelArrays;

/// There is no room: the collection has 64 indexes, or another one has the key or the name.
pub(crate) const TAKEN: [i32; 3] = [67, 85, 86];

/// Indexes of a collection, that on `_id` among them.
const INDEXES_MAX: usize = 64;

fn name_of(index: &Document) -> &str {
    index.get_str("name").unwrap_or_default()
}

fn is_automatic(index: &Document) -> bool {
    automatic_index_shown(name_of(index)).is_some()
}

/// How many are the app's own; that on `_id` is always one.
fn own_count(indexes: &[Document]) -> usize {
    let own = indexes.iter().filter(|index| !is_automatic(index));
    own.count().max(1)
}

/// Whether the first batch of a `listIndexes` has an automatic one.
fn lists_automatic(reply: &[u8]) -> bool {
    let reply = Document::from_reader(reply).unwrap_or_default();
    first_batch(&reply).iter().any(is_automatic)
}

/// The documents of a cursor's first batch.
fn first_batch(reply: &Document) -> Vec<Document> {
    let cursor = reply.get_document("cursor");
    let batch = cursor.and_then(|cursor| cursor.get_array("firstBatch"));
    of_documents(batch.cloned().unwrap_or_default())
}

fn of_documents(documents: impl IntoIterator<Item = Bson>) -> Vec<Document> {
    let documents = documents.into_iter();
    documents
        .filter_map(|one| match one {
            Bson::Document(document) => Some(document),
            _ => None,
        })
        .collect()
}

/// Whether two keys are one, numbers compared by value.
fn is_same_key(a: &Document, b: &Document) -> bool {
    let number = |value: &Bson| match value {
        Bson::Int32(n) => Some(f64::from(*n)),
        Bson::Double(n) => Some(*n),
        #[allow(clippy::cast_precision_loss, reason = "1 or -1")]
        Bson::Int64(n) => Some(*n as f64),
        _ => None,
    };
    let is_same = |a: &Bson, b: &Bson| match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
        _ => a == b,
    };
    let mut pairs = a.iter().zip(b.iter());
    a.len() == b.len() && pairs.all(|((m, x), (n, y))| m == n && is_same(x, y))
}

fn physical_name(place: Place<'_>, known: &Known) -> String {
    let name = place
        .scope
        .physical_collection(place.collection, known.facts.isolation);
    name.into_owned()
}

impl Journey<'_> {
    async fn physical_indexes(
        &self,
        place: Place<'_>,
        known: &Known,
    ) -> Result<Vec<Document>, Error> {
        let command = doc! {"listIndexes": physical_name(place, known)};
        let database = place.client.database(place.database);
        let read = async {
            match database.run_cursor_command(command).await {
                Ok(cursor) => cursor.try_collect().await,
                Err(error) if matches!(server_code(&error), Some(26 | 166)) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        };
        self.driver(read).await
    }

    /// The app's key of a physical index.
    fn logical_key(&self, index: &Document, isolation: Isolation) -> Document {
        let key = index.get_document("key").cloned().unwrap_or_default();
        let field = self.scope.field().as_str();
        let is_own = |name: &str| {
            isolation == Isolation::Dedicated || (name != field && !name.starts_with('~'))
        };
        key.into_iter().filter(|(name, _)| is_own(name)).collect()
    }

    /// Drops those automatic indexes of the app's collection, or that all apps share, that are in the way. `picks` gets all of
    /// its indexes, as the server has them. Gives whether there were any.
    async fn drop_automatic(
        &self,
        place: Place<'_>,
        known: &Known,
        reason: &str,
        picks: impl FnOnce(&[Document]) -> Vec<&Document>,
    ) -> Result<bool, Error> {
        let indexes = self.physical_indexes(place, known).await?;
        let physical = physical_name(place, known);
        let database = place.client.database(place.database);
        let picked = picks(&indexes);
        for index in &picked {
            let command = doc! {"dropIndexes": &physical, "index": name_of(index)};
            let drop = async {
                match run_behind(&database, command).await {
                    Err(error) if !matches!(server_code(&error), Some(26 | 27)) => Err(error),
                    _ => Ok(()),
                }
            };
            self.driver(drop).await?;
            tracing::info!(
                namespace = format!("{}.{physical}", place.database),
                index = name_of(index),
                reason,
                "an automatic index makes room"
            );
            let control = place.control();
            let told = control.decide_drop(place.database, &physical, name_of(index), reason);
            self.driver(told).await?;
        }
        Ok(!picked.is_empty())
    }

    /// Drops the automatic indexes of a collection that gets another name: what is known of them goes by its name, and under
    /// another one nobody would take them back. Where they are missed they are made anew.
    pub(crate) async fn drop_automatic_ones(
        &self,
        place: Place<'_>,
        known: &Known,
    ) -> Result<(), Error> {
        let reason = "the collection gets another name";
        let dropped = self.drop_automatic(place, known, reason, |indexes| {
            indexes.iter().filter(|index| is_automatic(index)).collect()
        });
        dropped.await.map(|_| ())
    }

    /// Drops automatic indexes that stand where the command wants one of the app's own, and as many more as it takes for the
    /// collection to have room. Gives whether there were any.
    pub(crate) async fn make_room(&self, place: Place<'_>, known: &Known) -> Result<bool, Error> {
        let body = Document::from_reader(self.command.body.bytes()).unwrap_or_default();
        let wanted = of_documents(body.get_array("indexes").cloned().unwrap_or_default());
        let isolation = known.facts.isolation;
        // Those for all apps are of another filter, and may stand beside the app's.
        let own = automatic_index_name(Some(self.scope.app()), "");
        let is_in_the_way = |index: &Document| {
            let is_near = isolation == Isolation::Dedicated || name_of(index).starts_with(&own);
            let key = self.logical_key(index, isolation);
            let is_wanted = |wish: &Document| {
                wish.get_document("key")
                    .is_ok_and(|wish| is_same_key(wish, &key))
            };
            is_near && wanted.iter().any(is_wanted)
        };
        self.drop_automatic(place, known, "the app defines an index", |indexes| {
            let automatic = indexes.iter().filter(|index| is_automatic(index));
            let (mut picked, others): (Vec<_>, Vec<_>) = automatic.partition(|i| is_in_the_way(i));
            let left = indexes.len().saturating_sub(picked.len());
            let excess = (left + wanted.len()).saturating_sub(INDEXES_MAX);
            picked.extend(others.into_iter().take(excess));
            picked
        })
        .await
    }

    /// Drops the automatic indexes that hold two of these arrays in their fields. Gives whether there were any.
    pub(crate) async fn give_way_to_arrays(
        &self,
        place: Place<'_>,
        known: &Known,
        arrays: &[ParallelArrays],
    ) -> Result<bool, Error> {
        let own = automatic_index_name(Some(self.scope.app()), "");
        let shared = automatic_index_name(None, "");
        let isolation = known.facts.isolation;
        let refuses = |index: &Document, arrays: &ParallelArrays| {
            let key = self.logical_key(index, isolation);
            arrays.are_refused_by(key.keys().map(String::as_str))
        };
        let reason = "a document has arrays in two fields";
        self.drop_automatic(place, known, reason, |indexes| {
            let (automatic, others): (Vec<_>, Vec<_>) =
                indexes.iter().partition(|index| is_automatic(index));
            // Where the app's own index refuses them too, nothing is gained.
            let others = others.into_iter().filter(|i| self.holds_all(i));
            let others: Vec<_> = others.collect();
            let is_hopeless = |arrays: &&ParallelArrays| others.iter().any(|i| refuses(i, arrays));
            let hopeful = arrays.iter().filter(|arrays| !is_hopeless(arrays));
            let hopeful: Vec<_> = hopeful.collect();
            let is_of_app = |name: &str| name.starts_with(&own) || name.starts_with(&shared);
            let automatic = automatic.into_iter().filter(|i| is_of_app(name_of(i)));
            automatic
                .filter(|index| hopeful.iter().any(|arrays| refuses(index, arrays)))
                .collect()
        })
        .await
    }

    /// Whether an index holds all documents of the app: it is of all documents, or of the app's without another condition.
    fn holds_all(&self, index: &Document) -> bool {
        let filter = index.get_document("partialFilterExpression");
        let of_app = doc! {self.scope.field().as_str(): self.scope.app().as_str()};
        filter.map_or(true, |filter| *filter == of_app)
    }

    /// `listIndexes` of the app's own collection.
    pub(crate) async fn list_own_indexes(
        &self,
        place: Place<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let start = out.len();
        let mut indexes = self.physical_indexes(place, known).await?;
        if !indexes.iter().any(is_automatic) {
            self.dedicated(known, out).await?;
            if !lists_automatic(out.get(start..).unwrap_or_default()) {
                return Ok(());
            }
            // One was made in between.
            out.truncate(start);
            indexes = self.physical_indexes(place, known).await?;
        }
        let shown: Vec<Vec<u8>> = indexes
            .iter()
            .filter(|index| !is_automatic(index))
            .filter_map(|index| bson::serialize_to_vec(index).ok())
            .collect();
        reply::ok(out, |w| {
            let cursor = w.begin_document(b"cursor");
            w.int64(b"id", 0);
            let namespace = format!("{}.{}", place.database, place.collection);
            w.string(b"ns", &namespace);
            let batch = w.begin_array(b"firstBatch");
            for (index, bytes) in shown.iter().enumerate() {
                if let Ok(document) = mdb_wire::Document::parse(bytes) {
                    let key = mdb_wire::writer::IndexKey::new(index);
                    w.document(key.as_bytes(), document);
                }
            }
            w.end(batch);
            w.end(cursor);
        });
        Ok(())
    }

    /// The index that a `collMod` of the app's own collection names must not be an automatic one.
    ///
    /// # Errors
    /// 27, as where there is no such index.
    pub(crate) async fn check_own_index(&self, place: Place<'_>) -> Result<(), Error> {
        let known = self
            .namespace(self.forward.namespaces.look_up(place))
            .await?;
        let indexes = self.physical_indexes(place, &known).await?;
        let (automatic, own): (Vec<&Document>, Vec<&Document>) =
            indexes.iter().partition(|index| is_automatic(index));
        let body = Document::from_reader(self.command.body.bytes()).unwrap_or_default();
        let said = body.get_document("index");
        for named in ["name", "keyPattern"] {
            let named = said.as_ref().ok().and_then(|said| said.get(named));
            let checked = named.map(|named| check_not_automatic(named, &automatic, &own));
            checked.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// `collStats` and `validate` of the app's own collection, without automatic indexes.
    pub(crate) async fn own_figures(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        if self.as_own(out).await? {
            hide_figures(out, start);
        }
        Ok(())
    }

    /// `createIndexes` on the app's own collection. Gives whether it succeeded.
    pub(crate) async fn create_own_indexes(
        &self,
        place: Place<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        let start = out.len();
        let before = self.physical_indexes(place, known).await?;
        let mut is_made = self.dedicated(known, out).await?;
        if !is_made && self.make_room(place, known).await? {
            out.truncate(start);
            is_made = self.dedicated(known, out).await?;
        }
        let after = self.physical_indexes(place, known).await?;
        // What the server counts may have an automatic one that came or went meanwhile.
        if before.iter().chain(&after).any(is_automatic) {
            show_count(out, start, own_count(&before), "numIndexesBefore");
            show_count(out, start, own_count(&after), "numIndexesAfter");
        }
        Ok(is_made)
    }

    /// `dropIndexes` on the app's own collection.
    pub(crate) async fn drop_own_indexes(
        &self,
        place: Place<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let indexes = self.physical_indexes(place, known).await?;
        let (automatic, own): (Vec<&Document>, Vec<&Document>) =
            indexes.iter().partition(|index| is_automatic(index));
        if automatic.is_empty() {
            return self.dedicated(known, out).await.map(|_| ());
        }
        let mut body = Document::from_reader(self.command.body.bytes()).unwrap_or_default();
        let named = body.get("index").cloned().unwrap_or(Bson::Null);
        check_not_automatic(&named, &automatic, &own)?;
        let start = out.len();
        let index = self.command.body.find("index");
        if index.is_some_and(|index| drops_all(&index)) {
            let all = own.iter().map(|index| name_of(index));
            let all: Vec<&str> = all.filter(|name| *name != "_id_").collect();
            body.insert("index", all);
        }
        let bytes = bson::serialize_to_vec(&body).map_err(DriverError::from);
        let bytes = self.driver(async { bytes }).await?;
        let document = mdb_wire::Document::parse(&bytes)
            .map_err(|_| Error::incident("a command that is no document"))?;
        let command = Command::inner(document, self.command.database)?;
        self.with_command(&command)?.dedicated(known, out).await?;
        show_count(out, start, own.len(), "nIndexesWas");
        Ok(())
    }
}

/// # Errors
/// 27 for what names an automatic index: the app has none such.
fn check_not_automatic(
    named: &Bson,
    automatic: &[&Document],
    own: &[&Document],
) -> Result<(), Refusal> {
    match named {
        Bson::String(name) if automatic_index_shown(name).is_some() => Err(
            Refusal::index_not_found(format!("index not found with name [{name}]")),
        ),
        Bson::Array(several) => several
            .iter()
            .try_for_each(|name| check_not_automatic(name, automatic, own)),
        Bson::Document(key) => {
            let has = |indexes: &[&Document]| {
                let mut keys = indexes.iter().filter_map(|i| i.get_document("key").ok());
                keys.any(|there| is_same_key(there, key))
            };
            if has(automatic) && !has(own) {
                let text = format!("can't find index with key: {key}");
                return Err(Refusal::index_not_found(text));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Fields of replies that have a member for each index, by its name.
const BY_NAME: [&str; 3] = ["indexSizes", "indexDetails", "keysPerIndex"];

/// Takes the automatic indexes out of a reply that has figures of indexes.
fn hide_figures(out: &mut Vec<u8>, start: usize) {
    let reply = Document::from_reader(out.get(start..).unwrap_or_default()).unwrap_or_default();
    let members = |field: &&str| reply.get_document(field).ok();
    let (mut automatic, mut bytes) = (0, 0);
    if let Some(first) = ["indexSizes", "keysPerIndex"].iter().find_map(members) {
        let hidden = first.iter();
        for (_, size) in hidden.filter(|(name, _)| automatic_index_shown(name).is_some()) {
            automatic += 1;
            bytes += match size {
                Bson::Int32(n) => i64::from(*n),
                Bson::Int64(n) => *n,
                #[allow(clippy::cast_possible_truncation, reason = "sizes are whole")]
                Bson::Double(n) => *n as i64,
                _ => 0,
            };
        }
    }
    hide_count(out, start, automatic, &["nindexes", "nIndexes"]);
    if automatic == 0 {
        return;
    }
    patch_reply(out, start, &mut |w, element| {
        let is = |fields: &[&str]| fields.iter().any(|field| field.as_bytes() == element.key);
        match (element.as_integer(), element.as_document()) {
            (Some(total), _) if is(&["totalIndexSize", "totalSize"]) => {
                number(w, element.key, total.saturating_sub(bytes));
            }
            (_, Some(members)) if is(&BY_NAME) => {
                let document = w.begin_document(element.key);
                let shown = members.elements();
                let shown = shown.filter(|m| automatic_index_shown(m.name()).is_none());
                shown.for_each(|member| w.element(&member));
                w.end(document);
            }
            _ if is(&["indexBuilds"]) => {
                let names = element
                    .as_array()
                    .into_iter()
                    .flat_map(mdb_wire::Document::elements);
                let names = names.filter_map(|name| name.as_str());
                let shown = names.filter(|name| automatic_index_shown(name).is_none());
                let array = w.begin_array(element.key);
                for (index, name) in shown.enumerate() {
                    let key = mdb_wire::writer::IndexKey::new(index);
                    w.string(key.as_bytes(), name);
                }
                w.end(array);
            }
            _ => w.element(element),
        }
    });
}

/// Says a count of indexes, where the reply has one.
fn show_count(out: &mut Vec<u8>, start: usize, count: usize, field: &str) {
    patch_reply(out, start, &mut |w, element| {
        if element.key == field.as_bytes() && element.as_integer().is_some() {
            w.int32(element.key, i32::try_from(count).unwrap_or(i32::MAX));
        } else {
            w.element(element);
        }
    });
}

/// Takes the automatic indexes out of counts of indexes.
pub(crate) fn hide_count(out: &mut Vec<u8>, start: usize, automatic: usize, fields: &[&str]) {
    if automatic == 0 {
        return;
    }
    let less = i64::try_from(automatic).unwrap_or(0);
    patch_reply(out, start, &mut |w, element| {
        let is_count = fields.iter().any(|field| field.as_bytes() == element.key);
        match element.as_integer().filter(|_| is_count) {
            Some(count) => {
                let shown = i32::try_from(count.saturating_sub(less)).unwrap_or(0);
                w.int32(element.key, shown);
            }
            None => w.element(element),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_in_order_and_by_value() {
        for (a, b, expected) in [
            (doc! {"a": 1, "b": -1}, doc! {"a": 1.0, "b": -1_i64}, true),
            (doc! {"a": 1, "b": 1}, doc! {"b": 1, "a": 1}, false),
            (doc! {"a": 1}, doc! {"a": 1, "b": 1}, false),
            (doc! {"a": "text"}, doc! {"a": "text"}, true),
            (doc! {"a": "text"}, doc! {"a": 1}, false),
        ] {
            assert_eq!(is_same_key(&a, &b), expected, "{a} {b}");
        }
    }

    #[test]
    fn listings_are_looked_through() {
        for (name, expected) in [("_auto.a_1", true), ("a_1", false), ("auto.a_1", false)] {
            let batch = [doc! {"name": "_id_"}, doc! {"name": name}];
            let reply = doc! {"cursor": {"id": 0_i64, "firstBatch": batch.as_slice()}, "ok": 1.0};
            let bytes = bson::serialize_to_vec(&reply).unwrap();
            assert_eq!(lists_automatic(&bytes), expected, "{name}");
        }
        assert!(!lists_automatic(&[]));
    }

    #[test]
    fn nobody_drops_what_they_do_not_have() {
        let automatic = doc! {"key": {"a": 1}, "name": "_auto.a_1"};
        let own = doc! {"key": {"b": 1}, "name": "b_1"};
        for (named, is_allowed) in [
            (bson::bson!("_auto.a_1"), false),
            (bson::bson!(["b_1", "_auto.a_1"]), false),
            (bson::bson!({"a": 1}), false),
            (bson::bson!({"b": 1}), true),
            (bson::bson!("b_1"), true),
            (bson::bson!("*"), true),
        ] {
            let checked = check_not_automatic(&named, &[&automatic], &[&own]);
            assert_eq!(checked.is_ok(), is_allowed, "{named}");
        }
    }
}
