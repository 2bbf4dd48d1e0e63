//! A running deployment.

use std::path::Path;

use bson::{Document, doc};
use futures_util::future::join_all;
use mongodb::Client;
use tokio::time::Instant;

use crate::builder::Builder;
use crate::error::DeploymentError;
use crate::files::RunDirectory;
use crate::member::{
    ERROR_LOG_LINES, Member, is_primary, is_secondary, log_tails, ready_deadline, wait_a_little,
};
use crate::users::{PROXY_PASSWORD, PROXY_USER};

/// The user that a deployment with access control has, defined in `admin`, with the role `root`.
pub const ROOT_USER: &str = "root";

/// The password of [`ROOT_USER`].
pub const ROOT_PASSWORD: &str = "testbed";

/// For so long a primary that stepped down cannot become primary again; the server's default is 60.
const STEP_DOWN_SECONDS: i32 = 20;

/// For so long stepping down waits for a secondary that has caught up. Must be less than the above.
const CATCH_UP_SECONDS: i32 = 10;

/// A standalone or a replica set, which ends when this is dropped.
#[derive(Debug)]
pub struct Deployment {
    // Dropped in this order: no process may run when its directory goes.
    members: Vec<Member>,
    replica_set_name: Option<&'static str>,
    with_auth: bool,
    version: String,
    directory: RunDirectory,
}

impl Deployment {
    /// One mongod.
    pub fn standalone() -> Builder {
        Builder::new(None)
    }

    /// A replica set of `members` mongods, from 1; more than 7 are refused by the server, because
    /// each has a vote.
    pub fn replica_set(members: usize) -> Builder {
        Builder::new(Some(members))
    }

    pub(crate) fn new(
        members: Vec<Member>,
        replica_set_name: Option<&'static str>,
        with_auth: bool,
        version: String,
        directory: RunDirectory,
    ) -> Self {
        Self {
            members,
            replica_set_name,
            with_auth,
            version,
            directory,
        }
    }

    /// A connection string with all hosts, the replica set's name and the administrator's credentials.
    pub fn uri(&self) -> String {
        let option = self.replica_set_option();
        self.uri_of(&self.hosts().join(","), option, (ROOT_USER, ROOT_PASSWORD))
    }

    /// As [`uri`](Self::uri), for [`PROXY_USER`]: what a proxy connects with.
    pub fn proxy_uri(&self) -> String {
        let option = self.replica_set_option();
        self.uri_of(
            &self.hosts().join(","),
            option,
            (PROXY_USER, PROXY_PASSWORD),
        )
    }

    /// A connection string for this one member, whatever its state is.
    ///
    /// # Panics
    ///
    /// If there is no such member.
    pub fn direct_uri(&self, index: usize) -> String {
        let option = Some("directConnection=true".to_owned());
        let user = (ROOT_USER, ROOT_PASSWORD);
        self.uri_of(&self.members[index].address(), option, user)
    }

    /// The addresses of all members, `127.0.0.1:port`, in the order of their indexes.
    pub fn hosts(&self) -> Vec<String> {
        self.members.iter().map(Member::address).collect()
    }

    /// The replica set's name, unless it is a standalone.
    pub fn replica_set_name(&self) -> Option<&str> {
        self.replica_set_name
    }

    /// The servers' version, as in `6.0.5`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The directory with everything the deployment writes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new driver client for [`uri`](Self::uri). It works on the calling runtime only.
    pub async fn client(&self) -> Result<Client, DeploymentError> {
        Ok(Client::with_uri_str(self.uri()).await?)
    }

    /// The member with this index, from 0.
    ///
    /// # Panics
    ///
    /// If there is no such member.
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// All members, in the order of their indexes.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The index of the primary (of a standalone: 0); waits until there is one, at most 120 seconds.
    pub async fn primary(&self) -> Result<usize, DeploymentError> {
        let deadline = ready_deadline();
        loop {
            let hellos = self.hellos().await;
            if let Some(index) = newest_primary(&hellos) {
                return Ok(index);
            }
            if hellos.iter().all(Option::is_none) {
                self.check_running()?;
            }
            if self
                .members
                .iter()
                .all(|member| member.process_id().is_none())
            {
                return Err(DeploymentError::NotRunning { member: 0 });
            }
            self.wait_a_little(deadline, "a primary").await?;
        }
    }

    /// Kills the primary, as a crash would, and says which member it was. Does not wait for another.
    pub async fn kill_primary(&self) -> Result<usize, DeploymentError> {
        let index = self.primary().await?;
        self.members[index].kill()?;
        Ok(index)
    }

    /// Makes the primary step down in good order, and says which member it was. It cannot be primary
    /// again for 20 seconds; does not wait for another.
    pub async fn step_down(&self) -> Result<usize, DeploymentError> {
        let index = self.primary().await?;
        let client = Client::with_uri_str(self.direct_uri(index)).await?;
        let command = doc! {
            "replSetStepDown": STEP_DOWN_SECONDS,
            "secondaryCatchUpPeriodSecs": CATCH_UP_SECONDS,
        };
        client.database("admin").run_command(command).await?;
        Ok(index)
    }

    /// Waits until one member is primary and all others are secondaries, at most 120 seconds, as
    /// after [`Member::restart`] or [`Member::resume`]. Fails at once when a member ends by itself.
    pub async fn all_in_service(&self) -> Result<(), DeploymentError> {
        self.await_members(ready_deadline()).await
    }

    /// The last `lines` lines of each member's log, under the member's address.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tails(&self.members, lines)
    }

    pub(crate) async fn await_members(&self, deadline: Instant) -> Result<(), DeploymentError> {
        loop {
            self.check_running()?;
            let hellos = self.hellos().await;
            let count = |is: fn(&Document) -> bool| {
                hellos.iter().flatten().filter(|hello| is(hello)).count()
            };
            let (primaries, secondaries) = (count(is_primary), count(is_secondary));
            if primaries == 1 && primaries + secondaries == self.members.len() {
                return Ok(());
            }
            self.wait_a_little(deadline, "a primary with all secondaries")
                .await?;
        }
    }

    async fn hellos(&self) -> Vec<Option<Document>> {
        join_all(self.members.iter().map(Member::hello)).await
    }

    fn check_running(&self) -> Result<(), DeploymentError> {
        self.members.iter().try_for_each(Member::check_running)
    }

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

    fn replica_set_option(&self) -> Option<String> {
        self.replica_set_name
            .map(|name| format!("replicaSet={name}"))
    }

    /// `user` is a name and a password.
    fn uri_of(&self, hosts: &str, option: Option<String>, user: (&str, &str)) -> String {
        let mut credentials = String::new();
        let mut options: Vec<String> = option.into_iter().collect();
        if self.with_auth {
            credentials = format!("{}:{}@", user.0, user.1);
            options.push("authSource=admin".to_owned());
        }
        format!("mongodb://{credentials}{hosts}/?{}", options.join("&"))
    }
}

/// An old primary that was paused may still believe to be one: the newest election counts.
fn newest_primary(hellos: &[Option<Document>]) -> Option<usize> {
    let primaries = hellos.iter().enumerate().filter_map(|(index, hello)| {
        let hello = hello.as_ref().filter(|hello| is_primary(hello))?;
        // A standalone has no election.
        Some((hello.get_object_id("electionId").ok(), index))
    });
    primaries.max().map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

    use super::*;

    #[test]
    fn of_two_primaries_the_later_elected_counts() {
        let secondary = Some(doc! { "isWritablePrimary": false, "secondary": true });
        let elected = |term: u8| {
            let id = ObjectId::from_bytes([0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, term]);
            Some(doc! { "isWritablePrimary": true, "electionId": id })
        };
        let standalone = Some(doc! { "isWritablePrimary": true });
        let cases = [
            (vec![], None),
            (vec![None, secondary.clone()], None),
            (vec![standalone], Some(0)),
            (vec![None, secondary.clone(), elected(1)], Some(2)),
            (vec![elected(9), elected(3)], Some(0)),
            (vec![elected(3), secondary, elected(9)], Some(2)),
        ];
        for (hellos, expected) in cases {
            assert_eq!(newest_primary(&hellos), expected, "{hellos:?}");
        }
    }
}
