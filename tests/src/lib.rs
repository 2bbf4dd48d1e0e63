//! The harness of the end-to-end tests: real deployments, the proxy in the test's own process, clients.
//!
//! - [`shared`] is the deployment that the tests of one binary share; tests that break servers start their own.
//! - [`TestProxy`] is a proxy with apps of its own. Each has a database name that no other test uses.
//! - [`RawClient`] speaks the protocol by itself: any command, any bytes.
//! - [`Relay`] stands between the proxy and a server, and cuts, delays and garbles.
//! - [`Mongos`] stands in for a mongos, in front of a real server.
//! - [`Names`] is a name server, for tests that [`with_names`] runs apart.
//! - [`script`] turns YAML into BSON, also into BSON that no driver would send.
//! - [`logs`] keeps what the proxy logs; a [`TestProxy`] that goes fails its test if there is an unexpected warning.
//!
//! Tests run on the one thread of their own runtime, and so does the proxy: that is how a log line finds its test.
// Everything here panics, since that is how a test fails.
#![allow(clippy::missing_panics_doc)]

mod deployment;
mod eventually;
pub mod logs;
mod mongos;
mod names;
mod proxy;
mod raw;
mod relay;
pub mod script;

pub use deployment::{is_for, is_since, shared, unique_name};
pub use eventually::eventually;
pub use mongos::Mongos;
pub use names::{DOMAIN, Names, with_names};
pub use proxy::{OTHER_PASSWORD, PASSWORD, ProxyBuilder, TestProxy};
pub use raw::{RawClient, RawReply, Section, batch, binary, cursor_id, is_ok, keys, raw};
pub use relay::{Harm, Relay, Weather};
