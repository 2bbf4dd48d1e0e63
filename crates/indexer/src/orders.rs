//! What operators ask of the control database: lists, reasons, and single decisions.

use bson::{Bson, DateTime, Document, doc};
use futures_util::TryStreamExt;
use mdb_scope::automatic_index_shown;
use mdb_upstream::wait_until_free;
use mongodb::error::{Error as DriverError, ErrorKind};

use crate::physical::code_of;
use crate::store::{Decision, IndexRow, Store, count_of};

/// A row to be shown: a few words, in order.
pub type Line = Vec<String>;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The upstream said no, or nothing.
    #[error("the upstream: {}", said(.0))]
    Driver(#[from] DriverError),
    /// Nothing of this name is known.
    #[error("no automatic index `{0}` is known; `mdb-runtime indexes list` names them")]
    Unknown(String),
    /// It stands, or is about to.
    #[error("`{0}` is `{1}`: there is nothing to apply")]
    Stands(String, String),
    /// No index of this collection was ever thought of.
    #[error("nothing was decided on `{0}`, as collections are called upstream; {1}")]
    Undecided(String, String),
}

/// What an operator can do about an error of the upstream, and what it was.
fn said(error: &DriverError) -> String {
    let kind = &error.kind;
    match kind.as_ref() {
        ErrorKind::ServerSelection { .. } => format!(
            "no server for this in time; look whether it runs, and where `upstream.uri` leads ({kind})"
        ),
        ErrorKind::Authentication { .. } => {
            format!("it does not let the user of `upstream.uri` log in ({kind})")
        }
        ErrorKind::Command(error) if error.code == UNAUTHORIZED => format!(
            "the user of `upstream.uri` lacks a privilege; docs/operations.md has the role that it needs ({kind})"
        ),
        _ => kind.to_string(),
    }
}

/// `Unauthorized`.
const UNAUTHORIZED: i32 = 13;

/// States in which an index is not there, and can be applied by its name.
const GONE: [&str; 4] = ["advised", "dropped", "failed", "refused"];

/// Collections that are named where one was looked for in vain.
const NAMED_MAX: usize = 10;

fn text(document: &Document, name: &str) -> String {
    document.get_str(name).unwrap_or_default().to_owned()
}

fn moment(document: &Document, name: &str) -> String {
    let at = document.get_datetime(name).ok();
    at.and_then(|at| at.try_to_rfc3339_string().ok())
        .unwrap_or_default()
}

/// `{app_id: 1, category: 1}` of a definition.
fn key(document: &Document) -> String {
    let definition = document.get_document("definition");
    let key = definition.and_then(|definition| definition.get_document("key"));
    let fields = key.into_iter().flatten();
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

impl Store {
    /// All indexes that proxies have made or tried to make: id, key, state, since when.
    pub async fn list(&self) -> Result<Vec<Line>, OrderError> {
        self.lines(&[]).await
    }

    /// Those that are advised and not made.
    pub async fn advice(&self) -> Result<Vec<Line>, OrderError> {
        self.lines(&["advised"]).await
    }

    async fn lines(&self, states: &[&str]) -> Result<Vec<Line>, OrderError> {
        let found = self.indexes(states).await?;
        let line = |index: &Document| {
            let mut state = text(index, "state");
            if state == "hidden" {
                state = format!("hidden ({})", text(index, "why"));
            }
            vec![
                text(index, "_id"),
                key(index),
                state,
                moment(index, "state_at"),
            ]
        };
        Ok(found.iter().map(line).collect())
    }

    async fn decisions_on(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<Vec<Document>, DriverError> {
        let of_collection = doc! {"database": database, "collection": collection};
        let decisions = self.collection("decisions");
        let found = decisions.find(of_collection).sort(doc! {"last_at": 1});
        found.await?.try_collect().await
    }

    /// The decisions on the indexes of `database.collection`: when last, how often, index, verdict, why, figures.
    ///
    /// # Errors
    /// [`OrderError::Undecided`] if there are none.
    pub async fn why(&self, collection: &str) -> Result<Vec<Line>, OrderError> {
        let (database, collection) = collection.split_once('.').unwrap_or((collection, ""));
        let mut found = self.decisions_on(database, collection).await?;
        if found.is_empty() {
            let others = self.decided().await?;
            // What was decided since the first look may be among the others.
            found = self.decisions_on(database, collection).await?;
            if found.is_empty() {
                let whole = format!("{database}.{collection}");
                return Err(OrderError::Undecided(whole, others));
            }
        }
        let line = |decision: &Document| {
            let figures = decision.get("figures").map(Bson::to_string);
            vec![
                moment(decision, "last_at"),
                format!("{}×", count_of(decision, "times")),
                text(decision, "index"),
                text(decision, "verdict"),
                text(decision, "text"),
                figures.unwrap_or_default(),
            ]
        };
        Ok(found.iter().map(line).collect())
    }

    /// Names collections with decisions.
    async fn decided(&self) -> Result<String, OrderError> {
        let group = doc! {"$group": {"_id": {"$concat": ["$database", ".", "$collection"]}}};
        let limit = i64::try_from(NAMED_MAX).unwrap_or(i64::MAX);
        let pipeline = [group, doc! {"$sort": {"_id": 1}}, doc! {"$limit": limit}];
        let decisions = self.collection("decisions");
        let found: Vec<Document> = decisions.aggregate(pipeline).await?.try_collect().await?;
        let named: Vec<String> = found.iter().map(|one| text(one, "_id")).collect();
        Ok(match named.as_slice() {
            [] => "nor on any other".to_owned(),
            all => format!("there are decisions on {}", all.join(", ")),
        })
    }

    /// Has indexes built by a proxy in its next round: those that are advised, or one that is not there. Gives their ids.
    ///
    /// # Errors
    /// [`OrderError::Unknown`], [`OrderError::Stands`].
    pub async fn apply(&self, id: Option<&str>) -> Result<Vec<String>, OrderError> {
        let advised = match id {
            None => self.indexes(&["advised"]).await?,
            Some(id) => {
                let found = self.index(id).await?;
                let found = found.filter(|found| found.contains_key("definition"));
                let found = found.ok_or_else(|| OrderError::Unknown(id.to_owned()))?;
                let state = text(&found, "state");
                if !GONE.contains(&state.as_str()) {
                    return Err(OrderError::Stands(id.to_owned(), state));
                }
                vec![found]
            }
        };
        let mut ordered = Vec::new();
        for row in advised.iter().filter_map(IndexRow::read) {
            let at = DateTime::now();
            self.set_index(&row, doc! {"state": "ordered", "state_at": at})
                .await?;
            ordered.push(row.id);
        }
        Ok(ordered)
    }

    /// Drops an automatic index at once. It is not made again, unless it is applied.
    ///
    /// # Errors
    /// [`OrderError::Unknown`] for anything that no proxy has made.
    pub async fn drop_index(&self, id: &str) -> Result<(), OrderError> {
        let found = self.index(id).await?;
        let row = found.as_ref().and_then(IndexRow::read);
        let row = row.filter(|row| automatic_index_shown(&row.name).is_some());
        let row = row.ok_or_else(|| OrderError::Unknown(id.to_owned()))?;
        // First, so that a build that ends thereby is no failure.
        let now = DateTime::now();
        self.set_index(&row, doc! {"state": "refused", "state_at": now})
            .await?;
        let database = self.client().database(&row.namespace.database);
        let command = doc! {"dropIndexes": &row.namespace.collection, "index": &row.name};
        wait_until_free(&database, &row.namespace.collection).await?;
        match database.run_command(command).await {
            Ok(_) => {}
            Err(error) if matches!(code_of(&error), Some(26 | 27)) => {}
            Err(error) => return Err(error.into()),
        }
        self.tell(&row.namespace).await?;
        let decision = Decision {
            verdict: "drop",
            reason: "operator",
            text: "an operator has dropped it; it is not made again unless it is applied"
                .to_owned(),
            figures: doc! {},
        };
        self.decide(&row, &decision, now.timestamp_millis()).await?;
        Ok(())
    }
}
