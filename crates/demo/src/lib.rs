//! The demonstration: two apps, one MongoDB, the same collection, and neither sees the other.
//!
//! - [`Stage`]: a mongod as a replica set of one member, and the proxy in front of it, in this process.
//! - [`walk`]: what the apps do through the proxy, and what must come of it.
//! - [`table`]: what is stored upstream beside what each app sees.

pub mod stage;
pub mod table;
pub mod walk;

pub use stage::{Ports, Stage};
pub use walk::Step;
