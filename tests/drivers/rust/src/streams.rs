//! Change streams and GridFS.

use futures_util::{AsyncReadExt, AsyncWriteExt, TryStreamExt};
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::options::{FullDocumentType, GridFsBucketOptions};

use crate::{Outcome, own, tell};

const CHUNK_BYTES: u32 = 100_000;

/// What an application reads of an event; the token and the times are of the one run only.
fn plain(event: Option<ChangeStreamEvent<Document>>) -> Document {
    let Some(event) = event else {
        return doc! {};
    };
    let updated = event.update_description.map(|update| update.updated_fields);
    let place = event
        .ns
        .map(|ns| format!("{}.{}", ns.db, ns.coll.unwrap_or_default()));
    doc! {
        "kind": format!("{:?}", event.operation_type), "ns": place, "key": event.document_key,
        "document": event.full_document, "updated": updated,
    }
}

pub async fn events(db: &Database) -> Outcome {
    let c = db.collection::<Document>("events");
    let key = doc! { "_id": own("e1") };
    c.insert_one(doc! { "_id": own("before") }).await?;
    let mut stream = c
        .watch()
        .full_document(FullDocumentType::UpdateLookup)
        .await?;
    c.insert_one(doc! { "_id": own("e1"), "n": 1 }).await?;
    let first = plain(stream.try_next().await?);
    let token = stream.resume_token();
    c.update_one(key.clone(), doc! { "$set": { "n": 2 } })
        .await?;
    c.delete_one(key).await?;
    drop(stream);
    let mut resumed = c.watch().resume_after(token).await?;
    let rest = [
        plain(resumed.try_next().await?),
        plain(resumed.try_next().await?),
    ];
    tell("events", doc! { "first": first, "rest": rest.to_vec() });
    Ok(())
}

pub async fn files(db: &Database) -> Outcome {
    let content = b"0123456789abcdef".repeat(40_000);
    let store = db.gridfs_bucket(
        GridFsBucketOptions::builder()
            .chunk_size_bytes(CHUNK_BYTES)
            .build(),
    );
    let mut ids = Vec::new();
    for bytes in [content.as_slice(), b"short".as_slice()] {
        let mut upload = store
            .open_upload_stream("manual")
            .metadata(doc! { "pages": 3 })
            .await?;
        upload.write_all(bytes).await?;
        upload.close().await?;
        ids.push(upload.id().clone());
    }
    let first = ids.swap_remove(0);
    let listed: Vec<_> = store
        .find(doc! {})
        .sort(doc! { "length": 1 })
        .await?
        .try_collect()
        .await?;
    let listed: Vec<_> = listed
        .iter()
        .map(|file| format!("{:?} {}", file.filename, file.length))
        .collect();
    let whole = read(&store, first.clone()).await?;
    let mut newest = String::new();
    store
        .open_download_stream_by_name("manual")
        .await?
        .read_to_string(&mut newest)
        .await?;
    let chunks = db.collection::<Document>("fs.chunks");
    let before = i64::try_from(chunks.count_documents(doc! {}).await?)?;
    store.delete(first).await?;
    let left = i64::try_from(chunks.count_documents(doc! {}).await?)?;
    let outcome = doc! { "listed": listed, "same": whole == content, "newest": newest, "chunks": before, "left": left };
    tell("files", outcome);
    Ok(())
}

async fn read(store: &mongodb::gridfs::GridFsBucket, id: Bson) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    store
        .open_download_stream(id)
        .await?
        .read_to_end(&mut bytes)
        .await?;
    Ok(bytes)
}
