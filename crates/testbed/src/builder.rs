//! What a deployment is to be, and starting it.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::binary::Binary;
use crate::deployment::{Deployment, ROOT_PASSWORD, ROOT_USER};
use crate::error::{DeploymentError, files, system};
use crate::files::{RunDirectory, root};
use crate::member::{Member, Recipe, ready_deadline, reserve_port};
use crate::plain;
use crate::process::Spawner;
use crate::users;

/// The name of every replica set.
pub(crate) const REPLICA_SET: &str = "rs0";

/// The server's default is 10,000; tests of failover should not wait so long.
const ELECTION_TIMEOUT_MILLIS: u32 = 2_000;

/// The server's default is 2,000.
const HEARTBEAT_INTERVAL_MILLIS: u32 = 500;

/// Names and values of options that keep a mongod small; see also [`QUIESCE`].
const SMALL: &[(&str, &str)] = &[
    ("--wiredTigerCacheSizeGB", "0.25"),
    ("--setParameter", "diagnosticDataCollectionEnabled=false"),
];

/// In MB; without it, 5 % of the free disk.
const OPLOG_SIZE: (&str, &str) = ("--oplogSize", "64");

/// On SIGTERM, a member of a replica set refuses new work for so long before it ends. The default of
/// 15 seconds would make every restart slow. Exists since 5.0.
const QUIESCE: (&str, &str) = (
    "--setParameter",
    "shutdownTimeoutMillisForSignaledShutdown=1000",
);

/// A deployment to be; [`start`](Self::start) makes it one.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    /// Nothing: a standalone.
    replica_set_members: Option<usize>,
    with_auth: bool,
    arguments: Vec<String>,
    binary: Option<Binary>,
    election_timeout_millis: u32,
    heartbeat_interval_millis: u32,
}

impl Builder {
    pub(crate) fn new(replica_set_members: Option<usize>) -> Self {
        Self {
            replica_set_members,
            with_auth: false,
            arguments: Vec::new(),
            binary: None,
            election_timeout_millis: ELECTION_TIMEOUT_MILLIS,
            heartbeat_interval_millis: HEARTBEAT_INTERVAL_MILLIS,
        }
    }

    /// Turns access control on, and creates [`ROOT_USER`] with the role `root` and
    /// [`PROXY_USER`](crate::PROXY_USER) with [`proxy_role`](crate::proxy_role).
    pub fn with_auth(mut self) -> Self {
        self.with_auth = true;
        self
    }

    /// Adds command-line options to every member, as in `&["--setParameter", "enableTestCommands=1"]`.
    /// They replace the test bed's own of the same name.
    pub fn mongod_args(mut self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        self.arguments.extend(arguments);
        self
    }

    /// Uses this mongod instead of the one that [`Binary::find`] finds.
    pub fn binary(mut self, binary: Binary) -> Self {
        self.binary = Some(binary);
        self
    }

    /// After how long without a primary the others elect one; 2,000 unless set.
    pub fn election_timeout_millis(mut self, millis: u32) -> Self {
        self.election_timeout_millis = millis;
        self
    }

    /// How often the members of a replica set look at each other; 500 unless set.
    pub fn heartbeat_interval_millis(mut self, millis: u32) -> Self {
        self.heartbeat_interval_millis = millis;
        self
    }

    /// Starts the members, and returns when all of them serve: with a primary, the others being
    /// secondaries, and the user known to all of them. Fails after 120 seconds, not counting the
    /// fetching of a mongod, and at once when a member ends.
    pub async fn start(self) -> Result<Deployment, DeploymentError> {
        let binary = self.binary.clone();
        // Both may block: for a fetch, and for another process that starts a deployment.
        let prepared = tokio::task::spawn_blocking(move || prepare(binary)).await;
        let (binary, directory, spawner) =
            prepared.map_err(|error| system("prepare a deployment")(error.into()))??;
        let deadline = ready_deadline();
        let key_file = self.write_key_file(directory.path())?;
        let recipe = Arc::new(Recipe {
            program: binary.path().to_owned(),
            libraries: binary.libraries().map(Path::to_owned),
            arguments: self.arguments(&binary, key_file.as_deref()),
            spawner,
            is_replica_set: self.replica_set_members.is_some(),
        });
        let members = self
            .start_members(directory.path(), &recipe, deadline)
            .await?;
        let deployment = Deployment::new(
            members,
            self.replica_set_members.map(|_| REPLICA_SET),
            self.with_auth,
            binary.version().to_owned(),
            directory,
        );
        if self.replica_set_members.is_some() {
            self.initiate(&deployment, deadline).await?;
            deployment.await_members(deadline).await?;
        }
        if self.with_auth {
            create_root_user(&deployment, deadline).await?;
            users::create_proxy_user(&deployment).await?;
        }
        Ok(deployment)
    }

    async fn start_members(
        &self,
        directory: &Path,
        recipe: &Arc<Recipe>,
        deadline: Instant,
    ) -> Result<Vec<Member>, DeploymentError> {
        // All ports are reserved before the first is used, so that no two members get the same.
        let count = self.replica_set_members.unwrap_or(1);
        let reservations: Vec<TcpListener> = (0..count)
            .map(|_| reserve_port())
            .collect::<Result<_, _>>()?;
        let starts = reservations.into_iter().enumerate().map(|(index, port)| {
            let directory = directory.join(format!("member-{index}"));
            Member::start(index, port, directory, Arc::clone(recipe), deadline)
        });
        try_join_all(starts).await
    }

    fn arguments(&self, binary: &Binary, key_file: Option<&Path>) -> Vec<OsString> {
        let mut defaults = SMALL.to_vec();
        if binary.major() >= 5 {
            defaults.push(QUIESCE);
        }
        // A socket file in the system's temporary directory would outlive a killed mongod.
        let mut words = vec!["--bind_ip", "127.0.0.1", "--nounixsocket"];
        if self.replica_set_members.is_some() {
            words.extend(["--replSet", REPLICA_SET]);
            defaults.push(OPLOG_SIZE);
        }
        if self.with_auth {
            words.push("--auth");
        }
        for (name, value) in defaults {
            if !self.replaces(name, value) {
                words.extend([name, value]);
            }
        }
        words.extend(self.arguments.iter().map(String::as_str));
        let mut arguments: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        if let Some(key_file) = key_file {
            arguments.extend(["--keyFile".into(), key_file.into()]);
        }
        arguments
    }

    /// Whether the caller's own arguments have the option, or for `--setParameter`, the parameter.
    fn replaces(&self, name: &str, value: &str) -> bool {
        let wanted = match value.split_once('=') {
            Some((parameter, _)) => parameter,
            None => name,
        };
        let mut words = self.arguments.iter().flat_map(|word| word.split('='));
        words.any(|word| word == wanted)
    }

    /// Members of a replica set with access control know each other by a key, which mongod wants
    /// unreadable for others.
    fn write_key_file(&self, directory: &Path) -> Result<Option<PathBuf>, DeploymentError> {
        if !self.with_auth || self.replica_set_members.is_none() {
            return Ok(None);
        }
        let path = directory.join("key");
        // 48 hexadecimal digits are also Base64, which is what a key consists of.
        let key = format!("{}{}", ObjectId::new(), ObjectId::new());
        fs::write(&path, key).map_err(files("write", &path))?;
        let owner_only = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, owner_only).map_err(files("protect", &path))?;
        Ok(Some(path))
    }

    async fn initiate(
        &self,
        deployment: &Deployment,
        deadline: Instant,
    ) -> Result<(), DeploymentError> {
        let hosts = deployment.hosts();
        let members: Vec<Document> = (0_i32..)
            .zip(&hosts)
            .map(|(id, host)| doc! { "_id": id, "host": host })
            .collect();
        let command = doc! {
            "replSetInitiate": {
                "_id": REPLICA_SET,
                "members": members,
                "settings": {
                    "electionTimeoutMillis": i64::from(self.election_timeout_millis),
                    "heartbeatIntervalMillis": i64::from(self.heartbeat_interval_millis),
                },
            },
            "$db": "admin",
        };
        plain::run(&deployment.member(0).address(), &command, deadline).await?;
        Ok(())
    }
}

/// What of a start blocks.
fn prepare(binary: Option<Binary>) -> Result<(Binary, RunDirectory, Spawner), DeploymentError> {
    let binary = match binary {
        Some(binary) => binary,
        None => Binary::find()?,
    };
    let parent = root().join("run");
    let directory = RunDirectory::new(&parent).map_err(files("make a directory in", &parent))?;
    let spawner = Spawner::start().map_err(system("start a thread"))?;
    Ok((binary, directory, spawner))
}

/// Allowed without credentials as long as there is no user: the localhost exception. All members must
/// have the user afterwards, so that reads from secondaries can log in at once.
async fn create_root_user(
    deployment: &Deployment,
    deadline: Instant,
) -> Result<(), DeploymentError> {
    let command = doc! {
        "createUser": ROOT_USER,
        "pwd": ROOT_PASSWORD,
        "roles": ["root"],
        "writeConcern": users::everywhere(deployment),
        "$db": "admin",
    };
    let primary = deployment.primary().await?;
    plain::run(&deployment.member(primary).address(), &command, deadline).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_arguments_replace_the_defaults() {
        let cases: [(&[&str], &str, &str, bool); 6] = [
            (&[], OPLOG_SIZE.0, OPLOG_SIZE.1, false),
            (&["--oplogSize", "990"], OPLOG_SIZE.0, OPLOG_SIZE.1, true),
            (&["--oplogSize=990"], OPLOG_SIZE.0, OPLOG_SIZE.1, true),
            (&["--setParameter", "a=1"], QUIESCE.0, QUIESCE.1, false),
            (
                &[
                    "--setParameter",
                    "shutdownTimeoutMillisForSignaledShutdown=9",
                ],
                QUIESCE.0,
                QUIESCE.1,
                true,
            ),
            (
                &["--setParameter=shutdownTimeoutMillisForSignaledShutdown=9"],
                QUIESCE.0,
                QUIESCE.1,
                true,
            ),
        ];
        for (arguments, name, value, expected) in cases {
            let builder = Builder::new(Some(1)).mongod_args(arguments);
            assert_eq!(builder.replaces(name, value), expected, "{arguments:?}");
        }
    }
}
