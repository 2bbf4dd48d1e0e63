use super::*;
use crate::ClientLimits;
use crate::testing::{Client, LIMITS, Proxy};
use bson::doc;
use mdb_auth::Mechanism;
use tokio::task::JoinHandle;

/// A proxy that listens.
struct Listening {
    shared: Arc<Shared>,
    address: SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
}

impl Listening {
    async fn start(limits: ClientLimits) -> Self {
        let shared = Proxy::with_limits(limits).await.shared;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let serving = tokio::spawn(serve(
            listener,
            ListenerOptions::default(),
            Arc::clone(&shared),
            shutdown.clone(),
        ));
        Self {
            shared,
            address,
            shutdown,
            serving,
        }
    }

    async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    fn closed(&self, reason: &str) -> String {
        let name = "mdb_runtime_client_connections_closed_total";
        let start = format!(
            "{name}{{listener=\"{}\",reason=\"{reason}\"}} ",
            self.address
        );
        let rendered = self.shared.metrics.render();
        let line = rendered.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or("no such series").to_owned()
    }
}

#[tokio::test]
async fn one_too_many_is_closed_before_its_hello() {
    let all = ClientLimits {
        connections_max: 2,
        ..LIMITS
    };
    let of_address = ClientLimits {
        connections_per_address_max: 2,
        ..LIMITS
    };
    let unauthenticated = ClientLimits {
        connections_unauthenticated_max: 2,
        ..LIMITS
    };
    for (limits, name) in [
        (all, "connections_max"),
        (of_address, "connections_per_address_max"),
        (unauthenticated, "connections_unauthenticated_max"),
    ] {
        let proxy = Listening::start(limits).await;
        let (mut first, mut second) = (proxy.connect().await, proxy.connect().await);
        for client in [&mut first, &mut second] {
            assert_eq!(client.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
        }
        let mut third = proxy.connect().await;
        assert!(third.receive().await.is_none());
        assert_eq!(proxy.closed("limit"), "1", "{name}");
        let line = format!("mdb_runtime_limits_reached_total{{limit=\"{name}\"}} 1");
        assert!(proxy.shared.metrics.render().contains(&line), "{name}");
        assert_eq!(first.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
    }
}

#[tokio::test]
async fn who_logs_in_makes_room_for_strangers() {
    let limits = ClientLimits {
        connections_unauthenticated_max: 1,
        ..LIMITS
    };
    let proxy = Listening::start(limits).await;
    let mut first = proxy.connect().await;
    first
        .authenticate(Mechanism::ScramSha256, "shop", "pencil")
        .await;
    let mut second = proxy.connect().await;
    assert_eq!(second.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
    // It counts again, although there is no room.
    first.command(doc! {"logout": 1}).await;
    assert_eq!(proxy.shared.unauthenticated.taken(), 2);
    drop(first);
    let mut third = proxy.connect().await;
    assert!(third.receive().await.is_none());
}

#[tokio::test]
async fn a_drain_tells_hellos_serves_commands_and_ends_when_all_is_quiet() {
    let proxy = Listening::start(LIMITS).await;
    let mut monitor = proxy.connect().await;
    let mut client = proxy.connect().await;
    let hello = monitor.command(doc! {"hello": 1}).await;
    client.command(doc! {"hello": 1}).await;
    let awaiting = doc! {
        "hello": 1,
        "topologyVersion": hello.get_document("topologyVersion").unwrap().clone(),
        "maxAwaitTimeMS": i32::MAX,
    };
    monitor.send(0, awaiting).await;
    let busy = proxy.shared.running.take(usize::MAX);
    proxy.shutdown.stop.cancel();
    let told = monitor.receive().await.unwrap().body();
    assert_eq!(told.get_i32("code").ok(), Some(91));
    let version = told.get_document("topologyVersion").unwrap();
    assert_eq!(version.get_i64("counter").ok(), Some(1));
    assert_eq!(client.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
    assert!(TcpStream::connect(proxy.address).await.is_err());
    drop(busy);
    assert!(client.receive().await.is_none());
    assert!(monitor.receive().await.is_none());
    let Listening {
        shared, serving, ..
    } = proxy;
    serving.await.unwrap();
    assert_eq!(shared.connections.taken(), 0);
}

#[tokio::test]
async fn the_grace_ends_a_drain_that_does_not_become_quiet() {
    let proxy = Listening::start(LIMITS).await;
    let mut client = proxy.connect().await;
    client.command(doc! {"hello": 1}).await;
    let _open = proxy.shared.transactions.take(usize::MAX);
    proxy.shutdown.stop.cancel();
    assert_eq!(client.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
    proxy.shutdown.kill.cancel();
    assert!(client.receive().await.is_none());
    let Listening {
        shared,
        address,
        serving,
        ..
    } = proxy;
    serving.await.unwrap();
    assert_eq!(shared.connections.taken(), 0);
    assert!(shared.metrics.render().contains(&format!(
        "mdb_runtime_client_connections_open{{listener=\"{address}\"}} 0"
    )));
}

#[tokio::test]
async fn a_panic_ends_one_client_and_is_counted() {
    let shared = Proxy::new().await.shared;
    let mut reception = Reception {
        options: ListenerOptions::default(),
        meter: shared.metrics.listener_meter("test"),
        clients: JoinSet::new(),
        leave: CancellationToken::new(),
        shared,
    };
    reception.meter.opened();
    reception
        .clients
        .spawn(async { panic!("as this test wants it") });
    let ended = reception.clients.join_next().await.unwrap();
    reception.take_leave(ended);
    let rendered = reception.shared.metrics.render();
    for line in [
        "mdb_runtime_panics_total 1",
        "mdb_runtime_client_connections_closed_total{listener=\"test\",reason=\"panic\"} 1",
        "mdb_runtime_client_connections_open{listener=\"test\"} 0",
    ] {
        assert!(rendered.contains(line), "{line}");
    }
}

#[tokio::test]
async fn who_waits_in_the_queue_when_the_drain_begins_is_answered() {
    let shared = Proxy::new().await.shared;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(Client::new(TcpStream::connect(address).await.unwrap()));
    }
    let shutdown = Shutdown::default();
    // The drain begins before anybody is accepted.
    shutdown.stop.cancel();
    let serving = tokio::spawn(serve(
        listener,
        ListenerOptions::default(),
        shared,
        shutdown,
    ));
    for client in &mut waiting {
        let reply = client.command(doc! {"hello": 1}).await;
        assert_eq!(reply.get_i32("code").ok(), Some(91), "{reply}");
    }
    serving.await.unwrap();
}
