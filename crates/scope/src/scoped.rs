//! The proof that a command may go upstream, and where it should go.

use std::sync::Arc;

/// `host:port` of a member of the upstream deployment, as the topology names it.
pub type ServerAddress = Arc<str>;

/// One set of a read preference's tags: a server matches if it carries all of them.
pub type TagSet = Vec<(String, String)>;

/// The five modes of a read preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Only the primary.
    Primary,
    /// The primary, or a secondary while there is none.
    PrimaryPreferred,
    /// Only secondaries.
    Secondary,
    /// Secondaries, or the primary while there are none.
    SecondaryPreferred,
    /// Any data-bearing member within the latency window.
    Nearest,
}

/// A read preference as a client stated it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPreference {
    /// Which kinds of members may serve the read.
    pub mode: ReadMode,
    /// Tried in order; the first that matches any member decides. Empty means no restriction.
    pub tag_sets: Vec<TagSet>,
    /// Secondaries estimated to lag further behind are left out.
    pub max_staleness_seconds: Option<u32>,
}

/// Where a scoped command has to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// The primary of a replica set, any mongos, or the standalone.
    Primary,
    /// A member chosen by a read preference other than `primary`.
    Preference(ReadPreference),
    /// Just this member: the one that holds a cursor.
    Member(ServerAddress),
}

/// A command proven safe to forward. Only this crate can make one.
#[derive(Debug)]
pub struct Scoped {
    message: Vec<u8>,
    routing: Routing,
}

impl Scoped {
    /// Where the command has to go.
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    /// The whole OP_MSG (header included) with `request_id` in its header.
    pub fn message(&mut self, request_id: i32) -> &[u8] {
        if let Some(place) = self.message.get_mut(4..8) {
            place.copy_from_slice(&request_id.to_le_bytes());
        }
        &self.message
    }
}
