//! The documentation says what the program does: generated pages are fresh, links lead somewhere, examples load.
//!
//! `UPDATE_DOCS=1 cargo test -p mdb-runtime --test docs` writes the generated pages anew.

mod commands;
mod dependencies;
mod errors;
mod examples;
mod links;
mod metrics;
mod operators;
mod role;
mod stages;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a generated page with the one in the repository, or writes it.
pub(crate) fn check_page(file: &str, page: &str) {
    let path = root().join("docs").join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/{file} is not fresh; run: UPDATE_DOCS=1 cargo test -p mdb-runtime --test docs"
    );
}

pub(crate) fn begin(title: &str) -> String {
    format!(
        "# {title}\n\n<!-- Generated from the program's tables by crates/runtime/tests/docs; do not edit. -->\n\n"
    )
}

/// Names as code, separated by commas.
pub(crate) fn coded<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
