//! `cargo demo`.
#![expect(clippy::print_stdout, reason = "the demonstration is there to print")]

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use mdb_demo::walk::{self, Outcome};
use mdb_demo::{Ports, Stage, table};
use mdb_telemetry::{LogFormat, logging};
use tokio::signal::unix::{SignalKind, signal};

/// Two apps, one MongoDB, the same collection: shows the proxy at work, and keeps running until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Args {
    /// End after the walk; the exit code is 0 only if every expectation held.
    #[arg(long)]
    once: bool,
    /// The proxy's port on 127.0.0.1; 0 for any that is free.
    #[arg(long, default_value_t = 27018)]
    port: u16,
    /// The port for metrics and health on 127.0.0.1; 0 for any that is free.
    #[arg(long, default_value_t = 9464)]
    admin_port: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse_from(arguments());
    match demonstrate(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("\nThe demonstration could not be given: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The alias `cargo demo` ends in `--`, so that `cargo demo --once` works. With `cargo demo -- --once` a second one
/// arrives here, and means nothing.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|argument| argument == "--") {
        arguments.remove(1);
    }
    arguments
}

/// Whether every expectation held.
async fn demonstrate(args: &Args) -> anyhow::Result<bool> {
    logging::init(LogFormat::Text, "warn")?;
    let ports = Ports {
        clients: args.port,
        admin: args.admin_port,
    };
    ports.check_free()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!(
        "Starting a mongod and the proxy. If this machine has no mongod, one is fetched first."
    );
    let stage = tokio::select! {
        stage = Stage::start(ports) => stage?,
        _ = interrupt.recv() => return Ok(false),
        _ = terminate.recv() => return Ok(false),
    };
    let all_held = tokio::select! {
        all_held = show(&stage) => all_held?,
        _ = interrupt.recv() => false,
        _ = terminate.recv() => false,
    };
    if !args.once {
        print_addresses(&stage);
        println!("\nCtrl-C ends the demonstration and removes everything it has made.");
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        println!("\nCleaning up.");
    }
    stage.end().await;
    Ok(all_held)
}

async fn show(stage: &Stage) -> anyhow::Result<bool> {
    println!(
        "mongod {} is a replica set of one member; the proxy listens on {}.\n",
        stage.mongod_version(),
        stage.address(),
    );
    println!(
        "Two apps, `shop` and `notes`, use the same collection, {}:\n",
        walk::NAMESPACE
    );
    let mut held = 0;
    let steps = walk::walk(stage)
        .await
        .context("the apps cannot be connected")?;
    for step in &steps {
        match &step.outcome {
            Outcome::Held => {
                held += 1;
                println!("  ok      {}", step.expectation);
            }
            Outcome::Failed(reason) => {
                println!("  FAILED  {}", step.expectation);
                println!("          {reason}");
            }
        }
    }
    println!("\nWhat MongoDB stores, and what each app sees of it:\n");
    println!(
        "{}",
        table::sight(stage)
            .await
            .context("the documents cannot be read")?
    );
    println!("{held} of {} expectations held.", steps.len());
    Ok(held == steps.len())
}

fn print_addresses(stage: &Stage) {
    println!("\nConnect with any driver or shell:");
    println!("  as shop      {}", stage.app_uri("shop"));
    println!("  as notes     {}", stage.app_uri("notes"));
    println!("  to mongod    {}", stage.upstream_uri());
    println!("  metrics      http://{}/metrics", stage.admin_address());
}
