//! What a reply says, read before it is rewritten.

use mdb_wire::{Document, Element};

use crate::text;

/// What a reply says, read before it is rewritten: enough to decide whether to try again.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact that the reply states by itself"
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Glance {
    /// Whether there is an `ok`, as in every reply to a command.
    pub has_outcome: bool,
    /// `ok: 1`.
    pub is_ok: bool,
    /// The code of a failed command.
    pub code: Option<i32>,
    /// A code that speaks of the member's state, wherever it stands. It must not reach the client, who would take it for
    /// the proxy's.
    pub state_change: Option<i32>,
    /// A duplicate key on `_id` alone.
    pub is_duplicate_id: bool,
    /// The index named by `hint` is not there; the command, or its statement, was not begun.
    pub is_hint_unknown: bool,
    /// The server gave its plan up since an index went, which may be another app's or the proxy's.
    pub killed: Option<Killed>,
    /// Documents that could not be stored because they have arrays in two fields of one index.
    pub parallel_arrays: u32,
    /// Documents that a write reached, as its reply says.
    pub n: i64,
}

/// A plan that a server gave up since an index of the collection was dropped, or hidden (`QueryPlanKilled`, 175).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// While it was tried beside others. Any index counts, and nothing was read or written yet for the client. Seen on 6.0.5
    /// where a `$group` or `$lookup` is part of the plan; not on 4.4.2 and 5.0.4.
    Trial,
    /// While it ran: the index is its own.
    Run,
}

/// Codes by which a member says that it is not, or no longer, the one to ask.
pub const STATE_CHANGE_CODES: &[i32] = &[10107, 13435, 10058, 11602, 13436, 189, 11600, 91];

pub(super) fn state_change(code: Option<i64>) -> Option<i32> {
    let code = i32::try_from(code?).ok()?;
    STATE_CHANGE_CODES.contains(&code).then_some(code)
}

/// Reads a reply's outcome.
pub fn glance(reply: Document<'_>) -> Glance {
    let mut glance = Glance::default();
    for element in reply.elements() {
        match element.key {
            b"ok" => {
                glance.has_outcome = element.as_flag().is_some();
                glance.is_ok = element.as_flag() == Some(true);
            }
            b"n" => glance.n = element.as_integer().unwrap_or(0),
            b"code" => {
                glance.see_arrays(&element);
                glance.code = element.as_integer().and_then(|c| i32::try_from(c).ok());
                glance.state_change = glance.state_change.or(state_change(element.as_integer()));
            }
            b"keyPattern" => glance.is_duplicate_id |= is_id_key(&element),
            b"errmsg" => glance.see_text(&element),
            b"writeConcernError" => glance.see_error(&element),
            b"writeErrors" => {
                for error in element.as_array().into_iter().flat_map(Document::elements) {
                    glance.see_error(&error);
                }
            }
            _ => {}
        }
    }
    glance
}

impl Glance {
    fn see_arrays(&mut self, code: &Element<'_>) {
        if code.as_integer() == Some(PARALLEL_ARRAYS) {
            self.parallel_arrays = self.parallel_arrays.saturating_add(1);
        }
    }

    fn see_text(&mut self, text: &Element<'_>) {
        self.is_hint_unknown |= text::says_hint_unknown(text);
        self.killed = self.killed.or(text::says_killed(text));
    }

    fn see_error(&mut self, element: &Element<'_>) {
        for member in element
            .as_document()
            .into_iter()
            .flat_map(Document::elements)
        {
            match member.key {
                b"code" => {
                    self.see_arrays(&member);
                    self.state_change = self.state_change.or(state_change(member.as_integer()));
                }
                b"keyPattern" => self.is_duplicate_id |= is_id_key(&member),
                b"errmsg" => self.see_text(&member),
                _ => {}
            }
        }
    }
}

/// `CannotIndexParallelArrays`.
pub(crate) const PARALLEL_ARRAYS: i64 = 171;

/// Whether a key pattern is of `_id` alone.
pub(crate) fn is_id_key(element: &Element<'_>) -> bool {
    element.as_document().is_some_and(|key| {
        let mut fields = key.elements();
        matches!((fields.next(), fields.next()), (Some(only), None) if only.key == b"_id")
    })
}
