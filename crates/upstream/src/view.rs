//! The proxy's own view of the upstream: a pure fold of news into a [`Topology`] and a [`ServerHello`].
//!
//! Membership comes from the driver; what each member is comes from the newest of three sources: the
//! driver's monitors, the proxy's own probes, and what the proxy's connections met.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bson::{Document, oid::ObjectId};
use mdb_scope::ServerAddress;

use crate::{
    hello::{DeploymentKind, Hello, ServerHello, version_array},
    topology::{Member, MemberKind, Topology, TopologyKind},
};

/// Something learnt of the upstream.
#[derive(Debug)]
pub(crate) enum News {
    /// The driver says which members there are.
    Members {
        kind: TopologyKind,
        addresses: Vec<ServerAddress>,
    },
    /// A member answered a `hello` that the driver's monitor or the proxy sent.
    Hello {
        address: ServerAddress,
        hello: Hello,
        rtt: Option<Duration>,
        at_millis: i64,
    },
    /// A member could not be reached.
    Lost {
        address: ServerAddress,
        /// Its monitor waited for an answer in vain, over a connection that was good: commands that are
        /// under way may wait as vainly.
        is_silent: bool,
    },
    /// A member's state is not what was known: it said so in a reply, or its connection broke.
    Suspect { address: ServerAddress },
    /// A member's reply to `buildInfo`.
    Build {
        address: ServerAddress,
        build_info: Document,
    },
}

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct View {
    kind: TopologyKind,
    members: BTreeMap<ServerAddress, Known>,
}

#[derive(Debug, Default)]
struct Known {
    kind: MemberKind,
    /// The newest reply, also while the member is not reachable.
    hello: Option<Hello>,
    rtt: Option<Duration>,
    /// The newest times, the newest last.
    rtts: VecDeque<Duration>,
    updated_millis: i64,
    is_suspect: bool,
    build: Option<Build>,
}

/// A `buildInfo`, valid for the process that gave it: a member may be upgraded.
#[derive(Debug)]
struct Build {
    process: Option<ObjectId>,
    build_info: Document,
}

impl View {
    pub(crate) fn apply(&mut self, news: News) {
        match news {
            News::Members { kind, addresses } => {
                self.kind = kind;
                self.members
                    .retain(|address, _| addresses.contains(address));
                for address in addresses {
                    self.members.entry(address).or_default();
                }
            }
            News::Hello {
                address,
                hello,
                rtt,
                at_millis,
            } => self.apply_hello(&address, hello, rtt, at_millis),
            News::Lost { address, .. } => self.forget(&address, false),
            News::Suspect { address } => self.forget(&address, true),
            News::Build {
                address,
                build_info,
            } => {
                if let Some(known) = self.members.get_mut(&address) {
                    known.build = Some(Build {
                        process: known.process(),
                        build_info,
                    });
                }
            }
        }
    }

    pub(crate) fn topology(&self) -> Topology {
        Topology {
            kind: self.kind,
            members: self
                .members
                .iter()
                .map(|(address, known)| known.member(address))
                .collect(),
        }
    }

    /// The common capabilities of the members reached; `None` while none is, or while the version of
    /// none is known.
    pub(crate) fn server_hello(&self) -> Option<ServerHello> {
        let hellos: Vec<&Hello> = self
            .reached()
            .filter_map(|known| known.hello.as_ref())
            .collect();
        let least = |number: fn(&Hello) -> i32| hellos.iter().map(|hello| number(hello)).min();
        let oldest = self
            .reached()
            .filter_map(|known| known.build.as_ref())
            .min_by_key(|build| version_array(&build.build_info))?;
        let sessions = hellos
            .iter()
            .map(|hello| hello.logical_session_timeout_minutes)
            .min()?;
        Some(ServerHello {
            kind: deployment_kind(&hellos),
            max_bson_object_size: least(|hello| hello.max_bson_object_size)?,
            max_message_size_bytes: least(|hello| hello.max_message_size_bytes)?,
            max_write_batch_size: least(|hello| hello.max_write_batch_size)?,
            wire_version_min: hellos.iter().map(|hello| hello.wire_version_min).max()?,
            wire_version_max: least(|hello| hello.wire_version_max)?,
            // `None` is less than any number: one member without sessions means none at all.
            logical_session_timeout_minutes: sessions,
            version: oldest
                .build_info
                .get_str("version")
                .unwrap_or_default()
                .to_owned(),
            version_array: version_array(&oldest.build_info),
            build_info: oldest.build_info.clone(),
        })
    }

    /// Members of whose state nothing is known since a connection met something unexpected.
    pub(crate) fn suspects(&self) -> Vec<ServerAddress> {
        self.members
            .iter()
            .filter(|(_, known)| known.is_suspect)
            .map(|(address, _)| address.clone())
            .collect()
    }

    pub(crate) fn addresses(&self) -> Vec<ServerAddress> {
        self.members.keys().cloned().collect()
    }

    /// Whether the version of this reachable member is still to be asked.
    pub(crate) fn lacks_build(&self, address: &ServerAddress) -> bool {
        self.members.get(address).is_some_and(|known| {
            known.kind.bears_data()
                && known
                    .build
                    .as_ref()
                    .is_none_or(|build| build.process != known.process())
        })
    }

    fn reached(&self) -> impl Iterator<Item = &Known> {
        self.members
            .values()
            .filter(|known| known.kind.bears_data())
    }

    fn apply_hello(
        &mut self,
        address: &ServerAddress,
        hello: Hello,
        rtt: Option<Duration>,
        at_millis: i64,
    ) {
        let Some(known) = self.members.get_mut(address) else {
            return;
        };
        let is_older = known
            .hello
            .as_ref()
            .is_some_and(|newest| hello.is_older_than(newest));
        if is_older {
            return;
        }
        known.rtt = averaged(known.rtt, rtt);
        known.rtts.extend(rtt);
        if known.rtts.len() > RTTS_KEPT {
            known.rtts.pop_front();
        }
        known.updated_millis = at_millis;
        known.is_suspect = false;
        known.kind = hello.kind;
        let (kind, election) = (hello.kind, hello.election);
        known.hello = Some(hello);
        if kind == MemberKind::Primary {
            self.settle_primaries(address, election);
        }
    }

    /// Of two members that call themselves primary only the one of the later election is; the other
    /// has not noticed yet. Election ids grow with each election.
    fn settle_primaries(&mut self, newest: &ServerAddress, election: Option<ObjectId>) {
        let mut is_outdated = false;
        for (address, known) in &mut self.members {
            if address == newest || known.kind != MemberKind::Primary {
                continue;
            }
            let other = known.hello.as_ref().and_then(|hello| hello.election);
            if other > election {
                is_outdated = true;
            } else {
                known.kind = MemberKind::Unknown;
            }
        }
        if is_outdated && let Some(known) = self.members.get_mut(newest) {
            known.kind = MemberKind::Unknown;
        }
    }

    fn forget(&mut self, address: &ServerAddress, is_suspect: bool) {
        if let Some(known) = self.members.get_mut(address) {
            known.kind = MemberKind::Unknown;
            known.is_suspect = is_suspect;
        }
    }
}

impl Known {
    fn process(&self) -> Option<ObjectId> {
        self.hello.as_ref().and_then(|hello| hello.process)
    }

    /// As the drivers' specification of client-side timeouts reckons it.
    fn rtt_min(&self) -> Duration {
        let shortest = self.rtts.iter().min();
        let is_told = self.rtts.len() >= RTTS_NEEDED;
        shortest.filter(|_| is_told).copied().unwrap_or_default()
    }

    fn member(&self, address: &ServerAddress) -> Member {
        let hello = self.hello.as_ref();
        Member {
            address: address.clone(),
            kind: self.kind,
            tags: hello.map(|hello| hello.tags.clone()).unwrap_or_default(),
            rtt: self.rtt,
            rtt_min: self.rtt_min(),
            wire_version_min: hello
                .map(|hello| hello.wire_version_min)
                .unwrap_or_default(),
            wire_version_max: hello
                .map(|hello| hello.wire_version_max)
                .unwrap_or_default(),
            last_write_millis: hello.and_then(|hello| hello.last_write_millis),
            updated_millis: self.updated_millis,
        }
    }
}

fn deployment_kind(hellos: &[&Hello]) -> DeploymentKind {
    if hellos.iter().any(|hello| hello.kind == MemberKind::Mongos) {
        DeploymentKind::Sharded
    } else if hellos.iter().any(|hello| hello.is_in_set) {
        DeploymentKind::ReplicaSet
    } else {
        DeploymentKind::Standalone
    }
}

/// Of how many times the shortest counts.
const RTTS_KEPT: usize = 10;
/// A single time may have been long by chance.
const RTTS_NEEDED: usize = 2;

/// The moving average of the drivers' server selection specification: a fifth of each new sample.
fn averaged(old: Option<Duration>, sample: Option<Duration>) -> Option<Duration> {
    match (old, sample) {
        (Some(old), Some(sample)) => Some(sample / 5 + old * 4 / 5),
        (old, sample) => sample.or(old),
    }
}

#[cfg(test)]
mod tests;
