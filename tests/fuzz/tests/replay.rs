//! Every seed through every target: what each of them checks holds, also where nothing is fuzzed.

use mdb_fuzz::TARGETS;
use mdb_fuzz::mutation::{Shape, mutate};
use mdb_fuzz::seeds::committed;

/// The fewest seeds of all targets: files that are not found must not pass for none without failures.
const SEEDS_MIN: usize = 1500;
/// Bytes of all committed seeds: they are to be many small ones.
const SEED_BYTES_MAX: usize = 1_000_000;

#[test]
fn every_seed_through_every_target() {
    let mut count = 0;
    for (name, bytes) in TARGETS.iter().flat_map(|target| (target.seeds)()) {
        count += 1;
        for target in TARGETS {
            let check = || (target.check)(&bytes);
            let held = std::panic::catch_unwind(check);
            assert!(held.is_ok(), "{name} fails {}", target.name);
        }
    }
    assert!(count >= SEEDS_MIN, "{count} seeds");
}

#[test]
fn every_target_has_seeds_and_all_are_small() {
    let mut bytes = 0;
    for target in TARGETS {
        let seeds = committed(target.name);
        assert!(!seeds.is_empty(), "{}", target.name);
        bytes += seeds.iter().map(|(_, seed)| seed.len()).sum::<usize>();
    }
    assert!(bytes <= SEED_BYTES_MAX, "{bytes} bytes");
}

/// Changed seeds keep their promises too; the same number makes the same change.
#[test]
fn changed_seeds_hold() {
    let raw = |_: &mut [u8], size: usize, size_max: usize| size.min(size_max);
    let shapes = [
        ("message", Shape::Message),
        ("scope", Shape::Scope),
        ("reply", Shape::Reply),
    ];
    for (name, shape) in shapes {
        let target = TARGETS.iter().find(|t| t.name == name).unwrap();
        let mut changed = 0;
        for (number, (_, bytes)) in (1..).zip((target.seeds)()) {
            let change = || {
                let mut data = bytes.clone();
                data.resize(bytes.len() + 512, 0);
                let size_max = data.len();
                let size = mutate(shape, &mut data, bytes.len(), size_max, number * 7919, raw);
                data.truncate(size);
                data
            };
            let data = change();
            assert_eq!(data, change());
            changed += usize::from(data != bytes);
            (target.check)(&data);
        }
        assert!(changed > 10, "{name}: {changed} changed");
    }
}
