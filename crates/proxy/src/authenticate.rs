//! `saslStart`, `saslContinue`, `authenticate`, the same inside hello, and `logout`.

use std::future::pending;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mdb_auth::{AuthError, Exchange, Step};
use mdb_scope::AppId;
use mdb_telemetry::{AuthenticationOutcome, Mechanism};
use mdb_wire::{Document, Element, Kind, Writer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::error::{Error, Limit, SaslError};
use crate::identity::Identity;
use crate::random;
use crate::shared::Shared;
use crate::slots::Slot;
use crate::users::UsersInForce;

pub(crate) mod certificate;

/// Who a connection is, and how far it has come in proving it.
#[derive(Default)]
pub(crate) struct Authentication {
    proven: Option<Proven>,
    dialogue: Option<Box<Dialogue>>,
    /// Set by the first proof and never taken back: the app of a connection does not change, also not by `logout`.
    app: Option<AppId>,
}

struct Proven {
    identity: Arc<Identity>,
    /// The database that the client authenticated on; any is accepted.
    database: Box<str>,
    slot: Slot,
    /// Cancelled when the credential has ended.
    ended: CancellationToken,
    /// The reading of the manifests that `identity` is of.
    reading: u64,
}

/// A conversation between two of its payloads.
struct Dialogue {
    exchange: Exchange<Arc<Identity>>,
    database: Box<str>,
    mechanism: Mechanism,
    user: Box<str>,
}

/// The reply to one step.
pub(crate) struct Answer {
    is_done: bool,
    payload: Vec<u8>,
    form: Form,
}

/// How a payload is written; the reply uses the form of the command.
#[derive(Clone, Copy)]
enum Form {
    Binary,
    Base64,
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication")
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

impl Authentication {
    /// Who the connection is.
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.proven.as_ref().map(|proven| &proven.identity)
    }

    /// The database that the client authenticated on.
    pub(crate) fn database(&self) -> Option<&str> {
        self.proven.as_ref().map(|proven| &*proven.database)
    }

    /// Waits until the credential of the connection has ended; for ever without one.
    pub(crate) async fn ended(&self) {
        match &self.proven {
            Some(proven) => proven.ended.cancelled().await,
            None => pending().await,
        }
    }

    /// Takes over what its user is by the newest reading of the manifests. Fails when its credential has ended.
    pub(crate) fn keep_up(&mut self, users: &UsersInForce) -> Result<(), Error> {
        let Some(proven) = &mut self.proven else {
            return Ok(());
        };
        let users = users.now();
        if proven.reading != users.reading {
            let now = users.credentials.identity(&proven.identity.username);
            let same = now.filter(|now| now.validity.is_same(&proven.identity.validity));
            proven.identity = Arc::clone(same.ok_or(Error::Revoked)?);
            proven.reading = users.reading;
        }
        Ok(())
    }

    /// Whether a conversation is open.
    pub(crate) fn is_in_dialogue(&self) -> bool {
        self.dialogue.is_some()
    }

    /// Makes the connection nobody's.
    pub(crate) fn log_out(&mut self) {
        self.proven = None;
        self.dialogue = None;
    }

    /// One identity per connection: the same user again is welcome, after a logout any of the same app, others never.
    fn admit(
        &mut self,
        identity: Arc<Identity>,
        database: Box<str>,
        max: usize,
    ) -> Result<(), Error> {
        let is_other_app = self.app.as_ref().is_some_and(|app| *app != identity.app.id);
        let is_other_user = self
            .identity()
            .is_some_and(|now| !now.is_same_user(&identity));
        if is_other_app || is_other_user {
            return Err(SaslError::OtherIdentity.into());
        }
        let slot = match self.proven.take() {
            Some(proven) if proven.identity.app.id == identity.app.id => proven.slot,
            _ => identity
                .app
                .connections
                .take(max)
                .ok_or(Limit::ConnectionsOfApp)?,
        };
        self.app = Some(identity.app.id.clone());
        self.proven = Some(Proven {
            ended: identity.validity.watch(),
            // Whatever it is of: the next command looks.
            reading: 0,
            identity,
            database,
            slot,
        });
        Ok(())
    }
}

/// Ends whatever conversation there was, for another log-in. Refused where too many have failed.
fn begin(shared: &Shared, connection: &mut Connection) -> Result<(), Limit> {
    connection.authentication.dialogue = None;
    let max = shared.limits.failed_logins_per_address_max;
    let now = Instant::now();
    if shared.failures.has(connection.peer.ip(), max, now) {
        return Err(Limit::FailedLogins);
    }
    Ok(())
}

/// Begins a conversation. `body` is that of `saslStart`, or the document `speculativeAuthenticate`.
pub(crate) fn start(
    shared: &Shared,
    connection: &mut Connection,
    database: &str,
    body: Document<'_>,
) -> Result<Answer, Error> {
    begin(shared, connection)?;
    let name = body
        .find("mechanism")
        .and_then(|e| e.as_str())
        .ok_or(SaslError::Missing {
            command: "saslStart",
            field: "mechanism",
        })?;
    let (payload, form) = payload_of(body, "saslStart")?;
    let skip_empty_exchange = body
        .find("options")
        .and_then(|options| options.as_document()?.find("skipEmptyExchange")?.as_flag())
        .unwrap_or(false);
    let nonce = STANDARD.encode(random::bytes::<NONCE_RANDOM_BYTES>());
    let begun = Exchange::begin(
        &shared.users.now().credentials,
        name,
        &payload,
        &nonce,
        skip_empty_exchange,
    );
    let mechanism = label_of(name);
    let (exchange, challenge) =
        begun.map_err(|error| failed(shared, connection, mechanism, "", error))?;
    connection.deadline = Some(Instant::now() + shared.limits.handshake_timeout);
    connection.authentication.dialogue = Some(Box::new(Dialogue {
        user: exchange.user().into(),
        exchange,
        database: database.into(),
        mechanism,
    }));
    Ok(Answer {
        is_done: false,
        payload: challenge,
        form,
    })
}

/// Takes the next payload of the conversation.
pub(crate) fn proceed(
    shared: &Shared,
    connection: &mut Connection,
    body: Document<'_>,
) -> Result<Answer, Error> {
    let dialogue = connection
        .authentication
        .dialogue
        .take()
        .ok_or(AuthError::NoConversation)?;
    connection.deadline = None;
    let id = body.find("conversationId").and_then(|e| e.as_integer());
    if id != Some(i64::from(CONVERSATION_ID)) {
        return Err(SaslError::ConversationId.into());
    }
    let (payload, form) = payload_of(body, "saslContinue")?;
    let Dialogue {
        exchange,
        database,
        mechanism,
        user,
    } = *dialogue;
    let step = exchange
        .next(&payload)
        .map_err(|error| failed(shared, connection, mechanism, &user, error))?;
    match step {
        Step::Challenge(exchange, payload) => {
            connection.deadline = Some(Instant::now() + shared.limits.handshake_timeout);
            connection.authentication.dialogue = Some(Box::new(Dialogue {
                exchange,
                database,
                mechanism,
                user,
            }));
            Ok(Answer {
                is_done: false,
                payload,
                form,
            })
        }
        // The password was changed while it was being proven.
        Step::Proven(identity, _) if identity.validity.has_ended() => {
            let error = AuthError::BadCredentials;
            Err(failed(shared, connection, mechanism, &user, error))
        }
        Step::Proven(identity, payload) => {
            proven(shared, connection, identity, database, mechanism)?;
            Ok(Answer {
                is_done: true,
                payload,
                form,
            })
        }
    }
}

fn proven(
    shared: &Shared,
    connection: &mut Connection,
    identity: Arc<Identity>,
    database: Box<str>,
    mechanism: Mechanism,
) -> Result<(), Error> {
    let (app, user) = (identity.app.id.clone(), identity.username.clone());
    let max = shared.limits.connections_per_app_max;
    let admitted = connection.authentication.admit(identity, database, max);
    let outcome = match &admitted {
        Ok(()) => AuthenticationOutcome::Ok,
        Err(_) => AuthenticationOutcome::Refused,
    };
    shared.metrics.authentication(outcome, mechanism);
    if admitted.is_ok() {
        connection.guest.unauthenticated = None;
    }
    match &admitted {
        Ok(()) => tracing::debug!(
            connection = connection.id,
            client_address = %connection.peer,
            app = %app,
            user = ?user,
            client = ?connection.client,
            "authenticated"
        ),
        Err(error) => tracing::info!(
            connection = connection.id,
            client_address = %connection.peer,
            app = %app,
            user = ?user,
            %error,
            "authentication refused"
        ),
    }
    admitted
}

fn failed(
    shared: &Shared,
    connection: &Connection,
    mechanism: Mechanism,
    user: &str,
    error: AuthError,
) -> Error {
    let outcome = match error {
        AuthError::BadCredentials => AuthenticationOutcome::Failed,
        _ => AuthenticationOutcome::Refused,
    };
    tell_failure(shared, connection, (mechanism, outcome), user, &error);
    error.into()
}

/// Counts a failure and writes it into the log.
fn tell_failure(
    shared: &Shared,
    connection: &Connection,
    (mechanism, outcome): (Mechanism, AuthenticationOutcome),
    user: &str,
    error: &dyn std::error::Error,
) {
    if outcome == AuthenticationOutcome::Failed {
        shared.failures.add(connection.peer.ip(), Instant::now());
    }
    shared.metrics.authentication(outcome, mechanism);
    let user: String = user.chars().take(USER_LOGGED_CHARS_MAX).collect();
    tracing::info!(
        connection = connection.id,
        client_address = %connection.peer,
        user = ?user,
        mechanism = mdb_telemetry::Label::text(mechanism),
        %error,
        "authentication failed"
    );
}

impl Answer {
    /// `conversationId`, `done` and `payload`.
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.int32(b"conversationId", CONVERSATION_ID);
        writer.boolean(b"done", self.is_done);
        match self.form {
            Form::Binary => writer.binary(b"payload", 0, &self.payload),
            Form::Base64 => writer.string(b"payload", &STANDARD.encode(&self.payload)),
        }
    }
}

fn payload_of(body: Document<'_>, command: &'static str) -> Result<(Vec<u8>, Form), SaslError> {
    let missing = SaslError::Missing {
        command,
        field: "payload",
    };
    let payload: Element<'_> = body.find("payload").ok_or(missing)?;
    if let Some((0, bytes)) = payload.as_binary() {
        return Ok((bytes.to_vec(), Form::Binary));
    }
    if payload.kind != Kind::String {
        return Err(SaslError::PayloadKind);
    }
    let text = payload.as_string().unwrap_or_default();
    let bytes = STANDARD.decode(text).map_err(|_| SaslError::PayloadText)?;
    Ok((bytes, Form::Base64))
}

fn label_of(mechanism: &str) -> Mechanism {
    match mdb_auth::Mechanism::parse(mechanism) {
        Ok(mdb_auth::Mechanism::ScramSha1) => Mechanism::ScramSha1,
        Ok(mdb_auth::Mechanism::ScramSha256) => Mechanism::ScramSha256,
        Err(_) => Mechanism::Other,
    }
}

/// A connection has one conversation at a time; mongod calls it so as well.
const CONVERSATION_ID: i32 = 1;
/// mongod's: 24 characters in base64, the fewest that drivers accept.
const NONCE_RANDOM_BYTES: usize = 18;
/// How much of a name that anybody may have made up goes into the log.
const USER_LOGGED_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests;
