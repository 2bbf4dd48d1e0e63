//! Who does a command: its row decides.

use std::sync::Arc;

use mdb_scope::{
    Action, CommandSpec, Duty, Local, Refusal, bypasses_validation, check_common, check_composed,
    look_up, required_action,
};
use mdb_wire::{Command, Document, Message};
use tokio::time::Instant;

use crate::api;
use crate::connection::Connection;
use crate::deadline;
use crate::error::{Error, Limit};
use crate::identity::Identity;
use crate::labels;
use crate::local;
use crate::reply;
use crate::shared::Shared;
use crate::slots::Slot;
use crate::supervision::session_of;

/// A command that has a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) command: Command<'a>,
    pub(crate) spec: &'static CommandSpec,
    /// Whether the client can take several replies.
    pub(crate) exhaust_allowed: bool,
}

impl<'a> Call<'a> {
    /// Reads a message as a command that is known.
    pub(crate) fn of_message(message: &'a Message) -> Result<Self, Error> {
        Self::new(Command::parse(message)?, message.exhaust_allowed())
    }

    /// Finds the row of a command.
    pub(crate) fn new(command: Command<'a>, exhaust_allowed: bool) -> Result<Self, Error> {
        let spec = look_up(command.name, command.database)?;
        Ok(Self {
            command,
            spec,
            exhaust_allowed,
        })
    }
}

/// Does the command and appends the body of its reply to `out`. On an error what `out` holds is void.
pub(crate) async fn answer(
    shared: &Shared,
    connection: &mut Connection,
    call: &Call<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    // Hello is answered to all: drivers take one that fails as the end of the proxy.
    if !matches!(call.spec.duty, Duty::Local(Local::Hello)) {
        connection.authentication.keep_up(&shared.users)?;
    }
    admit(connection, call)?;
    // Drivers take a hello that fails as the end of the proxy.
    if !matches!(call.spec.duty, Duty::Local(Local::Hello) | Duty::Refuse(_)) {
        check_common(call.spec, &call.command)?;
    }
    let is_sent = matches!(call.spec.duty, Duty::Forward(_));
    deadline::check(&call.command, is_sent)?;
    match call.spec.duty {
        Duty::Local(local) => {
            check_local(call)?;
            let start = out.len();
            local::answer(local, shared, connection, call, out).await?;
            if local == Local::Hello {
                // Monitors say that their client lives.
                connection.be_present(shared);
            }
            reply::gossip(out, start, &shared.forward.cluster_time);
            Ok(())
        }
        Duty::Forward(_) => forward(shared, connection, call, out).await,
        Duty::Catalog(_) => {
            api::check(call.spec, call.command.body)?;
            api::check_composed(call.spec, call.command.body)?;
            forward(shared, connection, call, out).await
        }
        Duty::Refuse(_) => Err(not_authorized(call, call.spec.summary).into()),
    }
}

/// Sends a command of the connection's app upstream, or composes its reply.
pub(crate) async fn forward(
    shared: &Shared,
    connection: &mut Connection,
    call: &Call<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let identity = connection
        .identity()
        .map(Arc::clone)
        .ok_or_else(|| requires_authentication(call))?;
    let client = connection.be_present(shared);
    let _place = take_place(shared, &identity, client, call)?;
    if let Some(belongings) = &connection.belongings {
        belongings.follow(call.spec.name, call.command.body);
    }
    let operation = connection.begin(&identity, call, shared);
    let running = shared.running.take(usize::MAX);
    // On the heap, so that an idle client does not keep room for it.
    let command = shared
        .forward
        .command(shared, &identity, call, &operation, out);
    let result = Box::pin(command).await;
    connection.follow_transaction(call.spec.name, call.command.body, shared);
    drop(running);
    result
}

/// The command's place among those of its app, and its session's among the app's. What sets something free needs none: only
/// by it an app at its limits gets below them.
fn take_place(
    shared: &Shared,
    identity: &Identity,
    client: u64,
    call: &Call<'_>,
) -> Result<Option<Slot>, Limit> {
    let (app, limits) = (&identity.app, &shared.limits);
    if SETTING_FREE.contains(&call.spec.name) {
        if call.spec.name == "endSessions" {
            let sessions = call.command.target.as_array().unwrap_or(Document::EMPTY);
            let ids = sessions
                .elements()
                .filter_map(|e| e.as_document()?.find("id"));
            let ids = ids.filter_map(|id| id.as_binary()?.1.try_into().ok());
            ids.for_each(|id| app.sessions.end(&id));
        }
        return Ok(None);
    }
    let place = app.commands.take(limits.commands_per_app_max);
    let place = place.ok_or_else(|| Limit::CommandsOfApp {
        labels: labels::when_shed(&call.command),
    })?;
    if let Some(session) = session_of(call.command.body) {
        let now = Instant::now();
        app.sessions
            .touch(session, client, limits.sessions_per_app_max, now)?;
    }
    Ok(Some(place))
}

/// Whether the connection may run the command at all. Stages and statements may need more.
fn admit(connection: &Connection, call: &Call<'_>) -> Result<(), Refusal> {
    match connection.identity() {
        None if call.spec.before_authentication => Ok(()),
        None => Err(requires_authentication(call)),
        Some(identity) => {
            let needed = required_actions(call);
            match needed.into_iter().find(|a| !identity.grants.allows(*a)) {
                None => Ok(()),
                Some(lacking) => Err(not_allowed(call.spec, &call.command, lacking)),
            }
        }
    }
}

/// What a command needs from the roles.
fn required_actions(call: &Call<'_>) -> [Action; 2] {
    let more = if bypasses_validation(call.spec, &call.command) {
        Action::BypassDocumentValidation
    } else {
        Action::None
    };
    [required_action(call.spec, &call.command), more]
}

/// A document sequence on a command that takes none would go past every check.
fn check_local(call: &Call<'_>) -> Result<(), Error> {
    api::check(call.spec, call.command.body)?;
    check_composed(call.spec, &call.command)?;
    match call.command.sequences().next() {
        None => Ok(()),
        Some(sequence) => {
            let field = String::from_utf8_lossy(sequence.name);
            let field: String = field.chars().take(FIELD_CHARS_MAX).collect();
            let name = call.spec.name;
            let text = format!("BSON field '{name}.{field}' is an unknown field.");
            Err(Refusal::unknown_field(text).into())
        }
    }
}

fn requires_authentication(call: &Call<'_>) -> Refusal {
    Refusal::unauthorized(format!(
        "command {} requires authentication",
        call.spec.name
    ))
}

/// What the roles of the credential do not allow: the action and where.
fn not_allowed(spec: &'static CommandSpec, command: &Command<'_>, lacking: Action) -> Refusal {
    let action = lacking.name();
    let database = command.database;
    let namespace = match command.target.as_str() {
        Some(collection) if spec.on_collection => format!("{database}.{collection}"),
        _ => database.to_owned(),
    };
    Refusal::unauthorized(format!(
        "not authorized on {database} to execute command {{ {}: ... }}: the roles of this credential do not grant the action \
         '{action}' on '{namespace}'",
        spec.name
    ))
}

fn not_authorized(call: &Call<'_>, why: &str) -> Refusal {
    let (database, name) = (call.command.database, call.spec.name);
    let text = format!("not authorized on {database} to execute command {{ {name}: ... }}: {why}");
    Refusal::unauthorized(text)
}

/// Commands after which less is open.
const SETTING_FREE: &[&str] = &[
    "abortTransaction",
    "commitTransaction",
    "endSessions",
    "killAllSessions",
    "killCursors",
    "killOp",
    "killSessions",
];
/// How much of an unknown field's name a reply repeats.
const FIELD_CHARS_MAX: usize = 64;
