//! From a command to its proof: [`Scope::apply`].

use mdb_wire::frame::{HEADER_BYTES, OpCode, header};
use mdb_wire::{Command, CommandError, Document, Element, Mark, Writer};

use crate::arguments::Take;
use crate::body::Body;
use crate::change_stream::{self, StreamReach, stream_reach};
use crate::commands::{self, Action, CommandSpec, Duty, Rule};
use crate::facts::Facts;
use crate::pipeline::Strip;
use crate::pipeline::figures::figures_stage;
use crate::refusal::Refusal;
use crate::refused::{Refused, substitute};
use crate::scope::Scope;
use crate::scoped::{ReplyRule, Retry, Routing, Scoped};
use crate::statements;
use crate::{generic, namespace, race};

/// Session ids of one `endSessions`: the server takes no more (6.0.5).
const SESSIONS_MAX: usize = 10_000;

impl Scope {
    /// Rewrites a command so that it cannot see or touch another app's documents.
    ///
    /// # Errors
    /// A [`Refusal`] for whatever has no row in a table; then nothing may be sent.
    pub fn apply(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
    ) -> Result<Scoped, Refusal> {
        let Duty::Forward(rule) = spec.duty else {
            return Err(Refusal::unauthorized(format!(
                "{} is not forwarded",
                spec.name
            )));
        };
        let mut w = begin(command);
        let outcome = match rule {
            Rule::Body => self.body(spec, command, facts, &mut w),
            Rule::Bulk => self.bulk_write(spec, command, facts, &mut w),
            Rule::Explain => self.explain(spec, command, facts, &mut w),
            Rule::Sessions => self.session_list(spec, command, facts, &mut w),
            Rule::Transaction => self.transaction_end(spec, command, facts, &mut w),
            Rule::GetMore => Err(Refusal::cursor_not_found("getMore needs its cursor")),
        }?;
        seal(w, facts, outcome)
    }

    /// A `killSessions` for sessions of the app, by the client's ids.
    pub fn kill_sessions(
        &self,
        facts: &Facts<'_>,
        sessions: &[[u8; 16]],
        routing: Routing,
    ) -> Result<Scoped, Refusal> {
        let mut w = Writer::new(vec![0; MESSAGE_HEAD_BYTES]);
        let mark = w.begin();
        let array = w.begin_array(b"killSessions");
        for (index, session) in sessions.iter().enumerate() {
            let document = w.begin_document(mdb_wire::writer::IndexKey::new(index).as_bytes());
            w.binary(b"id", 4, &self.sessions().upstream_id(*session));
            w.end(document);
        }
        w.end(array);
        w.string(b"$db", "admin");
        w.end(mark);
        let outcome = Outcome::new(routing, Retry::Read, ReplyRule::Plain);
        seal(w, facts, outcome)
    }

    /// The same for some statements of an `update`, by their places in the client's command in ascending order. Where the
    /// command has a transaction number, the server knows each by the place that it had: what was executed is not repeated.
    ///
    /// # Errors
    /// As [`Scope::apply`].
    pub fn apply_again(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        statements: &[usize],
    ) -> Result<Scoped, Refusal> {
        let mut w = begin(command);
        let outcome = self.some(spec, command, facts, &mut w, Some(statements))?;
        seal(w, facts, outcome)
    }

    fn body(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        w: &mut Writer,
    ) -> Result<Outcome, Refusal> {
        self.some(spec, command, facts, w, None)
    }

    fn some(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        w: &mut Writer,
        only: Option<&[usize]>,
    ) -> Result<Outcome, Refusal> {
        if stream_reach(command) != Some(StreamReach::Deployment) {
            namespace::check_database(command, facts.control_database)?;
        }
        check_sequences(spec, command)?;
        let body = Body {
            only,
            ..Body::read(self, spec, command, facts)?
        };
        let start = w.len();
        let mark = w.begin();
        target(&body, w)?;
        let strip = body.fields(w, false)?;
        w.end(mark);
        body.check_length(w.len().saturating_sub(start))?;
        body.sequence(w)?;
        Ok(Outcome {
            routing: body.routing(),
            retry: body.retry(),
            rule: reply_rule(&body, strip),
            is_upsert_by_id: is_upsert_by_id(&body),
            hints_base: body.hints_base.get(),
            refused: body.refused.into_inner(),
        })
    }

    fn explain(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        w: &mut Writer,
    ) -> Result<Outcome, Refusal> {
        namespace::check_database(command, facts.control_database)?;
        check_sequences(spec, command)?;
        let outer = Body::read(self, spec, command, facts)?;
        let (inner_spec, inner) = explained(command)?;
        let mut body = Body::read(self, inner_spec, &inner, facts)?;
        body.prelude.plan.is_shown = true;
        let mark = w.begin();
        let explain = w.begin_document(b"explain");
        target(&body, w)?;
        body.fields(w, true)?;
        w.end(explain);
        outer.fields(w, false)?;
        w.end(mark);
        Ok(Outcome {
            routing: outer.routing(),
            retry: Retry::Read,
            rule: ReplyRule::Explain,
            is_upsert_by_id: false,
            hints_base: body.hints_base.get(),
            refused: Vec::new(),
        })
    }

    fn session_list(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        w: &mut Writer,
    ) -> Result<Outcome, Refusal> {
        check_sequences(spec, command)?;
        let body = Body::read(self, spec, command, facts)?;
        let Some(sessions) = command.target.as_array() else {
            let path = format!("{0}.{0}", spec.name);
            return Err(Refusal::wrong_kind(
                &path,
                command.target.kind.name(),
                "array",
            ));
        };
        if sessions.elements().count() > SESSIONS_MAX {
            return Err(Refusal::invalid_length(format!(
                "{} takes at most {SESSIONS_MAX} sessions",
                spec.name
            )));
        }
        if spec.name == "killSessions" && sessions.is_empty() {
            // The server would end those of all apps.
            return Err(Refusal::unauthorized("killSessions needs its sessions"));
        }
        let mark = w.begin();
        let array = w.begin_array(spec.name.as_bytes());
        for session in sessions.elements() {
            let id = generic::client_session(&session)?;
            let document = w.begin_document(session.key);
            w.binary(b"id", 4, &self.sessions().upstream_id(id));
            w.end(document);
        }
        w.end(array);
        body.fields(w, false)?;
        w.end(mark);
        Ok(Outcome::new(
            Routing::Primary,
            Retry::Read,
            ReplyRule::Plain,
        ))
    }

    fn transaction_end(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        w: &mut Writer,
    ) -> Result<Outcome, Refusal> {
        check_sequences(spec, command)?;
        if command.database != "admin" {
            return Err(Refusal::unauthorized(format!(
                "{} may only be run against the admin database.",
                spec.name
            )));
        }
        let body = Body::read(self, spec, command, facts)?;
        let mark = w.begin();
        w.int32(spec.name.as_bytes(), 1);
        body.fields(w, false)?;
        w.end(mark);
        Ok(Outcome::new(
            Routing::Primary,
            Retry::TransactionEnd,
            ReplyRule::Plain,
        ))
    }
}

/// Header, flags and the kind of the first section.
pub(crate) const MESSAGE_HEAD_BYTES: usize = HEADER_BYTES + 4 + 1;
/// How much longer than a document that is stored one in a message may be (`BSONObjMaxInternalSize`, 4.4 to 8.0).
const STATEMENT_BYTES_MORE: usize = 16 * 1024;
/// What rewriting usually adds to a small command.
const USUAL_GROWTH_BYTES: usize = 256;

pub(crate) fn begin(command: &Command<'_>) -> Writer {
    let mut out = Vec::with_capacity(command.message_bytes().saturating_add(USUAL_GROWTH_BYTES));
    out.resize(MESSAGE_HEAD_BYTES, 0);
    Writer::new(out)
}

pub(crate) struct Outcome {
    pub(crate) routing: Routing,
    pub(crate) retry: Retry,
    pub(crate) rule: ReplyRule,
    pub(crate) is_upsert_by_id: bool,
    pub(crate) hints_base: bool,
    pub(crate) refused: Vec<Refused>,
}

impl Outcome {
    /// Of a command that neither upserts by `_id` nor got a hint of the proxy.
    pub(crate) fn new(routing: Routing, retry: Retry, rule: ReplyRule) -> Self {
        Self {
            routing,
            retry,
            rule,
            is_upsert_by_id: false,
            hints_base: false,
            refused: Vec::new(),
        }
    }
}

pub(crate) fn seal(w: Writer, facts: &Facts<'_>, outcome: Outcome) -> Result<Scoped, Refusal> {
    let mut message = w.into_bytes();
    if message.len() > facts.message_bytes_max {
        // The server would close the connection. Drivers keep to the smaller size in hello and do not get here.
        return Err(Refusal::object_too_large(format!(
            "the command takes {} bytes with the app's condition in each statement, where {} are allowed; send fewer statements at once",
            message.len(),
            facts.message_bytes_max
        )));
    }
    let head = header(message.len(), 0, 0, OpCode::Message);
    if let Some(place) = message.first_chunk_mut::<HEADER_BYTES>() {
        *place = head;
    }
    Ok(Scoped {
        message,
        routing: outcome.routing,
        retry: outcome.retry,
        rule: outcome.rule,
        is_upsert_by_id: outcome.is_upsert_by_id,
        hints_base: outcome.hints_base,
        refused: outcome.refused,
    })
}

/// Writes the first field: the command's name as the table spells it, and its collection.
pub(crate) fn target(body: &Body<'_, '_>, w: &mut Writer) -> Result<(), Refusal> {
    let Body { spec, command, .. } = body;
    let is_collectionless = spec.name == "aggregate" && command.target.as_integer() == Some(1);
    if is_collectionless {
        w.int32(b"aggregate", 1);
    } else {
        let name = namespace::collection_of(command)?;
        let physical = body
            .scope
            .physical_collection(name, body.facts.collection.isolation);
        namespace::check_length(command.database, &physical)?;
        w.string(spec.name.as_bytes(), &physical);
    }
    Ok(())
}

/// The command inside an `explain`: one of those that are rewritten by their fields, in the same database.
pub(crate) fn explained<'a>(
    command: &Command<'a>,
) -> Result<(&'static CommandSpec, Command<'a>), Refusal> {
    let Some(inner) = command.target.as_document() else {
        return Err(Refusal::wrong_kind(
            "explain.explain",
            command.target.kind.name(),
            "object",
        ));
    };
    let inner = Command::inner(inner, command.database).map_err(|error| match error {
        CommandError::Empty => {
            Refusal::command_not_found("Explain failed due to unknown command: ")
        }
        _ => Refusal::repeated_field(error.to_string()),
    })?;
    let database = inner.body.find("$db");
    if database.is_some_and(|db| db.as_str() != Some(command.database)) {
        return Err(Refusal::invalid_namespace(
            "Mismatched $db in explain command",
        ));
    }
    let spec = commands::look_up(inner.name, command.database).map_err(|refusal| {
        let name = String::from_utf8_lossy(inner.name);
        if refusal.code == COMMAND_NOT_FOUND {
            refusal.with_text(format!("Explain failed due to unknown command: {name}"))
        } else {
            refusal
        }
    })?;
    if stream_reach(&inner).is_some() {
        return Err(change_stream::not_explained());
    }
    let can_be = matches!(spec.duty, Duty::Forward(Rule::Body)) && spec.action != Action::Insert;
    match spec.name {
        _ if can_be => Ok((spec, inner)),
        "explain" => Err(Refusal::illegal_operation("Explain cannot explain itself.")),
        name => Err(Refusal::illegal_operation(format!(
            "Cannot explain cmd: {name}"
        ))),
    }
}

/// What servers say of a command that they do not have.
const COMMAND_NOT_FOUND: i32 = 59;

/// Sequences stand for the documents or statements of writes; on any other command they would travel past every rule.
///
/// # Errors
/// 40415 for a sequence that the command does not have.
pub fn check_sequences(spec: &CommandSpec, command: &Command<'_>) -> Result<(), Refusal> {
    let expected = sequence_argument(spec).map(|(name, _)| name);
    for sequence in command.sequences() {
        if expected.is_none_or(|name| name.as_bytes() != sequence.name) {
            return Err(Refusal::unknown_field(format!(
                "document sequence '{}' is not part of {}",
                String::from_utf8_lossy(sequence.name),
                spec.name
            )));
        }
    }
    Ok(())
}

fn sequence_argument(spec: &CommandSpec) -> Option<(&'static str, Take)> {
    spec.arguments
        .iter()
        .find(|a| matches!(a.take, Take::Documents | Take::Updates | Take::Deletes))
        .map(|a| (a.name, a.take))
}

fn reply_rule(body: &Body<'_, '_>, strip: Strip) -> ReplyRule {
    let hides = body.sight().sees_hidden_field();
    match body.spec.name {
        "find" => ReplyRule::Cursor { strips: hides },
        "aggregate" if body.prelude.explains => ReplyRule::Explain,
        "aggregate" if figures_stage(body.command).is_some_and(|f| f.name == "$planCacheStats") => {
            ReplyRule::KeptPlans
        }
        "aggregate" => match stream_reach(body.command) {
            Some(reach) => change_stream::reply_rule(reach, body),
            None => ReplyRule::Cursor { strips: strip.0 },
        },
        "findAndModify" => ReplyRule::Value { strips: hides },
        _ => ReplyRule::Plain,
    }
}

/// Whether the command is one upsert whose filter names an `_id`.
fn is_upsert_by_id(body: &Body<'_, '_>) -> bool {
    let names_id = |filter: Option<Element<'_>>| {
        filter
            .and_then(|f| f.as_document())
            .is_some_and(|f| f.find("_id").is_some())
    };
    if !body.is_shared() {
        // The server does it by itself.
        return false;
    }
    match body.spec.name {
        "findAndModify" => body.prelude.is_upsert && names_id(body.command.body.find("query")),
        "update" => {
            let mut statements = body.statements();
            let (Some(only), None) = (statements.next(), statements.next()) else {
                return false;
            };
            race::is_upsert_by_id(only)
        }
        _ => false,
    }
}

impl<'a> Body<'a, '_> {
    /// Whether the command has no more than one statement.
    pub(crate) fn is_single(&self) -> bool {
        self.statements().nth(1).is_none()
    }

    /// The statements or documents of a write, wherever they stand.
    fn statements(&self) -> impl Iterator<Item = Document<'a>> {
        let name = sequence_argument(self.spec).map_or("", |(name, _)| name);
        let command: &'a Command<'a> = self.command;
        statements::of(command, name)
    }

    /// Whether the statement at this place is among those that go upstream.
    fn takes(&self, place: usize) -> bool {
        self.only
            .is_none_or(|only| only.binary_search(&place).is_ok())
    }

    /// Writes the documents or statements as a sequence, also those that came in the body: there they could grow it past
    /// the size of a document.
    fn sequence(&self, w: &mut Writer) -> Result<(), Refusal> {
        let Some((name, take)) = sequence_argument(self.spec) else {
            return Ok(());
        };
        let in_body = self.command.body.find(name);
        if in_body.is_none() && self.command.sequence(name).is_none() {
            // The server says that the field is missing.
            return Ok(());
        }
        w.raw(&[1]);
        let section: Mark = w.begin_length();
        w.raw(name.as_bytes());
        w.raw(&[0]);
        if let Some(sequence) = self.command.sequence(name) {
            let documents = sequence.documents().enumerate();
            for (place, document) in documents.filter(|(place, _)| self.takes(*place)) {
                self.member(w, take, place, document)?;
            }
        }
        if let Some(element) = in_body {
            let documents = statements::documents_of(self, &element)?.elements();
            for (place, document) in documents
                .enumerate()
                .filter(|(place, _)| self.takes(*place))
            {
                self.member(w, take, place, statements::nested(self, &document)?)?;
            }
        }
        w.patch_length(section);
        Ok(())
    }

    /// Writes one document or statement of a sequence, or one that no server takes in its place.
    fn member(
        &self,
        w: &mut Writer,
        take: Take,
        place: usize,
        document: Document<'_>,
    ) -> Result<(), Refusal> {
        let start = w.len();
        let Err(refusal) = statements::one(self, w, take, None, document) else {
            return self.check_length(w.len().saturating_sub(start));
        };
        if !refusal.is_of_statement() {
            return Err(refusal);
        }
        w.truncate(start);
        self.refused.borrow_mut().push(Refused { place, refusal });
        substitute(self, w, take)
    }

    /// The upstream closes the connection over a document in a message that is longer than any of its own may be.
    fn check_length(&self, bytes: usize) -> Result<(), Refusal> {
        let bytes_max = self.facts.document_bytes_max;
        let bytes_max = bytes_max.saturating_add(STATEMENT_BYTES_MORE);
        if bytes <= bytes_max {
            return Ok(());
        }
        Err(Refusal::object_too_large(format!(
            "BSONObj size: {bytes} is invalid. Size must be between 0 and {bytes_max} with the app's condition",
        )))
    }

    pub(crate) fn routing(&self) -> Routing {
        match &self.prelude.read_preference {
            Some((preference, _)) if self.is_routed() => Routing::Preference(preference.clone()),
            _ => Routing::Primary,
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        let is_read = self.spec.action == Action::Find && self.prelude.writes.is_none();
        match (
            self.prelude.in_transaction,
            is_read,
            self.prelude.is_numbered,
        ) {
            (true, _, _) => Retry::InTransaction,
            (false, true, _) => Retry::Read,
            (false, false, true) => Retry::NumberedWrite,
            (false, false, false) => Retry::Write,
        }
    }
}
