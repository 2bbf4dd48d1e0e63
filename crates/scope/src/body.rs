//! The walk over a command's fields: each by its row, written into the upstream's command.

use std::cell::{Cell, RefCell};

use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Element, Kind, Writer};

use crate::arguments::{self, Argument, Take};
use crate::before_five;
use crate::change_stream;
use crate::commands::CommandSpec;
use crate::composed::check_aggregate;
use crate::facts::{self, CollectionFacts, Facts, Isolation, NO_AUTOMATIC_INDEXES, isolation_of};
use crate::index::write_named;
use crate::pipeline::{self, Source, Strip, Surroundings, Within, written_collection};
use crate::refusal::Refusal;
use crate::refused::Refused;
use crate::scope::Scope;
use crate::scoped::ReadPreference;
use crate::sight::Sight;
use crate::versions::WIRE_VERSION_5_0;
use crate::{
    expression, filter, generic, hint, identifier, preference, projection, statements, update,
};

/// What one field says about how others are written; read before anything is written.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact that a field states by itself"
)]
#[derive(Debug, Default)]
pub(crate) struct Prelude<'a> {
    pub(crate) is_collated: bool,
    pub(crate) session: Option<[u8; 16]>,
    pub(crate) is_numbered: bool,
    pub(crate) in_transaction: bool,
    pub(crate) read_preference: Option<(ReadPreference, Element<'a>)>,
    pub(crate) client_cluster_time: Option<Document<'a>>,
    pub(crate) explains: bool,
    pub(crate) is_upsert: bool,
    /// The stage that writes.
    pub(crate) writes: Option<&'static str>,
    pub(crate) plan: hint::Plan<'a>,
}

/// One command being rewritten.
pub(crate) struct Body<'a, 'f> {
    pub(crate) scope: &'a Scope,
    pub(crate) spec: &'static CommandSpec,
    pub(crate) command: &'a Command<'a>,
    pub(crate) facts: &'a Facts<'f>,
    pub(crate) prelude: Prelude<'a>,
    /// Whether the proxy named a base index by itself.
    pub(crate) hints_base: Cell<bool>,
    /// The statements that go upstream, by their places in ascending order, if not all.
    pub(crate) only: Option<&'a [usize]>,
    /// Whether a `getMore` is on a change stream.
    pub(crate) is_on_stream: bool,
    /// The statements that are refused while the others are sent, in ascending order.
    pub(crate) refused: RefCell<Vec<Refused>>,
}

impl<'a, 'f> Body<'a, 'f> {
    /// Reads what has to be known before the first field is written.
    ///
    /// # Errors
    /// 40415 for a field without a row.
    pub(crate) fn read(
        scope: &'a Scope,
        spec: &'static CommandSpec,
        command: &'a Command<'a>,
        facts: &'a Facts<'f>,
    ) -> Result<Self, Refusal> {
        let mut prelude = Prelude::default();
        prelude.plan.order = match spec.name {
            "find" | "findAndModify" => hint::Order::OfRecords,
            "count" => hint::Order::Indifferent,
            _ => hint::Order::Any,
        };
        for element in command.body.elements().skip(1) {
            prelude.read(spec, command, &element, facts.wire_version)?;
        }
        // As mongos; every statement of a transaction goes where the transaction is.
        if prelude.in_transaction && prelude.read_preference.is_some() && routes_reads(spec) {
            return Err(Refusal::invalid_options(
                "read preference in a transaction must be primary",
            ));
        }
        if let (true, Some(stage)) = (prelude.in_transaction, prelude.writes) {
            return Err(Refusal::not_in_transaction(format!(
                "{stage} cannot be used in a transaction"
            )));
        }
        if spec.name == "aggregate" {
            check_aggregate(command, facts.wire_version < WIRE_VERSION_5_0)?;
        }
        Ok(Self {
            scope,
            spec,
            command,
            facts,
            prelude,
            hints_base: Cell::new(false),
            only: None,
            is_on_stream: false,
            refused: RefCell::default(),
        })
    }

    pub(crate) fn sight(&self) -> Sight<'a> {
        Sight::of(
            self.scope,
            self.facts.collection.isolation,
            self.facts.wire_version,
        )
        // What writes to a view a server refuses before it looks at its filter.
        .of_view(self.facts.collection.is_view && !writes_statements(self.spec))
    }

    fn is_of_stream(&self) -> bool {
        self.is_on_stream || change_stream::stream_reach(self.command).is_some()
    }

    /// Whether the command works on a collection that apps share.
    pub(crate) fn is_shared(&self) -> bool {
        !self.facts.collection.is_dedicated()
    }

    /// Whether everything that the command writes is the app's own: its collection, those of a `bulkWrite`, the one that the
    /// last stage writes.
    fn keeps_own_rules(&self) -> bool {
        match self.spec.name {
            "aggregate" => written_collection(self.command).is_some_and(|into| {
                let known = self.facts.foreign;
                isolation_of(known, into.database, into.collection) == Isolation::Dedicated
            }),
            "bulkWrite" => {
                let mut written = self.facts.namespaces.iter();
                written.all(CollectionFacts::has_own_rules)
            }
            _ => self.facts.collection.has_own_rules(),
        }
    }

    /// Whether what the command writes is put aside, to be gone on with when it is done.
    fn fills_aside(&self) -> bool {
        let mut known = self.facts.foreign.iter();
        self.prelude.writes == Some("$out") && known.any(|known| known.aside.is_some())
    }

    /// Writes every field but the first and `$db`. `is_inner` for the command inside an `explain`, whose generic fields
    /// stand outside.
    pub(crate) fn fields(&self, w: &mut Writer, is_inner: bool) -> Result<Strip, Refusal> {
        if self.prelude.is_upsert && self.is_shared() {
            let find = |name: &str| self.command.body.find(name);
            identifier::check_upsert(self.scope, find("query"), find("update"))?;
        }
        let mut strip = Strip(false);
        let mut has_filter = false;
        for element in self.command.body.elements().skip(1) {
            let argument = row(self.spec, &element)?;
            has_filter |= argument.take == Take::Filter;
            if self.only.is_some() && matches!(element.key, b"stmtId" | b"stmtIds") {
                continue;
            }
            if let Some(found) = self.field(w, argument, &element, is_inner)? {
                strip = found;
            }
        }
        if let (false, Some(name)) = (has_filter, filter_argument(self.spec))
            && (self.is_shared() || self.must_look_at_documents())
        {
            self.filter(w, name, None)?;
        }
        self.prelude.plan.write(self, w)?;
        if !is_inner {
            self.trailer(w);
        }
        Ok(strip)
    }

    /// `$db`, session, cluster time, read preference.
    fn trailer(&self, w: &mut Writer) {
        self.statement_ids(w);
        w.string(b"$db", self.command.database);
        if let Some(id) = self.prelude.session {
            generic::session(self.scope, w, id);
        }
        self.cluster_time(w);
        if let Some((_, element)) = &self.prelude.read_preference
            && self.is_routed()
        {
            w.renamed(b"$readPreference", element);
        }
    }

    /// The newer of what the upstream said last and, where the upstream can tell a forged one, what the client says.
    pub(crate) fn cluster_time(&self, w: &mut Writer) {
        let own = self.facts.cluster_time;
        let time = |d: Document<'_>| facts::cluster_time_of(d).unwrap_or(0);
        let client = self
            .prelude
            .client_cluster_time
            .filter(|_| self.facts.checks_cluster_time);
        let newest = match (own, client) {
            (Some(own), Some(client)) if time(client) > time(own) => Some(client),
            (None, client) => client,
            (own, _) => own,
        };
        if let Some(document) = newest {
            w.document(b"$clusterTime", document);
        }
    }

    /// Keys would show the filler, which no projection takes out of them.
    fn return_key(&self, w: &mut Writer, element: &Element<'a>) -> Result<(), Refusal> {
        if self.facts.collection.indexes.iter().any(|i| i.has_filler) {
            return Err(Refusal::invalid_options(
                "returnKey is not available with indexes that were made on a server before 5.0; make them anew on a newer one, or project the fields",
            ));
        }
        w.element(element);
        Ok(())
    }

    /// The numbers by which the server knows statements again that are sent for a second time.
    fn statement_ids(&self, w: &mut Writer) {
        let Some(only) = self.only.filter(|_| self.prelude.is_numbered) else {
            return;
        };
        let body = self.command.body;
        let integer = |e: Element<'_>| e.as_integer();
        let first = body.find("stmtId").and_then(integer).unwrap_or_default();
        let given = body.find("stmtIds").and_then(|ids| ids.as_array());
        let given: Option<Vec<i64>> = given.map(|ids| ids.elements().filter_map(integer).collect());
        let array = w.begin_array(b"stmtIds");
        for (count, &place) in only.iter().enumerate() {
            let by_place = i64::try_from(place).unwrap_or_default();
            let id = match &given {
                Some(ids) => ids.get(place).copied().unwrap_or(by_place),
                None => first.saturating_add(by_place),
            };
            let key = IndexKey::new(count);
            w.int32(key.as_bytes(), i32::try_from(id).unwrap_or_default());
        }
        w.end(array);
    }

    /// Whether a read preference may send the command elsewhere than to the primary.
    pub(crate) fn is_routed(&self) -> bool {
        routes_reads(self.spec) && !self.prelude.in_transaction && self.prelude.writes.is_none()
    }

    fn field(
        &self,
        w: &mut Writer,
        argument: &Argument,
        element: &Element<'a>,
        is_inner: bool,
    ) -> Result<Option<Strip>, Refusal> {
        let sight = self.sight();
        match argument.take {
            Take::Pass => self.passed(w, argument, element)?,
            Take::Cursor if self.fills_aside() => {
                // With an empty first batch the server would begin with the `getMore` that follows.
                let cursor = w.begin_document(element.key);
                w.end(cursor);
            }
            take if says_nothing(take, element) => {}
            Take::Cursor | Take::Collation | Take::ReadConcern | Take::WriteConcern => {
                w.element(element);
            }
            Take::Filter => {
                let path = format_args!("{}.{}", self.spec.name, argument.name);
                let user = generic::document_or_null(element, path)?;
                self.filter(w, argument.name, Some(user))?;
            }
            Take::Projection => {
                let path = format_args!("{}.{}", self.spec.name, argument.name);
                let fields = generic::document(element, path)?;
                projection::write(sight, w, element.key, fields)?;
            }
            Take::Bypass if self.keeps_own_rules() => w.element(element),
            Take::Let => expression::bindings(sight, w, element)?,
            Take::Pipeline => return self.pipeline(w, element).map(Some),
            // In a message of their own they go into a sequence.
            Take::Documents | Take::Updates | Take::Deletes if is_inner => {
                statements::array(self, w, argument.take, element)?;
            }
            Take::Update => {
                update::write(sight, w, element.key, element, self.prelude.is_upsert)?;
            }
            Take::ArrayFilters => {
                update::array_filters(element)?;
                w.element(element);
            }
            Take::Named => write_named(w, element),
            Take::Key => self.distinct_key(w, element),
            Take::Own if element.key == b"explain" && element.as_flag() == Some(true) => {
                w.element(element);
            }
            // Sorts, hints and bounds are written together, as they depend on each other; statements go into a sequence.
            Take::Sort
            | Take::Hint
            | Take::Bound
            | Take::Documents
            | Take::Updates
            | Take::Deletes
            | Take::Drop
            | Take::Bypass
            | Take::Own
            | Take::Condition
            | Take::Session
            | Take::ReadPreference
            | Take::QueryOptions
            // Were refused when the row was looked up.
            | Take::Refuse(_)
            | Take::Withhold(_) => {}
            Take::Unshared(_) if !self.is_shared() => w.element(element),
            Take::Unshared(why) => return Err(arguments::unavailable(argument.name, why)),
        }
        Ok(None)
    }

    /// A field that is copied as it is, but for what two of them would bring about.
    fn passed(
        &self,
        w: &mut Writer,
        argument: &Argument,
        element: &Element<'a>,
    ) -> Result<(), Refusal> {
        match argument.name {
            "returnKey" if element.as_flag() == Some(true) => self.return_key(w, element)?,
            // What the rewriting of events needs is outside of API version 1. The server compares the field of a `getMore`
            // with that of the stream (347 where they differ, 6.0.5).
            "apiStrict" if self.is_of_stream() => w.boolean(element.key, false),
            _ => w.element(element),
        }
        Ok(())
    }

    /// An app that does not see the scope field has no such field: a path below it, which is always a string, has no values.
    fn distinct_key(&self, w: &mut Writer, element: &Element<'_>) {
        let sight = self.sight();
        let is_hidden = sight.sees_hidden_field()
            && element
                .as_string()
                .is_some_and(|key| sight.is_reserved(key));
        if is_hidden {
            w.string(element.key, &format!("{}.~", self.scope.field().as_str()));
        } else {
            w.element(element);
        }
    }

    pub(crate) fn filter(
        &self,
        w: &mut Writer,
        key: &str,
        user: Option<Document<'_>>,
    ) -> Result<(), Refusal> {
        let (sight, is_collated) = (self.sight(), self.prelude.is_collated);
        if self.must_look_at_documents() {
            return filter::uncovered(sight, w, key.as_bytes(), is_collated, user);
        }
        filter::bound(sight, w, key.as_bytes(), is_collated, user)
    }

    fn pipeline(&self, w: &mut Writer, element: &Element<'a>) -> Result<Strip, Refusal> {
        if let Some(reach) = change_stream::stream_reach(self.command) {
            change_stream::write(reach, self, w, element)?;
            return Ok(Strip(false));
        }
        let around = Surroundings {
            sight: self.sight(),
            is_collated: self.prelude.is_collated,
            database: self.command.database,
            collection: self.command.target.as_str().unwrap_or_default(),
            near: &self.facts.collection.near,
            control_database: self.facts.control_database,
            within: Within::Command,
            foreign: self.facts.foreign,
            automatic: if self.prelude.plan.is_shown {
                &NO_AUTOMATIC_INDEXES
            } else {
                &self.facts.collection.automatic
            },
            may_fail: element.as_nested().is_some_and(filter::may_fail),
            depth: 0,
        };
        let source = if self.command.target.kind == Kind::String {
            if self.is_shared() {
                Source::Collection
            } else {
                Source::Own
            }
        } else if pipeline::begins_with_documents(element) {
            Source::Given
        } else {
            return Err(pipeline::needs_collection(element));
        };
        pipeline::write(around, w, element.key, element, source)
    }
}

impl<'a> Prelude<'a> {
    /// Checks a field in the words of such a server, and remembers it.
    fn read(
        &mut self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        element: &Element<'a>,
        wire_version: i32,
    ) -> Result<(), Refusal> {
        if wire_version < WIRE_VERSION_5_0 {
            before_five::check(spec, command, element)?;
        }
        let take = row(spec, element)?.take;
        match (spec.name, take) {
            ("find", Take::Collation) if element.kind != Kind::Document => {
                return generic::find_object(element);
            }
            (_, Take::Collation) => {
                self.is_collated = generic::collation_on(element, spec.name, wire_version)?;
                self.plan.is_collated = self.is_collated;
                return Ok(());
            }
            (_, Take::WriteConcern) => {
                return generic::write_concern(element, spec.name, wire_version);
            }
            ("find", _) => generic::find_object(element)?,
            ("findAndModify", Take::Sort) => {
                generic::document_or_null(element, "findAndModify.sort")?;
            }
            _ => generic::flag(spec.name, take, element, wire_version)?,
        }
        self.learn(take, element)
    }

    fn learn(&mut self, take: Take, element: &Element<'a>) -> Result<(), Refusal> {
        match take {
            // The server takes null for no session (4.4.2, 5.0.4, 6.0.5).
            Take::Session if element.kind == Kind::Null => {}
            Take::Session => self.session = Some(generic::client_session(element)?),
            Take::ReadConcern => generic::read_concern(element)?,
            Take::ReadPreference => self.read_preference(element)?,
            Take::QueryOptions => {
                let options = generic::document(element, "$queryOptions")?;
                if let (None, Some(preference)) =
                    (&self.read_preference, options.find("$readPreference"))
                {
                    self.read_preference(&preference)?;
                }
            }
            Take::Own if element.key == b"$clusterTime" => {
                self.client_cluster_time = element.as_document();
            }
            Take::Own if element.key == b"explain" => {
                self.explains = element.as_flag() == Some(true);
            }
            Take::Pass => match element.key {
                b"txnNumber" => self.is_numbered = true,
                b"autocommit" => self.in_transaction = true,
                b"upsert" => self.is_upsert = element.as_flag() == Some(true),
                _ => self.plan.learn(take, element)?,
            },
            Take::Pipeline => {
                self.writes = pipeline::writing_stage(element).map(|(name, _)| name);
                self.plan.learn(take, element)?;
            }
            _ => self.plan.learn(take, element)?,
        }
        Ok(())
    }

    fn read_preference(&mut self, element: &Element<'a>) -> Result<(), Refusal> {
        self.read_preference = preference::read_preference(element)?.map(|p| (p, *element));
        Ok(())
    }
}

/// The row of a field in the command's own table or the generic one.
pub(crate) fn row(
    spec: &'static CommandSpec,
    element: &Element<'_>,
) -> Result<&'static Argument, Refusal> {
    let argument = arguments::look_up(spec.arguments, element.key)
        .or_else(|| arguments::look_up(arguments::GENERIC, element.key))
        .or_else(|| arguments::condition(spec.arguments, element.key));
    // As servers call it from 5.0 on (5.0.4, 6.0.5).
    let name = match spec.name {
        "find" => "FindCommandRequest",
        name => name,
    };
    arguments::served(name, argument, element)
}

/// Checks that every field of a command has a row, for commands that are not walked here.
///
/// # Errors
/// 40415 for one without a row, 72 for one that is refused.
pub fn check_fields(spec: &'static CommandSpec, command: &Command<'_>) -> Result<(), Refusal> {
    command
        .body
        .elements()
        .skip(1)
        .try_for_each(|element| row(spec, &element).map(|_| ()))
}

fn writes_statements(spec: &CommandSpec) -> bool {
    matches!(spec.name, "update" | "delete" | "findAndModify")
}

fn filter_argument(spec: &CommandSpec) -> Option<&'static str> {
    spec.arguments
        .iter()
        .find(|a| a.take == Take::Filter)
        .map(|a| a.name)
}

/// Commands that a read preference sends elsewhere than to the primary.
pub(crate) fn routes_reads(spec: &CommandSpec) -> bool {
    matches!(
        spec.name,
        "find" | "aggregate" | "count" | "distinct" | "explain"
    )
}

/// Whether a field is as if it were not there.
fn says_nothing(take: Take, element: &Element<'_>) -> bool {
    match take {
        Take::Collation => generic::is_null(element),
        Take::Projection => element.kind == Kind::Null,
        Take::Unshared(_) => element.kind == Kind::Boolean && element.as_flag() == Some(false),
        _ => false,
    }
}
