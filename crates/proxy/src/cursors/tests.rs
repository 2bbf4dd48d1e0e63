use super::*;
use crate::identity::IsolationPolicy;
use mdb_telemetry::Metrics;

fn app(slug: &str, metrics: &Metrics) -> App {
    App::new(
        AppId::parse(slug).unwrap(),
        false,
        IsolationPolicy::default(),
        metrics,
    )
}

fn cursor(app: &App, server: &str) -> Cursor {
    Cursor {
        app: app.id.clone(),
        server: server.into(),
        upstream_id: 7,
        database: "db".into(),
        collection: "c".into(),
        isolation: Isolation::Shared,
        lsid: None,
        rule: mdb_scope::ReplyRule::Cursor { strips: true },
        foreign: Box::default(),
        command: "find",
        no_cursor_timeout: false,
        client: 0,
    }
}

#[tokio::test]
async fn a_cursor_is_its_apps_alone() {
    let metrics = Metrics::new();
    let (shop, notes) = (app("shop", &metrics), app("notes", &metrics));
    let (cursors, now) = (Cursors::default(), Instant::now());
    let id = cursors.open(&shop, cursor(&shop, "a:1"), 9, now).unwrap();
    assert!(id > 0);
    assert_eq!(cursors.look_up(&notes.id, id, now), None);
    assert!(!cursors.close(&notes.id, id));
    assert_eq!(
        cursors.look_up(&shop.id, id, now).as_deref(),
        Some(&cursor(&shop, "a:1"))
    );
    assert!(cursors.close(&shop.id, id));
    assert!(!cursors.close(&shop.id, id));
    assert!(cursors.is_empty());
}

#[tokio::test]
async fn idle_ones_are_reaped_when_the_server_closes_them() {
    let metrics = Metrics::new();
    let shop = app("shop", &metrics);
    let in_session = Cursor {
        lsid: Some(Box::from([1; 16])),
        ..cursor(&shop, "a:1")
    };
    let lasting = Cursor {
        no_cursor_timeout: true,
        client: 0,
        ..in_session.clone()
    };
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let cases = [
        (cursor(&shop, "a:1"), 10),
        (in_session, 30),
        (lasting, 24 * 60),
    ];
    for (cursor, idle_minutes) in cases {
        let (cursors, now) = (Cursors::default(), Instant::now());
        let id = cursors.open(&shop, cursor, 9, now).unwrap();
        let later = now + minutes(idle_minutes - 1);
        assert_eq!(cursors.reap(later), 0);
        let held = cursors.look_up(&shop.id, id, later).unwrap();
        let much_later = later + minutes(idle_minutes * 2);
        assert_eq!(cursors.reap(much_later), 0, "in use");
        drop(held);
        assert_eq!(cursors.reap(much_later + minutes(idle_minutes - 1)), 0);
        assert_eq!(cursors.reap(much_later + minutes(idle_minutes)), 1);
    }
    assert_eq!(shop.cursors.taken(), 0);
}

#[tokio::test]
async fn an_app_has_so_many_and_no_more() {
    let metrics = Metrics::new();
    let shop = app("shop", &metrics);
    let (cursors, now) = (Cursors::default(), Instant::now());
    let id = cursors.open(&shop, cursor(&shop, "a:1"), 1, now).unwrap();
    let refused = cursors.open(&shop, cursor(&shop, "a:1"), 1, now);
    assert_eq!(refused, Err(Limit::CursorsOfApp));
    assert!(cursors.close(&shop.id, id));
    assert_eq!(shop.cursors.taken(), 0);
}
