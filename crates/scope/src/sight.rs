//! What an expression or filter can see where it stands.

use crate::facts::Isolation;
use crate::scope::Scope;
use crate::versions::WIRE_VERSION_5_0;

/// Whether the documents at some place still hold the scope field.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact about the place by itself"
)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    scope: &'a Scope,
    is_raw: bool,
    is_shared: bool,
    is_view: bool,
    /// Whether `$$new` is a document that holds the scope field: in the `whenMatched` of a `$merge`.
    is_new_raw: bool,
    wire_version: i32,
}

impl<'a> Sight<'a> {
    /// Documents as they are stored in a collection.
    pub(crate) fn of(scope: &'a Scope, isolation: Isolation, wire_version: i32) -> Self {
        let is_shared = isolation == Isolation::Shared;
        Self {
            scope,
            is_raw: is_shared,
            is_shared,
            is_view: false,
            is_new_raw: false,
            wire_version,
        }
    }

    /// The same where the documents may be those of a view, whose pipeline the server joins with what stands behind it.
    pub(crate) fn of_view(self, is_view: bool) -> Self {
        Self { is_view, ..self }
    }

    /// Whether the documents may be those of a view.
    pub(crate) fn is_view(self) -> bool {
        self.is_view
    }

    /// Whether the scope field stands in the documents at this place.
    pub(crate) fn is_raw(self) -> bool {
        self.is_raw
    }

    /// The same for documents of another collection.
    pub(crate) fn over(self, isolation: Isolation) -> Self {
        Self::of(self.scope, isolation, self.wire_version)
    }

    /// Whether the documents come from a collection that apps share.
    pub(crate) fn is_shared(self) -> bool {
        self.is_shared
    }

    /// The same place behind the stage that takes the scope field out.
    pub(crate) fn clean(self) -> Self {
        Self {
            is_raw: false,
            ..self
        }
    }

    /// The same place in a pipeline of `$merge`: `$$new` is the document that is merged.
    pub(crate) fn merging(self) -> Self {
        Self {
            is_new_raw: self.is_shared && self.scope.is_hidden(),
            ..self
        }
    }

    /// Whether `$$new` holds a scope field that the app must not notice.
    pub(crate) fn is_new_raw(self) -> bool {
        self.is_new_raw
    }

    pub(crate) fn scope(self) -> &'a Scope {
        self.scope
    }

    /// `maxWireVersion` of the upstream: 9 is 4.4, 13 is 5.0, 17 is 6.0.
    pub(crate) fn wire_version(self) -> i32 {
        self.wire_version
    }

    /// Whether the upstream is older than 5.0.
    pub(crate) fn is_before_five(self) -> bool {
        self.wire_version < WIRE_VERSION_5_0
    }

    /// Whether a path begins at a scope field that stands in these documents.
    pub(crate) fn is_reserved(self, path: &[u8]) -> bool {
        self.is_raw && self.scope.field().begins(path)
    }

    /// Whether a path begins with the scope field's name, also behind the stage that takes the field out.
    pub(crate) fn names_scope_field(self, path: &[u8]) -> bool {
        self.is_shared && self.scope.field().begins(path)
    }

    /// Whether a scope field that the app must not notice stands in these documents.
    pub(crate) fn sees_hidden_field(self) -> bool {
        self.is_raw && self.scope.is_hidden()
    }
}
