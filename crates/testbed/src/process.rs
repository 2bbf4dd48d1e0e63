//! Processes that end with their owner, whether it is dropped, panics, exits or is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use crate::binary::LIBRARIES_VARIABLE;

/// Has a program killed when the thread that started it ends, then becomes that program.
const SETPRIV: &[&str] = &["setpriv", "--pdeathsig", "KILL"];

/// What to start.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Where shared libraries are looked for first.
    pub(crate) libraries: Option<PathBuf>,
    /// Gets standard output and standard error.
    pub(crate) output: File,
}

type Reply = oneshot::Sender<io::Result<Process>>;

/// A thread that starts processes and does nothing else. Linux sends the death signal when the
/// *thread* that started a process ends, and a test's own thread may end before its deployment.
#[derive(Debug)]
pub(crate) struct Spawner {
    orders: Option<mpsc::Sender<(Order, Reply)>>,
    thread: Option<JoinHandle<()>>,
}

impl Spawner {
    /// Starts the thread. Blocks for the moment it takes to see whether `setpriv` works.
    pub(crate) fn start() -> io::Result<Self> {
        let wrapper = if setpriv_works() {
            SETPRIV
        } else {
            tracing::warn!("no usable setpriv: servers outlive a process that is killed");
            &[]
        };
        let (sender, receiver) = mpsc::channel::<(Order, Reply)>();
        let thread = thread::Builder::new()
            .name("testbed-spawner".to_owned())
            .spawn(move || {
                for (order, reply) in receiver {
                    // A process for which nobody waits any longer ends by being dropped.
                    drop(reply.send(spawn(wrapper, order)));
                }
            })?;
        Ok(Self {
            orders: Some(sender),
            thread: Some(thread),
        })
    }

    pub(crate) async fn spawn(&self, order: Order) -> io::Result<Process> {
        let gone = || io::Error::other("the spawning thread has ended");
        let (reply, started) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        orders.send((order, reply)).map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // It ends at once, and a panic in it has been printed.
            drop(thread.join());
        }
    }
}

/// Tries it, because other implementations of `setpriv` lack the option.
fn setpriv_works() -> bool {
    let status = Command::new(SETPRIV[0])
        .args(&SETPRIV[1..])
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn spawn(wrapper: &[&str], order: Order) -> io::Result<Process> {
    let program = order.program.into_os_string();
    let mut words = wrapper.iter().map(OsString::from).chain([program]);
    let mut command = Command::new(words.next().unwrap_or_default());
    if let Some(libraries) = order.libraries {
        command.env(LIBRARIES_VARIABLE, libraries);
    }
    let child = command
        .args(words)
        .args(order.arguments)
        .stdin(Stdio::null())
        .stdout(order.output.try_clone()?)
        .stderr(order.output)
        .spawn()?;
    Ok(Process { child })
}

/// A running process; dropping it kills it and waits for its end.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, unless it runs.
    pub(crate) fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Errors also when it has ended: its id may belong to another process by then.
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if let Some(status) = self.exit_status()? {
            return Err(io::Error::other(format!("it has ended ({status})")));
        }
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended and has been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
