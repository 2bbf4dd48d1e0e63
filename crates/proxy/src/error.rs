//! Everything by which a command can fail in the proxy.

use std::borrow::Cow;

use mdb_auth::AuthError;
use mdb_scope::{DATABASE_CASE, Refusal, STATE_CHANGE_CODES};
use mdb_telemetry::{CommandOutcome, LimitName};
use mdb_upstream::{ExchangeError, UpstreamError};
use mdb_wire::{CommandError, DecodeError};

use crate::announcement::TopologyVersion;
use crate::codes::code_name;
use crate::labels::{self, Labels};
use crate::namespaces::server_code;
use crate::random;

/// Said only in transactions: the server's rule for its label.
const LOCK_TIMEOUT: i32 = 24;

/// Why a command got no reply of its own. `Display` is for logs; clients read [`Error::client_text`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are no message. The connection cannot go on.
    #[error("malformed message: {0}")]
    Decode(#[from] DecodeError),
    /// The message is no command.
    #[error("no command: {0}")]
    Command(#[from] CommandError),
    /// The proof failed.
    #[error("authentication: {0}")]
    Auth(#[from] AuthError),
    /// The dialogue around the proof failed.
    #[error(transparent)]
    Sasl(#[from] SaslError),
    /// A certificate proves nothing.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A hello that cannot be answered.
    #[error("hello: {0}")]
    Hello(#[from] HelloError),
    /// The Stable API forbids it.
    #[error("stable API: {0}")]
    Api(#[from] ApiError),
    /// An opcode of the past.
    #[error("legacy opcode: {0}")]
    Legacy(#[from] LegacyError),
    /// Policy says no.
    #[error("refused: {0}")]
    Refusal(#[from] Refusal),
    /// A limit is reached.
    #[error("limit reached: {0}")]
    Limit(#[from] Limit),
    /// No connection to the upstream.
    #[error("upstream: {error}")]
    Upstream {
        /// Why.
        #[source]
        error: UpstreamError,
        /// What the command was eligible for, by [`labels::when_lost`].
        labels: Labels,
    },
    /// The connection to the upstream broke under the command.
    #[error("upstream: {error}")]
    Exchange {
        /// How.
        #[source]
        error: ExchangeError,
        /// What the command was eligible for, by [`labels::when_lost`].
        labels: Labels,
    },
    /// What the proxy asked of the upstream in its own name was not answered. `None`: not in time.
    #[error("the proxy's own command: {}", error.as_ref().map_or("no answer in time".into(), |e| e.kind.to_string()))]
    Control {
        /// Why.
        error: Option<mongodb::error::Error>,
        /// What the command was eligible for.
        labels: Labels,
    },
    /// The upstream refused what the proxy asked of it in its own name, or did not let the proxy's user do what a client asked
    /// for. For the operator to mend; the client can only be told that much.
    #[error("the upstream refused the proxy's user: {0}")]
    Unprivileged(String),
    /// The proxy is going away.
    #[error("the proxy is shutting down")]
    ShuttingDown {
        /// Tells drivers that this is newer than what they know.
        version: TopologyVersion,
        /// What the command was eligible for.
        labels: Labels,
    },
    /// The credential of the connection is gone, or its password has changed. The connection cannot go on.
    #[error("the credential of the connection has ended")]
    Revoked,
    /// The upstream answered with something that must not reach the client. An alarm.
    #[error("incident {id:08x}: {what}")]
    Incident {
        /// Names this one in the reply and in the log.
        id: u32,
        /// What was met.
        what: Cow<'static, str>,
    },
}

/// What can be wrong with the commands around a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// `conversationId` is not that of the dialogue.
    #[error("sasl: Mismatched conversation id")]
    ConversationId,
    /// A field is missing.
    #[error("BSON field '{command}.{field}' is missing but a required field")]
    Missing {
        /// `saslStart` or `saslContinue`.
        command: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The payload is neither a binary of subtype 0 nor a string.
    #[error("Wrong type for field 'payload': expected binary data or a base64 string")]
    PayloadKind,
    /// The payload is a string that is no base64.
    #[error("The payload is not a valid base64 string")]
    PayloadText,
    /// The connection belongs to another app or user.
    #[error(
        "This connection is authenticated as another user already; open another connection to \
         authenticate as this one"
    )]
    OtherIdentity,
}

impl SaslError {
    fn code(self) -> i32 {
        match self {
            Self::ConversationId => 17,
            Self::Missing { .. } => 40414,
            Self::PayloadKind => 14,
            Self::PayloadText => 9,
            Self::OtherIdentity => 13,
        }
    }
}

/// Why `authenticate` fails. Codes and texts are those of mongod 6.0.5; without a certificate of the authority that the
/// listener trusts nobody hears whether there is a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not on `$external`.
    #[error("X.509 authentication must always use the $external database.")]
    Database,
    /// Another mechanism, cut to what a reply repeats.
    #[error("Unsupported mechanism: {0}")]
    Mechanism(String),
    /// The connection has shown no certificate.
    #[error("No verified subject name available from client")]
    NotShown,
    /// The subject is empty, or holds what MongoDB does not write as it stands there.
    #[error(
        "The subject of the client's certificate is no user name: it is empty, holds control characters, or strings other \
         than UTF8String with characters beyond ASCII; have the certificate made with UTF8String"
    )]
    Unwritable,
    /// `user` is not the subject of the certificate.
    #[error("There is no x.509 client certificate matching the user.")]
    OtherUser,
    /// No credential has this subject.
    #[error("Could not find user \"{0}\" for db \"$external\"")]
    NoUser(String),
}

impl CertificateError {
    fn code(&self) -> i32 {
        match self {
            Self::Database => 17,
            Self::Mechanism(_) => 2,
            Self::NotShown | Self::Unwritable | Self::OtherUser => 18,
            Self::NoUser(_) => 11,
        }
    }
}

/// What can be wrong with a hello. Codes are those of mongos where the proxy presents itself as one, else those of mongod
/// 6.0.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// `client` came a second time.
    #[error("The client metadata document may only be sent in the first hello")]
    MetadataAgain,
    /// `client` lacks a field.
    #[error("Missing required field '{0}.{1}' in the client metadata document")]
    MetadataMissing(&'static str, &'static str),
    /// `client.application.name` is too long.
    #[error(
        "The 'client.application.name' field may be at most {} bytes",
        crate::hello::APPLICATION_NAME_BYTES_MAX
    )]
    ApplicationName,
    /// The fields of an awaitable hello do not fit each other.
    #[error("{flaw}")]
    Awaiting {
        /// Which.
        flaw: AwaitingFlaw,
        /// Whether the proxy presents itself as a mongos.
        as_mongos: bool,
    },
}

/// What can be wrong with the fields of an awaitable hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AwaitingFlaw {
    /// One of the two without the other.
    #[error("'topologyVersion' and 'maxAwaitTimeMS' must be given together")]
    Half,
    /// A counter below zero.
    #[error("topologyVersion must have a non-negative counter")]
    NegativeCounter,
    /// A wait below zero, or none that is a whole number.
    #[error("maxAwaitTimeMS must be a non-negative integer")]
    Wait,
    /// A counter that the proxy has not reached.
    #[error("Received a topology version with a counter greater than this server's")]
    CounterAhead,
    /// The flag exhaustAllowed without a wait.
    #[error("An exhaust hello request must specify 'maxAwaitTimeMS'")]
    ExhaustWithoutWait,
}

impl HelloError {
    fn code(self) -> i32 {
        match self {
            Self::MetadataAgain => 186,
            Self::MetadataMissing(..) => 183,
            Self::ApplicationName => 184,
            Self::Awaiting { flaw, as_mongos } => {
                let (router, server) = match flaw {
                    AwaitingFlaw::Half => (51760, 31368),
                    AwaitingFlaw::NegativeCounter => (51758, 31372),
                    AwaitingFlaw::Wait => (51024, 51024),
                    AwaitingFlaw::CounterAhead => (51761, 31382),
                    AwaitingFlaw::ExhaustWithoutWait => (51763, 51756),
                };
                if as_mongos { router } else { server }
            }
        }
    }
}

/// What the Stable API says no to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// A field of another kind.
    #[error(
        "BSON field 'APIParametersFromClient.{field}' is the wrong type '{found}', expected type '{expected}'"
    )]
    Kind {
        /// Which.
        field: &'static str,
        /// Its kind.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A version other than `"1"`.
    #[error("API version must be \"1\"")]
    Version,
    /// `apiStrict` or `apiDeprecationErrors` without `apiVersion`.
    #[error("Provided apiStrict and/or apiDeprecationErrors without passing apiVersion")]
    NoVersion,
    /// A command that version 1 does not have.
    #[error("Provided apiStrict:true, but the command {0} is not in API Version 1")]
    Strict(&'static str),
    /// A field that version 1 does not have of a command.
    #[error("BSON field '{0}.{1}' is not allowed with apiStrict:true.")]
    StrictField(&'static str, &'static str),
    /// An index that version 1 does not have.
    #[error("text indexes cannot be created with apiStrict: true")]
    StrictTextIndex,
    /// A stage that version 1 does not have.
    #[error("stage {0} is not allowed with 'apiStrict: true' in API Version 1")]
    StrictStage(String),
}

impl ApiError {
    fn code(&self) -> i32 {
        match self {
            Self::Kind { .. } => 14,
            Self::Version => 322,
            Self::NoVersion => 4_886_600,
            Self::Strict(_)
            | Self::StrictField(..)
            | Self::StrictTextIndex
            | Self::StrictStage(_) => 323,
        }
    }
}

/// What is said to opcodes of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LegacyError {
    /// A command other than hello by `OP_QUERY`.
    #[error(
        "Unsupported OP_QUERY command. The client driver may require an upgrade. For more details \
         see https://dochub.mongodb.org/core/legacy-opcode-removal"
    )]
    Command,
    /// A command by `OP_QUERY` that asks for so many documents.
    #[error("Bad numberToReturn ({0}) for $cmd type ns - can only be 1 or -1")]
    NumberToReturn(i32),
    /// A command by `OP_QUERY` with the flag of exhaust cursors.
    #[error("The 'exhaust' OP_QUERY flag is invalid for commands")]
    Exhaust,
    /// A query on a collection, or `OP_GET_MORE`.
    #[error(
        "This opcode is no longer supported. The client driver may require an upgrade. For more \
         details see https://dochub.mongodb.org/core/legacy-opcode-removal"
    )]
    Query,
}

impl LegacyError {
    fn code(self) -> i32 {
        match self {
            Self::Command => 352,
            Self::NumberToReturn(_) => 16979,
            Self::Exhaust => 18527,
            Self::Query => 5_739_101,
        }
    }
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// Connections of the app.
    ///
    /// Said during authentication, where drivers take any error as the end of the connection. The code and labels of
    /// MongoDB 8.2 for overload are the mildest that there are: drivers that know them wait and keep their pool, others
    /// show a text that says what is wrong. 18 would send people to look for a wrong password.
    #[error(
        "too many connections of this app (connections_per_app_max); lower maxPoolSize or the number of clients"
    )]
    ConnectionsOfApp,
    /// Open cursors of the app.
    #[error("too many open cursors of this app (cursors_per_app_max); exhaust or close cursors")]
    CursorsOfApp,
    /// Commands of the app at the same time. The command was not begun.
    #[error(
        "too many commands of this app run at the same time (commands_per_app_max); this one was not begun, try it \
         again later"
    )]
    CommandsOfApp {
        /// What its driver may do about it.
        labels: Labels,
    },
    /// Failed log-ins from the client's address. Said in place of any answer to a proof, right or wrong; the code is that of
    /// [`Limit::ConnectionsOfApp`] for the same reasons.
    #[error(
        "too many failed log-ins from this address (failed_logins_per_address_max); try again in a minute"
    )]
    FailedLogins,
    /// Sessions of the app. The code is that of a mongod that has too many.
    #[error(
        "too many sessions of this app (sessions_per_app_max); end sessions or let them be idle for 30 minutes"
    )]
    SessionsOfApp,
    /// Replies that the app's clients have not read. The command may have been executed; its reply was not fetched.
    #[error(
        "other clients of this app are slow to read large replies (unread_bytes_per_app_max), and there is no room for this \
         one; read replies sooner, or ask for smaller batches"
    )]
    UnreadOfApp {
        /// What its driver may do about it.
        labels: Labels,
    },
}

impl Limit {
    fn code(self) -> i32 {
        match self {
            Self::ConnectionsOfApp | Self::CommandsOfApp { .. } | Self::FailedLogins => 462,
            Self::CursorsOfApp | Self::UnreadOfApp { .. } => 146,
            Self::SessionsOfApp => 261,
        }
    }

    /// The limit's name in metrics.
    pub(crate) fn name(self) -> LimitName {
        match self {
            Self::ConnectionsOfApp => LimitName::ConnectionsPerApp,
            Self::CommandsOfApp { .. } => LimitName::CommandsPerApp,
            Self::CursorsOfApp => LimitName::CursorsPerApp,
            Self::FailedLogins => LimitName::FailedLoginsPerAddress,
            Self::SessionsOfApp => LimitName::SessionsPerApp,
            Self::UnreadOfApp { .. } => LimitName::UnreadBytesPerApp,
        }
    }
}

impl Error {
    /// An upstream surprise, under a new name.
    pub fn incident(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Incident {
            id: u32::from_le_bytes(random::bytes()),
            what: what.into(),
        }
    }

    /// What the proxy asked in its own name failed; `None`: it was not answered in time.
    pub(crate) fn control(error: Option<mongodb::error::Error>, labels: Labels) -> Self {
        match error.as_ref().and_then(server_code) {
            // Another app has the name, or nobody has; which is not for this one to know.
            Some(13297) => Refusal::database_differs_in_case(DATABASE_CASE).into(),
            Some(code) if !STATE_CHANGE_CODES.contains(&code) => {
                Self::Unprivileged(error.map(|e| e.to_string()).unwrap_or_default())
            }
            _ => Self::Control { error, labels },
        }
    }

    /// Whether the upstream was not reached or did not answer: the same may go well a moment later.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Upstream { .. }
                | Self::Exchange { .. }
                | Self::Control { .. }
                | Self::ShuttingDown { .. }
        )
    }

    /// MongoDB's number.
    pub fn code(&self) -> i32 {
        match self {
            Self::Decode(error) => error.code(),
            Self::Command(error) => error.code(),
            Self::Auth(error) => error.code(),
            Self::Sasl(error) => error.code(),
            Self::Certificate(error) => error.code(),
            Self::Hello(error) => error.code(),
            Self::Api(error) => error.code(),
            Self::Legacy(error) => error.code(),
            Self::Refusal(refusal) => refusal.code,
            Self::Limit(limit) => limit.code(),
            Self::Upstream { error, .. } => error.code(),
            Self::Exchange { error, .. } => error.code(),
            // Nothing was sent for the client yet: drivers may try again.
            Self::Control { .. } => 6,
            Self::ShuttingDown { .. } => 91,
            Self::Revoked => 13,
            Self::Unprivileged(_) | Self::Incident { .. } => 8,
        }
    }

    /// MongoDB's name for [`Error::code`].
    pub fn code_name(&self) -> Cow<'static, str> {
        match self {
            Self::Auth(error) => error.code_name().into(),
            Self::Refusal(refusal) => refusal.name.into(),
            Self::Upstream { error, .. } => error.code_name().into(),
            Self::Exchange { error, .. } => error.code_name().into(),
            other => code_name(other.code()),
        }
    }

    /// What clients may read: no host names, nothing of the operator's.
    pub fn client_text(&self) -> Cow<'_, str> {
        match self {
            Self::Decode(error) => error.to_string().into(),
            Self::Command(error) => error.to_string().into(),
            Self::Auth(error) => error.client_text(),
            Self::Sasl(error) => error.to_string().into(),
            Self::Certificate(error) => error.to_string().into(),
            Self::Hello(error) => error.to_string().into(),
            Self::Api(error) => error.to_string().into(),
            Self::Legacy(error) => error.to_string().into(),
            Self::Refusal(refusal) => refusal.text.as_str().into(),
            Self::Limit(limit) => limit.to_string().into(),
            Self::Upstream { error, .. } => error.client_text(),
            Self::Exchange { error, .. } => error.client_text().into(),
            Self::Control { .. } => "the deployment did not answer the proxy in time".into(),
            Self::ShuttingDown { .. } => "the proxy is shutting down".into(),
            Self::Revoked => {
                "not authorized: the user that this connection is logged in as was removed or has another password now"
                    .into()
            }
            Self::Unprivileged(_) => {
                "the deployment refused what the proxy asked of it; its operator finds the reason in the proxy's log".into()
            }
            Self::Incident { id, .. } => {
                format!("the deployment's reply cannot be passed on (incident {id:08x})").into()
            }
        }
    }

    /// What drivers may do about it.
    pub fn labels(&self) -> Labels {
        match self {
            Self::Upstream { labels, .. }
            | Self::Exchange { labels, .. }
            | Self::Control { labels, .. }
            | Self::Limit(Limit::CommandsOfApp { labels } | Limit::UnreadOfApp { labels })
            | Self::ShuttingDown { labels, .. } => labels,
            Self::Limit(Limit::ConnectionsOfApp | Limit::FailedLogins) => labels::OVERLOADED,
            Self::Refusal(refusal) if refusal.code == LOCK_TIMEOUT => labels::TRANSIENT_TRANSACTION,
            Self::Decode(_)
            | Self::Command(_)
            | Self::Auth(_)
            | Self::Sasl(_)
            | Self::Certificate(_)
            | Self::Hello(_)
            | Self::Api(_)
            | Self::Legacy(_)
            | Self::Refusal(_)
            | Self::Limit(Limit::CursorsOfApp | Limit::SessionsOfApp)
            | Self::Revoked
            | Self::Unprivileged(_)
            | Self::Incident { .. } => labels::NONE,
        }
    }

    /// How metrics count it.
    pub fn outcome(&self) -> CommandOutcome {
        match self {
            Self::Upstream { .. }
            | Self::Exchange { .. }
            | Self::Control { .. }
            | Self::Unprivileged(_)
            | Self::Incident { .. } => CommandOutcome::UpstreamError,
            Self::Decode(_)
            | Self::Command(_)
            | Self::Auth(_)
            | Self::Sasl(_)
            | Self::Certificate(_)
            | Self::Hello(_)
            | Self::Api(_)
            | Self::Legacy(_)
            | Self::Refusal(_)
            | Self::Limit(_)
            | Self::Revoked
            | Self::ShuttingDown { .. } => CommandOutcome::Refused,
        }
    }
}
