//! A stand-in for a mongos, in front of a real server: what a server cannot be made to do, and no mongos can be had for.
//!
//! It says of itself what a mongos says. It knows the transactions and cursors that began on it and refuses those of
//! another, as a mongos does (transactions specification; 251 and 43); the end of another's transaction it takes with a
//! recovery token, of which it gives one with each reply in a transaction. Everything else is the server's.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::{Bson, Document, doc};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::relay::message;

/// One of several in front of a server, until it is dropped.
#[derive(Debug)]
pub struct Mongos {
    address: SocketAddr,
    router: Arc<Router>,
    gone: watch::Sender<bool>,
}

#[derive(Debug)]
struct Router {
    server: SocketAddr,
    name: String,
    /// By so much each hello is late.
    distance: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    commands: BTreeMap<String, usize>,
    max_time: Option<i32>,
    transactions: HashSet<(String, i64)>,
    cursors: HashSet<i64>,
    recovered: usize,
    refused: usize,
}

impl Mongos {
    /// In front of a server, which clients find so far away.
    pub async fn before(server: SocketAddr, distance: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Arc::new(Router {
            server,
            name: address.to_string(),
            distance,
            seen: Mutex::default(),
        });
        let gone = watch::Sender::new(false);
        tokio::spawn(listen(listener, Arc::clone(&router), gone.subscribe()));
        Self {
            address,
            router,
            gone,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many commands of this name have come.
    pub fn count(&self, command: &str) -> usize {
        let seen = self.router.seen();
        seen.commands.get(command).copied().unwrap_or_default()
    }

    /// `maxTimeMS` of the last command that had one as an int32.
    pub fn last_max_time(&self) -> Option<i32> {
        self.router.seen().max_time
    }

    /// How many transactions have begun here.
    pub fn transactions(&self) -> usize {
        self.router.seen().transactions.len()
    }

    /// How many transactions of another mongos were ended here, by their recovery tokens.
    pub fn recovered(&self) -> usize {
        self.router.seen().recovered
    }

    /// How many commands came that belong to another mongos.
    pub fn refused(&self) -> usize {
        self.router.seen().refused
    }

    /// It is gone: all connections are cut, and nobody listens any more.
    pub fn go(&self) {
        self.gone.send_replace(true);
    }
}

async fn listen(listener: TcpListener, router: Arc<Router>, gone: watch::Receiver<bool>) {
    let mut end = gone.clone();
    let accept = async {
        while let Ok((client, _)) = listener.accept().await {
            let (router, mut end) = (Arc::clone(&router), gone.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = serve(client, &router) => {}
                    _ = end.changed() => {}
                }
            });
        }
    };
    tokio::select! {
        () = accept => {}
        _ = end.changed() => {}
    }
}

/// `None` when either side is gone.
async fn serve(mut client: TcpStream, router: &Router) -> Option<()> {
    let mut server = TcpStream::connect(router.server).await.ok()?;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    loop {
        let request = message(&mut client).await?;
        let command = document_of(&request);
        if let Some(refusal) = router.refusal(&command) {
            let refusal = with_document(&reply_head(&request), &refusal);
            client.write_all(&refusal).await.ok()?;
            continue;
        }
        server.write_all(&request).await.ok()?;
        if has_more(&request) {
            continue;
        }
        loop {
            let reply = message(&mut server).await?;
            let mut document = document_of(&reply);
            if document.contains_key("maxWireVersion") {
                sleep(router.distance).await;
                document = face(document);
            } else {
                router.note(&command, &mut document);
            }
            client
                .write_all(&with_document(&reply, &document))
                .await
                .ok()?;
            if !has_more(&reply) {
                break;
            }
        }
    }
}

impl Router {
    /// Why a command is not one for this mongos.
    fn refusal(&self, command: &Document) -> Option<Document> {
        let name = command.keys().next()?;
        let mut seen = self.seen();
        *seen.commands.entry(name.clone()).or_default() += 1;
        seen.max_time = command.get_i32("maxTimeMS").ok().or(seen.max_time);
        let refusal = match transaction(command) {
            Some(own) => {
                let is_end = matches!(name.as_str(), "commitTransaction" | "abortTransaction");
                let token = command.get_document("recoveryToken");
                if command
                    .get_bool("startTransaction")
                    .is_ok_and(|starts| starts)
                {
                    seen.transactions.insert(own);
                    None
                } else if seen.transactions.contains(&own) {
                    None
                } else if is_end && token.is_ok_and(|token| token.contains_key(TOKEN)) {
                    seen.recovered += 1;
                    None
                } else {
                    Some(doc! {
                        "ok": 0.0, "code": 251, "codeName": "NoSuchTransaction",
                        "errmsg": "the transaction is not on this mongos",
                        "errorLabels": ["TransientTransactionError"],
                    })
                }
            }
            None if name == "getMore" && !seen.cursors.contains(&command.get_i64(name).ok()?) => {
                Some(doc! {
                    "ok": 0.0, "code": 43, "codeName": "CursorNotFound",
                    "errmsg": "the cursor is not on this mongos",
                })
            }
            None => None,
        };
        seen.refused += usize::from(refusal.is_some());
        refusal
    }

    /// Notes what a reply opens, and gives the token of a transaction.
    fn note(&self, command: &Document, reply: &mut Document) {
        let cursor = reply.get_document("cursor").and_then(|c| c.get_i64("id"));
        if let Ok(id) = cursor {
            self.seen().cursors.insert(id);
        }
        if transaction(command).is_some() && crate::is_ok(reply) {
            reply.insert("recoveryToken", doc! {TOKEN: &self.name});
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Session and number of the transaction that a command is in.
fn transaction(command: &Document) -> Option<(String, i64)> {
    command.get_bool("autocommit").ok()?;
    let session = command.get_document("lsid").ok()?.get("id")?;
    Some((session.to_string(), command.get_i64("txnNumber").ok()?))
}

/// A hello as a mongos says it.
fn face(mut hello: Document) -> Document {
    for key in OF_SETS {
        hello.remove(*key);
    }
    for key in ["isWritablePrimary", "ismaster"] {
        if let Some(is_primary) = hello.get_mut(key) {
            *is_primary = Bson::Boolean(true);
        }
    }
    hello.insert("msg", "isdbgrid");
    hello
}

/// Fields of a hello that only members of sets have.
const OF_SETS: &[&str] = &[
    "setName",
    "setVersion",
    "hosts",
    "passives",
    "arbiters",
    "primary",
    "me",
    "secondary",
    "electionId",
    "lastWrite",
    "isImplicitDefaultMajorityWC",
    "tags",
];

/// Where the document of a message begins: of an OP_QUERY, an OP_REPLY, or an OP_MSG whose body comes first.
fn document_at(message: &[u8]) -> usize {
    match i32::from_le_bytes(message[12..16].try_into().unwrap()) {
        OP_REPLY => 36,
        OP_QUERY => {
            let name = message[20..].iter().position(|byte| *byte == 0).unwrap();
            20 + name + 1 + 8
        }
        _ => 21,
    }
}

fn document_of(message: &[u8]) -> Document {
    let bytes = &message[document_at(message)..];
    let length = i32::from_le_bytes(bytes[..4].try_into().unwrap());
    let length = usize::try_from(length).unwrap();
    bson::deserialize_from_slice(&bytes[..length]).unwrap()
}

/// The same message with another document, and nothing behind it.
fn with_document(message: &[u8], document: &Document) -> Vec<u8> {
    let mut whole = message[..document_at(message)].to_vec();
    whole.extend(bson::serialize_to_vec(document).unwrap());
    let length = i32::try_from(whole.len()).unwrap();
    whole[..4].copy_from_slice(&length.to_le_bytes());
    whole
}

/// The beginning of an OP_MSG that answers a request.
fn reply_head(request: &[u8]) -> Vec<u8> {
    let mut head = vec![0; 21];
    head[8..12].copy_from_slice(&request[4..8]);
    head[12..16].copy_from_slice(&OP_MSG.to_le_bytes());
    head
}

/// Whether another message follows by itself: the flag `moreToCome` of an OP_MSG.
fn has_more(message: &[u8]) -> bool {
    let op_code = i32::from_le_bytes(message[12..16].try_into().unwrap());
    op_code == OP_MSG && message[16] & 2 != 0
}

/// What a recovery token says: a mongos names a shard there. Members check its form (6.0.5).
const TOKEN: &str = "recoveryShardId";
const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;
