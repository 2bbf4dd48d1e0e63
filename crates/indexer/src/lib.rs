//! Indexes in the background: those that observed shapes ask for, slowly, within budgets, proved and taken back.

pub mod declared;
pub mod lease;
