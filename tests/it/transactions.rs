//! Transactions: whole or not at all, and blind to other apps.

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mdb_tests::{RawClient, TestProxy, batch, shared};
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::{ClientSession, Collection};

fn lsid(byte: u8) -> Document {
    doc! {"id": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] })}
}

/// A command as a statement of transaction `number` in session `byte`.
fn statement(mut command: Document, byte: u8, number: i64, starts: bool) -> Document {
    command.extend(doc! {"lsid": lsid(byte), "txnNumber": number, "autocommit": false});
    if starts {
        command.insert("startTransaction", true);
    }
    command
}

fn ending(name: &str, byte: u8, number: i64) -> Document {
    statement(doc! {name: 1, "$db": "admin"}, byte, number, false)
}

#[tokio::test]
async fn a_commit_shows_and_an_abort_hides() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let client = proxy.client("alice").await;
    let things: Collection<Document> = client.database(proxy.database_name()).collection("t");
    let mut session = client.start_session().await.unwrap();
    for commits in [true, false] {
        things.delete_many(doc! {}).await.unwrap();
        session.start_transaction().await.unwrap();
        things
            .insert_one(doc! {"_id": 1})
            .session(&mut session)
            .await
            .unwrap();
        let inside = things
            .count_documents(doc! {})
            .session(&mut session)
            .await
            .unwrap();
        assert_eq!(inside, 1);
        assert_eq!(things.count_documents(doc! {}).await.unwrap(), 0);
        if commits {
            session.commit_transaction().await.unwrap();
        } else {
            session.abort_transaction().await.unwrap();
        }
        assert_eq!(
            things.count_documents(doc! {}).await.unwrap(),
            u64::from(commits)
        );
    }
}

/// A new collection, in a transaction.
#[tokio::test]
async fn a_transaction_may_begin_a_collection() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut raw = proxy.raw("alice").await;
    let insert = doc! {"insert": "fresh", "documents": [{"_id": 1}], "$db": db};
    raw.ok(&statement(insert, 1, 1, true)).await;
    let list = doc! {"listCollections": 1, "nameOnly": true, "$db": db};
    assert_eq!(batch(&raw.ok(&list).await).len(), 0);
    raw.ok(&ending("commitTransaction", 1, 1)).await;
    let found = batch(&raw.ok(&list).await);
    assert_eq!(found, [doc! {"name": "fresh", "type": "collection"}]);
}

async fn transfer(
    session: &mut ClientSession,
    accounts: &Collection<Document>,
) -> mongodb::error::Result<()> {
    session.start_transaction().await?;
    for (id, amount) in [("a", -1), ("b", 1)] {
        let update = doc! {"$inc": {"amount": amount}};
        accounts
            .update_one(doc! {"_id": id}, update)
            .session(&mut *session)
            .await?;
    }
    loop {
        match session.commit_transaction().await {
            Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {}
            other => return other,
        }
    }
}

#[tokio::test]
async fn transfers_that_run_into_each_other_are_repeated_and_none_is_lost() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let client = proxy.client("alice").await;
    let accounts: Collection<Document> = client
        .database(proxy.database_name())
        .collection("accounts");
    let both = [
        doc! {"_id": "a", "amount": 100},
        doc! {"_id": "b", "amount": 0},
    ];
    accounts.insert_many(both).await.unwrap();
    let transfers = (0..6).map(|_| {
        let (client, accounts) = (client.clone(), accounts.clone());
        async move {
            let mut session = client.start_session().await.unwrap();
            for _ in 0..5 {
                while let Err(error) = transfer(&mut session, &accounts).await {
                    assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR), "{error}");
                    session.abort_transaction().await.unwrap();
                }
            }
        }
    });
    futures_util::future::join_all(transfers).await;
    let amount = async |id: &str| {
        let found = accounts.find_one(doc! {"_id": id}).await.unwrap().unwrap();
        found.get_i32("amount").unwrap()
    };
    assert_eq!((amount("a").await, amount("b").await), (70, 30));
}

async fn count(client: &mut RawClient, db: &str, byte: u8, starts: bool) -> i32 {
    let count = doc! {"aggregate": "t", "pipeline": [{"$count": "n"}], "cursor": {}, "$db": db};
    let reply = client.ok(&statement(count, byte, 1, starts)).await;
    batch(&reply).first().map_or(0, |d| d.get_i32("n").unwrap())
}

/// Two apps use the same session id and number at once.
#[tokio::test]
async fn two_apps_with_one_session_have_a_transaction_each() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    for (client, id) in [(&mut alice, "a0"), (&mut bob, "b0")] {
        client
            .ok(&doc! {"insert": "t", "documents": [{"_id": id}], "$db": db})
            .await;
    }
    assert_eq!(count(&mut alice, db, 5, true).await, 1);
    assert_eq!(count(&mut bob, db, 5, true).await, 1);
    for (client, id) in [(&mut alice, "a1"), (&mut bob, "b1")] {
        let insert = doc! {"insert": "t", "documents": [{"_id": id}], "$db": db};
        client.ok(&statement(insert, 5, 1, false)).await;
    }
    assert_eq!(count(&mut alice, db, 5, false).await, 2);
    alice.ok(&ending("commitTransaction", 5, 1)).await;
    assert_eq!(count(&mut bob, db, 5, false).await, 2);
    bob.ok(&ending("abortTransaction", 5, 1)).await;
    assert_eq!(bob.fails(&ending("commitTransaction", 5, 1)).await, 251);
    let n = |reply: Document| reply.get_i32("n").unwrap();
    assert_eq!(n(alice.ok(&doc! {"count": "t", "$db": db}).await), 2);
    assert_eq!(n(bob.ok(&doc! {"count": "t", "$db": db}).await), 1);
}

#[tokio::test]
async fn what_servers_do_not_do_in_a_transaction_is_refused() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    alice
        .ok(&doc! {"insert": "t", "documents": [{"_id": 1}], "$db": db})
        .await;
    for (number, command) in [
        doc! {"drop": "t", "$db": db},
        doc! {"dropDatabase": 1, "$db": db},
        doc! {"dropIndexes": "t", "index": "*", "$db": db},
    ]
    .into_iter()
    .enumerate()
    {
        let number = i64::try_from(number).unwrap() + 1;
        let code = alice.fails(&statement(command, 9, number, true)).await;
        assert_eq!(code, 263);
    }
    let secondary = doc! {"find": "t", "$readPreference": {"mode": "secondary"}, "$db": db};
    assert_eq!(alice.fails(&statement(secondary, 9, 9, true)).await, 72);
}

/// The first command of a transaction begins it upstream, also where the proxy does that command itself.
#[tokio::test]
async fn create_and_create_indexes_may_begin_a_transaction() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut raw = proxy.raw("alice").await;
    let indexes = |name: &str| {
        let index = doc! {"key": {"x": 1}, "name": "x"};
        doc! {"createIndexes": name, "indexes": [index], "$db": db}
    };
    let firsts = [
        ("created", doc! {"create": "created", "$db": db}),
        ("indexed", indexes("indexed")),
    ];
    for (number, (name, first)) in (1..).zip(firsts) {
        raw.ok(&statement(first, 1, number, true)).await;
        let insert = doc! {"insert": name, "documents": [{"_id": 1}], "$db": db};
        raw.ok(&statement(insert, 1, number, false)).await;
        raw.ok(&ending("commitTransaction", 1, number)).await;
        let count = raw.ok(&doc! {"count": name, "$db": db}).await;
        assert_eq!(count.get_i32("n").ok(), Some(1), "{name}");
    }
    // It would wait for the locks of its own transaction. As on a server, that is the end of the transaction.
    let insert = doc! {"insert": "late", "documents": [{"_id": 1}], "$db": db};
    raw.ok(&statement(insert, 1, 3, true)).await;
    let late = statement(indexes("late"), 1, 3, false);
    assert_eq!(raw.fails(&late).await, 263);
    assert_eq!(raw.fails(&ending("abortTransaction", 1, 3)).await, 251);
    let existing = statement(
        doc! {"createIndexes": "created", "indexes": [{"key": {"y": 1}, "name": "y"}], "$db": db},
        1,
        4,
        true,
    );
    assert_eq!(raw.fails(&existing).await, 263);
}
