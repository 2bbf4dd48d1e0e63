//! Documents, indexes, aggregation, batches, transactions.

use futures_util::{FutureExt, TryStreamExt};
use mongodb::bson::{Document, doc};
use mongodb::options::{IndexOptions, ReadConcern, ReturnDocument, WriteConcern};
use mongodb::{Client, ClientSession, Cursor, Database, IndexModel};

use crate::{Outcome, own, tell, told};

async fn all(cursor: Cursor<Document>) -> Outcome<Vec<Document>> {
    Ok(cursor.try_collect().await?)
}

fn refused<T>(outcome: Result<T, mongodb::error::Error>) -> Outcome<Document> {
    match outcome {
        Ok(_) => Err("a server that refuses was expected".into()),
        Err(error) => Ok(told(&error)),
    }
}

pub async fn documents(db: &Database) -> Outcome {
    let c = db.collection::<Document>("products");
    c.insert_one(doc! { "_id": own("1"), "sku": "tea", "price": 3, "tags": ["hot"] })
        .await?;
    let cups =
        (2..6).map(|n| doc! { "_id": own(&n.to_string()), "sku": format!("cup-{n}"), "price": n });
    c.insert_many(cups).await?;
    let updated = c
        .update_many(
            doc! { "price": { "$gte": 4 } },
            doc! { "$inc": { "price": 10 } },
        )
        .await?;
    let jar = doc! { "$set": { "sku": "jar" } };
    let upserted = c
        .update_one(doc! { "_id": own("9") }, jar)
        .upsert(true)
        .await?;
    let red = doc! { "sku": "cup-2", "colour": "red" };
    let replaced = c.replace_one(doc! { "_id": own("2") }, red).await?;
    let change = doc! { "$push": { "tags": "green" } };
    let after = c
        .find_one_and_update(doc! { "sku": "tea" }, change)
        .return_document(ReturnDocument::After)
        .await?;
    let deleted = c.delete_one(doc! { "_id": own("9") }).await?;
    let twice = refused(c.insert_one(doc! { "_id": own("1") }).await)?;
    let batches = all(c
        .find(doc! {})
        .sort(doc! { "_id": 1 })
        .batch_size(2)
        .await?)
    .await?;
    let mut skus: Vec<_> = c
        .distinct("sku", doc! {})
        .await?
        .iter()
        .map(ToString::to_string)
        .collect();
    skus.sort();
    let outcome = doc! {
        "updated": i64::try_from(updated.modified_count)?, "upserted": upserted.upserted_id,
        "replaced": i64::try_from(replaced.modified_count)?, "after": after,
        "deleted": i64::try_from(deleted.deleted_count)?, "twice": twice, "batches": batches, "skus": skus,
        "count": i64::try_from(c.count_documents(doc! {}).await?)?,
        "estimated": i64::try_from(c.estimated_document_count().await?)?,
    };
    tell("documents", outcome);
    Ok(())
}

pub async fn indexes(db: &Database) -> Outcome {
    let c = db.collection::<Document>("products");
    let unique = IndexOptions::builder().unique(true).build();
    let by_sku = IndexModel::builder()
        .keys(doc! { "sku": 1 })
        .options(unique)
        .build();
    let name = c.create_index(by_sku).await?.index_name;
    let by_price = IndexModel::builder()
        .keys(doc! { "price": 1, "tags": -1 })
        .build();
    c.create_index(by_price).await?;
    let twice = refused(
        c.insert_one(doc! { "_id": own("again"), "sku": "tea" })
            .await,
    )?;
    let listed: Vec<IndexModel> = c.list_indexes().await?.try_collect().await?;
    let listed: Vec<_> = listed.into_iter().map(|index| index.keys).collect();
    c.drop_index("price_1_tags_-1").await?;
    let gone = refused(c.drop_index("price_1_tags_-1").await)?;
    let left = c.list_index_names().await?;
    tell(
        "indexes",
        doc! { "name": name, "listed": listed, "twice": twice, "gone": gone, "left": left },
    );
    Ok(())
}

pub async fn aggregation(db: &Database) -> Outcome {
    let c = db.collection::<Document>("sales");
    let skus = ["tea", "tea", "cup-3", "none"];
    c.insert_many(
        (0..)
            .zip(skus)
            .map(|(n, sku)| doc! { "_id": own(&n.to_string()), "sku": sku, "n": n }),
    )
    .await?;
    let joined =
        doc! { "from": "products", "localField": "sku", "foreignField": "sku", "as": "product" };
    let products = doc! { "$sum": { "$size": "$product" } };
    let pipeline = [
        doc! { "$lookup": joined },
        doc! { "$group": { "_id": "$sku", "n": { "$sum": "$n" }, "products": products } },
        doc! { "$sort": { "_id": 1 } },
    ];
    tell("aggregation", all(c.aggregate(pipeline).await?).await?);
    Ok(())
}

/// Without the `bulkWrite` command of 8.0, `insert_many` is what the driver has for batches.
pub async fn bulk(db: &Database) -> Outcome {
    let c = db.collection::<Document>("bulk");
    c.insert_one(doc! { "_id": own("b2") }).await?;
    let again = ["b2", "b3", "b2"].map(|name| doc! { "_id": own(name) });
    let failed = refused(c.insert_many(again).ordered(false).await)?;
    c.insert_many((0..5000).map(|n| doc! { "_id": own(&format!("m{n}")), "n": n }))
        .await?;
    let count = i64::try_from(c.count_documents(doc! {}).await?)?;
    tell("bulk", doc! { "failed": failed, "count": count });
    Ok(())
}

async fn sell(session: &mut ClientSession, db: &Database) -> mongodb::error::Result<[u64; 3]> {
    let products = db.collection::<Document>("products");
    let sales = db.collection::<Document>("sales");
    let cups = doc! { "sku": "cup-3" };
    let filter = doc! { "_id": own("3"), "price": 3 };
    let taken = products
        .update_one(filter, doc! { "$set": { "price": 0 } })
        .session(&mut *session)
        .await?;
    sales
        .insert_one(doc! { "_id": own("sold"), "sku": "cup-3" })
        .session(&mut *session)
        .await?;
    let inside = sales
        .count_documents(cups.clone())
        .session(&mut *session)
        .await?;
    let outside = sales.count_documents(cups).await?;
    Ok([taken.modified_count, inside, outside])
}

pub async fn transaction(client: &Client, db: &Database) -> Outcome {
    let sales = db.collection::<Document>("sales");
    let mut session = client.start_session().await?;
    let sold = session
        .start_transaction()
        .read_concern(ReadConcern::snapshot())
        .write_concern(WriteConcern::majority())
        .and_run(db.clone(), |session, db| sell(session, db).boxed())
        .await?;
    session.start_transaction().await?;
    sales
        .insert_one(doc! { "_id": own("cancelled") })
        .session(&mut session)
        .await?;
    session.abort_transaction().await?;
    let cancelled = sales.find_one(doc! { "_id": own("cancelled") }).await?;
    let after = i64::try_from(sales.count_documents(doc! { "sku": "cup-3" }).await?)?;
    let sold: Vec<_> = sold.iter().map(ToString::to_string).collect();
    tell(
        "transaction",
        doc! { "sold": sold, "cancelled": cancelled, "after": after },
    );
    Ok(())
}
