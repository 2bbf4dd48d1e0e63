//! What tests of this crate share: a proxy without upstream, and a client that speaks bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mdb_auth::{ClientExchange, ClientStep, Credentials, Mechanism, Salts, Secret, Verifier};
use mdb_scope::{AppId, FieldName};
use mdb_telemetry::{CloseReason, Metrics};
use mdb_upstream::{DeploymentKind, ServerHello, Upstream, UpstreamOptions};
use mdb_wire::frame::{HEADER_BYTES, OpCode, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::guest::Shown;
use crate::{
    App, ClientLimits, Forward, Grants, Guest, Identity, IsolationPolicy, Presentation, Shared,
    Validity, serve_client,
};

pub(crate) const LIMITS: ClientLimits = ClientLimits {
    connections_max: 8,
    connections_per_app_max: 4,
    connections_per_address_max: 8,
    connections_unauthenticated_max: 8,
    commands_per_app_max: 4,
    cursors_per_app_max: 4,
    sessions_per_app_max: 4,
    unread_bytes_per_app_max: 100,
    unread_timeout: Duration::from_secs(10),
    failed_logins_per_address_max: 4,
    idle_timeout: None,
    abandoned_after: Duration::from_secs(10),
    handshake_timeout: Duration::from_secs(10),
};
pub(crate) const PEER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4321);

/// Who logs in by a certificate.
pub(crate) const SUBJECT: &str = "CN=shop,O=Example";

/// A proxy in front of nothing, with the users `shop`, `shop-reports` (who may only read), both of the app `shop`, and
/// `notes` of the app `notes`. Everybody's password is `pencil`, but for [`SUBJECT`], of the app `shop`, who has a
/// certificate.
pub(crate) struct Proxy {
    pub(crate) shared: Arc<Shared>,
    pub(crate) leave: CancellationToken,
}

impl Proxy {
    pub(crate) async fn new() -> Self {
        Self::with_limits(LIMITS).await
    }

    pub(crate) async fn with_limits(limits: ClientLimits) -> Self {
        let metrics = Metrics::new();
        // Nobody listens on port 1.
        let uri = Secret::new("mongodb://127.0.0.1:1".to_owned());
        let upstream = Upstream::start(UpstreamOptions::new(uri), metrics.clone())
            .await
            .unwrap();
        let shared = Shared::new(
            upstream,
            credentials(&metrics),
            Forward::new(
                FieldName::parse("app_id").unwrap(),
                "mdb_runtime".to_owned(),
            ),
            limits,
            metrics,
            Presentation::Mongos,
        );
        Self {
            shared: Arc::new(shared),
            leave: CancellationToken::new(),
        }
    }

    /// A client, and the task that serves it.
    pub(crate) fn connect(&self) -> (Client<DuplexStream>, JoinHandle<CloseReason>) {
        self.connect_as(PEER.into())
    }

    /// A client that has shown a certificate with this subject.
    pub(crate) fn connect_certified(&self, subject: &str) -> Client<DuplexStream> {
        let mut guest = Guest::from(PEER);
        guest.certificate = Shown::Subject(subject.into());
        self.connect_as(guest).0
    }

    /// A client that has shown a certificate of whose subject no name can be made.
    pub(crate) fn connect_unwritable(&self) -> Client<DuplexStream> {
        let mut guest = Guest::from(PEER);
        guest.certificate = Shown::Unwritable;
        self.connect_as(guest).0
    }

    fn connect_as(&self, guest: Guest) -> (Client<DuplexStream>, JoinHandle<CloseReason>) {
        let (stream, far_end) = duplex(1024 * 1024);
        let served = serve_client(far_end, guest, Arc::clone(&self.shared), self.leave.clone());
        (Client::new(stream), tokio::spawn(served))
    }

    /// A client that is `shop`.
    pub(crate) async fn connect_shop(&self) -> Client<DuplexStream> {
        let (mut client, _) = self.connect();
        let reply = client
            .authenticate(Mechanism::ScramSha256, "shop", "pencil")
            .await;
        assert_eq!(reply.get_f64("ok").ok(), Some(1.0), "{reply}");
        client
    }
}

fn credentials(metrics: &Metrics) -> Credentials<Arc<Identity>> {
    let salts = Salts::new(b"key");
    let mut credentials = Credentials::new(salts.clone());
    let app = |slug| {
        Arc::new(App::new(
            AppId::parse(slug).unwrap(),
            false,
            IsolationPolicy::default(),
            metrics,
        ))
    };
    let (shop, notes) = (app("shop"), app("notes"));
    let all = Grants {
        read: true,
        write: true,
        admin: true,
    };
    let read = Grants {
        read: true,
        write: false,
        admin: false,
    };
    for (username, app, grants) in [
        ("shop", &shop, all),
        ("shop-reports", &shop, read),
        ("notes", &notes, all),
    ] {
        let secret = Secret::new("pencil".to_owned());
        let verifier = Verifier::try_new(username, &secret, &salts).unwrap();
        let identity = Identity {
            app: Arc::clone(app),
            username: username.to_owned(),
            grants,
            validity: Validity::default(),
        };
        credentials.insert(verifier, Arc::new(identity)).unwrap();
    }
    let certified = Identity {
        app: shop,
        username: SUBJECT.to_owned(),
        grants: read,
        validity: Validity::default(),
    };
    credentials
        .insert_certified(SUBJECT, Arc::new(certified))
        .unwrap();
    credentials
}

/// What an upstream of this kind says of itself.
pub(crate) fn server_hello(kind: DeploymentKind) -> ServerHello {
    ServerHello {
        kind,
        max_bson_object_size: 16_777_216,
        max_message_size_bytes: 48_000_000,
        max_write_batch_size: 100_000,
        wire_version_min: 0,
        wire_version_max: 17,
        logical_session_timeout_minutes: Some(30),
        version: "6.0.5".to_owned(),
        version_array: [6, 0, 5, 0],
        build_info: doc! {"gitVersion": "c9a99c12"},
    }
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) response_to: i32,
    pub(crate) opcode: i32,
    pub(crate) bytes: Vec<u8>,
}

impl Received {
    /// The flags of an OP_MSG or OP_REPLY.
    pub(crate) fn flags(&self) -> u32 {
        u32::from_le_bytes(
            self.bytes[HEADER_BYTES..HEADER_BYTES + 4]
                .try_into()
                .unwrap(),
        )
    }

    pub(crate) fn body(&self) -> Document {
        let (start, tail) = match self.opcode {
            1 => (HEADER_BYTES + 20, 0),
            _ if self.flags() & 1 == 1 => (HEADER_BYTES + 5, 4),
            _ => (HEADER_BYTES + 5, 0),
        };
        let body = &self.bytes[start..self.bytes.len() - tail];
        bson::deserialize_from_slice(body).unwrap()
    }
}

/// A client that speaks bytes.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    messages: i32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            messages: 100,
        }
    }

    /// Sends any message and gives its id.
    pub(crate) async fn send_raw(&mut self, opcode: OpCode, payload: &[u8]) -> i32 {
        self.messages += 1;
        let mut message = header(HEADER_BYTES + payload.len(), self.messages, 0, opcode).to_vec();
        message.extend_from_slice(payload);
        self.stream.write_all(&message).await.unwrap();
        self.messages
    }

    /// Sends an OP_MSG; `$db` is added if it is not there.
    pub(crate) async fn send(&mut self, flags: u32, mut body: Document) -> i32 {
        if !body.contains_key("$db") {
            body.insert("$db", "admin");
        }
        let mut payload = flags.to_le_bytes().to_vec();
        payload.push(0);
        payload.extend(bson::serialize_to_vec(&body).unwrap());
        self.send_raw(OpCode::Message, &payload).await
    }

    /// Sends an OP_QUERY.
    pub(crate) async fn send_query(&mut self, namespace: &str, body: &Document) -> i32 {
        let mut payload = vec![0; 4];
        payload.extend_from_slice(namespace.as_bytes());
        payload.extend_from_slice(&[0; 5]);
        payload.extend_from_slice(&(-1_i32).to_le_bytes());
        payload.extend(bson::serialize_to_vec(body).unwrap());
        self.send_raw(OpCode::Query, &payload).await
    }

    /// The next message; `None` at the end.
    pub(crate) async fn receive(&mut self) -> Option<Received> {
        let mut bytes = vec![0; HEADER_BYTES];
        self.stream.read_exact(&mut bytes).await.ok()?;
        let word = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (length, response_to, opcode) = (word(0), word(8), word(12));
        bytes.resize(usize::try_from(length).unwrap(), 0);
        self.stream
            .read_exact(&mut bytes[HEADER_BYTES..])
            .await
            .ok()?;
        Some(Received {
            response_to,
            opcode,
            bytes,
        })
    }

    /// Sends a command and gives the reply to it.
    pub(crate) async fn command(&mut self, body: Document) -> Document {
        let id = self.send(0, body).await;
        let reply = self.receive().await.expect("a reply");
        assert_eq!(reply.response_to, id);
        reply.body()
    }

    /// `saslStart` and `saslContinue` to their end; the last reply.
    pub(crate) async fn authenticate(
        &mut self,
        mechanism: Mechanism,
        user: &str,
        password: &str,
    ) -> Document {
        let (exchange, start) = sasl_start(mechanism, user, password, true);
        let challenge = self.command(start).await;
        self.finish(exchange, challenge).await
    }

    /// The rest of a conversation whose challenge has come.
    pub(crate) async fn finish(
        &mut self,
        exchange: ClientExchange,
        challenge: Document,
    ) -> Document {
        let Ok(payload) = challenge.get_binary_generic("payload") else {
            return challenge;
        };
        let Ok(ClientStep::Respond(exchange, proof)) = exchange.next(payload) else {
            panic!("the challenge is in order");
        };
        let reply = self.command(sasl_continue(&proof)).await;
        let Ok(signature) = reply.get_binary_generic("payload") else {
            return reply;
        };
        assert!(matches!(exchange.next(signature), Ok(ClientStep::Verified)));
        if reply.get_bool("done").ok() == Some(true) {
            return reply;
        }
        self.command(sasl_continue(&[])).await
    }
}

/// The client's side of a conversation and its `saslStart`.
pub(crate) fn sasl_start(
    mechanism: Mechanism,
    user: &str,
    password: &str,
    skip_empty_exchange: bool,
) -> (ClientExchange, Document) {
    let secret = Secret::new(password.to_owned());
    let (exchange, payload) =
        ClientExchange::begin(mechanism, user, &secret, "abcdefghijklmnopqrstuvwx").unwrap();
    let start = doc! {
        "saslStart": 1,
        "mechanism": mechanism.name(),
        "payload": binary(&payload),
        "options": {"skipEmptyExchange": skip_empty_exchange},
    };
    (exchange, start)
}

pub(crate) fn sasl_continue(payload: &[u8]) -> Document {
    doc! {"saslContinue": 1, "conversationId": 1, "payload": binary(payload)}
}

pub(crate) fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}
