//! Prints throughput and latency of the proxy as ratios to a direct connection.
#![allow(clippy::print_stdout, reason = "the report")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use bson::doc;
use clap::Parser;
use mdb_auth::Secret;
use mdb_load::{Client, Target, Workload, measure, prepare};
use mdb_runtime::{Args as ProxyArgs, run};
use mdb_testbed::{Deployment, ROOT_PASSWORD, ROOT_USER};

/// Closed-loop load.
#[derive(Debug, Parser)]
struct Args {
    /// Numbers of clients, one after another.
    #[arg(long, value_delimiter = ',', default_value = "1,16,128")]
    clients: Vec<u32>,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often each pair is measured; the report shows every one.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// How many idle clients are measured at the end.
    #[arg(long, default_value_t = 2000)]
    idle: u32,
    /// Only workloads whose names hold this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Handed over by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn workloads(&self) -> impl Iterator<Item = Workload> {
        Workload::ALL
            .into_iter()
            .filter(|workload| workload.name().contains(&self.only))
    }
}

fn main() -> anyhow::Result<()> {
    // The proxy is a process of its own: this program again, under another first argument.
    let mut arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "serve") {
        arguments[0] = "mdb-runtime".into();
        run(&ProxyArgs::parse_from(arguments));
        return Ok(());
    }
    let args = Args::parse();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(report(&args))
}

async fn report(args: &Args) -> anyhow::Result<()> {
    let deployment = Deployment::replica_set(1).with_auth().start().await?;
    let directory = tempfile::tempdir()?;
    let proxy = Proxy::start(directory.path(), &deployment.proxy_uri())?;
    let host: SocketAddr = deployment.hosts().first().context("a member")?.parse()?;
    let direct = Target {
        name: "direct",
        address: host,
        user: ROOT_USER.into(),
        password: Secret::new(ROOT_PASSWORD.into()),
    };
    let proxied = Target {
        name: "proxy",
        address: proxy.address,
        user: "load".into(),
        password: Secret::new("load".into()),
    };
    prepare(&direct, "direct").await?;
    prepare(&proxied, "proxied").await?;
    println!(
        "| workload | clients | direct/s | proxy/s | ratio | p50 direct | p50 proxy | p99 direct | p99 proxy |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let duration = Duration::from_secs(args.seconds);
    for workload in args.workloads() {
        for &clients in &args.clients {
            for _ in 0..args.rounds {
                let d = measure(&direct, "direct", workload, clients, duration).await?;
                let p = measure(&proxied, "proxied", workload, clients, duration).await?;
                println!(
                    "| {} | {clients} | {:.0} | {:.0} | {:.2} | {:?} | {:?} | {:?} | {:?} |",
                    workload.name(),
                    d.per_second,
                    p.per_second,
                    p.per_second / d.per_second,
                    d.median,
                    p.median,
                    d.p99,
                    p.p99
                );
            }
        }
    }
    println!();
    idle(args.idle, &proxied, &proxy).await
}

/// What idle clients that have authenticated and run one command cost in memory.
async fn idle(clients: u32, target: &Target, proxy: &Proxy) -> anyhow::Result<()> {
    let before = proxy.memory_kib()?;
    let mut connected = Vec::new();
    for _ in 0..clients {
        let mut client = Client::connect(target).await?;
        client
            .run(&doc! {"find": "proxied", "filter": {"_id": 1}, "$db": "load"})
            .await?;
        connected.push(client);
    }
    let after = proxy.memory_kib()?;
    println!(
        "memory of the proxy: {before} KiB, with {clients} idle authenticated clients {after} KiB"
    );
    println!(
        "per idle client: {:.1} KiB",
        f64::from(after - before) / f64::from(clients)
    );
    Ok(())
}

struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    fn start(directory: &Path, upstream: &str) -> anyhow::Result<Self> {
        let config = "version: 1\nlisten: [{ address: '127.0.0.1:0' }]\nupstream: { uri: { env: LOAD_UPSTREAM } }\nadmin: { address: '127.0.0.1:0' }\nlog: { format: json }\nlimits: { connections_per_app_max: 20000 }\n";
        let app = "version: '3.0'\nslug: load\nname: Load\ncredentials:\n  - { username: load, password: { env: LOAD_PASSWORD }, roles: [readWrite, dbAdmin] }\n";
        let apps = directory.join("apps");
        std::fs::create_dir(&apps)?;
        std::fs::write(directory.join("config.yaml"), config)?;
        std::fs::write(apps.join("load.yaml"), app)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--config")
            .arg(directory.join("config.yaml"))
            .env("LOAD_UPSTREAM", upstream)
            .env("LOAD_PASSWORD", "load")
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(child.stderr.take().context("the log")?);
        let mut address = None;
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            if log.read_line(&mut line)? == 0 {
                bail!("the proxy ended");
            }
            if line.contains("listening for clients") {
                address = Some(listener_of(&line)?);
            }
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self {
            child,
            address: address.context("the log names no address")?,
        })
    }

    fn memory_kib(&self) -> anyhow::Result<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

/// The listener's address in a line of the JSON log.
fn listener_of(line: &str) -> anyhow::Result<SocketAddr> {
    let (_, rest) = line
        .split_once("\"listener\":\"")
        .context("no listener in the line")?;
    let (address, _) = rest.split_once('"').context("no end of the address")?;
    Ok(address.parse()?)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
