//! What the path of a command tells the worker.

use mdb_scope::{AppId, Isolation};

use crate::read::Seen;
use crate::sketch::Sketch;

/// One command, as it went.
#[derive(Debug)]
pub struct Observation {
    /// Whose.
    pub app: AppId,
    /// Stands for its shapes.
    pub sketch: Sketch,
    /// From its last byte read to its reply, in microseconds.
    pub latency_micros: u32,
    /// Documents that it wrote.
    pub writes: u32,
    /// With the first command of a sketch, and some of the later ones.
    pub sample: Option<Box<Sample>>,
}

/// A command in full. It stays in memory.
#[derive(Debug)]
pub struct Sample {
    /// Its shapes.
    pub seen: Vec<Seen>,
    /// Where its collections are.
    pub places: Vec<Place>,
}

/// Where the documents of one of the app's collections are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The database.
    pub database: String,
    /// The collection, as the app names it.
    pub collection: String,
    /// Its name upstream.
    pub physical: String,
    /// Whether other apps' documents are beside the app's.
    pub isolation: Isolation,
}
