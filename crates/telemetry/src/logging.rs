//! Starting the log: text or JSON lines on standard error.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing::Subscriber;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line; the event's fields stand at its top level.
    Json,
}

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The level is none of `error`, `warn`, `info`, `debug`, `trace`.
    #[error("unknown log level `{level}`; known: error, warn, info, debug, trace")]
    UnknownLevel {
        /// What was given.
        level: String,
    },
    /// A subscriber is installed already: logging is started once per process.
    #[error("logging has been started already")]
    Started(#[from] SetGlobalDefaultError),
}

/// Sends events of `level` and above to standard error, for the rest of the process' life. The environment has no say.
pub fn init(format: LogFormat, level: &str) -> Result<(), LoggingError> {
    let has_colour = std::io::stderr().is_terminal();
    let subscriber = subscriber(format, level, has_colour, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(())
}

fn subscriber<W>(
    format: LogFormat,
    level: &str,
    has_colour: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(level)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(has_colour).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed(),
    };
    Ok(Registry::default().with(filter).with(lines))
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    // Parsed against the list first: a filter would also take numbers and whole directives.
    if !LEVELS.contains(&level) {
        return Err(LoggingError::UnknownLevel {
            level: level.to_owned(),
        });
    }
    let level = LevelFilter::from_str(level).map_err(|_| LoggingError::UnknownLevel {
        level: level.to_owned(),
    })?;
    Ok(EnvFilter::default().add_directive(level.into()))
}

const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, level, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(connection = 7, app = "shop", "client connected");
            tracing::debug!("not at level info");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_fields_at_the_top() {
        let text = logged(LogFormat::Json, "info");
        let line: serde_json::Value = serde_json::from_str(&text).expect("exactly one line");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "client connected");
        assert_eq!(line[crate::fields::CONNECTION], 7);
        assert_eq!(line[crate::fields::APP], "shop");
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn text_lines_obey_the_level() {
        assert!(
            logged(LogFormat::Text, "info").contains("client connected connection=7 app=\"shop\"")
        );
        assert_eq!(logged(LogFormat::Text, "debug").lines().count(), 2);
        assert_eq!(logged(LogFormat::Text, "error"), "");
    }

    #[test]
    fn other_levels_are_refused() {
        for level in ["", "INFO", "off", "3", "info,mdb=trace"] {
            let error = filter(level).unwrap_err();
            assert!(
                matches!(error, LoggingError::UnknownLevel { .. }),
                "{level}"
            );
        }
    }
}
