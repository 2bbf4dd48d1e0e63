//! What a command may do for one app, and its rewriting so that it cannot see or touch another app's documents.
//!
//! Promised: [`Scoped`], the only thing that may go upstream, comes from [`Scope::apply`] alone, and every place of
//! it that reads or writes documents is bound to the app. Refused: whatever has no row in a table.
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

mod app;
mod arguments;
mod commands;
mod refusal;
mod scoped;

pub use app::{AppId, SLUG_BYTES_MAX, SlugError};
pub use arguments::{Argument, GENERIC, Take};
pub use commands::{
    Action, COMMANDS, Catalog, CommandSpec, Denial, Duty, Local, REFUSED, Rule, look_up,
};
pub use refusal::{REFUSAL_CODES, Refusal};
pub use scoped::{ReadMode, ReadPreference, Routing, Scoped, ServerAddress, TagSet};
