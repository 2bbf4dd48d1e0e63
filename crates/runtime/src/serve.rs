//! The command `serve`: from files to a proxy, and from a signal to its end.

use std::io;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use mdb_manifest::{Config, Loaded, LogFormat, Problem, Report, load};
use mdb_telemetry::logging;
use tokio::time::timeout;

use crate::app::Proxy;
use crate::args::ServeArgs;
use crate::check::print_problems;
use crate::ending::Ending;
use crate::open_files;
use crate::readiness::Unready;
use crate::reload;
use crate::signals::{HangUps, Signals};
use crate::watch::{Files, Watch};

/// Serves until a signal. Blocks.
pub(crate) fn serve(args: &ServeArgs, environment: &dyn Fn(&str) -> Option<String>) -> Ending {
    let read_at = SystemTime::now();
    let loaded = match load(&args.config, environment) {
        Ok(loaded) => loaded,
        Err(report) => {
            // There is no log yet. When nobody reads the text, the exit code still tells.
            let _ = print_problems(&report.problems, &mut io::stderr().lock());
            return Ending::Failure;
        }
    };
    match prepare(args, &loaded) {
        Ok(runtime) => {
            let ending = runtime.block_on(live(args, environment, loaded, read_at));
            // What has not ended by now was given up on purpose.
            runtime.shutdown_background();
            ending
        }
        Err(error) => {
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{error:#}\n"));
            Ending::Failure
        }
    }
}

/// Starts logging and the runtime.
fn prepare(args: &ServeArgs, loaded: &Loaded) -> anyhow::Result<tokio::runtime::Runtime> {
    let config = &loaded.config;
    let format = args.log_format.map_or(config.log.format, LogFormat::from);
    logging::init(log_format(format), config.log.level.as_str())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        apps = loaded.apps.len(),
        "mdb-runtime starts"
    );
    for problem in &loaded.warnings {
        log_warning(problem);
    }
    open_files::raise_limit(open_files_wanted(config));
    // As many worker threads as the machine has cores for this process.
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the worker threads")
}

async fn live(
    args: &ServeArgs,
    environment: &dyn Fn(&str) -> Option<String>,
    loaded: Loaded,
    read_at: SystemTime,
) -> Ending {
    let files = Files::of(&loaded);
    let started = async {
        let signals = Signals::listen().context("cannot listen to signals")?;
        let hang_ups = HangUps::listen().context("cannot listen to signals")?;
        Ok((signals, hang_ups, Proxy::start(loaded).await?))
    };
    let (mut signals, mut hang_ups, proxy) = match started.await {
        Ok(started) => started,
        Err(error) => {
            log_failure(&error);
            return Ending::Failure;
        }
    };
    for address in proxy.addresses() {
        tracing::info!(listener = %address, "listening for clients");
    }
    tracing::info!(listener = %proxy.admin_address(), "listening for metrics and health");
    let watch = Watch::new(files, read_at);
    let reloads = reload::follow(
        proxy.reloading(),
        &args.config,
        environment,
        &mut hang_ups,
        watch,
    );
    let signal = tokio::select! {
        signal = signals.end() => signal,
        never = reloads => match never {},
        () = upstream_missed(&proxy, args.wait_for_upstream) => {
            return Ending::UpstreamUnreachable;
        }
    };
    tracing::info!(signal = signal.name(), "draining");
    tokio::select! {
        () = proxy.shut_down() => {
            tracing::info!("ended");
            Ending::Success
        }
        second = signals.end() => {
            tracing::warn!(signal = second.name(), "a second signal: ending at once");
            Ending::Interrupted(second)
        }
    }
}

/// Returns only if the upstream was not reachable within the limit, when there is one.
async fn upstream_missed(proxy: &Proxy, wait_max: Option<Duration>) {
    let readiness = proxy.readiness();
    let reached = async {
        readiness.upstream_reachable().await;
        tracing::info!("the upstream is reachable: ready");
    };
    match wait_max {
        None => reached.await,
        Some(wait_max) => {
            if timeout(wait_max, reached).await.is_err() {
                let reasons = readiness.reasons();
                let reason = reasons.first().copied().map_or("", Unready::as_str);
                tracing::error!(?wait_max, reason, "the upstream was not reachable in time");
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}

fn log_warning(problem: &Problem) {
    let file = problem.file.display();
    tracing::warn!(%file, line = problem.line, "{}", problem.text);
}

fn log_failure(error: &anyhow::Error) {
    let Some(report) = error.downcast_ref::<Report>() else {
        tracing::error!("cannot start: {error:#}");
        return;
    };
    for problem in &report.problems {
        tracing::error!("cannot start: {problem}");
    }
}

fn log_format(format: LogFormat) -> logging::LogFormat {
    match format {
        LogFormat::Text => logging::LogFormat::Text,
        LogFormat::Json => logging::LogFormat::Json,
    }
}

/// Clients, one pool, and some for everything else.
fn open_files_wanted(config: &Config) -> u64 {
    u64::from(config.limits.connections_max)
        + u64::from(config.upstream.pool.connections_max)
        + OTHER_FILES
}

/// Listeners, monitoring connections, HTTP, the log, and connections to more members than one.
const OTHER_FILES: u64 = 256;
