//! The program as it is started by those who run it.

mod authority;
mod endings;
mod handover;
mod indexes;
mod program;
mod reload;
mod service;
mod tls;
