//! The deployment that all tests of a binary share.

use std::sync::atomic::{AtomicU32, Ordering};

use mdb_testbed::Deployment;
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
