//! The rules of scoping, as cases and as properties.

use mdb_notation as notation;

mod cases;
mod matcher;
mod properties;
mod proxy;
mod rows;
