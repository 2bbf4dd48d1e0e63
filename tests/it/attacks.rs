//! The attack book: `tests/attacks/*.yaml`. Each attack is one raw command of an app against another's documents. None
//! may read, change, remove, count or move one, and after each everything of the victim is upstream as it was. The whole
//! book is run with collections that are shared and such that are an app's own, on both sides.

#[path = "attacks/judge.rs"]
mod judge;
#[path = "attacks/world.rs"]
mod world;

use std::path::Path;

use mdb_tests::{is_for, is_ok, is_since, shared};
use serde_yaml::Value;

use self::judge::surprise;
use self::world::{Isolation, Modes, World};

/// In every value of the victim; in no reply to the attacker.
const MARK: &str = "TAINT";

/// One of the book's files.
struct Chapter {
    name: String,
    attacks: Vec<Value>,
}

/// The chapters by name.
fn book() -> Vec<Chapter> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks");
    let files = std::fs::read_dir(directory).unwrap();
    let mut chapters: Vec<Chapter> = files
        .map(|file| {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            Chapter {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                attacks: serde_yaml::from_str(&text).unwrap(),
            }
        })
        .collect();
    chapters.sort_by(|a, b| a.name.cmp(&b.name));
    chapters
}

/// Runs a chapter; gives what went otherwise than it says.
async fn run(world: &mut World, chapter: &Chapter) -> Vec<String> {
    let modes = world.modes;
    match chapter.name.as_str() {
        "sessions" => world.open_sessions().await,
        // Streams are served from 6.0 on.
        "streams" if !is_since(shared().await, "6.0") => return Vec::new(),
        "streams" => world.open_stream().await,
        _ => {}
    }
    let before = world.not_of_attacker().await;
    let mut surprises = Vec::new();
    let mut is_touched = true;
    for attack in &chapter.attacks {
        let name = format!("{}: {}", chapter.name, attack["name"].as_str().unwrap());
        if is_touched {
            world.reset_attacker().await;
        }
        let reply = world.run(attack).await;
        is_touched = reply.as_ref().is_none_or(|r| is_ok(&r.document()));
        // On servers that are older than the attack nothing is told and nothing happens, but it may end otherwise.
        let outcome = modes.outcome(attack);
        if is_for(shared().await, attack)
            && let Some(found) = surprise(outcome, reply.as_ref())
        {
            surprises.push(format!("{name}: expected {outcome:?}: {found}"));
        }
        if let Some(reply) = &reply
            && let Some(found) = world.word_too_much(attack, reply).await
        {
            surprises.push(format!("{name}: TOLD {found}"));
        }
        let after = world.not_of_attacker().await;
        assert_eq!(after, before, "BREACH by {name} in {modes:?}");
    }
    if chapter.name == "sessions" {
        world.close_sessions().await;
    }
    surprises
}

async fn run_book(attacker: Isolation, victim: Isolation) {
    let modes = Modes { attacker, victim };
    let mut world = World::new(modes).await;
    let mut surprises = Vec::new();
    for chapter in book() {
        world.settle().await;
        surprises.extend(run(&mut world, &chapter).await);
    }
    assert!(surprises.is_empty(), "{modes:?}:\n{}", surprises.join("\n"));
}

#[test]
fn the_book_is_thick() {
    let attacks: usize = book().iter().map(|chapter| chapter.attacks.len()).sum();
    assert!(attacks >= ATTACKS_MIN, "{attacks}");
}

/// The book only grows.
const ATTACKS_MIN: usize = 1175;

#[tokio::test]
async fn both_in_the_same_collections() {
    run_book(Isolation::Shared, Isolation::Shared).await;
}

#[tokio::test]
async fn from_a_shared_collection_against_the_victims_own() {
    run_book(Isolation::Shared, Isolation::Dedicated).await;
}

#[tokio::test]
async fn from_the_attackers_own_collection_against_a_shared_one() {
    run_book(Isolation::Dedicated, Isolation::Shared).await;
}

#[tokio::test]
async fn each_in_collections_of_its_own() {
    run_book(Isolation::Dedicated, Isolation::Dedicated).await;
}
