//! Batches of upserts by `_id` that race with each other. A private server settles each race by itself; with the scope field
//! in the filter it does not, and the proxy does.

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mdb_tests::{RawClient, TestProxy, shared};

/// Clients at once.
const CLIENTS: i32 = 12;
/// Upserts in one command.
const BATCH: i32 = 30;
/// Batches, one after another.
const ROUNDS: i32 = 8;

fn lsid(client: i32) -> Bson {
    let bytes = [u8::try_from(client).unwrap(); 16].to_vec();
    let subtype = BinarySubtype::Uuid;
    Bson::Binary(Binary { subtype, bytes })
}

fn batch(db: &str, round: i32, client: i32, is_ordered: bool) -> Document {
    // Each client goes through the ids in an order of its own, so that they meet everywhere.
    let ids = (0..BATCH).map(|n| (n * 7 + client * 11) % BATCH);
    let updates: Vec<Document> = ids
        .map(|id| doc! {"q": {"_id": round * BATCH + id}, "u": {"$inc": {"n": 1}, "$set": {"last": client}}, "upsert": true})
        .collect();
    doc! {"update": "races", "ordered": is_ordered, "updates": updates, "$db": db}
}

/// What one client's batch has upserted, after its reply was checked.
fn upserted(command: &Document, reply: &Document) -> Vec<i32> {
    assert!(!reply.contains_key("writeErrors"), "{reply}");
    assert_eq!(reply.get_i32("n").unwrap(), BATCH, "{reply}");
    let entries = reply.get_array("upserted").cloned().unwrap_or_default();
    let modified = reply.get_i32("nModified").unwrap();
    assert_eq!(
        modified,
        BATCH - i32::try_from(entries.len()).unwrap(),
        "{reply}"
    );
    let statements = command.get_array("updates").unwrap();
    let one = |entry: &Bson| {
        let entry = entry.as_document().unwrap();
        let index = usize::try_from(entry.get_i32("index").unwrap()).unwrap();
        let statement = statements[index].as_document().unwrap();
        let id = statement.get_document("q").unwrap().get_i32("_id").unwrap();
        assert_eq!(entry.get_i32("_id").unwrap(), id, "{reply}");
        id
    };
    entries.iter().map(one).collect()
}

async fn race(is_ordered: bool, is_numbered: bool) {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name().to_owned();
    let mut clients: Vec<RawClient> = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(proxy.raw("alice").await);
    }
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let runs = clients.iter_mut().zip(0..).map(|(client, number)| {
            let mut command = batch(&db, round, number, is_ordered);
            if is_numbered {
                command.insert("lsid", doc! {"id": lsid(number)});
                command.insert("txnNumber", i64::from(round));
            }
            async move {
                let reply = client.ok(&command).await;
                let ids = upserted(&command, &reply);
                if is_numbered {
                    // As a driver that did not hear the reply: nothing is done twice, and the figures are the same.
                    let again = client.ok(&command).await;
                    assert_eq!(upserted(&command, &again), ids);
                }
                ids
            }
        });
        for ids in futures_util::future::join_all(runs).await {
            all.extend(ids);
        }
    }
    all.sort_unstable();
    assert_eq!(
        all,
        (0..BATCH * ROUNDS).collect::<Vec<_>>(),
        "each is upserted once"
    );
    let wrong = doc! {"n": {"$ne": CLIENTS}};
    let count = doc! {"count": "races", "query": wrong, "$db": &db};
    assert_eq!(
        clients[0].ok(&count).await.get_i32("n").unwrap(),
        0,
        "every increment once"
    );
}

#[tokio::test]
async fn ordered_batches() {
    race(true, false).await;
}

#[tokio::test]
async fn unordered_batches() {
    race(false, false).await;
}

#[tokio::test]
async fn ordered_batches_with_transaction_numbers() {
    race(true, true).await;
}

#[tokio::test]
async fn unordered_batches_with_transaction_numbers() {
    race(false, true).await;
}

/// An `_id` of another app is no race: the statement fails in its place, and the others are done once.
#[tokio::test]
async fn an_id_of_another_app_fails_in_its_place() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    bob.ok(&doc! {"insert": "races", "documents": [{"_id": 3, "secret": 1}], "$db": db})
        .await;
    for (is_ordered, done) in [(true, vec![0, 1, 2]), (false, vec![0, 1, 2, 4, 5])] {
        for (is_numbered, number) in [(false, 0), (true, 1)] {
            let updates: Vec<Document> = (0..6)
                .map(|id| doc! {"q": {"_id": id}, "u": {"$inc": {"n": 1}}, "upsert": true})
                .collect();
            let mut command =
                doc! {"update": "races", "ordered": is_ordered, "updates": updates, "$db": db};
            if is_numbered {
                command.insert("lsid", doc! {"id": lsid(i32::from(is_ordered))});
                command.insert("txnNumber", i64::from(number));
            }
            let reply = alice.command(&command).await;
            let what = format!("ordered {is_ordered}, numbered {is_numbered}: {reply}");
            assert_eq!(
                reply.get_i32("n").unwrap(),
                i32::try_from(done.len()).unwrap(),
                "{what}"
            );
            let errors = reply.get_array("writeErrors").unwrap();
            let error = errors[0].as_document().unwrap();
            assert_eq!(
                (errors.len(), error.get_i32("index").unwrap()),
                (1, 3),
                "{what}"
            );
            assert_eq!(error.get_i32("code").unwrap(), 11000, "{what}");
            assert!(!what.contains("secret"), "{what}");
            let count = doc! {"count": "races", "query": {"n": 1}, "$db": db};
            let counted = alice.ok(&count).await.get_i32("n").unwrap();
            assert_eq!(counted, i32::try_from(done.len()).unwrap(), "{what}");
            alice
                .ok(&doc! {"delete": "races", "deletes": [{"q": {}, "limit": 0}], "$db": db})
                .await;
        }
    }
}
