//! The role in the documentation is the one that the tests run with.

use std::collections::BTreeSet;
use std::fs;

use crate::root;

#[test]
fn the_page_shows_the_role_that_the_tests_use() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let role = fs::read_to_string(root().join("crates/runtime/upstream-role.json")).unwrap();
    let shown = format!("```js\nconst role = {};\n", role.trim());
    assert!(page.contains(&shown), "docs/operations.md has not: {shown}");
}

#[test]
fn the_page_has_a_row_for_each_privilege() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rows = page
        .split_once("| privilege | what for |\n|---|---|\n")
        .unwrap()
        .1;
    let first_cells = rows
        .lines()
        .map_while(|line| line.strip_prefix("| ")?.split(" | ").next());
    let explained: BTreeSet<&str> = first_cells
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.trim_matches('`'))
        .collect();
    let role = mdb_testbed::proxy_role();
    let privileges = role.get_array("privileges").unwrap();
    let actions = privileges
        .iter()
        .flat_map(|one| one.as_document().unwrap().get_array("actions").unwrap());
    let granted: BTreeSet<&str> = actions.map(|action| action.as_str().unwrap()).collect();
    assert_eq!(explained, granted);
}
