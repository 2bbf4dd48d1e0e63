//! The command `indexes`: what the control database says of automatic indexes, and orders about single ones.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use mdb_indexer::{Line, OrderError, Store};
use mdb_manifest::{IndexMode, load};
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
        let text = "error: `--config FILE` is missing: the file names the upstream and the control database";
        let _ = writeln!(err, "{text}");
        return Ending::Arguments;
    };
    match carry_out(config, &args.order, environment, err) {
        Ok(lines) => {
            if lines.is_empty() {
                let _ = writeln!(err, "{}", said_of_none(&args.order));
            }
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

/// Why there is nothing to print.
fn said_of_none(order: &IndexOrder) -> &'static str {
    match order {
        IndexOrder::List => "no index is known: no proxy has made one, or advised one",
        IndexOrder::Advise => "no index is advised",
        IndexOrder::Apply { .. } => "no index is advised: there is nothing to apply",
        IndexOrder::Why { .. } | IndexOrder::Drop { .. } => "",
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
    let is_off = loaded.config.indexes.mode == IndexMode::Off;
    if is_off && matches!(order, IndexOrder::Apply { .. }) {
        anyhow::bail!(
            "{}: `indexes.mode` is `off`, so that no proxy would build it; `advise` is enough",
            config.display()
        );
    }
    runtime.block_on(async {
        let uri = loaded.config.upstream.uri.expose();
        let unusable = "the upstream: its connection string cannot be used";
        let mut options = ClientOptions::parse(uri).await.context(unusable)?;
        // One that the connection string gives counts.
        let timeout = &mut options.server_selection_timeout;
        timeout.get_or_insert(SELECTION_TIMEOUT);
        let client = Client::with_options(options).context(unusable)?;
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
            Ok(vec![vec![
                name.clone(),
                "dropped; it is not made again unless it is applied".to_owned(),
            ]])
        }
    }
}
