//! The program around the proxy: arguments, start, admin HTTP, signals, end.
//!
//! - [`run`] does what the arguments say and tells with which [`Ending`] the process ends.
//! - [`Proxy`] is a whole proxy in one value: started from loaded manifests, ended by a drain. Tests and the
//!   demonstration run it inside their own process.
//! - [`check`], [`health`] and [`index_orders`] are the other commands.
//!
//! ```text
//!  args ─► serve ─► load, log, signals
//!             └───► Proxy::start: bind ─► upstream ─► credentials ─► listeners, admin      (app.rs: the graph)
//! ```

mod admin;
mod app;
mod args;
mod certificates;
pub mod check;
mod credentials;
mod declared;
mod ending;
pub mod health;
pub mod index_orders;
mod indexing;
mod listeners;
mod open_files;
mod privileges;
mod readiness;
mod reload;
mod serve;
mod signals;
mod watch;

pub use app::Proxy;
pub use args::{Args, CheckArgs, Command, HealthArgs, IndexOrder, IndexesArgs, ServeArgs};
pub use ending::Ending;
pub use readiness::{Readiness, Unready};
pub use signals::EndSignal;

use std::io;

/// Does what the arguments say, with the environment of the process. Blocks until it is done.
pub fn run(args: &Args) -> Ending {
    let environment = |name: &str| std::env::var(name).ok();
    match &args.command {
        Command::Serve(args) => serve::serve(args, &environment),
        Command::Check(args) => check::check(
            &args.config,
            &environment,
            &mut io::stdout().lock(),
            &mut io::stderr().lock(),
        ),
        Command::Health(args) => health::health(args, &mut io::stderr().lock()),
        Command::Indexes(args) => {
            let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
            index_orders::run(args, &environment, &mut out, &mut err)
        }
    }
}
