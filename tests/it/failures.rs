//! What a client sees when something fails: each row of docs/failures.md, on real servers.

use std::time::Duration;

use bson::{Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{
    Harm, ProxyBuilder, RawClient, Relay, Section, TestProxy, Weather, batch, cursor_id,
    eventually, is_ok, logs, raw, shared, unique_name,
};
use mongodb::Client;

mod clients;
mod members;
mod pool;
mod selection;

pub(crate) use members::relayed;

/// A relay in front of the shared server, and a proxy that knows only the relay.
struct Line {
    relay: Relay,
    proxy: TestProxy,
    alice: RawClient,
    db: String,
}

impl Line {
    async fn new() -> Self {
        let server = shared().await.member(0).address().parse().unwrap();
        let relay = Relay::to(server);
        let uri = through(&shared().await.proxy_uri(), &relay);
        logs::expect("mdb_upstream::probe");
        let proxy = ProxyBuilder::at(&uri).app("alice").start().await;
        let mut alice = proxy.raw("alice").await;
        let db = proxy.database_name().to_owned();
        alice
            .ok(&doc! {"insert": "c", "documents": [{"_id": 0, "n": 0}], "$db": &db})
            .await;
        Self {
            relay,
            proxy,
            alice,
            db,
        }
    }

    /// How often the document's counter was raised, as the server has it.
    async fn raised(&self) -> i32 {
        let server = Client::with_uri_str(shared().await.uri()).await.unwrap();
        let stored = server.database(&self.db).collection::<Document>("c");
        let found = stored.find_one(doc! {"_id": 0}).await.unwrap().unwrap();
        found.get_i32("n").unwrap()
    }
}

/// The same connection string with the relay in place of the only host, and the set left alone.
pub(crate) fn through(uri: &str, relay: &Relay) -> String {
    let (credentials, rest) = uri.split_once('@').unwrap();
    let (_, options) = rest.split_once("/?").unwrap();
    let options: Vec<&str> = options
        .split('&')
        .filter(|option| !option.starts_with("replicaSet"))
        .collect();
    format!(
        "{credentials}@{}/?directConnection=true&{}",
        relay.address(),
        options.join("&")
    )
}

fn labels(reply: &Document) -> Vec<&str> {
    match reply.get_array("errorLabels") {
        Ok(labels) => labels.iter().filter_map(|label| label.as_str()).collect(),
        Err(_) => Vec::new(),
    }
}

/// An update of a padded length, so that it does not fit into one packet.
fn raise(db: &str, session: Option<(&Document, i64)>) -> Document {
    let mut update = doc! {
        "update": "c",
        "updates": [{"q": {"_id": 0}, "u": {"$inc": {"n": 1}, "$set": {"pad": "x".repeat(40_000)}}}],
    };
    if let Some((lsid, number)) = session {
        update.extend(doc! {"lsid": lsid.clone(), "txnNumber": number});
    }
    update.insert("$db", db);
    update
}

fn session() -> Document {
    doc! {"id": bson::Uuid::new()}
}

/// A write that is cut off is not sent again unless the server would know it again; the client's connection stays.
#[tokio::test]
async fn a_request_that_is_cut_in_the_middle() {
    let mut line = Line::new().await;
    let lsid = session();
    let db = line.db.clone();
    line.relay.set(Weather::CutRequest);
    let reply = line.alice.command(&raise(&db, None)).await;
    assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
    assert_eq!(labels(&reply), [""; 0]);
    assert_eq!(line.raised().await, 0);
    // Numbered: the proxy sends it again, and the client does not notice.
    line.relay.set(Weather::CutRequest);
    let reply = line.alice.ok(&raise(&db, Some((&lsid, 1)))).await;
    assert_eq!(reply.get_i32("nModified").unwrap(), 1);
    assert_eq!(line.raised().await, 1);
    // A read, too.
    line.relay.set(Weather::CutRequest);
    let pad = "y".repeat(40_000);
    let find = doc! {"find": "c", "filter": {"pad": {"$ne": pad}}, "$db": &db};
    line.alice.ok(&find).await;
}

/// The server did it, and the reply is lost: the client of an unnumbered write is told that it cannot be known, the numbered
/// one is answered from the server's record.
#[tokio::test]
async fn a_reply_that_is_cut_in_the_middle() {
    let mut line = Line::new().await;
    let db = line.db.clone();
    line.relay.set(Weather::Replies(Harm::Cut));
    let reply = line.alice.command(&raise(&db, None)).await;
    assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
    assert_eq!(labels(&reply), [""; 0]);
    assert_eq!(line.raised().await, 1);
    // Lost for good: twice sent, once done, and the label says that it may be sent again.
    let lsid = session();
    let numbered = raise(&db, Some((&lsid, 1)));
    let reply = line.alice.command(&numbered).await;
    assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
    assert_eq!(labels(&reply), ["RetryableWriteError"]);
    line.relay.set(Weather::Fair);
    eventually("the write is answered", async || {
        let reply = line.alice.command(&numbered).await;
        matches!(reply.get_i32("n"), Ok(1)).then_some(())
    })
    .await;
    assert_eq!(line.raised().await, 2);
    let mut in_transaction = raise(&db, Some((&lsid, 2)));
    in_transaction.extend(doc! {"autocommit": false, "startTransaction": true});
    line.relay.set(Weather::Replies(Harm::Cut));
    let reply = line.alice.command(&in_transaction).await;
    assert_eq!(labels(&reply), ["TransientTransactionError"], "{reply}");
    line.relay.set(Weather::Fair);
}

/// Nothing of what a broken server says reaches the client, and the connection over which it came is never used again.
#[tokio::test]
async fn replies_that_are_garbage_or_wrong() {
    logs::expect("a reply that is no document");
    logs::expect("a reply that does not say how it ended");
    let mut line = Line::new().await;
    let db = line.db.clone();
    let find = doc! {"find": "c", "filter": {"_id": 0}, "$db": &db};
    let lsid = session();
    let mut done = 0;
    for (number, harm) in (1..).zip(HARMS) {
        line.relay.set(Weather::Replies(harm));
        let (plain, numbered) = (raise(&db, None), raise(&db, Some((&lsid, number))));
        for command in [&find, &plain, &numbered] {
            let reply = line.alice.command(command).await;
            let code = reply.get_i32("code").unwrap_or_default();
            assert!(!is_ok(&reply) && matches!(code, 6 | 8), "{harm:?} {reply}");
            // The proxy's own look at the collection, which it takes now and then, may have met the harm before.
            let text = reply.get_str("errmsg").unwrap();
            let is_unsent = text.contains("did not answer the proxy");
            let expected: &[&str] = match (code, is_unsent) {
                (6, false) if *command == numbered => &["RetryableWriteError"],
                (6, true) if *command == numbered => &["RetryableWriteError", "NoWritesPerformed"],
                _ => &[],
            };
            assert_eq!(labels(&reply), expected, "{harm:?} {reply}");
            assert!(!reply.to_string().contains("127.0.0.1"), "{reply}");
            done += i32::from(*command == plain && !is_unsent);
        }
        line.relay.set(Weather::Fair);
        eventually("the client is served again", async || {
            is_ok(&line.alice.command(&numbered).await).then_some(())
        })
        .await;
        // However often it was sent.
        done += 1;
        assert_eq!(line.raised().await, done, "{harm:?}");
    }
    // The second copy is not taken for the reply to what comes next.
    line.relay.set(Weather::Replies(Harm::Twice));
    let numbers: Vec<Document> = (100..140).map(|n| doc! {"_id": n}).collect();
    let insert = doc! {"insert": "c", "documents": &numbers, "$db": &db};
    line.alice.command(&insert).await;
    for number in numbers {
        let find = doc! {"find": "c", "filter": &number, "$db": &db};
        let reply = line.alice.command(&find).await;
        let is_right = is_ok(&reply) && batch(&reply) == [number.clone()];
        assert!(
            is_right || reply.get_i32("code").ok() == Some(6),
            "{number}: {reply}"
        );
    }
    line.relay.set(Weather::Fair);
    let metrics = line.proxy.proxy().metrics().render();
    let poisoned = "mdb_runtime_upstream_connections_closed_total{reason=\"error\"} 0";
    assert!(
        !metrics.contains(poisoned),
        "connections in doubt were closed"
    );
}

const HARMS: [Harm; 11] = [
    Harm::Garbage,
    Harm::WrongRequest,
    Harm::TooLong,
    Harm::TooShort,
    Harm::Endless,
    Harm::OldKind,
    Harm::MoreToCome,
    Harm::Compressed,
    Harm::BrokenDocument,
    Harm::ShortDocument,
    Harm::EmptyDocument,
];

/// No time limit of the proxy's own ends a command; the client's does.
#[tokio::test]
async fn an_upstream_that_answers_slowly() {
    let mut line = Line::new().await;
    let db = line.db.clone();
    line.relay.set(Weather::Slow(Duration::from_millis(1_500)));
    line.alice.ok(&doc! {"find": "c", "$db": &db}).await;
    line.relay.set(Weather::Fair);
}
