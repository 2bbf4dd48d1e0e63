//! How old the upstream is. One that is not known yet is taken for old.

use mdb_scope::{WIRE_VERSION_5_0, WIRE_VERSION_6_0, WIRE_VERSION_7_0};

use crate::forward::Journey;

impl Journey<'_> {
    /// Whether it is older than 7.0, which forgives a `drop` of nothing.
    pub(crate) fn is_before_seven(&self) -> bool {
        self.is_before(WIRE_VERSION_7_0)
    }

    /// Whether it is older than 6.0.
    pub(crate) fn is_before_six(&self) -> bool {
        self.is_before(WIRE_VERSION_6_0)
    }

    /// Whether it is older than 5.0, which names the database that was dropped.
    pub(crate) fn is_before_five(&self) -> bool {
        self.is_before(WIRE_VERSION_5_0)
    }

    /// Its `maxWireVersion`.
    pub(crate) fn wire_version(&self) -> i32 {
        let hello = self.hello.as_ref();
        hello.map_or(0, |hello| hello.wire_version_max)
    }

    fn is_before(&self, wire_version: i32) -> bool {
        self.wire_version() < wire_version
    }
}
