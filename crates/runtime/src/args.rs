//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use mdb_manifest::{Address, LogFormat, units};

/// A MongoDB proxy that gives each app a private MongoDB on shared collections.
#[derive(Debug, Parser)]
#[command(name = "mdb-runtime", version, after_help = EXIT_CODES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve clients until SIGTERM or SIGINT; then drain and end. A second signal ends at once.
    Serve(ServeArgs),
    /// Validate the configuration and all manifests, and print every problem with its place.
    Check(CheckArgs),
    /// Ask a running proxy whether it lives (for container health checks; needs no shell).
    Health(HealthArgs),
    /// See what was decided on automatic indexes and why, and decide on single ones.
    Indexes(IndexesArgs),
}

/// Arguments of `indexes`.
#[derive(Debug, clap::Args)]
pub struct IndexesArgs {
    /// The configuration file, which names the upstream and the control database.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub order: IndexOrder,
}

/// What can be done with automatic indexes.
#[derive(Debug, Subcommand)]
pub enum IndexOrder {
    /// The indexes that proxies have made or tried to make, with their states.
    List,
    /// The indexes that are advised and not made.
    Advise,
    /// Every decision on the indexes of a collection, with its reason and figures.
    Why {
        /// `database.collection`, as it is upstream.
        #[arg(value_name = "COLLECTION", value_parser = namespace)]
        collection: String,
    },
    /// Have advised indexes built: all, or one by its name, which may also be one that is gone. A running proxy does it in its
    /// next round.
    Apply {
        /// `database.collection/name`, as `advise` and `list` print it.
        #[arg(value_name = "NAME", value_parser = index_name)]
        name: Option<String>,
    },
    /// Drop an automatic index at once. It is not made again, unless it is applied.
    Drop {
        /// `database.collection/name`, as `list` prints it.
        #[arg(value_name = "NAME", value_parser = index_name)]
        name: String,
    },
}

/// `database.collection`.
fn namespace(text: &str) -> Result<String, &'static str> {
    let parts = text.split_once('.');
    let is_whole =
        parts.is_some_and(|(database, collection)| !database.is_empty() && !collection.is_empty());
    let text = is_whole.then(|| text.to_owned());
    text.ok_or("it is written `database.collection`")
}

/// `database.collection/name`.
fn index_name(text: &str) -> Result<String, &'static str> {
    let parts = text
        .split_once('.')
        .and_then(|(_, rest)| rest.split_once('/'));
    let is_whole =
        parts.is_some_and(|(collection, name)| !collection.is_empty() && !name.is_empty());
    let text = is_whole.then(|| text.to_owned());
    text.ok_or("it is written `database.collection/name`, as `mdb-runtime indexes list` prints it")
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Give up with exit code 3 if the upstream is not reachable in this time, as `30s` or `2m`. Without it: wait for
    /// ever, not ready meanwhile.
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    pub wait_for_upstream: Option<Duration>,
    /// The form of log lines, whatever the configuration says.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogForm>,
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// The admin address; 127.0.0.1:9464 unless given here or by the configuration.
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse, conflicts_with = "config")]
    pub address: Option<Address>,
    /// The configuration file that names the admin address.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The forms of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl From<LogForm> for LogFormat {
    fn from(form: LogForm) -> Self {
        match form {
            LogForm::Text => Self::Text,
            LogForm::Json => Self::Json,
        }
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0    ended by a signal, after draining; for check and health: all is well
  1    the configuration cannot be used; for health and indexes: no answer, or not a good one
  2    the arguments cannot be understood
  3    the upstream was not reachable within --wait-for-upstream
  130, 143  a second SIGINT or SIGTERM ended the drain";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn serve_takes_its_options() {
        let args = parse("x serve --config a.yaml --wait-for-upstream 2m --log-format json");
        let Ok(Command::Serve(serve)) = args.map(|args| args.command) else {
            panic!("not understood as serve");
        };
        assert_eq!(serve.config, PathBuf::from("a.yaml"));
        assert_eq!(serve.wait_for_upstream, Some(Duration::from_secs(120)));
        assert_eq!(serve.log_format, Some(LogForm::Json));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for line in [
            "x",
            "x serve",
            "x check",
            "x serve --config a --wait-for-upstream 5",
            "x serve --config a --log-format xml",
            "x health --address nowhere",
            "x health --address 127.0.0.1:1 --config a",
            "x reload --config a",
            "x indexes why shop",
            "x indexes why .products",
            "x indexes apply shop.products",
            "x indexes drop products/name",
            "x indexes drop",
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.use_stderr(), "{line}");
        }
        for line in ["x --version", "x --help", "x health --help"] {
            assert!(!parse(line).expect_err(line).use_stderr(), "{line}");
        }
    }
}
