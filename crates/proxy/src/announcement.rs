//! What the proxy announces of itself in hello, and when that changes.

use std::sync::Arc;

use mdb_upstream::{DeploymentKind, ServerHello};
use mdb_wire::limits::{DOCUMENT_BYTES_MAX_DEFAULT, MESSAGE_BYTES_MAX_DEFAULT};
use tokio::sync::watch;

use crate::random;

/// `topologyVersion`: which process speaks, and how often what it announces has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopologyVersion {
    /// Made at the start of the process.
    pub process_id: [u8; 12],
    /// Starts at 0 and grows.
    pub counter: i64,
}

/// As what the proxy presents itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presentation {
    /// A mongos: in front of replica sets and sharded clusters.
    Mongos,
    /// A standalone mongod: in front of one. A standalone takes no `txnNumber`, and drivers send one with every write
    /// to a mongos.
    Standalone,
}

/// What drivers act on (drivers' handshake specification), as derived from the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Face {
    pub(crate) presentation: Presentation,
    pub(crate) wire_version_max: i32,
    pub(crate) document_bytes_max: i32,
    pub(crate) message_bytes_max: i32,
    pub(crate) batch_max: i32,
    pub(crate) session_timeout_minutes: i32,
}

/// What `buildInfo` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) version: String,
    pub(crate) version_array: [i32; 4],
    pub(crate) git_version: String,
}

/// All of it at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub(crate) counter: i64,
    pub(crate) is_shutting_down: bool,
    pub(crate) face: Face,
    pub(crate) build: Arc<Build>,
}

/// What the proxy announces, for all connections of all listeners. Hellos wait here for changes.
#[derive(Debug)]
pub struct HelloState {
    process_id: [u8; 12],
    announced: watch::Sender<Announcement>,
}

impl HelloState {
    /// Before the upstream was reached. `unreached` is the presentation until then; it should be what the upstream will
    /// turn out to be, since drivers do not expect a server to change its kind.
    pub fn new(unreached: Presentation) -> Self {
        let announcement = Announcement {
            counter: 0,
            is_shutting_down: false,
            face: Face::unreached(unreached),
            build: Arc::new(Build::unreached()),
        };
        Self {
            process_id: random::bytes(),
            announced: watch::Sender::new(announcement),
        }
    }

    /// Takes what the upstream says now. While it is down the last that it said stays.
    pub fn learn(&self, hello: &ServerHello) {
        let (face, build) = (Face::of(hello), Build::of(hello));
        self.announced.send_if_modified(|now| {
            if *now.build != build {
                now.build = Arc::new(build);
            }
            let is_change = now.face != face;
            if is_change {
                now.face = face;
                now.counter += 1;
            }
            is_change
        });
    }

    /// Announces the end: waiting and new hellos are answered with 91.
    pub fn shut_down(&self) {
        self.announced.send_if_modified(|now| {
            let is_change = !now.is_shutting_down;
            if is_change {
                now.is_shutting_down = true;
                now.counter += 1;
            }
            is_change
        });
    }

    /// The version of what is announced now.
    pub fn version(&self) -> TopologyVersion {
        self.version_of(&self.announced.borrow())
    }

    pub(crate) fn now(&self) -> Announcement {
        self.announced.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Announcement> {
        self.announced.subscribe()
    }

    pub(crate) fn version_of(&self, announcement: &Announcement) -> TopologyVersion {
        TopologyVersion {
            process_id: self.process_id,
            counter: announcement.counter,
        }
    }
}

impl Face {
    fn unreached(presentation: Presentation) -> Self {
        // Both defaults are far below 2 GiB.
        let bytes = |default: usize| i32::try_from(default).unwrap_or(i32::MAX);
        Self {
            presentation,
            wire_version_max: WIRE_VERSION_UNREACHED,
            document_bytes_max: bytes(DOCUMENT_BYTES_MAX_DEFAULT),
            message_bytes_max: bytes(MESSAGE_BYTES_MAX_DEFAULT) - MESSAGE_BYTES_RESERVED,
            batch_max: BATCH_MAX_UNREACHED,
            session_timeout_minutes: SESSION_TIMEOUT_MINUTES_DEFAULT,
        }
    }

    fn of(hello: &ServerHello) -> Self {
        // Both defaults are far below 2 GiB.
        let message_bytes_max = i32::try_from(MESSAGE_BYTES_MAX_DEFAULT).unwrap_or(i32::MAX);
        Self {
            presentation: match hello.kind {
                DeploymentKind::Standalone => Presentation::Standalone,
                DeploymentKind::ReplicaSet | DeploymentKind::Sharded => Presentation::Mongos,
            },
            wire_version_max: hello.wire_version_max.min(WIRE_VERSION_MAX),
            document_bytes_max: hello.max_bson_object_size,
            message_bytes_max: hello
                .max_message_size_bytes
                .min(message_bytes_max)
                .saturating_sub(MESSAGE_BYTES_RESERVED),
            batch_max: hello.max_write_batch_size,
            session_timeout_minutes: hello
                .logical_session_timeout_minutes
                .unwrap_or(SESSION_TIMEOUT_MINUTES_DEFAULT),
        }
    }

    /// The same as a size.
    pub(crate) fn message_bytes_max(&self) -> usize {
        usize::try_from(self.message_bytes_max).unwrap_or_default()
    }
}

impl Build {
    fn unreached() -> Self {
        Self {
            version: "4.4.0".to_owned(),
            version_array: [4, 4, 0, 0],
            git_version: String::new(),
        }
    }

    fn of(hello: &ServerHello) -> Self {
        if hello.wire_version_max > WIRE_VERSION_MAX {
            return Self {
                version: CAPPED_VERSION.to_owned(),
                version_array: CAPPED_VERSION_ARRAY,
                git_version: String::new(),
            };
        }
        Self {
            version: hello.version.clone(),
            version_array: hello.version_array,
            git_version: hello
                .build_info
                .get_str("gitVersion")
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

/// MongoDB 8.0, the newest whose commands are known here. Drivers may send what is new in later ones.
const WIRE_VERSION_MAX: i32 = 25;
/// The version that [`WIRE_VERSION_MAX`] stands for: `buildInfo` and hello must agree.
const CAPPED_VERSION: &str = "8.0.0";
const CAPPED_VERSION_ARRAY: [i32; 4] = [8, 0, 0, 0];
/// MongoDB 4.4: the lowest that current drivers take, and what every upstream that is served has.
const WIRE_VERSION_UNREACHED: i32 = 9;
/// `maxWriteBatchSize` of every mongod since 3.6.
const BATCH_MAX_UNREACHED: i32 = 100_000;
/// What mongod has by default, and what drivers take for granted.
const SESSION_TIMEOUT_MINUTES_DEFAULT: i32 = 30;
/// What is kept free in a message, since drivers fill messages to the brim: a batch of the 100,000 statements that are
/// allowed grows by about 30 bytes each when every one is stamped or guarded. Beyond it the upstream closes the
/// connection.
const MESSAGE_BYTES_RESERVED: i32 = 3_000_000;

#[cfg(test)]
mod tests;
