//! What the roles of a credential allow: every command of the table, each role.

use bson::{Document, doc};
use mdb_tests::{RawClient, TestProxy, is_ok, shared};

const ROLES: [&str; 3] = ["read", "write", "admin"];

/// A command, the action it needs, and whether `read`, `readWrite`, `dbAdmin` have it.
fn matrix() -> Vec<(Document, &'static str, [bool; 3])> {
    let index = doc! {"key": {"k": 1}, "name": "k"};
    let (readers, writers) = ([true, true, false], [false, true, false]);
    let (makers, everybody) = ([false, true, true], [true, true, true]);
    let admins = [false, false, true];
    vec![
        (doc! {"find": "c"}, "find", readers),
        (
            doc! {"aggregate": "c", "pipeline": [], "cursor": {}},
            "find",
            readers,
        ),
        (doc! {"count": "c"}, "find", readers),
        (doc! {"distinct": "c", "key": "x"}, "find", readers),
        (doc! {"explain": {"find": "c"}}, "find", readers),
        (
            doc! {"insert": "c", "documents": [{"x": 1}]},
            "insert",
            writers,
        ),
        (
            doc! {"update": "c", "updates": [{"q": {}, "u": {"$set": {"x": 2}}}]},
            "update",
            writers,
        ),
        (
            doc! {"findAndModify": "c", "query": {"no": 1}, "update": {"$set": {"x": 2}}},
            "update",
            writers,
        ),
        (
            doc! {"explain": {"update": "c", "updates": [{"q": {}, "u": {"$set": {"x": 2}}}]}},
            "update",
            writers,
        ),
        (
            doc! {"delete": "c", "deletes": [{"q": {"no": 1}, "limit": 0}]},
            "remove",
            writers,
        ),
        (
            doc! {"explain": {"delete": "c", "deletes": [{"q": {}, "limit": 0}]}},
            "remove",
            writers,
        ),
        (doc! {"listCollections": 1}, "listCollections", everybody),
        (doc! {"listIndexes": "c"}, "listIndexes", everybody),
        (
            doc! {"createIndexes": "c", "indexes": [index]},
            "createIndex",
            makers,
        ),
        (doc! {"dropIndexes": "c", "index": "*"}, "dropIndex", makers),
        (doc! {"collStats": "c"}, "collStats", everybody),
        (doc! {"dbStats": 1}, "dbStats", everybody),
        (doc! {"dataSize": "none.c"}, "find", readers),
        (figures(doc! {"$collStats": {}}), "collStats", everybody),
        (figures(doc! {"$indexStats": {}}), "indexStats", everybody),
        (
            doc! {"aggregate": "c", "pipeline": [{"$collStats": {}}, {"$unionWith": "c"}], "cursor": {}},
            "find",
            readers,
        ),
        (doc! {"collMod": "c"}, "collMod", admins),
        (doc! {"validate": "none"}, "validate", admins),
        (doc! {"planCacheClear": "none"}, "planCacheWrite", admins),
        (
            doc! {"planCacheListFilters": "none"},
            "planCacheIndexFilter",
            admins,
        ),
        (
            doc! {"planCacheClearFilters": "none"},
            "planCacheIndexFilter",
            admins,
        ),
        (
            doc! {"planCacheSetFilter": "none"},
            "planCacheIndexFilter",
            admins,
        ),
        (
            doc! {"convertToCapped": "none", "size": 1},
            "convertToCapped",
            makers,
        ),
        (
            doc! {"cloneCollectionAsCapped": "none", "toCollection": "x", "size": 1},
            "insert",
            writers,
        ),
        (
            doc! {"renameCollection": "none.c", "to": "none.d"},
            "renameCollectionSameDB",
            makers,
        ),
        (doc! {"create": "ROLE"}, "createCollection", makers),
        (doc! {"drop": "ROLE"}, "dropCollection", makers),
        (doc! {"dropDatabase": 1}, "dropCollection", makers),
        (doc! {"listDatabases": 1}, "", everybody),
        (doc! {"killCursors": "c", "cursors": []}, "", everybody),
        (
            doc! {"killAllSessions": []},
            "killAnySession",
            [false, false, true],
        ),
        (doc! {"startSession": 1}, "", everybody),
        (doc! {"endSessions": []}, "", everybody),
        (doc! {"refreshSessions": []}, "", everybody),
        (doc! {"ping": 1}, "", everybody),
        (doc! {"hello": 1}, "", everybody),
        (doc! {"buildInfo": 1}, "", everybody),
        (doc! {"connectionStatus": 1}, "", everybody),
        (doc! {"whatsmyuri": 1}, "", everybody),
        (doc! {"getLog": "startupWarnings"}, "", everybody),
        (doc! {"getCmdLineOpts": 1}, "", everybody),
        (
            doc! {"getParameter": 1, "featureCompatibilityVersion": 1},
            "",
            everybody,
        ),
        (doc! {"serverStatus": 1}, "", everybody),
        (doc! {"hostInfo": 1}, "", everybody),
        (doc! {"usersInfo": 1}, "", everybody),
        (doc! {"listCommands": 1}, "", everybody),
        (doc! {"getFreeMonitoringStatus": 1}, "", everybody),
    ]
}

fn figures(stage: Document) -> Document {
    doc! {"aggregate": "c", "pipeline": [stage], "cursor": {}}
}

async fn check(client: &mut RawClient, role: usize, db: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (mut command, action, allowed) in matrix() {
        if command.values().next().and_then(|v| v.as_str()) == Some("ROLE") {
            let name = command.keys().next().unwrap().clone();
            command.insert(name, format!("of_{role}"));
        }
        let is_of_all = command.contains_key("listDatabases");
        command.insert("$db", if is_of_all { "admin" } else { db });
        let reply = client.command(&command).await;
        let text = reply.get_str("errmsg").unwrap_or_default();
        if allowed[role] {
            // On `none` there is nothing to do.
            let is_done = is_ok(&reply) || command.to_string().contains("none");
            if !is_done || text.contains("do not grant") {
                wrong.push(format!("{} may {command}: {reply}", ROLES[role]));
            }
            continue;
        }
        let is_unauthorized = reply.get_i32("code").ok() == Some(13);
        let collection = command.values().next().and_then(|v| v.as_str());
        let collection = collection.filter(|name| !name.contains('.'));
        let namespace = collection.map_or(db.to_owned(), |c| format!("{db}.{c}"));
        if !is_unauthorized || !text.contains(&format!("'{action}'")) || !text.contains(&namespace)
        {
            wrong.push(format!("{} may not {command}: {reply}", ROLES[role]));
        }
    }
    wrong
}

#[tokio::test]
async fn each_role_may_what_its_name_says() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let mut wrong = Vec::new();
    for (role, name) in ROLES.iter().enumerate() {
        let db = format!("{}_{name}", proxy.database_name());
        let mut owner = proxy.raw("alice").await;
        owner
            .ok(&doc! {"insert": "c", "documents": [{"x": 1}], "$db": &db})
            .await;
        let mut client = proxy.raw(&format!("alice-{name}")).await;
        wrong.extend(check(&mut client, role, &db).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every command that the proxy says it has is in the matrix above, or is about cursors, logins and transactions.
#[tokio::test]
async fn the_matrix_is_whole() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut alice = proxy.raw("alice").await;
    let listed = alice.ok(&doc! {"listCommands": 1, "$db": "admin"}).await;
    let elsewhere = [
        "isMaster",
        "saslStart",
        "saslContinue",
        "authenticate",
        "logout",
        "getMore",
        "commitTransaction",
        "abortTransaction",
        "killSessions",
        "currentOp",
        "killOp",
        // In front of a server that has it: `bulk_write`.
        "bulkWrite",
    ];
    let matrix = matrix();
    for command in listed.get_document("commands").unwrap().keys() {
        let is_tested = matrix
            .iter()
            .any(|(row, _, _)| row.keys().next() == Some(command));
        assert!(
            is_tested || elsewhere.contains(&command.as_str()),
            "{command}"
        );
    }
}

#[tokio::test]
async fn connection_status_tells_user_and_roles() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    for (user, roles) in [
        ("alice", vec!["dbAdmin", "readWrite"]),
        ("alice-read", vec!["read"]),
    ] {
        let mut client = proxy.raw(user).await;
        let status = client
            .ok(&doc! {"connectionStatus": 1, "$db": "admin"})
            .await;
        let info = status.get_document("authInfo").unwrap();
        let first = |key: &str, field: &str| -> Vec<String> {
            let items = info
                .get_array(key)
                .unwrap()
                .iter()
                .map(|d| d.as_document().unwrap());
            let mut names: Vec<String> = items
                .map(|d| d.get_str(field).unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(first("authenticatedUsers", "user"), [proxy.user_name(user)]);
        assert_eq!(first("authenticatedUserRoles", "role"), roles);
    }
}
