//! The newest cluster time that the upstream sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use mdb_scope::cluster_time_of;
use mdb_wire::Document;

/// Gossiped upstream with every command, so that a member that lags behind learns of it.
#[derive(Debug, Default)]
pub(crate) struct ClusterTime {
    newest: AtomicU64,
    document: RwLock<Option<Arc<[u8]>>>,
}

impl ClusterTime {
    /// Remembers the `$clusterTime` of a reply, if it is newer.
    pub(crate) fn learn(&self, reply: Document<'_>) {
        let Some(document) = reply.find("$clusterTime").and_then(|e| e.as_document()) else {
            return;
        };
        let Some(time) = cluster_time_of(document) else {
            return;
        };
        if time <= self.newest.load(Ordering::Acquire) {
            return;
        }
        let mut newest = self
            .document
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if time > self.newest.load(Ordering::Acquire) {
            *newest = Some(document.bytes().into());
            self.newest.store(time, Ordering::Release);
        }
    }

    /// The newest, as a document.
    pub(crate) fn newest(&self) -> Option<Arc<[u8]>> {
        self.document
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Timestamp, doc};

    #[test]
    fn only_newer_times_replace() {
        let time = ClusterTime::default();
        let reply = |seconds| {
            let stamp = Timestamp {
                time: seconds,
                increment: 1,
            };
            bson::serialize_to_vec(&doc! {"ok": 1.0, "$clusterTime": {"clusterTime": stamp}})
                .unwrap()
        };
        assert!(time.newest().is_none());
        for (seconds, expected) in [(5, 5), (3, 5), (7, 7)] {
            time.learn(Document::parse(&reply(seconds)).unwrap());
            let newest = time.newest().unwrap();
            let newest = cluster_time_of(Document::parse(&newest).unwrap()).unwrap();
            assert_eq!(newest >> 32, expected);
        }
    }
}
