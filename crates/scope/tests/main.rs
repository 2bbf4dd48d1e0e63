//! The rules of scoping, as cases and as properties.

mod cases;
mod matcher;
mod notation;
mod properties;
mod proxy;
mod rows;
