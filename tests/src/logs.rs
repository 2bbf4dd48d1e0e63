//! What the proxy logs, kept by thread: a test and its proxy have one thread.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static EXPECTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || !metadata.target().starts_with("mdb_") {
            return;
        }
        let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
        event.record(&mut line);
        // A thread that ends logs no more.
        let _ = LINES.try_with(|lines| lines.borrow_mut().push(line.0));
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

/// Begins to keep warnings and errors of the proxy; once for the process, whoever asks first.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Keep);
        tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    });
}

/// Announces that this test may bring about warnings that contain `part`.
pub fn expect(part: &str) {
    EXPECTED.with_borrow_mut(|expected| expected.push(part.to_owned()));
}

/// Warnings and errors of this test that nobody announced.
pub fn unexpected() -> Vec<String> {
    EXPECTED.with_borrow(|expected| {
        LINES.with_borrow(|lines| {
            let is_unexpected = |line: &&String| !expected.iter().any(|part| line.contains(part));
            lines.iter().filter(is_unexpected).cloned().collect()
        })
    })
}

/// Fails the test if it brought about warnings or errors that nobody announced.
pub fn check() {
    let unexpected = unexpected();
    assert!(
        unexpected.is_empty(),
        "unexpected in the log: {unexpected:#?}"
    );
}
