//! Commands reduced to query shapes, and the index that would serve a shape.
//!
//! Promised: a shape never holds a value of a command. Pure: no IO, no clock, no randomness.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod candidate;
mod fields;
mod observation;
mod read;
mod shape;
mod sketch;

pub use candidate::{Candidate, ExistingIndex, IndexKey, KEY_FIELDS_MAX, candidates};
pub use fields::IN_VALUES_MAX;
pub use observation::{Observation, Place, Sample};
pub use read::{Probe, Seen, collections_of, shapes_of};
pub use shape::{Direction, Fingerprint, Shape, ShapeKind};
pub use sketch::{Sketch, sketch_of};

#[cfg(test)]
mod tests;
