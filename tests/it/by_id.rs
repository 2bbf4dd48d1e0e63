//! Documents found by their `_id`, of every kind: just that one, of just that app, whatever stands next to it.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Regex, Timestamp, doc};
use mdb_tests::{RawClient, TestProxy, batch, shared};

fn binary(subtype: BinarySubtype, bytes: &[u8]) -> Bson {
    let bytes = bytes.to_vec();
    Bson::Binary(Binary { subtype, bytes })
}

fn object_id(last: u8) -> Bson {
    ObjectId::from_bytes([7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, last]).into()
}

/// Neighbours: each is the first or next to the first that is greater than another.
fn ids() -> Vec<Bson> {
    let uuid = |last: u8| binary(BinarySubtype::Uuid, &[[9; 15].as_slice(), &[last]].concat());
    vec![
        5.into(),
        5.5.into(),
        6.into(),
        i32::MAX.into(),
        (i64::from(i32::MAX) + 1).into(),
        i64::MAX.into(),
        (-0.5).into(),
        0.into(),
        f64::INFINITY.into(),
        f64::NAN.into(),
        "".into(),
        "\0".into(),
        "a".into(),
        "a\0".into(),
        "a\0\0".into(),
        "b".into(),
        "x".repeat(2000).into(),
        object_id(1),
        object_id(2),
        object_id(255),
        ObjectId::from_bytes([255; 12]).into(),
        uuid(1),
        uuid(2),
        uuid(255),
        binary(BinarySubtype::Generic, &[]),
        binary(BinarySubtype::Generic, &[255]),
        binary(BinarySubtype::BinaryOld, &[1]),
        DateTime::from_millis(1).into(),
        DateTime::from_millis(2).into(),
        Bson::Timestamp(Timestamp {
            time: 1,
            increment: 1,
        }),
        true.into(),
        Bson::Null,
        Bson::MinKey,
        Bson::MaxKey,
        doc! {"a": 1}.into(),
        doc! {"a": 2}.into(),
    ]
}

async fn find(client: &mut RawClient, db: &str, id: &Bson) -> Vec<Document> {
    let find = doc! {"find": "c", "filter": {"_id": id}, "$db": db};
    batch(&client.ok(&find).await)
}

#[tokio::test]
async fn each_finds_its_own_and_nothing_beside_it() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let mut bob = proxy.raw("bob").await;
    let ids = ids();
    // Every second one is another app's.
    let of = |parity: usize| -> Vec<Document> {
        let own = ids.iter().enumerate().filter(|(n, _)| n % 2 == parity);
        own.map(|(n, id)| doc! {"_id": id, "n": i64::try_from(n).unwrap()})
            .collect()
    };
    for (client, parity) in [(&mut alice, 0), (&mut bob, 1)] {
        let insert = doc! {"insert": "c", "documents": of(parity), "$db": db};
        client.ok(&insert).await;
    }
    for (n, id) in ids.iter().enumerate() {
        let stored = doc! {"_id": id, "n": i64::try_from(n).unwrap()};
        for (client, parity) in [(&mut alice, 0), (&mut bob, 1)] {
            let found = find(client, db, id).await;
            let expected = if n % 2 == parity {
                vec![&stored]
            } else {
                vec![]
            };
            // As text: NaN is not equal to itself.
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{id:?}");
        }
    }
}

#[tokio::test]
async fn numbers_are_found_whatever_their_kind() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let ids: [Bson; 4] = [5.into(), 6_i64.into(), 7.0.into(), (-0.0).into()];
    let documents: Vec<Document> = ids.iter().map(|id| doc! {"_id": id}).collect();
    alice
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    for number in [0, 5, 6, 7] {
        for id in [
            Bson::from(number),
            i64::from(number).into(),
            f64::from(number).into(),
        ] {
            let found = find(&mut alice, db, &id).await;
            assert_eq!(found.len(), 1, "{id:?}: {found:?}");
        }
    }
    let regex = Regex {
        pattern: "^a".try_into().unwrap(),
        options: "".try_into().unwrap(),
    };
    for id in [Bson::RegularExpression(regex), 5.5.into(), "5".into()] {
        assert_eq!(
            find(&mut alice, db, &id).await,
            [] as [Document; 0],
            "{id:?}"
        );
    }
}
