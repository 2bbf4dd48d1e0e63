//! Closed-loop load against the proxy and against mongod in the same run, as ratios.
//!
//! `cargo bench -p mdb-load` starts a replica set of one member and the proxy as processes of their own, and lets the same
//! clients send the same commands first to one, then to the other. Each client sends its next command when the reply to
//! the last one is there. Figures of one run are comparable with each other only.

mod client;
mod workload;

pub use client::{Client, Target};
pub use workload::{Measure, Workload, measure, prepare};
