//! The way from commands to whoever works on indexes: bounded, and never waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mdb_scope::AppId;
use mdb_shape::{Observation, Place, Sample, Sketch, collections_of, shapes_of, sketch_of};
use mdb_telemetry::Metrics;
use mdb_wire::{Command, Document};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Observations that may wait. A worker that looks ten times a second loses none up to 80,000 commands a second.
pub const OBSERVATIONS_MAX: usize = 8192;

/// Sketches that are remembered. Those that meet in one place are sent in full again, which costs time and is not wrong.
const SKETCHES_MAX: usize = 16_384;

/// One in so many commands is sent in full, so that there is a recent one to explain.
const SAMPLED_ONE_IN: u64 = 64;

/// Bytes of the largest command that is sent in full.
const SAMPLE_BYTES_MAX: usize = 16 * 1024;

/// Tells of commands. Nothing of it waits, and what finds no room is counted and dropped.
#[derive(Debug)]
pub struct Observer {
    sender: Sender<Observation>,
    sieve: Box<[AtomicU64]>,
    told: AtomicU64,
    metrics: Metrics,
}

impl Observer {
    /// An observer, and where its observations arrive.
    pub fn new(metrics: Metrics) -> (Self, Receiver<Observation>) {
        let (sender, receiver) = channel(OBSERVATIONS_MAX);
        let observer = Self {
            sender,
            sieve: (0..SKETCHES_MAX).map(|_| AtomicU64::new(0)).collect(),
            told: AtomicU64::new(0),
            metrics,
        };
        (observer, receiver)
    }

    /// Tells of a command that went well. `place_of` says where a collection of a database is.
    pub fn tell(
        &self,
        app: &AppId,
        command: &Command<'_>,
        latency: Duration,
        reply: &[u8],
        place_of: &dyn Fn(&str, &str) -> Option<Place>,
    ) {
        let Some(sketch) = sketch_of(command) else {
            return;
        };
        let sketch = sketch.of_app(app.as_str());
        let sample = if self.wants_sample(sketch) {
            sample(command, place_of)
        } else {
            None
        };
        let is_sampled = sample.is_some();
        let observation = Observation {
            app: app.clone(),
            sketch,
            latency_micros: u32::try_from(latency.as_micros()).unwrap_or(u32::MAX),
            writes: written(command, reply),
            sample,
        };
        let is_sent = self.sender.try_send(observation).is_ok();
        if !is_sent {
            self.metrics.observation_dropped();
        }
        if is_sent && is_sampled {
            self.place(sketch).store(sketch.0, Ordering::Relaxed);
        }
    }

    /// Whether the command should be sent in full: the first of its sketch, and some of the others.
    fn wants_sample(&self, sketch: Sketch) -> bool {
        let told = self.told.fetch_add(1, Ordering::Relaxed);
        let is_known = self.place(sketch).load(Ordering::Relaxed) == sketch.0;
        !is_known || told.is_multiple_of(SAMPLED_ONE_IN)
    }

    fn place(&self, sketch: Sketch) -> &AtomicU64 {
        let index = usize::try_from(sketch.0 % SKETCHES_MAX as u64).unwrap_or(0);
        &self.sieve[index]
    }
}

/// The command in full; `None` for one that is too large, or whose collections are not known.
fn sample(
    command: &Command<'_>,
    place_of: &dyn Fn(&str, &str) -> Option<Place>,
) -> Option<Box<Sample>> {
    if command.message_bytes() > SAMPLE_BYTES_MAX && command.name != b"insert" {
        return None;
    }
    let named = collections_of(command).into_iter();
    let places: Vec<Place> = named
        .filter_map(|(database, collection)| place_of(database, collection))
        .collect();
    (!places.is_empty()).then(|| {
        Box::new(Sample {
            seen: shapes_of(command),
            places,
        })
    })
}

/// Documents that a command wrote, as its reply says.
fn written(command: &Command<'_>, reply: &[u8]) -> u32 {
    match command.name {
        b"insert" | b"update" | b"delete" => {
            let n = Document::parse_shallow(reply)
                .ok()
                .and_then(|reply| reply.find("n"));
            let n = n.and_then(|n| u32::try_from(n.as_integer()?).ok());
            n.unwrap_or(0)
        }
        b"bulkWrite" => {
            let counts = ["nInserted", "nModified", "nUpserted", "nDeleted"];
            let reply = Document::parse_shallow(reply).unwrap_or(Document::EMPTY);
            let counts = counts
                .iter()
                .filter_map(|name| reply.find(name)?.as_integer());
            u32::try_from(counts.sum::<i64>()).unwrap_or(u32::MAX)
        }
        b"findAndModify" | b"findandmodify" => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;
    use mdb_scope::Isolation;

    #[allow(clippy::unnecessary_wraps, reason = "as the face wants it")]
    fn place(database: &str, collection: &str) -> Option<Place> {
        Some(Place {
            database: database.to_owned(),
            collection: collection.to_owned(),
            physical: collection.to_owned(),
            isolation: Isolation::Shared,
        })
    }

    fn tell(observer: &Observer, command: &bson::Document, reply: &bson::Document) {
        let app = AppId::parse("shop").unwrap();
        let bytes = bson::serialize_to_vec(command).unwrap();
        let reply = bson::serialize_to_vec(reply).unwrap();
        let command = Command::inner(Document::parse(&bytes).unwrap(), "shop").unwrap();
        observer.tell(&app, &command, Duration::from_micros(7), &reply, &place);
    }

    #[test]
    fn the_first_of_a_sketch_comes_in_full() {
        let (observer, mut observations) = Observer::new(Metrics::new());
        let find = |value: i32| doc! {"find": "c", "filter": {"a": value}};
        tell(&observer, &find(1), &doc! {"ok": 1});
        tell(&observer, &find(2), &doc! {"ok": 1});
        tell(&observer, &doc! {"ping": 1}, &doc! {"ok": 1});
        tell(
            &observer,
            &doc! {"insert": "c", "documents": [{}]},
            &doc! {"n": 1, "ok": 1},
        );
        let first = observations.try_recv().unwrap();
        let sample = first.sample.unwrap();
        assert_eq!(sample.seen[0].shape.to_string(), "find {a}");
        assert_eq!(sample.places, [place("shop", "c").unwrap()]);
        assert_eq!(first.latency_micros, 7);
        let second = observations.try_recv().unwrap();
        assert_eq!(
            (second.sketch, second.sample.is_none()),
            (first.sketch, true)
        );
        let insert = observations.try_recv().unwrap();
        assert_eq!(insert.writes, 1);
        assert!(observations.try_recv().is_err());
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_in_full_later() {
        let metrics = Metrics::new();
        let (observer, mut observations) = Observer::new(metrics.clone());
        for _ in 0..OBSERVATIONS_MAX {
            tell(
                &observer,
                &doc! {"find": "c", "filter": {"a": 1}},
                &doc! {"ok": 1},
            );
        }
        let other = doc! {"find": "c", "filter": {"b": 1}};
        tell(&observer, &other, &doc! {"ok": 1});
        assert!(
            metrics
                .render()
                .contains("index_observations_dropped_total 1")
        );
        while observations.try_recv().is_ok() {}
        tell(&observer, &other, &doc! {"ok": 1});
        assert!(observations.try_recv().unwrap().sample.is_some());
    }
}
