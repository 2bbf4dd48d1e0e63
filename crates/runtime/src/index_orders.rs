//! The command `indexes`: what the control database says of automatic indexes, and orders about single ones.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use mdb_indexer::{Line, OrderError, Store};
use mdb_manifest::load;
use mongodb::Client;
use mongodb::options::ClientOptions;

use crate::args::{IndexOrder, IndexesArgs};
use crate::check::print_problems;
use crate::ending::Ending;

/// How long a server is looked for. An operator waits for it.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries out the order and prints what came of it, a line for each row.
pub fn run(
    args: &IndexesArgs,
    environment: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Ending {
    // When nobody reads the text, the exit code still tells.
    let Some(config) = &args.config else {
        let _ = writeln!(err, "--config is missing: it names the upstream");
        return Ending::Failure;
    };
    match carry_out(config, &args.order, environment, err) {
        Ok(lines) => {
            for line in lines {
                let _ = writeln!(out, "{}", line.join("  "));
            }
            Ending::Success
        }
        Err(error) => {
            let _ = writeln!(err, "{error:#}");
            Ending::Failure
        }
    }
}

fn carry_out(
    config: &Path,
    order: &IndexOrder,
    environment: &dyn Fn(&str) -> Option<String>,
    err: &mut dyn Write,
) -> anyhow::Result<Vec<Line>> {
    let loaded = load(config, environment).map_err(|report| {
        let _ = print_problems(&report.problems, err);
        anyhow::anyhow!("the configuration cannot be used")
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the worker thread")?;
    runtime.block_on(async {
        let uri = loaded.config.upstream.uri.expose();
        let mut options = ClientOptions::parse(uri).await?;
        options.server_selection_timeout = Some(SELECTION_TIMEOUT);
        let client = Client::with_options(options)?;
        let control_database = loaded.config.control_database.as_str().to_owned();
        let store = Store::new(client, control_database);
        Ok(lines_of(&store, order).await?)
    })
}

async fn lines_of(store: &Store, order: &IndexOrder) -> Result<Vec<Line>, OrderError> {
    match order {
        IndexOrder::List => store.list().await,
        IndexOrder::Advise => store.advice().await,
        IndexOrder::Why { collection } => store.why(collection).await,
        IndexOrder::Apply { name } => {
            let ordered = store.apply(name.as_deref()).await?;
            let line = |id| vec![id, "will be built by a proxy in its next round".to_owned()];
            Ok(ordered.into_iter().map(line).collect())
        }
        IndexOrder::Drop { name } => {
            store.drop_index(name).await?;
            Ok(vec![vec![name.clone(), "dropped".to_owned()]])
        }
    }
}
