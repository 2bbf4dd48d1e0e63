//! The server's configuration and the manifests of the apps: read from YAML or JSON, checked once, all problems together.
//!
//! [`load`] gives typed values that cannot be wrong, or a [`Report`] of everything that is wrong, each problem with its
//! file and line. [`load_config`] and [`load_apps`] are its two halves; apps can be loaded again alone.
//!
//! - `yaml`: bytes to a tree whose nodes know their place. The only file that names the YAML reader.
//! - `positions`: where each node stands, and the limits of a file.
//! - `reader`: walks the tree with tables of expected keys and collects problems instead of stopping.
//! - [`config`], [`app`], [`index`]: the typed values, with their defaults and the reasons for them.
//! - [`names`], [`address`], [`units`]: the grammars of single values.

pub mod address;
pub mod app;
pub mod config;
mod file;
pub mod index;
mod load;
pub mod names;
mod positions;
mod reader;
pub mod report;
mod secret;
pub mod units;
mod yaml;

pub use address::Address;
pub use app::{AppManifest, Credential, IdPolicy, Isolation, Proof, Role};
pub use config::{
    Admin, ClientCertificates, Compressor, Config, FileReference, IndexMode, Indexes, Limits,
    Listener, ListenerTls, Log, LogFormat, LogLevel, Pool, Upstream, Waiting,
};
pub use index::{Direction, IndexKey, ManagedIndex, Value};
pub use load::{Loaded, LoadedApps, LoadedConfig, load, load_apps, load_config};
pub use names::{AppSlug, DatabaseName, FieldName, NameError};
pub use report::{Problem, Report, Severity};
