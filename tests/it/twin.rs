//! Non-interference: an app among others gets the replies of an app that has a server for itself.
//!
//! Random sequences of commands run through the proxy, beside other apps at work in the same collections, and on a
//! private server. What may differ is the table of [`differences`].
//!
//! - `MDB_TWIN_SEED`: the first seed; each sequence has the next one.
//! - `MDB_TWIN_SEQUENCES`, `MDB_TWIN_LENGTH`: how many, and how many draws each.

mod comparable;
mod definitions;
mod dice;
mod differences;
mod expressions;
mod figures;
mod functions;
mod generator;
mod kinds;
mod nonsense;
mod operations;
mod outputs;
mod pipelines;
mod runner;
mod search;
mod sessions;
mod shrinker;
mod side;
mod stage;
mod step;
mod streams;
mod updates;
mod values;
mod views;

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;

use futures_util::future::join_all;
use mdb_tests::{is_for, is_since, shared};
use serde_yaml::Value;

use generator::Generator;
use runner::Twins;
use stage::Stage;
use step::Step;
use values::Owner;

const CASES: &str = include_str!("twin/cases.yaml");
const COMPATIBILITY: &str = include_str!("../../docs/compatibility.md");

/// Sequences that run at the same time, each in a database of its own.
const WORKERS: usize = 4;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect(name))
}

/// Runs one sequence, and says how it failed with as few steps as show it.
async fn play(stage: &Stage, twins: &mut Twins, worker: usize, name: &str, steps: &[Step]) {
    let turn = || stage.turn(worker);
    let Some(found) = twins.run(steps, turn).await else {
        return;
    };
    let (steps, difference) = shrinker::shrink(twins, steps, found, turn).await;
    let mut failure = format!("{name}\n");
    for step in &steps {
        writeln!(failure, "    {}", step.print()).unwrap();
    }
    writeln!(failure, "{difference}").unwrap();
    stage.failures.borrow_mut().push(failure);
}

/// Plays sequences that `next` gives, several at a time, and fails with all that failed.
async fn play_all(isolation: &str, next: impl Fn() -> Option<(String, Vec<Step>)>) {
    let stage = Stage::start(isolation, WORKERS).await;
    let (stage, next) = (&stage, &next);
    join_all((0..WORKERS).map(|worker| async move {
        let work = async {
            let mut twins = stage.twins(worker).await;
            while let Some((name, steps)) = next() {
                if stage.has_failed_enough() {
                    break;
                }
                play(stage, &mut twins, worker, &name, &steps).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stage.disturb(worker) => {}
        }
    }))
    .await;
    let failures = stage.failures.borrow();
    assert!(
        failures.is_empty(),
        "{} sequences:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[tokio::test]
async fn random_sequences_have_the_replies_of_a_private_server() {
    play_random("shared", 256).await;
}

#[tokio::test]
async fn random_sequences_in_dedicated_collections() {
    play_random("dedicated", 256).await;
}

async fn play_random(isolation: &str, count: u64) {
    let first = setting("MDB_TWIN_SEED", 1);
    let count = setting("MDB_TWIN_SEQUENCES", count);
    let length = usize::try_from(setting("MDB_TWIN_LENGTH", 10)).unwrap();
    let seed = Cell::new(first);
    let server = shared().await;
    let (five, six) = (!is_since(server, "5.0"), !is_since(server, "6.0"));
    play_all(isolation, || {
        let this = seed.replace(seed.get() + 1);
        let generator = Generator::new(this, Owner::Subject)
            .dedicated(isolation == "dedicated")
            .before(five, six);
        let steps = { generator }.sequence(length);
        let name = format!("{isolation}: MDB_TWIN_SEED={this} MDB_TWIN_LENGTH={length}");
        (this < first + count).then_some((name, steps))
    })
    .await;
}

#[tokio::test]
async fn named_cases_have_the_replies_of_a_private_server() {
    let cases: Vec<Value> = serde_yaml::from_str(CASES).unwrap();
    let server = shared().await;
    for isolation in ["shared", "dedicated"] {
        // With `shared: { servers: 6.0+ }` a case is for shared collections on these, and for dedicated ones on all.
        let mut cases = cases
            .iter()
            .filter(|case| is_for(server, case) && is_for(server, &case[isolation]));
        let next = RefCell::new(move || cases.next());
        play_all(isolation, || {
            let case = (next.borrow_mut())()?;
            let steps = case["steps"].as_sequence().unwrap().iter();
            let steps = steps.filter(|step| is_for(server, step));
            let name = format!("{isolation}: {}", case["case"].as_str().unwrap());
            Some((name, steps.map(Step::parse).collect()))
        })
        .await;
    }
}

#[test]
fn every_difference_is_documented() {
    for difference in differences::DIFFERENCES {
        assert!(
            COMPATIBILITY.contains(difference.cites),
            "{}",
            difference.cites
        );
    }
}

#[test]
fn a_seed_decides_its_sequence() {
    let print = |seed| -> Vec<String> {
        let steps = Generator::new(seed, Owner::Subject).sequence(30);
        steps.iter().map(Step::print).collect()
    };
    assert_eq!(print(7), print(7));
    assert_ne!(print(7), print(8));
    for line in print(7) {
        let parsed: Vec<Value> = serde_yaml::from_str(&line).unwrap();
        assert_eq!(Step::parse(&parsed[0]).print(), line);
    }
}
