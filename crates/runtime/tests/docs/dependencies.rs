//! Every dependency has a line that says why.

use std::fs;

use crate::root;

#[test]
fn every_dependency_has_a_line() {
    let page = fs::read_to_string(root().join("docs/decisions/dependencies.md")).unwrap();
    let mut without = Vec::new();
    let mut seen = 0;
    let mut manifests = vec![root().join("tests/Cargo.toml")];
    for directory in ["crates", "tests"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            manifests.push(entry.unwrap().path().join("Cargo.toml"));
        }
    }
    for path in manifests.into_iter().filter(|path| path.exists()) {
        let text = fs::read_to_string(&path).unwrap();
        for name in dependencies(&text).filter(|name| !name.starts_with("mdb-")) {
            seen += 1;
            if !page.contains(&format!("`{name}`")) {
                without.push(name.to_owned());
            }
        }
    }
    assert!(seen > 50, "only {seen} dependencies were found");
    assert!(
        without.is_empty(),
        "no line in docs/decisions/dependencies.md: {without:?}"
    );
}

/// Names in the tables of dependencies of a package.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut is_table = false;
    manifest.lines().filter_map(move |line| {
        if line.starts_with('[') {
            is_table = line.ends_with("dependencies]");
            return None;
        }
        let end = line.find(['.', ' ', '='])?;
        is_table.then(|| &line[..end])
    })
}
