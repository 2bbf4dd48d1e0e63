//! What this process has seen since the last merge, bounded.

use std::collections::{BTreeMap, HashMap};

use mdb_scope::{AppId, Isolation};
use mdb_shape::{Observation, Place, Probe, Sample, Shape, Sketch};

/// Shapes in memory. The least recently seen ones go first, and what they counted is counted as other.
pub const SHAPES_MAX: usize = 10_000;

/// Sketches in memory: commands of one shape can be written in several ways.
const SKETCHES_MAX: usize = 40_000;

/// Bytes of a command that is kept to be explained, and for how many apps: together at most 30 MiB. From one app more on they
/// share an index (`Settings::shared_from_apps`); up to then each gets its own, by a command of its own.
const PROBE_BYTES_MAX: usize = 1024;
pub(crate) const PROBES_MAX: usize = 3;

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

/// Calls of one app, and the time that they took together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) reads: u64,
    pub(crate) micros: u64,
}

/// What is new of one shape.
#[derive(Debug)]
pub(crate) struct Delta {
    pub(crate) placed: Placed,
    pub(crate) reads: u64,
    pub(crate) micros: u64,
    pub(crate) apps: BTreeMap<AppId, Calls>,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    /// Writes to its collection since the last merge that came before it was first seen; `None` once that was merged.
    pub(crate) writes_before: Option<u64>,
    /// Of each app that counts here, its own writes since the last merge that came before.
    pub(crate) own_before: BTreeMap<AppId, u64>,
    /// Of several apps, the newest last.
    probes: Vec<(AppId, Probe)>,
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
}

/// What commands of one sketch count for.
#[derive(Debug, Default)]
struct Sketched {
    shapes: Vec<String>,
    writes_to: Option<Namespace>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sketches: HashMap<Sketch, Sketched>,
    shapes: HashMap<String, Delta>,
    writes: BTreeMap<Namespace, BTreeMap<AppId, u64>>,
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
            delta.reads += 1;
            delta.micros += u64::from(latency_micros);
            if !delta.apps.contains_key(&app) {
                let of_apps = self.writes.get(&delta.placed.namespace);
                let own = of_apps.and_then(|of_apps| of_apps.get(&app)).copied();
                delta.own_before.insert(app.clone(), own.unwrap_or(0));
            }
            let calls = delta.apps.entry(app.clone()).or_default();
            calls.reads += 1;
            calls.micros += u64::from(latency_micros);
            delta.last_seen = now;
        }
    }

    fn learn(&mut self, app: &AppId, sketch: Sketch, sample: Sample, now: i64) {
        if self.sketches.len() >= SKETCHES_MAX {
            self.sketches.clear();
        }
        let mut sketched = Sketched {
            shapes: Vec::new(),
            writes_to: sample.places.first().map(namespace_of),
        };
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
            let id = placed.id();
            let of_apps = self.writes.get(&placed.namespace);
            let writes_before = of_apps.map_or(0, |of_apps| of_apps.values().sum());
            self.make_room(&id);
            let delta = self.shapes.entry(id.clone()).or_insert_with(|| Delta {
                placed,
                reads: 0,
                micros: 0,
                apps: BTreeMap::new(),
                first_seen: now,
                last_seen: now,
                writes_before: Some(writes_before),
                own_before: BTreeMap::new(),
                probes: Vec::new(),
            });
            if probe_bytes(&seen.probe) <= PROBE_BYTES_MAX {
                delta.keep(app, seen.probe);
            }
            sketched.shapes.push(id);
        }
        self.sketches.insert(sketch, sketched);
    }

    /// Forgets a tenth of the shapes, those that were not seen for longest, when there is no room for a new one.
    fn make_room(&mut self, id: &str) {
        if self.shapes.len() < SHAPES_MAX || self.shapes.contains_key(id) {
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
                others += delta.reads;
            }
            !goes
        });
        self.others += others;
    }

    /// What is new, to be merged.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&String, &Delta)> {
        self.shapes.iter().filter(|(_, delta)| delta.reads > 0)
    }

    /// What was written, by each app.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (&Namespace, &BTreeMap<AppId, u64>)> {
        self.writes.iter()
    }

    /// It was merged: nothing is new.
    pub(crate) fn merged(&mut self) {
        self.writes.clear();
        for delta in self.shapes.values_mut() {
            delta.reads = 0;
            delta.micros = 0;
            delta.apps.clear();
            delta.writes_before = None;
            delta.own_before.clear();
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
        let delta = Delta {
            reads: 1,
            micros: 1,
            apps: BTreeMap::new(),
            first_seen: 0,
            last_seen: 0,
            writes_before: Some(2),
            own_before: BTreeMap::new(),
            probes: Vec::new(),
            placed,
        };
        self.shapes.insert(delta.placed.id(), delta);
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
            .map(|(_, d)| (d.reads, d.micros, d.first_seen, d.last_seen))
            .collect();
        assert_eq!(told, [(3, 30, 1, 3)]);
        assert_eq!(table.others, 1, "one without a known sketch");
        table.merged();
        assert_eq!(table.changed().count(), 0);
        let id = table.shapes.keys().next().unwrap().clone();
        assert!(table.probes(&id, None).next().is_some(), "the sample stays");
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
