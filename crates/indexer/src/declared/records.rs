//! What was built from manifests, kept in the control database: nothing else is ever dropped.

use std::collections::BTreeSet;

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use futures_util::TryStreamExt;
use mongodb::error::Error as DriverError;
use mongodb::options::{CollectionOptions, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Client, Collection};

use crate::declared::Place;
use crate::declared::plan::{Record, Recorded};
use crate::declared::wish::Wish;

/// The collection `declared_indexes`: `{_id: {collection: "<slug>/<database>.<collection>", index}, wish, spec?, made,
/// stand_in?, fence}`. Definitions are kept as bytes: servers before 5.0 store no document with names like `$and`.
#[derive(Debug)]
pub(crate) struct Records(Collection<Document>);

impl Records {
    pub(crate) fn new(client: &Client, control_database: &str) -> Self {
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        let database = client.database(control_database);
        Self(database.collection_with_options("declared_indexes", options))
    }

    /// Those of one collection.
    pub(crate) async fn of(&self, place: &Place) -> Result<Recorded, DriverError> {
        let collection = place.id();
        let range = doc! {
            "$gte": {"collection": &collection, "index": Bson::MinKey},
            "$lte": {"collection": &collection, "index": Bson::MaxKey},
        };
        let mut found = self.0.find(doc! {"_id": range}).await?;
        let mut recorded = Recorded::new();
        while let Some(document) = found.try_next().await? {
            recorded.extend(read(&document));
        }
        Ok(recorded)
    }

    /// The collections of these apps of which there are records.
    pub(crate) async fn places(
        &self,
        apps: &BTreeSet<String>,
    ) -> Result<BTreeSet<Place>, DriverError> {
        let mut apps_in_order = apps.iter();
        let filter = match (apps_in_order.next(), apps_in_order.next()) {
            (None, _) => return Ok(BTreeSet::new()),
            // What ends a slug here sorts right before "0".
            (Some(app), None) => doc! {"_id": {
                "$gte": {"collection": format!("{app}/")},
                "$lt": {"collection": format!("{app}0")},
            }},
            // There are about as many records as indexes in manifests: one look instead of one for each app.
            (Some(_), Some(_)) => doc! {},
        };
        let mut ids = self.0.find(filter).projection(doc! {"_id": 1}).await?;
        let mut places = BTreeSet::new();
        while let Some(document) = ids.try_next().await? {
            let id = document.get_document("_id").ok();
            let name = id.and_then(|id| id.get_str("collection").ok());
            let place = name.and_then(Place::of_id);
            places.extend(place.filter(|place| apps.contains(&place.app)));
        }
        Ok(places)
    }

    /// Keeps a record in place of what was known of its index. `fence` is that of the lease under which this is done.
    pub(crate) async fn save(
        &self,
        place: &Place,
        record: &Record,
        fence: i64,
    ) -> Result<(), DriverError> {
        let mut document = doc! {
            "wish": stored(&record.wish.definition())?, "made": record.is_made, "fence": fence,
        };
        if let Some(spec) = &record.spec {
            document.insert("spec", stored(spec)?);
        }
        if record.is_stand_in {
            document.insert("stand_in", true);
        }
        let replaced = self
            .0
            .replace_one(of_index(place, &record.wish.name), document)
            .upsert(true);
        replaced.await.map(|_| ())
    }

    /// Forgets an index.
    pub(crate) async fn forget(&self, place: &Place, index: &str) -> Result<(), DriverError> {
        let deleted = self.0.delete_one(of_index(place, index)).await;
        deleted.map(|_| ())
    }

    /// Forgets all indexes of a collection that is gone.
    pub(crate) async fn forget_all(&self, place: &Place) -> Result<(), DriverError> {
        for index in self.of(place).await?.into_keys() {
            self.forget(place, &index).await?;
        }
        Ok(())
    }
}

fn of_index(place: &Place, index: &str) -> Document {
    doc! {"_id": {"collection": place.id(), "index": index}}
}

fn read(document: &Document) -> Option<(String, Record)> {
    let definition = |field: &str| {
        let bytes = document.get_binary_generic(field).ok()?;
        Document::from_reader(&bytes[..]).ok()
    };
    let wish = Wish::read(&definition("wish")?)?;
    let record = Record {
        spec: definition("spec"),
        is_made: document.get_bool("made").unwrap_or(false),
        is_stand_in: document.get_bool("stand_in").unwrap_or(false),
        wish,
    };
    Some((record.wish.name.clone(), record))
}

fn stored(definition: &Document) -> Result<Binary, DriverError> {
    Ok(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bson::serialize_to_vec(definition)?,
    })
}
