//! Whether the upstream lets the proxy's user do what the proxy needs.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, doc};
use mdb_upstream::Upstream;

/// The role that the documentation gives to the user. The test bed creates it from this file.
const ROLE: &str = include_str!("../upstream-role.json");

/// What the control database wants, where it is not one of all databases.
const CONTROL_ACTIONS: [&str; 4] = ["find", "insert", "update", "remove"];

/// Actions that are missing, by database; under no name where none is granted on any.
type Missing = BTreeMap<String, BTreeSet<String>>;

/// Asks the upstream what its user may do, and warns of what is missing. The upstream should be reachable. One that
/// does not answer shows itself with the first command of a client.
pub(crate) async fn look(upstream: &Upstream, control_database: &str) {
    if !upstream.has_authentication() {
        return;
    }
    let admin = upstream.control().database("admin");
    let command = doc! { "connectionStatus": 1, "showPrivileges": true };
    let status = match admin.run_command(command).await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(error = %error.kind, "the privileges of the upstream's user are not known");
            return;
        }
    };
    for (database, actions) in missing(&status, &needed(), control_database) {
        let actions: Vec<String> = actions.into_iter().collect();
        let database = if database.is_empty() {
            "any"
        } else {
            &database
        };
        tracing::warn!(
            database,
            missing = actions.join(", "),
            "the upstream's user lacks privileges: commands that need them will fail"
        );
    }
}

/// The actions of the documented role.
fn needed() -> BTreeSet<String> {
    let role: serde_json::Value = serde_json::from_str(ROLE).unwrap_or_default();
    let actions = role["privileges"][0]["actions"].as_array().into_iter();
    let actions = actions.flatten().filter_map(|action| action.as_str());
    actions.map(str::to_owned).collect()
}

/// Compares a reply to `connectionStatus` with what is needed. Privileges on single collections count for the control
/// database only: which collections apps have is not known in advance.
fn missing(status: &Document, needed: &BTreeSet<String>, control_database: &str) -> Missing {
    let mut anywhere = BTreeSet::new();
    let mut granted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (resource, actions) in privileges(status) {
        let database = resource.get_str("db").ok();
        let is_whole = resource.get_str("collection").is_ok_and(str::is_empty);
        match database {
            Some("") if is_whole => anywhere.extend(actions),
            Some(name) if is_whole || name == control_database => {
                granted.entry(name).or_default().extend(actions);
            }
            None if resource.get_bool("anyResource").unwrap_or(false) => anywhere.extend(actions),
            _ => {}
        }
    }
    let control_actions = granted.remove(control_database).unwrap_or_default();
    // Access is granted by name of database, or to all of them.
    if granted.is_empty() || needed.iter().all(|a| anywhere.contains(a.as_str())) {
        granted = BTreeMap::from([("", BTreeSet::new())]);
    }
    let lacking =
        |action: &str, has: &BTreeSet<&str>| !has.contains(action) && !anywhere.contains(action);
    let mut missing = Missing::new();
    for (&database, has) in &granted {
        let actions = needed.iter().filter(|action| lacking(action, has));
        missing.insert(database.to_owned(), actions.cloned().collect());
    }
    let control = CONTROL_ACTIONS
        .into_iter()
        .filter(|action| lacking(action, &control_actions));
    missing.insert(
        control_database.to_owned(),
        control.map(str::to_owned).collect(),
    );
    missing.retain(|_, actions| !actions.is_empty());
    missing
}

/// Resources and actions of the authenticated user.
fn privileges(status: &Document) -> impl Iterator<Item = (&Document, Vec<&str>)> {
    let list = status
        .get_document("authInfo")
        .and_then(|info| info.get_array("authenticatedUserPrivileges"));
    let list = list
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_document());
    list.filter_map(|privilege| {
        let actions = privilege.get_array("actions").ok()?;
        let actions = actions.iter().filter_map(|action| action.as_str());
        Some((privilege.get_document("resource").ok()?, actions.collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(privileges: &[(Document, &[&str])]) -> Document {
        let privileges: Vec<Document> = privileges
            .iter()
            .map(|(resource, actions)| doc! { "resource": resource, "actions": actions.to_vec() })
            .collect();
        doc! { "authInfo": { "authenticatedUserPrivileges": privileges }, "ok": 1.0 }
    }

    fn told(privileges: &[(Document, &[&str])]) -> String {
        let needed = ["find", "insert", "update", "remove", "collMod"].map(str::to_owned);
        let missing = missing(&status(privileges), &BTreeSet::from(needed), "control");
        let lines = missing.into_iter().map(|(database, actions)| {
            let actions: Vec<String> = actions.into_iter().collect();
            format!("{database}: {}", actions.join(" "))
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_missing_is_told_by_database() {
        let whole = |db: &str| doc! { "db": db, "collection": "" };
        let keys = doc! { "db": "control", "collection": "keys" };
        let all = &["find", "insert", "update", "remove", "collMod"][..];
        let data = &all[..4];
        let cases = [
            (vec![(whole(""), all)], ""),
            (vec![(doc! { "anyResource": true }, all)], ""),
            (vec![(whole(""), data), (whole(""), &all[4..])], ""),
            (vec![(whole(""), data)], ": collMod"),
            (vec![(whole(""), &all[1..])], ": find; control: find"),
            (vec![(whole("shop"), all), (whole("control"), data)], ""),
            (vec![(whole("shop"), all), (keys.clone(), data)], ""),
            (
                vec![(whole("shop"), data), (whole("main"), all), (keys, data)],
                "shop: collMod",
            ),
            (vec![(whole("shop"), data), (whole(""), all)], ""),
            (
                vec![(whole("shop"), all), (whole("control"), &data[..2])],
                "control: remove update",
            ),
            (
                vec![(doc! { "db": "shop", "collection": "orders" }, all)],
                ": collMod find insert remove update; control: find insert remove update",
            ),
            (
                vec![(doc! { "cluster": true }, all)],
                ": collMod find insert remove update; control: find insert remove update",
            ),
        ];
        for (privileges, expected) in cases {
            assert_eq!(told(&privileges), expected, "{privileges:?}");
        }
    }

    #[test]
    fn the_role_names_actions() {
        assert!(needed().contains("find"));
        assert!(
            CONTROL_ACTIONS
                .iter()
                .all(|&action| needed().contains(action))
        );
    }
}
