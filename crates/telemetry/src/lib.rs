//! What the proxy says about itself: the one catalogue of metrics, the names of log fields, and the start of logging.
//!
//! Nothing here is global except the subscriber that [`logging::init`] installs. [`Metrics`] is passed to whoever counts.
//!
//! - [`metrics`]: the catalogue and the counters made from it.
//! - [`labels`]: the closed sets of label values. Text of a client never becomes a label.
//! - [`meter`]: counters of one app, command or listener, resolved once and then free of lookups.
//! - [`fields`]: the names of log fields.
//! - [`logging`]: text or JSON lines on standard error.

pub mod fields;
pub mod labels;
pub mod logging;
pub mod meter;
pub mod metrics;

pub use labels::{
    AuthenticationOutcome, CheckoutFailure, CloseReason, CommandOutcome, ConnectionState,
    ExchangeErrorKind, IndexChange, IndexEvent, Label, LeasePurpose, LimitName, Mechanism,
    ReloadOutcome, UpstreamCloseReason, WaitsFor,
};
pub use logging::{LogFormat, LoggingError};
pub use meter::{AppMeter, CommandMeter, Counted, ListenerMeter};
pub use metrics::{Kind, MetricSpec, Metrics, OTHER_COMMAND, catalogue};
