//! Server selection, without waiting: which members may serve, by the rules of the drivers' server
//! selection specification.

use std::time::Duration;

use mdb_scope::{ReadMode, ReadPreference, Routing, TagSet};

use crate::topology::{Member, MemberKind, Topology, TopologyKind};

/// One suitable member, or none. `random` decides between several.
pub(crate) fn choose<'t>(
    topology: &'t Topology,
    routing: &Routing,
    window: Duration,
    random: usize,
) -> Option<&'t Member> {
    let preference = match routing {
        Routing::Member(address) => {
            return topology
                .member(address)
                .filter(|member| member.kind.bears_data());
        }
        Routing::Rather(address) => {
            let serves = |member: &&Member| member.kind.bears_data();
            if let Some(member) = topology.member(address).filter(serves) {
                return Some(member);
            }
            &PRIMARY
        }
        // The usual case: no list, no latencies.
        Routing::Primary if topology.kind == TopologyKind::ReplicaSet => return primary(topology),
        Routing::Primary => &PRIMARY,
        Routing::Preference(preference) => preference,
    };
    let members = candidates(topology, preference, window);
    let index = random.checked_rem(members.len())?;
    members.get(index).copied()
}

/// All members that may serve under `preference`, each at most `window` slower than the fastest of them.
pub(crate) fn candidates<'t>(
    topology: &'t Topology,
    preference: &ReadPreference,
    window: Duration,
) -> Vec<&'t Member> {
    let suitable = match topology.kind {
        TopologyKind::Unknown => Vec::new(),
        // The read preference travels with the command; here there is nothing to choose by it.
        TopologyKind::Single => of_kind(topology, MemberKind::bears_data),
        TopologyKind::Sharded => of_kind(topology, |kind| kind == MemberKind::Mongos),
        TopologyKind::ReplicaSet => in_replica_set(topology, preference),
    };
    within_latency_window(suitable, window)
}

fn in_replica_set<'t>(topology: &'t Topology, preference: &ReadPreference) -> Vec<&'t Member> {
    let secondaries = || {
        let mut members = of_kind(topology, |kind| kind == MemberKind::Secondary);
        if let Some(seconds) = preference.max_staleness_seconds {
            leave_out_stale(topology, &mut members, seconds);
        }
        members
    };
    let of_primary = || primary(topology).into_iter().collect::<Vec<_>>();
    let or_else = |first: Vec<&'t Member>, second: &dyn Fn() -> Vec<&'t Member>| {
        if first.is_empty() { second() } else { first }
    };
    let tagged = |members| by_tags(members, &preference.tag_sets);
    match preference.mode {
        ReadMode::Primary => of_primary(),
        ReadMode::PrimaryPreferred => or_else(of_primary(), &|| tagged(secondaries())),
        // As mongos does for a shard of one member: its only member is all there will ever be.
        ReadMode::Secondary if topology.members.len() == 1 => {
            tagged(or_else(secondaries(), &of_primary))
        }
        ReadMode::Secondary => tagged(secondaries()),
        ReadMode::SecondaryPreferred => or_else(tagged(secondaries()), &of_primary),
        ReadMode::Nearest => {
            let mut members = of_primary();
            members.extend(secondaries());
            tagged(members)
        }
    }
}

fn primary(topology: &Topology) -> Option<&Member> {
    topology
        .members
        .iter()
        .find(|member| member.kind == MemberKind::Primary)
}

fn of_kind(topology: &Topology, suits: impl Fn(MemberKind) -> bool) -> Vec<&Member> {
    topology
        .members
        .iter()
        .filter(|member| suits(member.kind))
        .collect()
}

/// The members that carry all tags of the first tag set that any member carries.
fn by_tags<'t>(members: Vec<&'t Member>, tag_sets: &[TagSet]) -> Vec<&'t Member> {
    if tag_sets.is_empty() {
        return members;
    }
    tag_sets
        .iter()
        .map(|wanted| {
            let carries_all = |member: &&Member| wanted.iter().all(|tag| member.tags.contains(tag));
            members.iter().copied().filter(carries_all).collect()
        })
        .find(|matching: &Vec<_>| !matching.is_empty())
        .unwrap_or_default()
}

/// Drops the secondaries whose estimated staleness is above the limit. A member whose last write is
/// not known is kept.
fn leave_out_stale(topology: &Topology, secondaries: &mut Vec<&Member>, limit_seconds: u32) {
    let limit_millis = i64::from(limit_seconds).saturating_mul(1000);
    let primary = primary(topology).and_then(|member| Some((member, member.last_write_millis?)));
    let newest_write = secondaries
        .iter()
        .filter_map(|member| member.last_write_millis)
        .max();
    secondaries.retain(|member| {
        let Some(write) = member.last_write_millis else {
            return true;
        };
        let behind = match primary {
            Some((primary, primary_write)) => {
                (member.updated_millis - write) - (primary.updated_millis - primary_write)
            }
            None => newest_write.map_or(0, |newest| newest - write),
        };
        behind.saturating_add(HEARTBEAT_MILLIS) <= limit_millis
    });
}

fn within_latency_window(mut members: Vec<&Member>, window: Duration) -> Vec<&Member> {
    if let Some(fastest) = members.iter().filter_map(|member| member.rtt).min() {
        let slowest = fastest.saturating_add(window);
        members.retain(|member| member.rtt.is_some_and(|rtt| rtt <= slowest));
    }
    members
}

static PRIMARY: ReadPreference = ReadPreference {
    mode: ReadMode::Primary,
    tag_sets: Vec::new(),
    max_staleness_seconds: None,
};

/// Members that are this much slower than the fastest still share the load, unless the connection string says otherwise: the
/// drivers' default `localThresholdMS`.
pub(crate) const LATENCY_WINDOW: Duration = Duration::from_millis(15);
/// What the staleness estimate assumes between two looks at a member: the drivers' default
/// `heartbeatFrequencyMS`, which the monitors use here.
const HEARTBEAT_MILLIS: i64 = 10_000;

#[cfg(test)]
mod tests;
