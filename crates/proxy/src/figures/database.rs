//! Figures of a database: sums over the app's collections.

use mdb_scope::Isolation;
use mdb_wire::Writer;

use super::{Figures, no_scale, number, scale_of};
use crate::error::Error;
use crate::forward::Journey;
use crate::listing::Listed;
use crate::namespaces::Place;
use crate::reply;

/// What the app has in a database.
#[derive(Debug, Default)]
struct Sums {
    collections: i64,
    views: i64,
    documents: i64,
    bytes: i64,
    storage_bytes: i64,
    free_bytes: i64,
    indexes: i64,
    index_bytes: i64,
}

impl Sums {
    fn add(&mut self, figures: &Figures) {
        self.collections += 1;
        self.documents += figures.documents;
        self.bytes += figures.bytes;
        self.storage_bytes += figures.storage_bytes;
        self.free_bytes += figures.free_bytes;
        self.indexes += i64::try_from(figures.indexes.len()).unwrap_or(i64::MAX);
        self.index_bytes += figures.index_bytes();
    }

    /// Writes them as `dbStats` shows them, without what it says of the file system.
    fn write(&self, w: &mut Writer, scale: i64, shows_free: bool) {
        let scaled = |bytes: i64| real(bytes) / real(scale);
        number(w, b"collections", self.collections);
        number(w, b"views", self.views);
        number(w, b"objects", self.documents);
        let average = match self.documents {
            0 => 0.0,
            documents => real(self.bytes) / real(documents),
        };
        w.double(b"avgObjSize", average);
        w.double(b"dataSize", scaled(self.bytes));
        w.double(b"storageSize", scaled(self.storage_bytes));
        if shows_free {
            w.double(b"freeStorageSize", scaled(self.free_bytes));
        }
        number(w, b"indexes", self.indexes);
        w.double(b"indexSize", scaled(self.index_bytes));
        if shows_free {
            w.double(b"indexFreeStorageSize", 0.0);
        }
        let total = self.storage_bytes + self.index_bytes;
        w.double(b"totalSize", scaled(total));
        if shows_free {
            w.double(b"totalFreeStorageSize", scaled(self.free_bytes));
        }
        w.double(b"scaleFactor", real(scale));
    }
}

impl Journey<'_> {
    /// `dbStats`.
    pub(crate) async fn db_stats(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let body = self.command.body;
        let scale = scale_of(body.find("scale"), "dbStats.scale").map_err(|refusal| {
            // A mongod has no code for it.
            let text = no_scale(&refusal, "> 0");
            refusal.with_text(text)
        })?;
        let shows_free = body.find("freeStorage").and_then(|e| e.as_flag()) == Some(true);
        let database = self.command.database;
        let mut sums = Sums::default();
        for listed in self.own_collections(database).await? {
            if listed.kind != "collection" {
                sums.views += 1;
            }
            if let Some(figures) = self.measure_listed(&listed).await? {
                sums.add(&figures);
            }
        }
        reply::ok(out, |w| {
            w.string(b"db", database);
            sums.write(w, scale, shows_free);
        });
        Ok(())
    }

    /// The figures of a collection of the command's database; `None` for a view, and for what is not served.
    async fn measure_listed(&self, listed: &Listed) -> Result<Option<Figures>, Error> {
        let place = Place {
            collection: &listed.name,
            ..self.place("")
        };
        match (listed.kind.as_str(), listed.isolation) {
            ("view", _) => Ok(None),
            (_, Isolation::Dedicated) => self.measure_own(place).await.map(Some),
            (_, Isolation::Shared) => match self.shared_one(place).await {
                Ok(Some(known)) => self.measure_shared(place, &known).await.map(Some),
                Ok(None) | Err(Error::Refusal(_)) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }
}

/// As a double: sizes below 2^53 stay whole.
#[allow(clippy::cast_precision_loss)]
fn real(value: i64) -> f64 {
    value as f64
}
