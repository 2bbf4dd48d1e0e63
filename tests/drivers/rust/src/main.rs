//! A small shop with the Rust driver. It tells a line per step, see ../../python/compare.py.

mod shop;
mod streams;

use std::error::Error;
use std::sync::{Arc, Mutex};

use mongodb::bson::{Bson, Document, doc};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::{ClientOptions, CollectionOptions, ReadPreference, SelectionCriteria};
use mongodb::{Client, Collection, Database};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Ids are unique over all apps of a collection, so each run has a prefix of its own.
fn own(name: &str) -> String {
    let prefix = std::env::var("APP_PREFIX").unwrap_or_default();
    format!("{prefix}-{name}")
}

fn tell(step: &str, outcome: impl Into<Bson>) {
    println!("{step}\t{}", outcome.into().into_relaxed_extjson());
}

/// What applications act on in a server's error.
fn told(error: &mongodb::error::Error) -> Document {
    let mut labels: Vec<_> = error.labels().iter().cloned().collect();
    labels.sort();
    doc! { "message": error.kind.to_string(), "labels": labels }
}

/// The numbered writes and the read preferences that went out.
#[derive(Default)]
struct Sent {
    numbered: Vec<String>,
    preferences: Vec<Bson>,
}

impl Sent {
    fn note(&mut self, event: CommandEvent) {
        let CommandEvent::Started(started) = event else {
            return;
        };
        if started.command_name == "find" {
            let preference = started.command.get_document("$readPreference").ok();
            let mode = preference.and_then(|p| p.get("mode").cloned());
            self.preferences.push(mode.unwrap_or(Bson::Null));
        }
        if started.command.contains_key("txnNumber") {
            self.numbered.push(started.command_name);
        }
    }
}

async fn retryable_writes(sales: &Collection<Document>, sent: &Mutex<Sent>) -> Outcome {
    let before = sent.lock().map_err(|e| e.to_string())?.numbered.len();
    sales.insert_one(doc! { "_id": own("numbered") }).await?;
    sales
        .update_many(doc! {}, doc! { "$set": { "seen": true } })
        .await?;
    sales.delete_one(doc! { "_id": own("numbered") }).await?;
    let sent = &sent.lock().map_err(|e| e.to_string())?.numbered[before..];
    tell("retryable writes", sent.to_vec());
    Ok(())
}

async fn read_preference(db: &Database, sent: &Mutex<Sent>) -> Outcome {
    let nearest = SelectionCriteria::ReadPreference(ReadPreference::Nearest { options: None });
    let options = CollectionOptions::builder()
        .selection_criteria(nearest)
        .build();
    let near = db.collection_with_options::<Document>("sales", options);
    let found = near.find_one(doc! { "_id": own("sold") }).await?;
    let last = sent
        .lock()
        .map_err(|e| e.to_string())?
        .preferences
        .last()
        .cloned();
    tell("read preference", doc! { "found": found, "sent": last });
    Ok(())
}

async fn everything(db: &Database) -> Outcome {
    let mut names = db.list_collection_names().await?;
    names.sort();
    let mut counts = Document::new();
    for name in names {
        let count = db
            .collection::<Document>(&name)
            .count_documents(doc! {})
            .await?;
        counts.insert(name, i64::try_from(count)?);
    }
    tell("everything", counts);
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let sent = Arc::new(Mutex::new(Sent::default()));
    let noted = Arc::clone(&sent);
    let mut options = ClientOptions::parse(std::env::var("APP_URI")?).await?;
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let Ok(mut sent) = noted.lock() {
            sent.note(event);
        }
    }));
    let client = Client::with_options(options)?;
    let db = client.database(&std::env::var("APP_DATABASE")?);
    shop::documents(&db).await?;
    shop::indexes(&db).await?;
    shop::aggregation(&db).await?;
    shop::bulk(&db).await?;
    shop::transaction(&client, &db).await?;
    streams::events(&db).await?;
    streams::files(&db).await?;
    retryable_writes(&db.collection("sales"), &sent).await?;
    read_preference(&db, &sent).await?;
    everything(&db).await?;
    client.shutdown().await;
    Ok(())
}
