//! End to end: drivers and raw clients, the proxy, real servers.
mod smoke;
