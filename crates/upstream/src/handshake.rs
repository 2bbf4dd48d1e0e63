//! From nothing to a connection that may be lent: TCP, TLS, `hello`, SCRAM.

use std::{fmt, sync::Arc, time::Duration};

use bson::{Binary, Document, RawArrayBuf, RawDocumentBuf, raw::cstr, rawdoc, spec::BinarySubtype};
use mdb_auth::{ClientExchange, ClientStep, Mechanism, Secret, Stretched};
use mdb_scope::ServerAddress;
use mdb_wire::{Compressor, Compressors};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::{
    conn::Connection,
    error::{ExchangeError, ExchangeErrorKind, UpstreamError},
    hello::{Hello, is_ok, read_build_info},
    stream::Stream,
    watch::state_change,
};

/// How the proxy connects to members; the same for all of them.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) tls: Option<TlsConnector>,
    pub(crate) login: Option<Arc<Login>>,
    /// Offered to members, the best first.
    pub(crate) compressors: Compressors,
    /// The `client` document of the handshake.
    pub(crate) metadata: RawDocumentBuf,
}

/// How the proxy proves itself, by the connection string.
#[derive(Debug)]
pub(crate) enum Login {
    /// By a password.
    Scram(ScramLogin),
    /// By the certificate of its TLS sessions. The server takes its subject for the user's name.
    Certificate,
}

/// The credentials of the connection string.
#[derive(Debug)]
pub(crate) struct ScramLogin {
    pub(crate) user: String,
    pub(crate) password: Secret,
    pub(crate) source: String,
    /// `None`: the best one that the server has for this user.
    pub(crate) mechanism: Option<Mechanism>,
    /// So that a new connection takes no more than its round trips.
    pub(crate) stretched: Arc<Stretched>,
}

/// A connection on which only `hello` was run.
#[derive(Debug)]
pub(crate) struct Greeted {
    pub(crate) connection: Connection,
    pub(crate) hello: Hello,
    /// How long the `hello` took.
    pub(crate) rtt: Duration,
}

impl Connector {
    /// A connection ready for commands, in at most [`CONNECT_TIMEOUT`].
    pub(crate) async fn connect(
        &self,
        address: &ServerAddress,
    ) -> Result<Connection, UpstreamError> {
        in_time(address, async {
            let mut greeted = self.greet(address).await?;
            self.authenticate(address, &mut greeted).await?;
            let agreed = greeted.hello.compressor;
            greeted.connection.set_compressor(agreed);
            Ok(greeted.connection)
        })
        .await
    }

    /// A connection on which only `hello` was run, in at most [`CONNECT_TIMEOUT`].
    pub(crate) async fn probe(&self, address: &ServerAddress) -> Result<Greeted, UpstreamError> {
        in_time(address, self.greet(address)).await
    }

    /// The server's version and build, in at most [`CONNECT_TIMEOUT`].
    pub(crate) async fn build_info(
        &self,
        address: &ServerAddress,
        mut greeted: Greeted,
    ) -> Result<Document, UpstreamError> {
        in_time(address, async {
            // Newer servers tell it to authenticated connections only.
            self.authenticate(address, &mut greeted).await?;
            let command = rawdoc! { "buildInfo": 1, "$db": "admin" };
            let reply = run(address, &mut greeted.connection, &command).await?;
            if is_ok(&reply) {
                Ok(read_build_info(reply))
            } else {
                Err(unexpected(address, &reply))
            }
        })
        .await
    }

    async fn greet(&self, address: &ServerAddress) -> Result<Greeted, UpstreamError> {
        let stream = Stream::open(address, self.tls.as_ref()).await?;
        let mut connection = Connection::new(stream);
        let mut command = rawdoc! { "hello": 1, "helloOk": true, "client": self.metadata.clone() };
        if let Some(Login::Scram(login)) = self.login.as_deref()
            && login.mechanism.is_none()
        {
            let account = format!("{}.{}", login.source, login.user);
            command.append(cstr!("saslSupportedMechs"), account);
        }
        if !self.compressors.is_empty() {
            let names: RawArrayBuf = self.compressors.iter().map(Compressor::name).collect();
            command.append(cstr!("compression"), names);
        }
        command.append(cstr!("$db"), "admin");
        let start = Instant::now();
        let reply = run(address, &mut connection, &command).await?;
        let rtt = start.elapsed();
        if !is_ok(&reply) {
            return Err(unexpected(address, &reply));
        }
        let mut hello = Hello::read(&reply);
        // A member that names what was not offered is not believed.
        hello.compressor = hello.compressor.filter(|c| self.compressors.contains(*c));
        connection.set_message_bytes_max(hello.max_message_size_bytes);
        Ok(Greeted {
            connection,
            hello,
            rtt,
        })
    }

    async fn authenticate(
        &self,
        address: &ServerAddress,
        greeted: &mut Greeted,
    ) -> Result<(), UpstreamError> {
        let login = match self.login.as_deref() {
            None => return Ok(()),
            Some(Login::Certificate) => {
                return show_certificate(address, &mut greeted.connection).await;
            }
            Some(Login::Scram(login)) => login,
        };
        let has_sha_256 = |mechanism: &String| mechanism == Mechanism::ScramSha256.name();
        let mechanism = match login.mechanism {
            Some(mechanism) => mechanism,
            None if greeted.hello.sasl_mechanisms.iter().any(has_sha_256) => Mechanism::ScramSha256,
            None => Mechanism::ScramSha1,
        };
        let mut dialogue = Dialogue {
            address,
            source: &login.source,
            connection: &mut greeted.connection,
        };
        dialogue.hold(mechanism, login).await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("has_tls", &self.tls.is_some())
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

/// Has the server take the client certificate of the TLS session for the proxy's proof.
async fn show_certificate(
    address: &ServerAddress,
    connection: &mut Connection,
) -> Result<(), UpstreamError> {
    let command = rawdoc! { "authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external" };
    let reply = run(address, connection, &command).await?;
    if is_ok(&reply) {
        return Ok(());
    }
    Err(refused_by(address, &reply))
}

/// One SASL dialogue on one connection.
struct Dialogue<'a> {
    address: &'a ServerAddress,
    source: &'a str,
    connection: &'a mut Connection,
}

/// What matters of the server's replies to `saslStart` and `saslContinue`.
struct SaslReply {
    conversation: i32,
    is_done: bool,
    payload: Vec<u8>,
}

impl Dialogue<'_> {
    async fn hold(
        &mut self,
        mechanism: Mechanism,
        login: &ScramLogin,
    ) -> Result<(), UpstreamError> {
        let (exchange, first) =
            ClientExchange::begin(mechanism, &login.user, &login.password, &self.nonce()?)
                .map_err(|error| self.refused(&error))?;
        let exchange = exchange.recalling(&login.stretched);
        let challenge = self.start(mechanism, first).await?;
        // Stretching the password the first time takes milliseconds, too long for a thread that serves others.
        let step = tokio::task::spawn_blocking(move || {
            exchange
                .next(&challenge.payload)
                .map(|step| (challenge.conversation, step))
        })
        .await
        .map_err(|error| self.refused(&error))?;
        let (conversation, step) = step.map_err(|error| self.refused(&error))?;
        let ClientStep::Respond(exchange, proof) = step else {
            return Err(self.refused(&"the dialogue ended before the server proved itself"));
        };
        let last = self.go_on(conversation, proof).await?;
        match exchange
            .next(&last.payload)
            .map_err(|error| self.refused(&error))?
        {
            ClientStep::Verified if last.is_done => Ok(()),
            // Servers that do not skip the empty exchange want one more message.
            ClientStep::Verified if self.go_on(conversation, Vec::new()).await?.is_done => Ok(()),
            _ => Err(self.refused(&"the dialogue did not end")),
        }
    }

    async fn start(
        &mut self,
        mechanism: Mechanism,
        payload: Vec<u8>,
    ) -> Result<SaslReply, UpstreamError> {
        let command = rawdoc! {
            "saslStart": 1,
            "mechanism": mechanism.name(),
            "payload": binary(payload),
            "options": { "skipEmptyExchange": true },
            "$db": self.source,
        };
        self.send(&command).await
    }

    async fn go_on(
        &mut self,
        conversation: i32,
        payload: Vec<u8>,
    ) -> Result<SaslReply, UpstreamError> {
        let command = rawdoc! {
            "saslContinue": 1,
            "conversationId": conversation,
            "payload": binary(payload),
            "$db": self.source,
        };
        self.send(&command).await
    }

    async fn send(&mut self, command: &RawDocumentBuf) -> Result<SaslReply, UpstreamError> {
        let reply = run(self.address, self.connection, command).await?;
        if !is_ok(&reply) {
            return Err(refused_by(self.address, &reply));
        }
        let payload = reply.get_binary_generic("payload").cloned();
        Ok(SaslReply {
            conversation: reply.get_i32("conversationId").unwrap_or_default(),
            is_done: reply.get_bool("done").unwrap_or_default(),
            payload: payload.map_err(|_| self.refused(&"a reply without a payload"))?,
        })
    }

    fn nonce(&self) -> Result<String, UpstreamError> {
        let mut random = [0; NONCE_CHARS];
        getrandom::fill(&mut random).map_err(|error| self.refused(&error))?;
        let letter =
            |byte: &u8| char::from(NONCE_LETTERS[usize::from(*byte) % NONCE_LETTERS.len()]);
        Ok(random.iter().map(letter).collect())
    }

    fn refused(&self, reason: &dyn fmt::Display) -> UpstreamError {
        UpstreamError::Authentication {
            server: self.address.clone(),
            reason: reason.to_string(),
        }
    }
}

/// The `client` document of the handshake.
pub(crate) fn metadata(name: &str, version: &str) -> RawDocumentBuf {
    rawdoc! {
        "application": { "name": name },
        "driver": { "name": DRIVER_NAME, "version": version },
        "os": { "type": std::env::consts::OS },
    }
}

async fn in_time<T>(
    address: &ServerAddress,
    work: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    timeout(CONNECT_TIMEOUT, work).await.unwrap_or_else(|_| {
        Err(UpstreamError::Connect {
            server: address.clone(),
            source: std::io::ErrorKind::TimedOut.into(),
        })
    })
}

async fn run(
    address: &ServerAddress,
    connection: &mut Connection,
    command: &RawDocumentBuf,
) -> Result<Document, UpstreamError> {
    let server = address.clone();
    connection
        .run(command)
        .await
        .map_err(|ExchangeError { kind, .. }| match kind {
            ExchangeErrorKind::Network(source) => UpstreamError::Connect { server, source },
            other => UpstreamError::Handshake {
                server,
                reason: other.to_string(),
            },
        })
}

fn unexpected(address: &ServerAddress, reply: &Document) -> UpstreamError {
    UpstreamError::Handshake {
        server: address.clone(),
        reason: server_words(reply),
    }
}

/// The error of a log-in that the server answers with no.
fn refused_by(address: &ServerAddress, reply: &Document) -> UpstreamError {
    // A server that stops or starts refuses everything; that says nothing of the credentials.
    let is_passing = reply
        .get_i32("code")
        .is_ok_and(|code| state_change(code).is_some());
    if is_passing {
        return unexpected(address, reply);
    }
    UpstreamError::Authentication {
        server: address.clone(),
        reason: server_words(reply),
    }
}

fn server_words(reply: &Document) -> String {
    let code = reply.get_i32("code").unwrap_or_default();
    let words = reply.get_str("errmsg").unwrap_or("no reason given");
    format!("{words} (code {code})")
}

fn binary(bytes: Vec<u8>) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes,
    }
}

/// For TCP, TLS, `hello` and authentication together: the drivers' default `connectTimeoutMS`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// With six random bits each: the 24 bytes of randomness that the drivers use.
const NONCE_CHARS: usize = 32;
const NONCE_LETTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const DRIVER_NAME: &str = "mdb-runtime";
