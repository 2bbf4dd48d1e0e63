//! Know the deployment, choose a server, lend a connection, and exchange *scoped* messages on it.
//!
//! ```text
//!  driver's monitors ─┐
//!  probe              ├─ News ─► view ─► watch (Topology, ServerHello) ─► select ─► member ─► pool
//!  lease (failures)  ─┘                                                                       │
//!                                              lease ◄─ conn ◄─ handshake ◄─ stream, tls ◄────┘
//! ```
//!
//! - [`Upstream`] is the face: [`Upstream::lend`] gives a [`Lease`], [`Lease::exchange`] takes nothing but
//!   a [`mdb_scope::Scoped`] command.
//! - The official driver discovers and monitors the deployment; clients' commands travel on connections
//!   of this crate's own, as raw bytes.
//! - A connection is used again only if the whole reply to its last command was read and matched.

mod admission;
mod conn;
mod error;
#[cfg(test)]
mod fake;
mod frame;
mod handshake;
mod hello;
mod lease;
mod locks;
mod member;
mod pool;
mod probe;
mod queue;
mod records;
mod select;
mod stream;
mod tls;
mod topology;
mod upstream;
mod uri;
mod view;
mod watch;

pub use admission::{Admission, Unbounded};
pub use error::{ExchangeError, ExchangeErrorKind, Exhaustion, Sent, UpstreamError};
pub use frame::FrameError;
pub use hello::{DeploymentKind, ServerHello};
pub use lease::Lease;
pub use locks::wait_until_free;
pub use queue::{Borrower, Held};
pub use topology::{Member, MemberKind, Topology, TopologyKind};
pub use upstream::{Upstream, UpstreamOptions};
