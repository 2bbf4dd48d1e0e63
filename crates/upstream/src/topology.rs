//! What is known of the deployment at one moment, as plain values.

use std::time::Duration;

use mdb_scope::ServerAddress;

/// The known servers of the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    /// What kind of deployment it is.
    pub kind: TopologyKind,
    /// Its members, in the order of their addresses.
    pub members: Vec<Member>,
}

impl Topology {
    /// The member at `address`.
    pub fn member(&self, address: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| &*member.address == address)
    }

    /// Whether any member can serve commands.
    pub fn is_up(&self) -> bool {
        self.kind != TopologyKind::Unknown
            && self.members.iter().any(|member| member.kind.bears_data())
    }
}

/// The kinds of deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopologyKind {
    /// No server was reached yet.
    #[default]
    Unknown,
    /// One server: a standalone, or any server by `directConnection=true`.
    Single,
    /// A replica set, with or without a primary.
    ReplicaSet,
    /// One mongos or several.
    Sharded,
}

/// One server of the deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its address, as the deployment names it.
    pub address: ServerAddress,
    /// What it is at this moment.
    pub kind: MemberKind,
    /// Its tags, for read preferences.
    pub tags: Vec<(String, String)>,
    /// The moving average of the time that a `hello` takes.
    pub rtt: Option<Duration>,
    /// The shortest of the last such times; zero while there are too few of them to say.
    pub rtt_min: Duration,
    /// The lowest wire version it speaks.
    pub wire_version_min: i32,
    /// The highest wire version it speaks.
    pub wire_version_max: i32,
    /// Wall-clock time of its newest write by its own account, in milliseconds since 1970.
    pub last_write_millis: Option<i64>,
    /// When the proxy learned that, by its own wall clock, in milliseconds since 1970.
    pub updated_millis: i64,
}

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberKind {
    /// The primary of a replica set.
    Primary,
    /// A secondary of a replica set.
    Secondary,
    /// A router of a sharded cluster.
    Mongos,
    /// A mongod without a replica set.
    Standalone,
    /// Reachable, but of no use to commands: an arbiter, a hidden member, one that starts or recovers.
    Other,
    /// Not reachable, not reached yet, or known to have changed its state a moment ago.
    #[default]
    Unknown,
}

impl MemberKind {
    /// Whether such a server holds documents, or leads to them.
    pub fn bears_data(self) -> bool {
        matches!(
            self,
            Self::Primary | Self::Secondary | Self::Mongos | Self::Standalone
        )
    }
}
