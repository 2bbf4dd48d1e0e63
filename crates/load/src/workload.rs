//! What the clients send, and how it is measured.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bson::{Document, doc, oid::ObjectId};
use tokio::task::JoinSet;

use crate::client::{Client, Target, encode};

/// What every client does in a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// `find` of one document of about 300 bytes by its `_id`.
    FindById,
    /// `insert` of one document of about 300 bytes.
    InsertOne,
    /// `update` of one document by its `_id`.
    UpdateById,
    /// `find` of 100 documents of about 300 bytes.
    FindHundred,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::FindById,
        Self::InsertOne,
        Self::UpdateById,
        Self::FindHundred,
    ];

    /// What the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FindById => "find by _id",
            Self::InsertOne => "insert one",
            Self::UpdateById => "update by _id",
            Self::FindHundred => "find 100",
        }
    }

    fn command(self, collection: &str, turn: u32) -> Document {
        let id = i32::try_from(turn % DOCUMENTS).unwrap_or(0);
        match self {
            Self::FindById => {
                doc! {"find": collection, "filter": {"_id": id}, "limit": 1, "singleBatch": true, "$db": DATABASE}
            }
            Self::InsertOne => {
                let mut document = doc! {"_id": ObjectId::new()};
                document.extend(content());
                doc! {"insert": format!("{collection}_new"), "documents": [document], "$db": DATABASE}
            }
            Self::UpdateById => doc! {
                "update": collection,
                "updates": [{"q": {"_id": id}, "u": {"$set": {"n": i64::from(turn)}}}],
                "$db": DATABASE,
            },
            Self::FindHundred => {
                doc! {"find": collection, "filter": {}, "limit": 100, "batchSize": 100, "$db": DATABASE}
            }
        }
    }
}

const DATABASE: &str = "load";
/// Documents that the reads choose from.
const DOCUMENTS: u32 = 1000;

fn content() -> Document {
    doc! {
        "n": 1_i64, "name": "a document of about three hundred bytes", "price": 12.5, "tags": ["a", "b", "c"],
        "text": "x".repeat(120), "nested": {"a": 1, "b": 2}, "at": bson::DateTime::from_millis(0),
    }
}

/// What came of one run.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Commands a second, all clients together.
    pub per_second: f64,
    /// Half of the commands took at most this long.
    pub median: Duration,
    /// All but one in a hundred took at most this long.
    pub p99: Duration,
}

/// Fills the collection that the reads choose from.
pub async fn prepare(target: &Target, collection: &str) -> anyhow::Result<()> {
    let mut client = Client::connect(target).await?;
    let documents = (0..DOCUMENTS).map(|id| {
        let mut document = doc! {"_id": i32::try_from(id).unwrap_or(0)};
        document.extend(content());
        document
    });
    let documents: Vec<Document> = documents.collect();
    client
        .run(&doc! {"insert": collection, "documents": documents, "$db": DATABASE})
        .await?;
    Ok(())
}

/// Lets `clients` clients run a workload for a while.
pub async fn measure(
    target: &Target,
    collection: &'static str,
    workload: Workload,
    clients: u32,
    duration: Duration,
) -> anyhow::Result<Measure> {
    let mut tasks = JoinSet::new();
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(Client::connect(target).await?);
    }
    let start = Instant::now();
    for (number, client) in (0_u32..).zip(connected) {
        tasks.spawn(run(client, collection, workload, number, start + duration));
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "no command was answered");
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    #[allow(
        clippy::cast_precision_loss,
        reason = "a count of commands is far below 2^52"
    )]
    let per_second = latencies.len() as f64 / elapsed.as_secs_f64();
    Ok(Measure {
        per_second,
        median: at(50),
        p99: at(99),
    })
}

async fn run(
    mut client: Client,
    collection: &'static str,
    workload: Workload,
    number: u32,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut turn = number.wrapping_mul(7919);
    loop {
        let mut message = encode(&workload.command(collection, turn))?;
        turn = turn.wrapping_add(1);
        let before = Instant::now();
        if before >= end {
            return Ok(latencies);
        }
        let reply = client.exchange(&mut message).await?;
        latencies.push(before.elapsed());
        let ok = reply.body().find("ok").and_then(|e| e.as_flag());
        ensure!(ok == Some(true), "a command failed");
    }
}
