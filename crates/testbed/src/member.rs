//! One mongod of a deployment.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::{Document, doc};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::error::{DeploymentError, files, system};
use crate::plain;
use crate::process::{Order, Process, Spawner};

/// How long a start, a restart, a stop or an election may take, in seconds. A replica set needs about
/// ten on a slow machine; the rest is for machines that run other tests at the same time.
pub(crate) const READY_TIMEOUT_SECONDS: u64 = 120;

/// Between two looks at a server that is not ready yet.
const POLL_MILLIS: u64 = 50;

/// A `hello` takes longer only on a server that is paused.
const HELLO_TIMEOUT_MILLIS: u64 = 1_000;

/// A port that was free may be taken before mongod binds it; more often than this it is no accident.
const PORT_ATTEMPTS_MAX: u32 = 5;

/// Lines of log in an error's text.
pub(crate) const ERROR_LOG_LINES: usize = 20;

/// Of a log, so many bytes from its end are looked at for its last lines.
const LOG_TAIL_BYTES_MAX: u64 = 256 * 1024;

/// mongod logs this when it accepts connections. Another mongod that took the port would answer
/// `hello` just as well, but it does not write to this log.
const LISTENS: &str = "Waiting for connections";

const PORT_TAKEN: &str = "Address already in use";

/// How the members of one deployment are started.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) program: PathBuf,
    pub(crate) libraries: Option<PathBuf>,
    /// All but the port and the directory.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) spawner: Spawner,
    pub(crate) is_replica_set: bool,
}

/// One mongod of a [`Deployment`](crate::Deployment). It keeps its port and its directory when it is
/// killed or stopped and started again.
#[derive(Debug)]
pub struct Member {
    process: Mutex<Option<Process>>,
    index: usize,
    port: u16,
    directory: PathBuf,
    recipe: Arc<Recipe>,
}

impl Member {
    /// Starts a mongod on the port of `reservation`, or on another one should that be taken in
    /// between, and waits until it answers.
    pub(crate) async fn start(
        index: usize,
        reservation: TcpListener,
        directory: PathBuf,
        recipe: Arc<Recipe>,
        deadline: Instant,
    ) -> Result<Self, DeploymentError> {
        let data = directory.join("data");
        fs::create_dir_all(&data).map_err(files("create", &data))?;
        let mut member = Self {
            process: Mutex::new(None),
            index,
            port: port_of(&reservation)?,
            directory,
            recipe,
        };
        drop(reservation);
        for _ in 0..PORT_ATTEMPTS_MAX {
            if member.launch(deadline).await? {
                return Ok(member);
            }
            member.port = port_of(&reserve_port()?)?;
        }
        Err(member.exited_or_not_running())
    }

    /// The member's number in the deployment, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process id, unless the member was killed or stopped.
    pub fn process_id(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// The directory with its data and its log.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// SIGKILL: ends the member at once, as a crash would, and waits until it is gone.
    pub fn kill(&self) -> Result<(), DeploymentError> {
        let process = self.process().take();
        process.map(drop).ok_or(self.not_running())
    }

    /// SIGTERM: lets the member shut down in good order and waits until it has. A paused member is
    /// resumed, else it would not notice.
    pub async fn stop(&self) -> Result<(), DeploymentError> {
        self.signal(Signal::TERM)?;
        self.signal(Signal::CONT)?;
        let deadline = ready_deadline();
        while self.exit_status()?.is_none() {
            self.wait_a_little(deadline, "a member to stop").await?;
        }
        self.process().take();
        Ok(())
    }

    /// SIGSTOP: the member keeps its connections but answers nothing, as in a network partition.
    pub fn pause(&self) -> Result<(), DeploymentError> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: undoes [`pause`](Self::pause).
    pub fn resume(&self) -> Result<(), DeploymentError> {
        self.signal(Signal::CONT)
    }

    /// Starts the member again on the same port and directory, after stopping it if it runs, and
    /// waits until it answers; in a replica set, until it is a primary or a secondary again.
    pub async fn restart(&self) -> Result<(), DeploymentError> {
        if matches!(self.exit_status(), Ok(None)) {
            self.stop().await?;
        }
        let deadline = ready_deadline();
        // A client that tries to reconnect may hold the port for a moment.
        while !self.launch(deadline).await? {
            self.wait_a_little(deadline, "the member's port").await?;
        }
        while !self.is_in_service().await {
            self.check_running()?;
            self.wait_a_little(deadline, "a member to rejoin").await?;
        }
        Ok(())
    }

    /// The last `lines` lines of the member's log, one JSON document each.
    pub fn log_tail(&self, lines: usize) -> String {
        // A log that cannot be read must not hide the error for which it was wanted.
        let text = self.log_text().unwrap_or_else(|error| error.to_string());
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The answer to `hello`, unless the member is down or paused.
    pub(crate) async fn hello(&self) -> Option<Document> {
        let deadline = Instant::now() + Duration::from_millis(HELLO_TIMEOUT_MILLIS);
        let command = doc! { "hello": 1, "$db": "admin" };
        plain::run(&self.address(), &command, deadline).await.ok()
    }

    /// An error if the process has ended by itself; a member that was killed or stopped is well.
    pub(crate) fn check_running(&self) -> Result<(), DeploymentError> {
        match self.exit_status() {
            Ok(Some(_)) => Err(self.exited_or_not_running()),
            Ok(None) | Err(DeploymentError::NotRunning { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Starts the process and waits until it answers; false if its port is taken.
    async fn launch(&self, deadline: Instant) -> Result<bool, DeploymentError> {
        let path = self.log_path();
        let open = File::options().create(true).append(true).open(&path);
        let output = open.map_err(files("open", &path))?;
        let log_start = output.metadata().map_err(files("read", &path))?.len();
        let order = Order {
            program: self.recipe.program.clone(),
            libraries: self.recipe.libraries.clone(),
            arguments: self.arguments(),
            output,
        };
        let process = self.recipe.spawner.spawn(order).await;
        *self.process() = Some(process.map_err(system("start mongod"))?);
        loop {
            let ended = self.exit_status()?.is_some();
            let log = self.log_from(log_start).map_err(files("read", &path))?;
            if ended && log.contains(PORT_TAKEN) {
                return Ok(false);
            }
            if ended {
                return Err(self.exited_or_not_running());
            }
            if log.contains(LISTENS) && self.hello().await.is_some() {
                return Ok(true);
            }
            self.wait_a_little(deadline, "a member to listen").await?;
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec!["--port".into(), self.port.to_string().into()];
        arguments.extend(["--dbpath".into(), self.directory.join("data").into()]);
        arguments.extend(self.recipe.arguments.iter().cloned());
        arguments
    }

    async fn is_in_service(&self) -> bool {
        let Some(hello) = self.hello().await else {
            return false;
        };
        !self.recipe.is_replica_set || is_primary(&hello) || is_secondary(&hello)
    }

    /// Sleeps until the next look, or says that `awaited` did not happen in time.
    async fn wait_a_little(
        &self,
        deadline: Instant,
        awaited: &'static str,
    ) -> Result<(), DeploymentError> {
        if wait_a_little(deadline).await {
            return Ok(());
        }
        Err(DeploymentError::TimedOut {
            awaited,
            log_tail: self.log_tail(ERROR_LOG_LINES),
        })
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) -> Result<(), DeploymentError> {
        match &mut *self.process() {
            Some(process) => process.signal(signal).map_err(system("send a signal")),
            None => Err(self.not_running()),
        }
    }

    fn exit_status(&self) -> Result<Option<std::process::ExitStatus>, DeploymentError> {
        match &mut *self.process() {
            Some(process) => process.exit_status().map_err(system("wait for mongod")),
            None => Err(self.not_running()),
        }
    }

    fn exited_or_not_running(&self) -> DeploymentError {
        match self.exit_status() {
            Ok(Some(status)) => DeploymentError::Exited {
                member: self.index,
                status,
                log_tail: self.log_tail(ERROR_LOG_LINES),
            },
            Ok(None) => self.not_running(),
            Err(error) => error,
        }
    }

    fn not_running(&self) -> DeploymentError {
        DeploymentError::NotRunning { member: self.index }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("mongod.log")
    }

    fn log_text(&self) -> io::Result<String> {
        let length = fs::metadata(self.log_path())?.len();
        self.log_from(length.saturating_sub(LOG_TAIL_BYTES_MAX))
    }

    fn log_from(&self, start: u64) -> io::Result<String> {
        let mut file = File::open(self.log_path())?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The logs' ends of all `members`, each under its address.
pub(crate) fn log_tails(members: &[Member], lines: usize) -> String {
    let tails = members.iter().map(|member| {
        let tail = member.log_tail(lines);
        format!("--- {}\n{tail}", member.address())
    });
    tails.collect::<Vec<_>>().join("\n")
}

pub(crate) fn is_primary(hello: &Document) -> bool {
    hello.get_bool("isWritablePrimary").unwrap_or(false)
}

pub(crate) fn is_secondary(hello: &Document) -> bool {
    hello.get_bool("secondary").unwrap_or(false)
}

pub(crate) fn ready_deadline() -> Instant {
    Instant::now() + Duration::from_secs(READY_TIMEOUT_SECONDS)
}

/// Sleeps until the next look at a server; false when the deadline has passed.
pub(crate) async fn wait_a_little(deadline: Instant) -> bool {
    sleep(Duration::from_millis(POLL_MILLIS)).await;
    Instant::now() < deadline
}

/// A port of 127.0.0.1 that nobody else gets while the listener lives. It never accepts, so the port
/// is free as soon as it is dropped.
pub(crate) fn reserve_port() -> Result<TcpListener, DeploymentError> {
    TcpListener::bind(("127.0.0.1", 0)).map_err(system("reserve a port"))
}

fn port_of(reservation: &TcpListener) -> Result<u16, DeploymentError> {
    let address = reservation.local_addr().map_err(system("reserve a port"))?;
    Ok(address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::Binary;

    #[tokio::test]
    async fn a_port_that_was_taken_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let recipe = Arc::new(Recipe {
            program: Binary::find().unwrap().path().to_owned(),
            libraries: Binary::find().unwrap().libraries().map(Path::to_owned),
            arguments: ["--bind_ip", "127.0.0.1", "--nounixsocket"]
                .map(OsString::from)
                .to_vec(),
            spawner: Spawner::start().unwrap(),
            is_replica_set: false,
        });
        let reservation = reserve_port().unwrap();
        let thief = reservation.try_clone().unwrap();

        let place = directory.path().to_owned();
        let start = Member::start(0, reservation, place, recipe, ready_deadline());
        let member = start.await.unwrap();

        assert_ne!(member.port, port_of(&thief).unwrap());
        assert!(member.is_in_service().await);
        assert!(member.log_text().unwrap().contains(PORT_TAKEN));
    }
}
