//! The user of the proxy, with the role that the documentation gives to it.

use bson::{Document, doc};

use crate::deployment::Deployment;
use crate::error::DeploymentError;

/// The user that proxies log in as, defined in `admin`, with [`proxy_role`] and nothing else.
pub const PROXY_USER: &str = "mdb-runtime";

/// The password of [`PROXY_USER`].
pub const PROXY_PASSWORD: &str = "upstream";

/// The one source of the role: the program and the documentation read this file as well.
const ROLE: &str = include_str!("../../runtime/upstream-role.json");

/// The role of a proxy's upstream user, with the fields of the command `createRole` except its name: `role`,
/// `privileges`, `roles`.
///
/// # Panics
///
/// If the file that the documentation shows is not JSON.
pub fn proxy_role() -> Document {
    serde_json::from_str(ROLE).expect("crates/runtime/upstream-role.json is JSON")
}

/// Creates the role and the user, and returns when all members know them.
pub(crate) async fn create_proxy_user(deployment: &Deployment) -> Result<(), DeploymentError> {
    let admin = deployment.client().await?.database("admin");
    let mut role = proxy_role();
    let name = role.remove("role");
    let mut create_role = doc! { "createRole": &name };
    create_role.extend(role);
    let create_user = doc! {
        "createUser": PROXY_USER,
        "pwd": PROXY_PASSWORD,
        "roles": [name],
        "writeConcern": everywhere(deployment),
    };
    admin.run_command(create_role).await?;
    admin.run_command(create_user).await?;
    Ok(())
}

/// A write concern with which all members know what was written. A standalone knows only `{w: 1}`.
pub(crate) fn everywhere(deployment: &Deployment) -> Document {
    let members = i64::try_from(deployment.hosts().len()).unwrap_or(i64::MAX);
    doc! { "w": members }
}
