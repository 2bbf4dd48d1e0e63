use bson::{Bson, doc};

use super::*;

const A: &str = "a:1";
const B: &str = "b:2";

fn set_of(addresses: &[&str]) -> View {
    let mut view = View::default();
    view.apply(News::Members {
        kind: TopologyKind::ReplicaSet,
        addresses: addresses.iter().map(|&address| address.into()).collect(),
    });
    view
}

fn hello(address: &str, reply: &Document) -> News {
    News::Hello {
        address: address.into(),
        hello: Hello::read(reply),
        rtt: None,
        at_millis: 0,
    }
}

fn lost(address: &str) -> News {
    News::Lost {
        address: address.into(),
        is_silent: false,
    }
}

fn primary(election: u8, counter: i64) -> Document {
    let process = ObjectId::from_bytes([7; 12]);
    doc! {
        "ok": 1, "setName": "rs", "isWritablePrimary": true,
        "electionId": ObjectId::from_bytes([election; 12]),
        "topologyVersion": { "processId": process, "counter": counter },
    }
}

fn secondary() -> Document {
    doc! { "ok": 1, "setName": "rs", "secondary": true }
}

fn kinds(view: &View) -> Vec<MemberKind> {
    view.topology()
        .members
        .iter()
        .map(|member| member.kind)
        .collect()
}

#[test]
fn members_come_and_go_with_the_drivers_news() {
    let mut view = set_of(&[A, B]);
    view.apply(hello(A, &primary(1, 1)));
    view.apply(hello("stranger:3", &secondary()));
    assert_eq!(kinds(&view), [MemberKind::Primary, MemberKind::Unknown]);
    view.apply(News::Members {
        kind: TopologyKind::ReplicaSet,
        addresses: vec![A.into(), "c:3".into()],
    });
    assert_eq!(kinds(&view), [MemberKind::Primary, MemberKind::Unknown]);
    assert_eq!(&*view.addresses()[1], "c:3");
}

#[test]
fn a_suspect_is_unknown_until_it_answers() {
    let mut view = set_of(&[A]);
    view.apply(hello(A, &primary(1, 5)));
    view.apply(News::Suspect { address: A.into() });
    assert_eq!(kinds(&view), [MemberKind::Unknown]);
    assert_eq!(view.suspects(), [ServerAddress::from(A)]);
    // Sent before the member changed its state: it tells nothing.
    view.apply(hello(A, &primary(1, 4)));
    assert_eq!(kinds(&view), [MemberKind::Unknown]);
    view.apply(hello(A, &primary(1, 5)));
    assert_eq!(kinds(&view), [MemberKind::Primary]);
    assert!(view.suspects().is_empty());
    view.apply(lost(A));
    assert_eq!(kinds(&view), [MemberKind::Unknown]);
    assert!(view.suspects().is_empty());
}

#[test]
fn of_two_primaries_the_later_elected_counts() {
    let mut view = set_of(&[A, B]);
    view.apply(hello(A, &primary(1, 1)));
    view.apply(hello(B, &primary(2, 1)));
    assert_eq!(kinds(&view), [MemberKind::Unknown, MemberKind::Primary]);
    view.apply(hello(A, &primary(1, 1)));
    assert_eq!(kinds(&view), [MemberKind::Unknown, MemberKind::Primary]);
    view.apply(hello(A, &primary(3, 1)));
    assert_eq!(kinds(&view), [MemberKind::Primary, MemberKind::Unknown]);
}

#[test]
fn the_common_hello_is_the_least_of_all() {
    let mut view = set_of(&[A, B]);
    let reply = |max_wire: i32, sessions: Bson| {
        let mut reply = secondary();
        reply.insert("maxWireVersion", max_wire);
        reply.insert("minWireVersion", max_wire - 17);
        reply.insert("logicalSessionTimeoutMinutes", sessions);
        reply
    };
    let build = |address: &str, minor: i32| News::Build {
        address: address.into(),
        build_info: doc! { "version": format!("6.{minor}.5"), "versionArray": [6, minor, 5, 0] },
    };
    assert!(view.server_hello().is_none());
    view.apply(hello(A, &reply(17, Bson::Int32(30))));
    assert!(view.server_hello().is_none());
    assert!(view.lacks_build(&A.into()) && !view.lacks_build(&B.into()));
    view.apply(build(A, 1));
    assert!(!view.lacks_build(&A.into()));
    view.apply(hello(B, &reply(21, Bson::Null)));
    view.apply(build(B, 0));

    let common = view.server_hello().unwrap();
    assert_eq!(common.kind, DeploymentKind::ReplicaSet);
    assert_eq!((common.wire_version_min, common.wire_version_max), (4, 17));
    assert_eq!(common.max_message_size_bytes, 48_000_000);
    assert_eq!(common.logical_session_timeout_minutes, None);
    assert_eq!(
        (common.version.as_str(), common.version_array),
        ("6.0.5", [6, 0, 5, 0])
    );

    view.apply(lost(B));
    let common = view.server_hello().unwrap();
    assert_eq!(common.logical_session_timeout_minutes, Some(30));
    assert_eq!(common.version, "6.1.5");
}

#[test]
fn round_trips_are_averaged() {
    let millis = |count| Some(Duration::from_millis(count));
    assert_eq!(averaged(None, millis(10)), millis(10));
    assert_eq!(averaged(millis(10), None), millis(10));
    assert_eq!(averaged(millis(10), millis(60)), millis(20));
}

#[test]
fn the_shortest_of_the_last_ten_round_trips_counts_once_there_are_two() {
    let mut view = set_of(&[A]);
    let mut after = |millis: u64| {
        view.apply(News::Hello {
            address: A.into(),
            hello: Hello::read(&primary(1, 1)),
            rtt: Some(Duration::from_millis(millis)),
            at_millis: 0,
        });
        view.topology().members[0].rtt_min.as_millis()
    };
    assert_eq!(after(3), 0);
    assert_eq!(after(7), 3);
    for _ in 0..8 {
        assert_eq!(after(9), 3);
    }
    assert_eq!(after(9), 7);
    assert_eq!(after(9), 9);
    view.apply(hello(A, &primary(1, 1)));
    assert_eq!(view.topology().members[0].rtt_min.as_millis(), 9);
}
