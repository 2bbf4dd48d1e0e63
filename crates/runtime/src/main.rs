//! `mdb-runtime`: the proxy's program.

use std::process::ExitCode;

use clap::Parser;
use mdb_runtime::{Args, Ending, run};

fn main() -> ExitCode {
    let ending = match Args::try_parse() {
        Ok(args) => run(&args),
        Err(error) => {
            // There is nobody to tell when standard output and standard error are closed.
            let _ = error.print();
            if error.use_stderr() {
                Ending::Arguments
            } else {
                Ending::Success
            }
        }
    };
    ending.into()
}
