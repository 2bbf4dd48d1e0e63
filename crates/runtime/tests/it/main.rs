//! The program as it is started by those who run it.

mod endings;
mod program;
mod service;
