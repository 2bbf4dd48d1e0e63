//! The role of the proxy's upstream user: each of its actions is needed, no more is allowed, and what is missing is told.

use std::collections::BTreeSet;

use bson::{Document, RawDocumentBuf, doc};
use mdb_testbed::{Deployment, PROXY_USER, proxy_role};
use mdb_tests::script::Words;
use mdb_tests::{ProxyBuilder, eventually, is_for, logs, shared, unique_name};
use mongodb::Client;
use mongodb::error::ErrorKind;
use serde_yaml::Value;

const ROWS: &str = include_str!("privileges.yaml");

/// The server's Unauthorized.
const UNAUTHORIZED: i32 = 13;

struct Row {
    /// Without it the command is refused.
    action: Option<String>,
    is_refused: bool,
    database: String,
    command: RawDocumentBuf,
}

/// The rows that the deployment's servers know, for this database.
fn rows(deployment: &Deployment, database: &str) -> Vec<Row> {
    let mut words = Words::default();
    words.word("DB", database);
    let rows: Vec<Value> = serde_yaml::from_str(ROWS).unwrap();
    let known = rows.iter().filter(|row| is_for(deployment, row));
    let rows = known.map(|row| Row {
        action: row["action"].as_str().map(str::to_owned),
        is_refused: row["refused"].as_bool().unwrap_or(false),
        database: row["db"].as_str().unwrap_or(database).to_owned(),
        command: words.document(&row["c"]),
    });
    rows.collect()
}

impl Row {
    /// 0 for success.
    async fn code(&self, client: &Client) -> i32 {
        let database = client.database(&self.database);
        match database.run_raw_command(self.command.clone()).await {
            Ok(_) => 0,
            Err(error) => match *error.kind {
                ErrorKind::Command(error) => error.code,
                other => panic!("{:?}: {other}", self.command),
            },
        }
    }
}

fn role_without(action: Option<&str>) -> Document {
    let mut role = proxy_role();
    role.remove("role");
    let privileges = role.get_array_mut("privileges").unwrap();
    for privilege in privileges {
        let actions = privilege
            .as_document_mut()
            .unwrap()
            .get_array_mut("actions");
        actions.unwrap().retain(|one| one.as_str() != action);
    }
    role
}

/// A role, and a user with it, who has the role's name.
struct User {
    name: String,
    admin: mongodb::Database,
}

impl User {
    async fn new(deployment: &Deployment) -> Self {
        let name = unique_name("user");
        let admin = deployment.client().await.unwrap().database("admin");
        let mut create = doc! {"createRole": &name};
        create.extend(role_without(None));
        admin.run_command(create).await.unwrap();
        let create = doc! {"createUser": &name, "pwd": "pencil", "roles": [&name]};
        admin.run_command(create).await.unwrap();
        Self { name, admin }
    }

    async fn update(&self, role: Document) {
        let mut update = doc! {"updateRole": &self.name};
        update.extend(role);
        self.admin.run_command(update).await.unwrap();
    }

    fn uri(&self, deployment: &Deployment) -> String {
        let host = &deployment.hosts()[0];
        format!(
            "mongodb://{}:pencil@{host}/?replicaSet=rs0&authSource=admin",
            self.name
        )
    }
}

async fn furnish(deployment: &Deployment, database: &str) {
    let database = deployment.client().await.unwrap().database(database);
    let documents: Vec<Document> = (0..10).map(|k| doc! {"_id": k, "k": k}).collect();
    for command in [
        doc! {"insert": "c", "documents": documents},
        doc! {"createIndexes": "c", "indexes": [{"key": {"k": 1}, "name": "k_1"}]},
        doc! {"create": "v", "viewOn": "c", "pipeline": []},
        doc! {"create": "log", "capped": true, "size": 4096},
    ] {
        database.run_command(command).await.unwrap();
    }
}

#[tokio::test]
async fn each_action_is_needed_and_all_together_suffice() {
    let deployment = shared().await;
    let database = unique_name("privileges");
    furnish(deployment, &database).await;
    let user = User::new(deployment).await;
    let client = Client::with_uri_str(user.uri(deployment)).await.unwrap();
    let rows = rows(deployment, &database);
    let actions: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.action.as_deref())
        .collect();
    let mut wrong = Vec::new();
    for &action in &actions {
        user.update(role_without(Some(action))).await;
        for row in rows
            .iter()
            .filter(|row| row.action.as_deref() == Some(action))
        {
            let code = row.code(&client).await;
            if code != UNAUTHORIZED {
                wrong.push(format!(
                    "without {action}, {:?} ends with {code}",
                    row.command
                ));
            }
        }
    }
    user.update(role_without(None)).await;
    for row in rows.iter().filter(|row| !row.is_refused) {
        let code = row.code(&client).await;
        if code != 0 {
            wrong.push(format!("{:?} ends with {code}", row.command));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    let role = proxy_role();
    let privilege = role.get_array("privileges").unwrap()[0]
        .as_document()
        .unwrap();
    let granted = privilege.get_array("actions").unwrap();
    let granted: BTreeSet<&str> = granted.iter().map(|one| one.as_str().unwrap()).collect();
    assert_eq!(
        granted, actions,
        "an action without a row, or a row without"
    );
}

#[tokio::test]
async fn the_server_refuses_the_rest() {
    let deployment = shared().await;
    let database = unique_name("privileges");
    furnish(deployment, &database).await;
    let client = Client::with_uri_str(deployment.proxy_uri()).await.unwrap();
    for row in rows(deployment, &database)
        .iter()
        .filter(|row| row.is_refused)
    {
        assert_eq!(row.code(&client).await, UNAUTHORIZED, "{:?}", row.command);
    }
}

#[tokio::test]
async fn the_tests_own_proxies_have_the_documented_role_alone() {
    let client = Client::with_uri_str(shared().await.proxy_uri())
        .await
        .unwrap();
    let command = doc! {"connectionStatus": 1, "showPrivileges": true};
    let status = client.database("admin").run_command(command).await.unwrap();
    let info = status.get_document("authInfo").unwrap();
    let user = doc! {"user": PROXY_USER, "db": "admin"};
    assert_eq!(
        info.get_array("authenticatedUsers").unwrap(),
        &[user.into()]
    );
    let role = doc! {"role": proxy_role().get_str("role").unwrap(), "db": "admin"};
    assert_eq!(
        info.get_array("authenticatedUserRoles").unwrap(),
        &[role.into()]
    );
    let privileges = info.get_array("authenticatedUserPrivileges").unwrap();
    assert_eq!(privileges.len(), 1, "{info}");
}

/// Also the form for databases that are known by name.
#[tokio::test]
async fn what_is_missing_is_told() {
    let deployment = shared().await;
    let user = User::new(deployment).await;
    let whole = |database: &str| doc! {"db": database, "collection": ""};
    let role = role_without(None);
    let actions = &role.get_array("privileges").unwrap()[0]
        .as_document()
        .unwrap()["actions"];
    let data = ["find", "insert", "update", "remove"];
    let named = |database: &str, actions: &bson::Bson| {
        doc! {"roles": [], "privileges": [
            {"resource": whole(database), "actions": actions},
            {"resource": whole("mdb_runtime"), "actions": data.to_vec()},
        ]}
    };
    user.update(named("other", &data.to_vec().into())).await;
    let proxy = ProxyBuilder::at(&user.uri(deployment))
        .app("alice")
        .start()
        .await;
    let warned = eventually("a warning", async || {
        logs::unexpected()
            .into_iter()
            .find(|line| line.contains("lacks privileges"))
    });
    let warned = warned.await;
    for part in ["database=\"other\"", "createIndex, ", "planCacheWrite"] {
        assert!(warned.contains(part), "{part} is not in: {warned}");
    }
    assert!(!warned.contains("insert"), "{warned}");
    logs::expect("lacks privileges");

    let mut alice = proxy.raw("alice").await;
    let insert = doc! {"insert": "c", "documents": [{"x": 1}], "$db": proxy.database_name()};
    let reply = alice.command(&insert).await;
    assert_eq!(reply.get_i32("code").ok(), Some(8), "{reply}");
    let lines = logs::unexpected();
    let is_told =
        |line: &String| line.contains("not authorized") && line.contains(proxy.database_name());
    assert!(lines.iter().any(is_told), "{lines:?}");
    logs::expect("not authorized");

    user.update(named(proxy.database_name(), actions)).await;
    alice.ok(&insert).await;
}
