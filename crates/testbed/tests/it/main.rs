//! The test bed with a real mongod.

mod endings;
mod replica_set;
mod standalone;
#[cfg(target_os = "linux")]
mod statics;
