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
                "maxBsonObjectSize": 16_777_216 - 256,
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
            fcv.clone(),
        ),
        (doc! {"getParameter": "*"}, fcv),
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
