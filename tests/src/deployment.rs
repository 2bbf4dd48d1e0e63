//! The deployment that all tests of a binary share.

use std::sync::atomic::{AtomicU32, Ordering};

use mdb_testbed::Deployment;
use serde_yaml::Value;
use tokio::sync::OnceCell;

/// A replica set of one member with access control, started by whoever asks first. It ends with the process.
pub async fn shared() -> &'static Deployment {
    static SHARED: OnceCell<Deployment> = OnceCell::const_new();
    let start = || async {
        Deployment::replica_set(1)
            .with_auth()
            .start()
            .await
            .unwrap()
    };
    SHARED.get_or_init(start).await
}

/// A name that nothing else in this process has: letters and digits.
pub fn unique_name(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{stem}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether the row of a table applies to the deployment's servers: it has no field `servers`, or one as in `5.0+` that
/// they are not older than.
pub fn is_for(deployment: &Deployment, row: &Value) -> bool {
    let Some(servers) = row["servers"].as_str() else {
        return true;
    };
    let since = servers
        .strip_suffix('+')
        .unwrap_or_else(|| panic!("{servers} has no + at its end"));
    is_since(deployment, since)
}

/// Whether the deployment's servers are of a series, as in `5.0`, or newer.
pub fn is_since(deployment: &Deployment, first: &str) -> bool {
    series(deployment.version()) >= series(first)
}

/// The first two numbers of a version.
fn series(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
