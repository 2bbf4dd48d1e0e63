//! What an expression or filter can see where it stands.

use crate::scope::Scope;

/// Whether the documents at some place still hold the scope field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    scope: &'a Scope,
    is_raw: bool,
    wire_version: i32,
}

impl<'a> Sight<'a> {
    /// Documents as they are stored.
    pub(crate) fn raw(scope: &'a Scope, wire_version: i32) -> Self {
        Self {
            scope,
            is_raw: true,
            wire_version,
        }
    }

    /// The same place behind the stage that takes the scope field out.
    pub(crate) fn clean(self) -> Self {
        Self {
            is_raw: false,
            ..self
        }
    }

    pub(crate) fn scope(self) -> &'a Scope {
        self.scope
    }

    /// `maxWireVersion` of the upstream: 9 is 4.4, 13 is 5.0, 17 is 6.0.
    pub(crate) fn wire_version(self) -> i32 {
        self.wire_version
    }

    /// Whether a path begins at a scope field that stands in these documents.
    pub(crate) fn is_reserved(self, path: &[u8]) -> bool {
        self.is_raw && self.scope.field().begins(path)
    }

    /// Whether a path begins with the scope field's name, whatever stands there.
    pub(crate) fn names_scope_field(self, path: &[u8]) -> bool {
        self.scope.field().begins(path)
    }

    /// Whether a scope field that the app must not notice stands in these documents.
    pub(crate) fn sees_hidden_field(self) -> bool {
        self.is_raw && self.scope.is_hidden()
    }
}
