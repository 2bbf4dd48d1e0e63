//! Whether there is room for a reply.

use std::fmt::Debug;
use std::future::{Future, ready};
use std::pin::Pin;

/// Asked before a large reply is read: so that what its reader cannot pass on waits in the socket and not in memory.
pub trait Admission: Debug + Sync {
    /// Ends when there is room for a reply of so many bytes. While it waits, the connection stays lent.
    fn admit<'a>(&'a self, bytes: usize) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// Room for any reply: it is bounded elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Unbounded;

impl Admission for Unbounded {
    fn admit<'a>(&'a self, _: usize) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(ready(()))
    }
}
