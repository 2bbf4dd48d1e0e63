//! Arguments of commands and statements, one by one: a server says 40415 to one that it does not know.

use bson::{Bson, Document, doc};
use mdb_scope::{Argument, COMMANDS, DELETE_STATEMENT, GENERIC, UPDATE_STATEMENT};
use mdb_tests::RawClient;

use super::{Flaws, Server, code};

const UNKNOWN: i32 = 40415;

/// A smallest command of a name. `None` for one that takes any field, or does nothing without its context.
fn smallest(name: &str) -> Option<Document> {
    Some(match name {
        "find" | "count" | "listIndexes" => doc! {name: "c"},
        "aggregate" => doc! {name: "c", "pipeline": [], "cursor": {}},
        "distinct" => doc! {name: "c", "key": "x"},
        "insert" => doc! {name: "c", "documents": [{}]},
        "update" => doc! {name: "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"x": 1}}}]},
        "delete" => doc! {name: "c", "deletes": [{"q": {"_id": 1}, "limit": 1}]},
        "findAndModify" => doc! {name: "c", "query": {"_id": 1}, "remove": true},
        "getMore" => doc! {name: 5_i64, "collection": "c"},
        "killCursors" => doc! {name: "c", "cursors": [5_i64]},
        "explain" => doc! {name: {"find": "c"}},
        "listCollections" | "dropDatabase" => doc! {name: 1},
        "listDatabases" | "commitTransaction" | "abortTransaction" => {
            return Some(doc! {name: 1, "$db": "admin"});
        }
        "create" => doc! {name: "made"},
        "drop" => doc! {name: "nothing"},
        "createIndexes" => doc! {name: "c", "indexes": [{"key": {"q": 1}, "name": "q"}]},
        "dropIndexes" => doc! {name: "c", "index": "nothing"},
        _ => return None,
    })
    .map(|mut command| {
        command.insert("$db", "d");
        command
    })
}

/// Whether the server knows a field of a command. `null` is a value that no field needs.
async fn knows(root: &mut RawClient, mut command: Document, field: &str) -> bool {
    if command.contains_key(field) {
        return true;
    }
    let database = command.remove("$db");
    command.insert(field, Bson::Null);
    command.extend(database.map(|name| ("$db".to_owned(), name)));
    code(&root.command(&command).await) != UNKNOWN
}

async fn compare(
    flaws: &mut Flaws,
    server: &Server,
    what: &str,
    table: &[Argument],
    command: &Document,
) {
    let mut root = server.root().await;
    assert!(
        !knows(&mut root, command.clone(), "nobody").await,
        "{what} takes any field"
    );
    for row in table {
        let known = knows(&mut root, command.clone(), row.name).await;
        flaws.compare(server, what, row.name, known, row.versions);
    }
}

#[tokio::test]
async fn arguments_are_of_the_servers_that_their_rows_state() {
    let server = Server::start().await;
    let mut flaws = Flaws::default();
    let mut count = 0;
    for row in COMMANDS {
        if let Some(command) = smallest(row.name) {
            compare(&mut flaws, &server, row.name, row.arguments, &command).await;
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} commands were asked");
    flaws.none();
}

#[tokio::test]
async fn arguments_of_every_command_are_of_the_servers_that_their_rows_state() {
    let server = Server::start().await;
    let mut root = server.root().await;
    let mut flaws = Flaws::default();
    for row in GENERIC {
        // Statement ids are writes', the recovery token is that of the end of a transaction.
        let mut known = false;
        for name in ["find", "insert", "commitTransaction"] {
            known |= knows(&mut root, smallest(name).unwrap(), row.name).await;
        }
        flaws.compare(&server, "argument", row.name, known, row.versions);
    }
    flaws.none();
}

#[tokio::test]
async fn fields_of_statements_are_of_the_servers_that_their_rows_state() {
    let server = Server::start().await;
    let mut root = server.root().await;
    let mut flaws = Flaws::default();
    let update = doc! {"q": {"_id": 1}, "u": {"$set": {"x": 1}}};
    let delete = doc! {"q": {"_id": 1}, "limit": 1};
    for (name, list, table, statement) in [
        ("update", "updates", UPDATE_STATEMENT, update),
        ("delete", "deletes", DELETE_STATEMENT, delete),
    ] {
        for row in table {
            let mut statement = statement.clone();
            if !statement.contains_key(row.name) {
                statement.insert(row.name, Bson::Null);
            }
            let command = doc! {name: "c", list: [statement], "$db": "d"};
            let known = code(&root.command(&command).await) != UNKNOWN;
            flaws.compare(&server, list, row.name, known, row.versions);
        }
    }
    flaws.none();
}
