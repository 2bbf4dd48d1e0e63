use super::*;

struct Spec {
    name: &'static str,
    kind: MemberKind,
    rtt_millis: u64,
    tags: &'static [(&'static str, &'static str)],
    lag_seconds: i64,
}

fn spec(name: &'static str, kind: MemberKind, rtt_millis: u64) -> Spec {
    Spec {
        name,
        kind,
        rtt_millis,
        tags: &[],
        lag_seconds: 0,
    }
}

fn topology(kind: TopologyKind, specs: &[Spec]) -> Topology {
    let members = specs.iter().map(|spec| Member {
        address: spec.name.into(),
        kind: spec.kind,
        tags: spec
            .tags
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        rtt: Some(Duration::from_millis(spec.rtt_millis)),
        rtt_min: Duration::ZERO,
        wire_version_min: 0,
        wire_version_max: 17,
        last_write_millis: Some(1_000_000 - spec.lag_seconds * 1000),
        updated_millis: 1_000_000,
    });
    Topology {
        kind,
        members: members.collect(),
    }
}

fn names(topology: &Topology, preference: &ReadPreference) -> String {
    let names: Vec<&str> = candidates(topology, preference, LATENCY_WINDOW)
        .iter()
        .map(|member| &*member.address)
        .collect();
    names.join(" ")
}

type Case = (ReadMode, TagSets, &'static str);
type TagSets = &'static [&'static [(&'static str, &'static str)]];

fn preference(mode: ReadMode, tag_sets: TagSets) -> ReadPreference {
    let owned = |set: &&[(&str, &str)]| -> TagSet {
        set.iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    ReadPreference {
        mode,
        tag_sets: tag_sets.iter().map(owned).collect(),
        max_staleness_seconds: None,
    }
}

const MODES: [ReadMode; 5] = [
    ReadMode::Primary,
    ReadMode::PrimaryPreferred,
    ReadMode::Secondary,
    ReadMode::SecondaryPreferred,
    ReadMode::Nearest,
];

#[test]
fn modes_choose_among_the_members_of_a_set() {
    let p = || spec("p", MemberKind::Primary, 5);
    let s = |name| spec(name, MemberKind::Secondary, 5);
    let other = || spec("o", MemberKind::Other, 1);
    let unknown = || spec("u", MemberKind::Unknown, 1);
    // Expected names in the order of MODES.
    let cases = [
        (
            vec![p(), s("a"), s("b"), other(), unknown()],
            ["p", "p", "a b", "a b", "p a b"],
        ),
        (
            vec![s("a"), s("b"), unknown()],
            ["", "a b", "a b", "a b", "a b"],
        ),
        (vec![p(), other()], ["p", "p", "", "p", "p"]),
        (vec![p()], ["p", "p", "p", "p", "p"]),
        (vec![unknown(), other()], ["", "", "", "", ""]),
        (vec![], ["", "", "", "", ""]),
    ];
    for (specs, expected) in cases {
        let topology = topology(TopologyKind::ReplicaSet, &specs);
        for (mode, expected) in MODES.into_iter().zip(expected) {
            assert_eq!(
                names(&topology, &preference(mode, &[])),
                expected,
                "{mode:?} of {:?}",
                topology.members
            );
        }
    }
}

#[test]
fn other_deployments_use_any_server_that_bears_data() {
    let cases = [
        (
            TopologyKind::Sharded,
            vec![
                spec("m", MemberKind::Mongos, 5),
                spec("n", MemberKind::Mongos, 6),
                spec("u", MemberKind::Unknown, 5),
            ],
            "m n",
        ),
        (
            TopologyKind::Single,
            vec![spec("s", MemberKind::Standalone, 5)],
            "s",
        ),
        (
            TopologyKind::Single,
            vec![spec("s", MemberKind::Secondary, 5)],
            "s",
        ),
        (
            TopologyKind::Single,
            vec![spec("s", MemberKind::Unknown, 5)],
            "",
        ),
        (
            TopologyKind::Unknown,
            vec![spec("s", MemberKind::Primary, 5)],
            "",
        ),
    ];
    for (kind, specs, expected) in cases {
        let topology = topology(kind, &specs);
        for mode in MODES {
            let preference = preference(mode, &[&[("dc", "nowhere")]]);
            assert_eq!(names(&topology, &preference), expected, "{kind:?} {mode:?}");
        }
    }
}

#[test]
fn the_first_tag_set_that_matches_decides() {
    let mut a = spec("a", MemberKind::Secondary, 5);
    a.tags = &[("dc", "east"), ("disk", "ssd")];
    let mut b = spec("b", MemberKind::Secondary, 5);
    b.tags = &[("dc", "east")];
    let mut p = spec("p", MemberKind::Primary, 5);
    p.tags = &[("dc", "west")];
    let topology = topology(TopologyKind::ReplicaSet, &[a, b, p]);
    let cases: [Case; 8] = [
        (ReadMode::Secondary, &[&[("dc", "east")]], "a b"),
        (
            ReadMode::Secondary,
            &[&[("dc", "east"), ("disk", "ssd")]],
            "a",
        ),
        (ReadMode::Secondary, &[&[("dc", "west")]], ""),
        (ReadMode::Secondary, &[&[("dc", "west")], &[]], "a b"),
        (
            ReadMode::Secondary,
            &[&[("disk", "ssd")], &[("dc", "east")]],
            "a",
        ),
        (ReadMode::SecondaryPreferred, &[&[("dc", "west")]], "p"),
        (ReadMode::Nearest, &[&[("dc", "west")]], "p"),
        (ReadMode::PrimaryPreferred, &[&[("disk", "ssd")]], "p"),
    ];
    for (mode, tag_sets, expected) in cases {
        assert_eq!(
            names(&topology, &preference(mode, tag_sets)),
            expected,
            "{mode:?} {tag_sets:?}"
        );
    }
}

#[test]
fn the_latency_window_starts_at_the_fastest() {
    let topology = topology(
        TopologyKind::ReplicaSet,
        &[
            spec("p", MemberKind::Primary, 1),
            spec("a", MemberKind::Secondary, 10),
            spec("b", MemberKind::Secondary, 25),
            spec("c", MemberKind::Secondary, 26),
        ],
    );
    for (mode, expected) in [
        (ReadMode::Nearest, "p a"),
        (ReadMode::Secondary, "a b"),
        (ReadMode::PrimaryPreferred, "p"),
    ] {
        assert_eq!(
            names(&topology, &preference(mode, &[])),
            expected,
            "{mode:?}"
        );
    }
}

#[test]
fn stale_secondaries_are_left_out() {
    let lagging = |name, lag_seconds| Spec {
        lag_seconds,
        ..spec(name, MemberKind::Secondary, 5)
    };
    let with_primary = [
        spec("p", MemberKind::Primary, 5),
        lagging("a", 0),
        lagging("b", 80),
        lagging("c", 81),
    ];
    let without_primary = [lagging("a", 100), lagging("b", 180), lagging("c", 181)];
    for specs in [&with_primary[..], &without_primary[..]] {
        let topology = topology(TopologyKind::ReplicaSet, specs);
        let bounded = ReadPreference {
            max_staleness_seconds: Some(90),
            ..preference(ReadMode::Secondary, &[])
        };
        assert_eq!(names(&topology, &bounded), "a b");
    }
}

#[test]
fn the_random_number_decides_between_equals() {
    let topology = topology(
        TopologyKind::ReplicaSet,
        &[
            spec("a", MemberKind::Secondary, 5),
            spec("b", MemberKind::Secondary, 5),
        ],
    );
    let routing = Routing::Preference(preference(ReadMode::Secondary, &[]));
    let chosen =
        |random| choose(&topology, &routing, LATENCY_WINDOW, random).map(|member| &*member.address);
    assert_eq!(
        [chosen(0), chosen(1), chosen(2)],
        [Some("a"), Some("b"), Some("a")]
    );
    assert!(choose(&topology, &Routing::Primary, LATENCY_WINDOW, 0).is_none());
}

#[test]
fn a_command_for_one_member_goes_nowhere_else() {
    let topology = topology(
        TopologyKind::ReplicaSet,
        &[
            spec("p", MemberKind::Primary, 5),
            spec("a", MemberKind::Secondary, 50),
            spec("u", MemberKind::Unknown, 5),
        ],
    );
    for (wanted, found) in [("p", true), ("a", true), ("u", false), ("x", false)] {
        let routing = Routing::Member(wanted.into());
        let chosen = choose(&topology, &routing, LATENCY_WINDOW, 0).map(|member| &*member.address);
        assert_eq!(chosen, found.then_some(wanted));
    }
}

#[test]
fn a_command_that_would_rather_go_to_one_mongos_goes_to_another_where_that_does_not_serve() {
    let topology = topology(
        TopologyKind::Sharded,
        &[
            spec("far", MemberKind::Mongos, 500),
            spec("near", MemberKind::Mongos, 5),
            spec("gone", MemberKind::Unknown, 5),
        ],
    );
    for (wanted, expected) in [("far", "far"), ("gone", "near"), ("x", "near")] {
        let routing = Routing::Rather(wanted.into());
        for random in 0..3 {
            let chosen =
                choose(&topology, &routing, LATENCY_WINDOW, random).map(|member| &*member.address);
            assert_eq!(chosen, Some(expected), "{wanted}");
        }
    }
}
