//! End to end: drivers and raw clients, the proxy, real servers.

mod aggregate;
mod attacks;
mod auth;
mod bulk;
mod canary;
mod catalog;
mod collation;
mod crud;
mod cursors;
mod dedicated;
mod differential;
mod drain;
mod errors;
mod explain;
mod exposed;
mod failover;
mod hello;
mod indexes;
mod roles;
mod sessions;
mod transactions;
mod twin;
mod wire;
