//! Validating everything, without serving.

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use mdb_manifest::{Loaded, Problem, Report, Severity, load};
use mdb_telemetry::Metrics;
use mdb_upstream::{Upstream, UpstreamError};

use crate::app::{forward, upstream_options};
use crate::ending::Ending;
use crate::{certificates, credentials};

/// Prints every problem to `err`, one per line as `file:line: text`, warnings marked as such. Without errors, prints a
/// summary of one line to `out`.
pub fn check(
    config: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Ending {
    let (problems, summary) = match load(config, environment) {
        Ok(loaded) => {
            let mut problems = loaded.warnings.clone();
            problems.extend(problems_of_use(config, &loaded));
            (problems, summary(config, &loaded))
        }
        Err(report) => (report.problems, String::new()),
    };
    let has_errors = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    // When nobody reads the text, the exit code still tells.
    let _ = print_problems(&problems, err);
    if has_errors {
        return Ending::Failure;
    }
    let _ = writeln!(out, "{summary}");
    Ending::Success
}

/// One line for each: `file:line: text`, or `file:line: warning: text`.
pub(crate) fn print_problems(problems: &[Problem], out: &mut dyn Write) -> io::Result<()> {
    for problem in problems {
        match problem.severity {
            Severity::Error => writeln!(out, "{problem}")?,
            Severity::Warning => {
                let marked = Problem {
                    text: format!("warning: {}", problem.text),
                    ..problem.clone()
                };
                writeln!(out, "{marked}")?;
            }
        }
    }
    Ok(())
}

/// What only comes to light in use: passwords, certificates and connection strings that cannot be used.
fn problems_of_use(config: &Path, loaded: &Loaded) -> Vec<Problem> {
    let salts = credentials::salts(&loaded.config.upstream.uri);
    let mut problems = match credentials::build(&loaded.apps, &salts, &Metrics::new(), None) {
        Ok(_) => Vec::new(),
        Err(Report { problems }) => problems,
    };
    match certificates::load(config, &loaded.config, SystemTime::now()) {
        Ok(certificates) => problems.extend(certificates.warnings),
        Err(report) => problems.extend(report.problems),
    }
    let in_config = |text: String| Problem {
        file: config.to_owned(),
        line: None,
        column: None,
        severity: Severity::Error,
        text,
    };
    if let Err(error) = forward(&loaded.config) {
        problems.push(in_config(format!("{error:#}")));
    }
    if let Err(text) = try_upstream(loaded) {
        problems.push(in_config(format!("`upstream.uri`: {text}")));
    }
    problems
}

/// Reads the connection string exactly as `serve` does. No server needs to be there.
fn try_upstream(loaded: &Loaded) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let started: Result<(), UpstreamError> = runtime.block_on(async {
        let options = upstream_options(&loaded.config.upstream);
        Upstream::start(options, Metrics::new())
            .await?
            .shut_down()
            .await;
        Ok(())
    });
    started.map_err(|error| error.to_string())
}

fn summary(config: &Path, loaded: &Loaded) -> String {
    let users: usize = loaded.apps.iter().map(|app| app.credentials.len()).sum();
    format!(
        "{}: good: {}, {}, {}",
        config.display(),
        counted(loaded.apps.len(), "app"),
        counted(users, "credential"),
        counted(loaded.warnings.len(), "warning"),
    )
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests;
