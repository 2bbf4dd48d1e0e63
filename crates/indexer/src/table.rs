//! What this process has seen since the last merge, bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mdb_scope::{AppId, Isolation};
use mdb_shape::{Observation, Place, Probe, Sample, Shape, Sketch};

/// Shapes in memory. The least recently seen ones go first, and what they counted is counted as other.
pub const SHAPES_MAX: usize = 10_000;

/// Sketches in memory: commands of one shape can be written in several ways.
const SKETCHES_MAX: usize = 40_000;

/// Bytes of a command that is kept to be explained, and for how many apps. From one app more on they share an index
/// (`Settings::shared_from_apps`); up to then each gets its own, by a command of its own.
const PROBE_BYTES_MAX: usize = 1024;
pub(crate) const PROBES_MAX: usize = 3;

/// Bytes of all kept commands, above which each shape keeps its newest one only. That is room for one of every shape.
const PROBES_BYTES_MAX: usize = 12 << 20;

/// Where a collection is upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// The database.
    pub database: String,
    /// The physical collection.
    pub collection: String,
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}

/// A shape on a physical collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) namespace: Namespace,
    pub(crate) isolation: Isolation,
    pub(crate) shape: Shape,
}

impl Placed {
    /// Its name in the control database.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.shape.fingerprint())
    }
}

/// Calls, and the time that they took together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) reads: u64,
    pub(crate) micros: u64,
}

/// What is new of one app's use of a shape.
#[derive(Debug)]
pub(crate) struct AppDelta {
    pub(crate) app: AppId,
    pub(crate) calls: Calls,
    /// The app's own writes to the collection since the last merge that came before.
    pub(crate) own_before: u64,
}

/// What is new of one shape.
#[derive(Debug)]
pub(crate) struct Delta {
    pub(crate) placed: Arc<Placed>,
    pub(crate) calls: Calls,
    /// In the order of their slugs.
    pub(crate) apps: Vec<AppDelta>,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    /// Writes to its collection since the last merge that came before it was first seen; `None` once that was merged.
    pub(crate) writes_before: Option<u64>,
    /// Of several apps, the newest last.
    probes: Vec<(AppId, Probe)>,
}

impl Calls {
    fn count(&mut self, micros: u32) {
        self.reads += 1;
        self.micros += u64::from(micros);
    }
}

impl Delta {
    /// Keeps a command to be explained in place of an older one of the app, or of the app that was not seen for longest.
    fn keep(&mut self, app: &AppId, probe: Probe) {
        self.probes.retain(|(of, _)| of != app);
        if self.probes.len() >= PROBES_MAX {
            self.probes.remove(0);
        }
        self.probes.push((app.clone(), probe));
    }

    fn probe_bytes(&self) -> usize {
        self.probes
            .iter()
            .map(|(_, probe)| probe_bytes(probe))
            .sum()
    }

    /// Counts a call of an app, of whose own writes there were so many before.
    fn count(&mut self, app: &AppId, own_writes: impl FnOnce() -> u64, micros: u32) {
        self.calls.count(micros);
        let at = match self.apps.binary_search_by(|known| known.app.cmp(app)) {
            Ok(at) => at,
            Err(at) => {
                let new = AppDelta {
                    app: app.clone(),
                    calls: Calls::default(),
                    own_before: own_writes(),
                };
                self.apps.insert(at, new);
                at
            }
        };
        self.apps[at].calls.count(micros);
    }
}

/// What commands of one sketch count for.
#[derive(Debug, Default)]
struct Sketched {
    shapes: Box<[Arc<str>]>,
    writes_to: Option<Arc<Namespace>>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sketches: HashMap<Sketch, Sketched>,
    /// Those that sketches name, once each.
    namespaces: BTreeSet<Arc<Namespace>>,
    shapes: HashMap<Arc<str>, Delta>,
    probe_bytes: usize,
    writes: BTreeMap<Arc<Namespace>, BTreeMap<AppId, u64>>,
    /// Commands of shapes that were forgotten.
    pub(crate) others: u64,
}

impl Table {
    /// Counts one command.
    pub(crate) fn take(&mut self, observation: Observation, now: i64) {
        let Observation {
            app,
            sketch,
            latency_micros,
            writes,
            sample,
        } = observation;
        if let Some(sample) = sample {
            self.learn(&app, sketch, *sample, now);
        }
        let Some(sketched) = self.sketches.get(&sketch) else {
            self.others += 1;
            return;
        };
        if let Some(namespace) = sketched.writes_to.as_ref().filter(|_| writes > 0) {
            let of_apps = self.writes.entry(namespace.clone()).or_default();
            *of_apps.entry(app.clone()).or_default() += u64::from(writes);
        }
        for id in &sketched.shapes {
            let Some(delta) = self.shapes.get_mut(id) else {
                self.others += 1;
                continue;
            };
            let of_apps = self.writes.get(&delta.placed.namespace);
            let own_writes = || of_apps.and_then(|of_apps| of_apps.get(&app)).copied();
            delta.count(&app, || own_writes().unwrap_or(0), latency_micros);
            delta.last_seen = now;
        }
    }

    fn learn(&mut self, app: &AppId, sketch: Sketch, sample: Sample, now: i64) {
        if self.sketches.len() >= SKETCHES_MAX {
            self.sketches.clear();
            self.namespaces.clear();
        }
        let writes_to = sample.places.first().map(namespace_of);
        let writes_to = writes_to.map(|namespace| self.namespace(namespace));
        let mut shapes = Vec::with_capacity(sample.seen.len());
        for seen in sample.seen {
            let place = sample.places.iter().find(|place| {
                place.collection == seen.shape.collection && place.database == seen.shape.database
            });
            let Some(place) = place else { continue };
            let placed = Placed {
                namespace: namespace_of(place),
                isolation: place.isolation,
                shape: seen.shape,
            };
            let id = self.enter(placed, now);
            self.keep(&id, app, seen.probe);
            shapes.push(id);
        }
        let sketched = Sketched {
            shapes: shapes.into(),
            writes_to,
        };
        self.sketches.insert(sketch, sketched);
    }

    fn namespace(&mut self, namespace: Namespace) -> Arc<Namespace> {
        if let Some(known) = self.namespaces.get(&namespace) {
            return known.clone();
        }
        let new = Arc::new(namespace);
        self.namespaces.insert(new.clone());
        new
    }

    /// Makes a shape known, if it is not, and gives its id.
    fn enter(&mut self, placed: Placed, now: i64) -> Arc<str> {
        let id = placed.id();
        if let Some((known, _)) = self.shapes.get_key_value(id.as_str()) {
            return known.clone();
        }
        let of_apps = self.writes.get(&placed.namespace);
        let writes_before = of_apps.map_or(0, |of_apps| of_apps.values().sum());
        self.make_room();
        let id: Arc<str> = id.into();
        let new = Delta {
            placed: Arc::new(placed),
            calls: Calls::default(),
            apps: Vec::new(),
            first_seen: now,
            last_seen: now,
            writes_before: Some(writes_before),
            probes: Vec::new(),
        };
        self.shapes.insert(id.clone(), new);
        id
    }

    /// Keeps a command of a shape, unless it is too long.
    fn keep(&mut self, id: &str, app: &AppId, probe: Probe) {
        let Some(delta) = self.shapes.get_mut(id) else {
            return;
        };
        if probe_bytes(&probe) > PROBE_BYTES_MAX {
            return;
        }
        self.probe_bytes -= delta.probe_bytes();
        delta.keep(app, probe);
        self.probe_bytes += delta.probe_bytes();
        if self.probe_bytes <= PROBES_BYTES_MAX {
            return;
        }
        for delta in self.shapes.values_mut() {
            let older = delta.probes.len().saturating_sub(1);
            delta.probes.drain(..older);
            delta.probes.shrink_to_fit();
        }
        self.probe_bytes = self.shapes.values().map(Delta::probe_bytes).sum();
    }

    /// Forgets a tenth of the shapes, those that were not seen for longest, when there is no room for a new one.
    fn make_room(&mut self) {
        if self.shapes.len() < SHAPES_MAX {
            return;
        }
        let mut seen: Vec<i64> = self.shapes.values().map(|delta| delta.last_seen).collect();
        let (_, limit, _) = seen.select_nth_unstable(SHAPES_MAX / 10 - 1);
        let limit = *limit;
        let mut left = SHAPES_MAX / 10;
        let mut others = 0;
        self.shapes.retain(|_, delta| {
            let goes = delta.last_seen <= limit && left > 0;
            if goes {
                left -= 1;
                others += delta.calls.reads;
            }
            !goes
        });
        self.others += others;
        self.probe_bytes = self.shapes.values().map(Delta::probe_bytes).sum();
    }

    /// What is new, to be merged.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&Arc<str>, &Delta)> {
        let new = |(_, delta): &(_, &Delta)| delta.calls.reads > 0;
        self.shapes.iter().filter(new)
    }

    /// Where a shape is that this process has seen.
    pub(crate) fn placed(&self, id: &str) -> Option<&Arc<Placed>> {
        self.shapes.get(id).map(|delta| &delta.placed)
    }

    /// What was written, by each app.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (&Arc<Namespace>, &BTreeMap<AppId, u64>)> {
        self.writes.iter()
    }

    /// It was merged: nothing is new.
    pub(crate) fn merged(&mut self) {
        self.writes.clear();
        for delta in self.shapes.values_mut() {
            delta.calls = Calls::default();
            delta.apps = Vec::new();
            delta.writes_before = None;
        }
    }

    /// Recent commands of the shape, of this app or of any, the newest first.
    pub(crate) fn probes<'t>(
        &'t self,
        id: &str,
        app: Option<&AppId>,
    ) -> impl Iterator<Item = &'t (AppId, Probe)> {
        let all = self.shapes.get(id).map(|delta| delta.probes.as_slice());
        let all = all.unwrap_or_default().iter().rev();
        all.filter(move |(of, _)| app.is_none_or(|app| app == of))
    }
}

#[cfg(test)]
impl Table {
    /// One sighting of a shape.
    pub(crate) fn enter_for_test(&mut self, placed: Placed) {
        let id = self.enter(placed, 0);
        if let Some(delta) = self.shapes.get_mut(&id) {
            delta.calls.count(1);
        }
    }
}

fn namespace_of(place: &Place) -> Namespace {
    Namespace {
        database: place.database.clone(),
        collection: place.physical.clone(),
    }
}

fn probe_bytes(probe: &Probe) -> usize {
    match probe {
        Probe::Query { filter, sort, .. } => filter.len() + sort.as_ref().map_or(0, Vec::len),
        Probe::Foreign { fields, filter } => {
            filter.len() + fields.iter().map(String::len).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mdb_shape::{Seen, ShapeKind};

    fn observation(field: &str, sketch: u64, is_sampled: bool) -> Observation {
        let mut shape = Shape::new("shop", "c", ShapeKind::Find);
        shape.equality.insert(field.to_owned());
        let probe = Probe::Foreign {
            fields: vec![field.to_owned()],
            filter: Vec::new(),
        };
        Observation {
            app: AppId::parse("a").unwrap(),
            sketch: Sketch(sketch),
            latency_micros: 10,
            writes: 0,
            sample: is_sampled.then(|| {
                Box::new(Sample {
                    seen: vec![Seen { shape, probe }],
                    places: vec![Place {
                        database: "shop".to_owned(),
                        collection: "c".to_owned(),
                        physical: "c".to_owned(),
                        isolation: Isolation::Shared,
                    }],
                })
            }),
        }
    }

    #[test]
    fn commands_of_one_sketch_count_together_until_they_are_merged() {
        let mut table = Table::default();
        for (sampled, now) in [(true, 1), (false, 2), (false, 3)] {
            table.take(observation("x", 5, sampled), now);
        }
        table.take(observation("y", 6, false), 4);
        let told: Vec<_> = table
            .changed()
            .map(|(_, d)| (d.calls.reads, d.calls.micros, d.first_seen, d.last_seen))
            .collect();
        assert_eq!(told, [(3, 30, 1, 3)]);
        assert_eq!(table.others, 1, "one without a known sketch");
        table.merged();
        assert_eq!(table.changed().count(), 0);
        let id = table.shapes.keys().next().unwrap().clone();
        assert!(table.probes(&id, None).next().is_some(), "the sample stays");
    }

    /// Resident bytes of this process.
    fn resident() -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    /// Every shape with as many kept commands as there may be, each of the greatest length, and every sketch.
    #[test]
    fn a_table_at_all_its_limits_stays_within_its_part_of_the_memory() {
        // Of the 64 MiB that a worker may take; the rest is for what it knows of the fleet.
        const TABLE_BYTES_MAX: u64 = 40 << 20;
        let before = resident();
        let mut table = Table::default();
        for n in 0..SHAPES_MAX as u64 {
            for (written, app) in ["alice", "bob", "carol", "dave"].into_iter().enumerate() {
                let sketch = n * 4 + written as u64;
                let mut seen = observation(&format!("field_{n}"), sketch, true);
                seen.app = AppId::parse(app).unwrap();
                let sample = seen.sample.as_mut().unwrap();
                sample.seen[0].probe = Probe::Foreign {
                    fields: Vec::new(),
                    filter: vec![7; PROBE_BYTES_MAX],
                };
                table.take(seen, 1);
            }
        }
        let grown = resident().saturating_sub(before);
        assert_eq!(table.shapes.len(), SHAPES_MAX);
        assert_eq!(table.sketches.len(), SKETCHES_MAX);
        let of_each = table.shapes.values().map(|delta| delta.probes.len());
        let of_each: BTreeSet<usize> = of_each.collect();
        assert_eq!(of_each, (1..=PROBES_MAX).collect());
        assert!(table.probe_bytes <= PROBES_BYTES_MAX);
        assert!(grown < TABLE_BYTES_MAX, "{} KiB", grown / 1024);
    }

    #[test]
    fn the_oldest_shapes_go_when_there_is_no_room() {
        let mut table = Table::default();
        for n in 0..=SHAPES_MAX as u64 {
            let seen = i64::try_from(n).unwrap();
            table.take(observation(&format!("f{n}"), n, true), seen);
        }
        assert_eq!(table.shapes.len(), SHAPES_MAX + 1 - SHAPES_MAX / 10);
        assert_eq!(table.others, SHAPES_MAX as u64 / 10);
        let oldest = table.shapes.values().map(|d| d.first_seen).min().unwrap();
        assert_eq!(oldest, 1000);
    }
}
