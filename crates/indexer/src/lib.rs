//! Indexes in the background: those that observed shapes ask for, slowly, within budgets, proved and taken back.
//!
//! ```text
//!  observations ─► table ─► store (merge) ─► lease ─► go_on ─► consider ─► build ─► proof
//!                                                     │                             │
//!                                                     └── compare, hide, soak, drop ◄─┘
//! ```
//!
//! - [`Worker`] does one round at a time: [`Worker::tick`]. Nothing of it is on the path of a command.
//! - What all proxies have seen, decided and built is in the control database ([`Store`]).
//! - Only indexes that a proxy has made are ever hidden or dropped: those of `indexes`, whose names no app can have.

mod aftercare;
mod allowance;
mod build;
mod consider;
pub mod declared;
mod evidence;
pub mod lease;
mod orders;
mod physical;
mod sample;
mod settings;
mod store;
mod table;
mod worker;

pub use orders::{Line, OrderError};
pub use settings::{AppModes, BuildWindow, Mode, Settings};
pub use store::Store;
pub use table::{Namespace, SHAPES_MAX};
pub use worker::{Handle, Place, Worker};
