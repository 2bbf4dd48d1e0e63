//! What the apps do through the proxy, with the official driver, and what must come of it.

use std::fmt::Debug;

use anyhow::{Context, bail, ensure};
use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::options::IndexOptions;
use mongodb::{Collection, IndexModel};

use crate::stage::{Stage, connect};

/// What both apps call their collection.
pub const NAMESPACE: &str = "main.items";

/// One expectation, and what became of it.
#[derive(Debug)]
pub struct Step {
    /// What must be so.
    pub expectation: &'static str,
    /// Whether it was.
    pub outcome: Outcome,
}

/// What became of an expectation.
#[derive(Debug)]
pub enum Outcome {
    /// It was as expected.
    Held,
    /// It was not, for this reason.
    Failed(String),
}

/// The same collection three times: as each app has it, and as it is.
#[derive(Debug)]
pub struct Views {
    /// Through the proxy, as `shop`.
    pub shop: Collection<Document>,
    /// Through the proxy, as `notes`.
    pub notes: Collection<Document>,
    /// Past the proxy.
    pub upstream: Collection<Document>,
}

impl Views {
    /// Connects three clients. The driver dials at the first command.
    pub async fn of(stage: &Stage) -> anyhow::Result<Self> {
        Ok(Self {
            shop: collection(&stage.app_uri("shop")).await?,
            notes: collection(&stage.app_uri("notes")).await?,
            upstream: collection(&stage.upstream_uri()).await?,
        })
    }
}

/// Goes through all steps, in order; one that fails does not stop the others.
pub async fn walk(stage: &Stage) -> anyhow::Result<Vec<Step>> {
    let views = Views::of(stage).await?;
    let mut steps = Vec::new();
    macro_rules! step {
        ($expectation:literal, $result:expr) => {
            steps.push(Step {
                expectation: $expectation,
                outcome: match $result.await {
                    Ok(()) => Outcome::Held,
                    Err(error) => Outcome::Failed(format!("{error:#}")),
                },
            });
        };
    }
    step!(
        "each app inserts documents and reads back exactly those",
        insert(&views)
    );
    step!(
        "an update of everything changes the app's own documents only",
        update(&views)
    );
    step!(
        "an aggregation counts the app's own documents only",
        aggregate(&views)
    );
    step!(
        "an index of one app is not listed for the other",
        index(&views)
    );
    step!("a deletion takes the app's own document", delete(&views));
    step!(
        "another app's document is not found by its _id",
        find_foreign(&views)
    );
    step!(
        "another app's document is not changed or deleted by its _id",
        write_foreign(&views)
    );
    step!(
        "writing under another app's app_id is refused",
        forge(&views)
    );
    step!(
        "a credential with the role `read` reads its app, and cannot write",
        read_only(stage, &views)
    );
    step!("a wrong password is refused", wrong_password(stage));
    step!(
        "upstream, every document carries the app_id of its app",
        stored(&views)
    );
    Ok(steps)
}

async fn insert(views: &Views) -> anyhow::Result<()> {
    views.shop.insert_many(shop_items()).await?;
    views.notes.insert_many(notes_items()).await?;
    same(&all(&views.shop).await?, &shop_items())?;
    same(&all(&views.notes).await?, &notes_items())
}

async fn update(views: &Views) -> anyhow::Result<()> {
    let change = doc! { "$set": { "done": true } };
    let updated = views.notes.update_many(doc! {}, change).await?;
    same(&updated.matched_count, &2)?;
    let change = doc! { "$inc": { "price": 5 } };
    let updated = views
        .shop
        .update_one(doc! { "_id": "lamp" }, change)
        .await?;
    same(&updated.modified_count, &1)?;
    let lamp = views.shop.find_one(doc! { "_id": "lamp" }).await?;
    same(
        &lamp,
        &Some(doc! { "_id": "lamp", "price": 45, "status": "new" }),
    )
}

async fn aggregate(views: &Views) -> anyhow::Result<()> {
    let pipeline = [
        doc! { "$group": { "_id": "$status", "count": { "$sum": 1 }, "worth": { "$sum": "$price" } } },
        doc! { "$sort": { "_id": 1 } },
    ];
    let groups: Vec<Document> = views.shop.aggregate(pipeline).await?.try_collect().await?;
    let expected = [
        doc! { "_id": "new", "count": 2, "worth": 135 },
        doc! { "_id": "sold", "count": 1, "worth": 250 },
    ];
    same(&groups[..], &expected[..])?;
    same(&views.shop.count_documents(doc! {}).await?, &3)?;
    same(&views.notes.count_documents(doc! {}).await?, &2)
}

async fn index(views: &Views) -> anyhow::Result<()> {
    let options = IndexOptions::builder().name("by_price".to_owned()).build();
    let index = IndexModel::builder()
        .keys(doc! { "price": 1 })
        .options(options)
        .build();
    views.shop.create_index(index).await?;
    same(
        &views.shop.list_index_names().await?,
        &words(&["_id_", "by_price"]),
    )?;
    same(&views.notes.list_index_names().await?, &words(&["_id_"]))
}

async fn delete(views: &Views) -> anyhow::Result<()> {
    let deleted = views.notes.delete_one(doc! { "_id": "rent" }).await?;
    same(&deleted.deleted_count, &1)?;
    same(&views.notes.count_documents(doc! {}).await?, &1)?;
    same(&views.shop.count_documents(doc! {}).await?, &3)
}

async fn find_foreign(views: &Views) -> anyhow::Result<()> {
    same(&views.notes.find_one(doc! { "_id": "lamp" }).await?, &None)?;
    let or_anything =
        doc! { "$or": [{ "_id": "lamp" }, { "app_id": "shop" }, { "price": { "$gt": 0 } }] };
    match views.notes.find_one(or_anything).await {
        Ok(found) => same(&found, &None),
        // Refused is as good as not found.
        Err(error) => refused(&error),
    }
}

async fn write_foreign(views: &Views) -> anyhow::Result<()> {
    let lamp = doc! { "_id": "lamp" };
    let before = views.upstream.find_one(lamp.clone()).await?;
    let change = doc! { "$set": { "price": 0 } };
    let updated = views.notes.update_one(lamp.clone(), change).await?;
    same(&updated.matched_count, &0)?;
    let deleted = views.notes.delete_one(lamp.clone()).await?;
    same(&deleted.deleted_count, &0)?;
    same(&views.upstream.find_one(lamp).await?, &before)
}

async fn forge(views: &Views) -> anyhow::Result<()> {
    let forged = doc! { "_id": "forged", "app_id": "shop", "price": 1 };
    match views.notes.insert_one(forged).await {
        Ok(_) => bail!("the document was taken"),
        Err(error) => refused(&error)?,
    }
    let moved = doc! { "$set": { "app_id": "shop" } };
    match views.notes.update_one(doc! { "_id": "milk" }, moved).await {
        Ok(_) => bail!("the document was moved"),
        Err(error) => refused(&error)?,
    }
    same(
        &views
            .upstream
            .count_documents(doc! { "_id": "forged" })
            .await?,
        &0,
    )
}

async fn read_only(stage: &Stage, views: &Views) -> anyhow::Result<()> {
    let reports = collection(&stage.app_uri("shop-reports")).await?;
    same(&all(&reports).await?, &all(&views.shop).await?)?;
    match reports.delete_many(doc! {}).await {
        Ok(_) => bail!("the documents were deleted"),
        Err(error) => refused(&error)?,
    }
    same(&views.shop.count_documents(doc! {}).await?, &3)
}

async fn wrong_password(stage: &Stage) -> anyhow::Result<()> {
    let guess = collection(&stage.uri("shop", "guess")).await?;
    match guess.find_one(doc! {}).await {
        Ok(_) => bail!("the log-in succeeded"),
        Err(error) => refused(&error),
    }
}

async fn stored(views: &Views) -> anyhow::Result<()> {
    let count = |app: &'static str| views.upstream.count_documents(doc! { "app_id": app });
    same(&count("shop").await?, &3)?;
    same(&count("notes").await?, &1)?;
    same(&views.upstream.count_documents(doc! {}).await?, &4)
}

fn shop_items() -> Vec<Document> {
    vec![
        doc! { "_id": "lamp", "price": 40, "status": "new" },
        doc! { "_id": "chair", "price": 90, "status": "new" },
        doc! { "_id": "table", "price": 250, "status": "sold" },
    ]
}

fn notes_items() -> Vec<Document> {
    vec![
        doc! { "_id": "milk", "done": false },
        doc! { "_id": "rent", "done": false },
    ]
}

async fn collection(uri: &str) -> anyhow::Result<Collection<Document>> {
    let (database, collection) = NAMESPACE
        .split_once('.')
        .context("a namespace has a point")?;
    Ok(connect(uri)
        .await?
        .database(database)
        .collection(collection))
}

/// Every document, in the order in which they were stored.
pub(crate) async fn all(
    collection: &Collection<Document>,
) -> mongodb::error::Result<Vec<Document>> {
    collection.find(doc! {}).await?.try_collect().await
}

fn same<T: PartialEq + Debug + ?Sized>(found: &T, expected: &T) -> anyhow::Result<()> {
    ensure!(found == expected, "expected {expected:?}, found {found:?}");
    Ok(())
}

/// An answer of the proxy, as opposed to no answer at all.
fn refused(error: &mongodb::error::Error) -> anyhow::Result<()> {
    use mongodb::error::ErrorKind;
    let is_answer = matches!(
        *error.kind,
        ErrorKind::Command(_) | ErrorKind::Write(_) | ErrorKind::Authentication { .. }
    );
    ensure!(is_answer, "expected a refusal, found {error}");
    Ok(())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
