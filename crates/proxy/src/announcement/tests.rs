use super::*;

fn server(kind: DeploymentKind, wire_version_max: i32) -> ServerHello {
    ServerHello {
        kind,
        max_bson_object_size: 16_777_216,
        max_message_size_bytes: 48_000_000,
        max_write_batch_size: 100_000,
        wire_version_min: 0,
        wire_version_max,
        logical_session_timeout_minutes: Some(30),
        version: "6.0.5".to_owned(),
        version_array: [6, 0, 5, 0],
        build_info: bson::doc! {"gitVersion": "c9a99c120371d4d4c52cbb15dac34a36ce8d3b1d"},
    }
}

#[test]
fn the_upstream_decides_what_is_announced() {
    let state = HelloState::new(Presentation::Mongos);
    let unreached = state.now();
    assert_eq!((unreached.counter, unreached.face.wire_version_max), (0, 9));
    assert_eq!(unreached.build.version, "4.4.0");
    state.learn(&server(DeploymentKind::Standalone, 17));
    let now = state.now();
    let expected = Face {
        presentation: Presentation::Standalone,
        wire_version_max: 17,
        document_bytes_max: 16_777_216,
        message_bytes_max: 45_000_000,
        batch_max: 100_000,
        session_timeout_minutes: 30,
    };
    assert_eq!((now.counter, now.face), (1, expected));
    assert_eq!(
        (now.build.version.as_str(), now.build.version_array),
        ("6.0.5", [6, 0, 5, 0])
    );
}

#[test]
fn a_newer_upstream_is_capped_in_hello_and_build_info_alike() {
    let state = HelloState::new(Presentation::Mongos);
    state.learn(&server(DeploymentKind::ReplicaSet, 26));
    let now = state.now();
    assert_eq!(now.face.wire_version_max, WIRE_VERSION_MAX);
    assert_eq!(now.build.version, "8.0.0");
}

#[test]
fn the_counter_grows_with_changes_only_and_once_at_the_end() {
    let state = HelloState::new(Presentation::Mongos);
    let mut watch = state.watch();
    for (wire_version_max, counter) in [(17, 1), (17, 1), (13, 2)] {
        state.learn(&server(DeploymentKind::ReplicaSet, wire_version_max));
        assert_eq!(state.version().counter, counter);
    }
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    let patched = ServerHello {
        version: "6.0.6".to_owned(),
        ..server(DeploymentKind::ReplicaSet, 13)
    };
    state.learn(&patched);
    assert_eq!(
        (state.version().counter, state.now().build.version.as_str()),
        (2, "6.0.6")
    );
    assert!(!watch.has_changed().unwrap());
    state.shut_down();
    state.shut_down();
    assert_eq!(state.version().counter, 3);
    assert!(state.now().is_shutting_down);
}

#[test]
fn processes_can_be_told_apart() {
    let [one, other] = [(); 2].map(|()| HelloState::new(Presentation::Mongos).version());
    assert_ne!(one.process_id, other.process_id);
}
