//! What the fuzz targets check, each a function from any bytes that panics where a promise is broken.
//!
//! `tests/fuzz/run` drives them with libFuzzer; the test `replay` gives every seed to every one of them without it. A failure
//! that is found becomes a seed and, where it is about commands or replies, a case of `crates/scope/tests/cases`.

pub mod manifest;
pub mod message;
pub mod mutation;
pub mod reply;
pub mod scope;
pub mod scram;
pub mod seeds;
pub mod stream;

use seeds::Seed;

/// One fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// That of its program and of its directory of seeds.
    pub name: &'static str,
    /// Takes any bytes; panics where a promise is broken.
    pub check: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Seed>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "message",
        check: message::check,
        seeds: seeds::message,
    },
    Target {
        name: "stream",
        check: stream::check,
        seeds: seeds::stream,
    },
    Target {
        name: "scope",
        check: scope::check,
        seeds: seeds::scope,
    },
    Target {
        name: "scram",
        check: scram::check,
        seeds: seeds::scram,
    },
    Target {
        name: "manifest",
        check: manifest::check,
        seeds: seeds::manifest,
    },
    Target {
        name: "reply",
        check: reply::check,
        seeds: seeds::reply,
    },
];
