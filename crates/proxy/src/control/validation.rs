//! What the documents of shared collections must be like, for each app.

use bson::{Binary, Document, doc, spec::BinarySubtype};
use futures_util::TryStreamExt;
use mdb_scope::{AppId, CATALOG, Isolation};
use mongodb::error::Error as DriverError;

use super::{Control, Entry, id, stored};

/// What documents of an app must be like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Validation {
    /// `validator`, `validationLevel`, `validationAction`, as the app's lists show them.
    pub(crate) shown: Document,
    /// The clause of the physical validator, a document; none where there is no validator.
    pub(crate) clause: Option<Vec<u8>>,
}

impl Control<'_> {
    /// Enters a shared collection, if it is not, and says what its documents must be like from now on; `None`: nothing was ever
    /// said.
    pub(crate) async fn define_validation(
        &self,
        app: &AppId,
        (database, collection): (&str, &str),
        validation: Option<&Validation>,
    ) -> Result<(), DriverError> {
        let entry = Entry::new(database, collection, Isolation::Shared);
        self.enter(app, &entry).await?;
        let clause = |bytes: &Vec<u8>| Binary {
            subtype: BinarySubtype::Generic,
            bytes: bytes.clone(),
        };
        let update = match validation {
            None => doc! {"$unset": {"validation": "", "clause": ""}},
            Some(Validation {
                shown,
                clause: None,
            }) => {
                doc! {"$set": {"validation": stored(shown)?}, "$unset": {"clause": ""}}
            }
            Some(Validation {
                shown,
                clause: Some(bytes),
            }) => doc! {"$set": {"validation": stored(shown)?, "clause": clause(bytes)}},
        };
        let of_collection = doc! {"_id": id(app, database, collection)};
        let collections = self.collection(CATALOG);
        let updated = collections.update_one(of_collection, update).await;
        updated.map(|_| ())
    }

    /// The clauses of all apps, or of all but one, of the physical validator of a shared collection, in the order of the apps.
    pub(crate) async fn clauses(
        &self,
        database: &str,
        collection: &str,
        without: Option<&AppId>,
    ) -> Result<Vec<Vec<u8>>, DriverError> {
        let mut with_clause =
            doc! {"database": database, "collection": collection, "clause": {"$exists": true}};
        if let Some(app) = without {
            with_clause.insert("app", doc! {"$ne": app.as_str()});
        }
        let entries = self.collection(CATALOG);
        let entries = entries.find(with_clause).sort(doc! {"_id": 1});
        let mut cursor = entries.await?;
        let mut clauses = Vec::new();
        while let Some(found) = cursor.try_next().await? {
            let clause = found.get_binary_generic("clause").ok();
            clauses.extend(clause.cloned());
        }
        Ok(clauses)
    }
}
