//! Clients in, each command from socket to upstream and back.
//!
//! - [`serve`] accepts clients and drains them at the end; [`serve_client`] is the life of one.
//! - A command's row in `mdb_scope::COMMANDS` says who does it: the proxy alone, or the upstream by way of [`Forward`].
//! - [`Identity`] is what a proven credential stands for; one per connection, for ever of one app.
//! - [`Cursors`] keeps whose each open cursor is.
//! - [`Error`] is everything by which a command can fail; one function, [`reply::for_error`], makes it a reply.

mod abandon;
mod absence;
mod announcement;
mod api;
mod attempt;
mod authenticate;
mod automatic;
mod behalf;
mod belongings;
mod builds;
mod bulk;
mod canary;
mod catalog;
mod clients;
mod cluster_time;
mod codes;
mod collection;
mod concern;
mod connection;
mod control;
mod cursors;
mod deadline;
mod dispatch;
mod downstream;
mod drain;
mod errands;
mod error;
mod exchange;
mod exhaust;
mod failures;
mod figures;
mod forward;
mod giving_way;
mod ground;
mod guest;
mod hello;
mod identity;
mod images;
mod inbox;
mod joining;
pub mod labels;
mod listener;
mod listing;
mod local;
mod modify;
mod namespaces;
mod news;
mod observe;
mod observer;
mod operations;
mod packing;
mod pin;
mod plan_cache;
mod proxy_protocol;
mod random;
mod release;
mod relocation;
mod replacement;
pub mod reply;
mod sessions;
mod sharding;
mod shared;
mod slots;
mod sparing;
mod standstill;
mod streams;
mod supervision;
#[cfg(test)]
mod testing;
mod tls;
mod unread;
mod users;
mod validation;
mod validators;
mod whereabouts;

pub use announcement::{HelloState, Presentation, TopologyVersion};
pub use behalf::{Behalf, FoundCollection, find_collections};
pub use codes::code_name;
pub use cursors::{Cursor, Cursors};
pub use downstream::serve_client;
pub use drain::Shutdown;
pub use error::{
    ApiError, AwaitingFlaw, CertificateError, Error, HelloError, LegacyError, Limit, SaslError,
};
pub use forward::Forward;
pub use guest::Guest;
pub use identity::{App, Grants, Identity, IsolationPolicy, Validity};
pub use listener::{ListenerOptions, serve};
pub use observer::{OBSERVATIONS_MAX, Observer};
pub use shared::{ClientLimits, Shared};
pub use slots::{Slot, Slots};
pub use tls::Tls;
