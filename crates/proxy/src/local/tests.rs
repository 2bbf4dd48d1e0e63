use crate::testing::{PEER, Proxy, server_hello};
use bson::{Document, doc};
use mdb_upstream::DeploymentKind;

#[tokio::test]
async fn fixed_answers() {
    let proxy = Proxy::new().await;
    proxy
        .shared
        .hello
        .learn(&server_hello(DeploymentKind::ReplicaSet));
    let mut client = proxy.connect_shop().await;
    let fcv = doc! {"featureCompatibilityVersion": {"version": "6.0"}, "ok": 1.0};
    let cases = [
        (doc! {"ping": 1}, doc! {"ok": 1.0}),
        (
            doc! {"whatsmyuri": 1},
            doc! {"you": PEER.to_string(), "ok": 1.0},
        ),
        (
            doc! {"buildinfo": 1},
            doc! {
                "version": "6.0.5",
                "gitVersion": "c9a99c12",
                "modules": [],
                "sysInfo": "deprecated",
                "versionArray": [6, 0, 5, 0],
                "bits": 64,
                "debug": false,
                "maxBsonObjectSize": 16_777_216,
                "ok": 1.0,
            },
        ),
        (
            doc! {"getLog": "startupWarnings"},
            doc! {"totalLinesWritten": 0, "log": [], "ok": 1.0},
        ),
        (
            doc! {"getLog": "*"},
            doc! {"names": ["startupWarnings"], "ok": 1.0},
        ),
        (
            doc! {"getCmdLineOpts": 1},
            doc! {"argv": ["mongos"], "parsed": {}, "ok": 1.0},
        ),
        (
            doc! {"getParameter": 1, "featureCompatibilityVersion": 1},
            fcv,
        ),
        (doc! {"getParameter": "*"}, all_parameters()),
        (
            doc! {"getParameter": {"allParameters": true}},
            all_parameters(),
        ),
        (
            doc! {"hostInfo": 1},
            doc! {"system": {}, "os": {}, "extra": {}, "ok": 1.0},
        ),
        (
            doc! {"getFreeMonitoringStatus": 1},
            doc! {"state": "disabled", "ok": 1.0},
        ),
    ];
    for (command, expected) in cases {
        assert_eq!(client.command(command.clone()).await, expected, "{command}");
    }
}

fn all_parameters() -> Document {
    doc! {
        "authenticationMechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"],
        "enableTestCommands": false,
        "featureCompatibilityVersion": {"version": "6.0"},
        "requireApiVersion": false,
        "ok": 1.0,
    }
}

#[tokio::test]
async fn users_see_themselves() {
    let proxy = Proxy::new().await;
    let mut client = proxy.connect_shop().await;
    let user = doc! {
        "_id": "admin.shop",
        "user": "shop",
        "db": "admin",
        "mechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"],
        "roles": [{"role": "readWrite", "db": "admin"}, {"role": "dbAdmin", "db": "admin"}],
    };
    let own = doc! {"users": [user.clone()], "ok": 1.0};
    let none = doc! {"users": [], "ok": 1.0};
    let cases = [
        (doc! {"usersInfo": 1}, Ok(own.clone())),
        (doc! {"usersInfo": 1, "$db": "x"}, Ok(none)),
        (doc! {"usersInfo": "shop"}, Ok(own.clone())),
        (doc! {"usersInfo": "shop", "$db": "x"}, Err(13)),
        (
            doc! {"usersInfo": {"user": "shop", "db": "admin"}, "$db": "x"},
            Ok(own.clone()),
        ),
        (doc! {"usersInfo": ["shop"]}, Ok(own)),
        (doc! {"usersInfo": ["shop", "notes"]}, Err(13)),
        (doc! {"usersInfo": "notes"}, Err(13)),
        (doc! {"usersInfo": {"forAllDBs": true}}, Err(13)),
        (doc! {"usersInfo": "shop", "showCredentials": true}, Err(13)),
        (doc! {"usersInfo": []}, Err(2)),
        (doc! {"usersInfo": [["shop"]]}, Err(13)),
        (doc! {"usersInfo": {"user": "shop"}}, Err(2)),
        (doc! {"usersInfo": true}, Err(2)),
    ];
    for (command, expected) in cases {
        let reply = client.command(command.clone()).await;
        let found = reply
            .get_i32("code")
            .map_or_else(|_| Ok(reply.clone()), Err);
        assert_eq!(found, expected, "{command}");
    }
    let asked = doc! {"usersInfo": "shop", "showPrivileges": true};
    let reply = client.command(asked).await;
    let shown = reply.get_array("users").unwrap()[0].as_document().unwrap();
    let asked = doc! {"connectionStatus": 1, "showPrivileges": true};
    let status = client.command(asked).await;
    let info = status.get_document("authInfo").unwrap();
    assert_eq!(
        shown.get("inheritedPrivileges"),
        info.get("authenticatedUserPrivileges")
    );
    let privilege = info.get_array("authenticatedUserPrivileges").unwrap()[0].as_document();
    assert_eq!(
        privilege.unwrap().get_document("resource").ok(),
        Some(&doc! {"db": "", "collection": ""})
    );
}

#[tokio::test]
async fn refusals() {
    let proxy = Proxy::new().await;
    let mut client = proxy.connect_shop().await;
    let cases = [
        (doc! {"getLog": "global"}, 13),
        (doc! {"getParameter": 1, "logLevel": 1}, 72),
        (doc! {"getParameter": "foo"}, 72),
        (
            doc! {"buildInfo": 1, "apiVersion": "1", "apiStrict": true},
            323,
        ),
        (doc! {"atlasVersion": 1}, 59),
    ];
    for (command, code) in cases {
        assert_eq!(
            client.command(command.clone()).await.get_i32("code").ok(),
            Some(code),
            "{command}"
        );
    }
}

#[tokio::test]
async fn before_the_upstream_is_reached_the_oldest_version_is_told() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let reply = client.command(doc! {"buildInfo": 1}).await;
    assert_eq!(reply.get_str("version").ok(), Some("4.4.0"));
}

#[tokio::test]
async fn sessions_have_random_ids() {
    let proxy = Proxy::new().await;
    let mut client = proxy.connect_shop().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let reply = client.command(doc! {"startSession": 1}).await;
        assert_eq!(reply.get_i32("timeoutMinutes").ok(), Some(30));
        let id = reply.get_document("id").unwrap().get("id").unwrap().clone();
        let bson::Bson::Binary(binary) = id else {
            panic!("{id}")
        };
        assert_eq!(binary.subtype, bson::spec::BinarySubtype::Uuid);
        assert_eq!((binary.bytes[6] >> 4, binary.bytes[8] >> 6), (4, 2));
        ids.push(binary.bytes);
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn server_status_shows_the_apps_own_connections() {
    let proxy = Proxy::new().await;
    let mut client = proxy.connect_shop().await;
    let _other = proxy.connect_shop().await;
    let reply = client.command(doc! {"serverStatus": 1}).await;
    let keys: Vec<&str> = reply.keys().map(String::as_str).collect();
    let expected = [
        "host",
        "version",
        "process",
        "uptime",
        "uptimeMillis",
        "localTime",
        "connections",
        "ok",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        reply.get_document("connections").ok(),
        Some(&doc! {"current": 2, "available": 2})
    );
}

#[tokio::test]
async fn list_commands_is_the_table() {
    let proxy = Proxy::new().await;
    let mut client = proxy.connect_shop().await;
    let reply = client.command(doc! {"listCommands": 1}).await;
    let commands: &Document = reply.get_document("commands").unwrap();
    let names: Vec<&str> = commands.keys().map(String::as_str).collect();
    let rows: Vec<&str> = mdb_scope::COMMANDS.iter().map(|spec| spec.name).collect();
    assert_eq!(names, rows);
    let find = commands.get_document("find").unwrap();
    assert_eq!(find.get_bool("requiresAuth").ok(), Some(true));
}

#[tokio::test]
async fn privileges_are_shown_when_asked_for() {
    let proxy = Proxy::new().await;
    let mut client = proxy.connect_shop().await;
    for (asks, shown) in [(true, true), (false, false)] {
        let reply = client
            .command(doc! {"connectionStatus": 1, "showPrivileges": asks})
            .await;
        let info = reply.get_document("authInfo").unwrap();
        assert_eq!(info.contains_key("authenticatedUserPrivileges"), shown);
    }
}
