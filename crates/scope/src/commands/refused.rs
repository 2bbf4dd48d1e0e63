//! Commands that servers know and apps may not run, by group.

use super::Denial;
use super::servers::DATED;
use crate::refusal::Refusal;

/// Commands refused for one reason.
#[derive(Debug)]
pub struct RefusedGroup {
    /// What they are, as a heading of the documentation.
    pub title: &'static str,
    /// How they are refused.
    pub denial: Denial,
    /// Why, and what to do instead: the end of the reply's text.
    pub advice: &'static str,
    /// The names.
    pub names: &'static [&'static str],
    /// Beginnings of names that belong to the group.
    pub prefixes: &'static [&'static str],
}

impl RefusedGroup {
    /// Every name that servers are known to have in the group, sorted.
    pub fn rows(&'static self) -> Vec<&'static str> {
        let dated = DATED.iter().flat_map(|dated| dated.names);
        let by_beginning = dated.filter(|name| {
            !REFUSED.iter().any(|group| group.names.contains(name))
                && group_of(name).is_some_and(|group| group.title == self.title)
        });
        let mut rows: Vec<_> = self.names.iter().chain(by_beginning).copied().collect();
        rows.sort_unstable();
        rows
    }

    /// The reply to one of its commands.
    pub fn refusal(&self, name: &str, database: &str) -> Refusal {
        let advice = self.advice;
        let not_authorized = || {
            format!("not authorized on {database} to execute command {{ {name}: ... }}: {advice}")
        };
        match self.denial {
            Denial::Policy => Refusal::unauthorized(not_authorized()),
            Denial::Unknown => Refusal::command_not_found(format!("no such command: '{name}'")),
            Denial::Search => {
                Refusal::search_not_enabled(format!("{name} is not available: {advice}"))
            }
            Denial::NoReplication => {
                Refusal::no_replication(format!("not running with --replSet: {advice}"))
            }
        }
    }
}

/// The group of a name, if it belongs to one.
pub(super) fn group_of(name: &str) -> Option<&'static RefusedGroup> {
    REFUSED
        .iter()
        .find(|g| g.names.contains(&name))
        .or_else(|| {
            REFUSED
                .iter()
                .find(|g| g.prefixes.iter().any(|p| name.starts_with(p)))
        })
}

/// All groups.
pub static REFUSED: &[RefusedGroup] = &[
    RefusedGroup {
        title: "Removed from servers",
        denial: Denial::Unknown,
        advice: "",
        names: &[
            "geoSearch",
            "geoNear",
            "group",
            "eval",
            "$eval",
            "parallelCollectionScan",
            "copydb",
            "copydbgetnonce",
            "copydbsaslstart",
            "cloneCollection",
            "clone",
            "getLastError",
            "getlasterror",
            "getPrevError",
            "resetError",
            "isdbgrid",
            "atlasVersion",
            "forceerror",
            "repairDatabase",
            "touch",
            "getnonce",
        ],
        prefixes: &[],
    },
    RefusedGroup {
        title: "Server-side JavaScript",
        denial: Denial::Policy,
        advice: "server-side JavaScript is shared by all apps; use the aggregation pipeline instead",
        names: &["mapReduce", "mapreduce"],
        prefixes: &[],
    },
    RefusedGroup {
        title: "Files of collections and indexes",
        denial: Denial::Policy,
        advice: "it works on the server's files, which is the operator's affair; to build an index anew drop it and create it",
        names: &["compact", "reIndex"],
        prefixes: &[],
    },
    RefusedGroup {
        title: "Digests of stored files",
        denial: Denial::Policy,
        advice: "it reads chunks by their number alone, whoever's they are; compute the digest where the file is read",
        names: &["filemd5"],
        prefixes: &[],
    },
    RefusedGroup {
        title: "Search",
        denial: Denial::Search,
        advice: "search indexes cannot be told apart by app",
        names: &[
            "createSearchIndexes",
            "updateSearchIndex",
            "dropSearchIndex",
            "listSearchIndexes",
        ],
        prefixes: &[],
    },
    RefusedGroup {
        title: "Users and roles",
        denial: Denial::Policy,
        advice: "credentials and roles are those of the app's manifest",
        names: &[
            "createUser",
            "updateUser",
            "dropUser",
            "dropAllUsersFromDatabase",
            "grantRolesToUser",
            "revokeRolesFromUser",
            "createRole",
            "updateRole",
            "dropRole",
            "dropAllRolesFromDatabase",
            "grantPrivilegesToRole",
            "grantRolesToRole",
            "revokePrivilegesFromRole",
            "revokeRolesFromRole",
            "invalidateUserCache",
            "rolesInfo",
        ],
        prefixes: &[],
    },
    RefusedGroup {
        title: "Plan cache and query settings",
        denial: Denial::Policy,
        advice: "the plan cache is shared by all apps",
        names: &[
            "planCacheListPlans",
            "planCacheListQueryShapes",
            "setQuerySettings",
            "removeQuerySettings",
            "analyze",
            "analyzeShardKey",
            "configureQueryAnalyzer",
            "setIndexCommitQuorum",
        ],
        prefixes: &[],
    },
    RefusedGroup {
        title: "Sessions of everybody",
        denial: Denial::Policy,
        advice: "it would reach sessions of other apps; name the app's own sessions in killSessions",
        names: &["killAllSessionsByPattern"],
        prefixes: &[],
    },
    RefusedGroup {
        title: "Operations of the server",
        denial: Denial::Policy,
        advice: "it concerns the server, which the app does not own",
        names: &[
            "top",
            "profile",
            "setProfilingFilterGlobally",
            "lockInfo",
            "connPoolStats",
            "connPoolSync",
            "shardConnPoolStats",
            "getDiagnosticData",
            "startRecordingTraffic",
            "stopRecordingTraffic",
            "startTrafficRecording",
            "stopTrafficRecording",
            "dropConnections",
            "logRotate",
            "rotateCertificates",
            "fsync",
            "fsyncUnlock",
            "shutdown",
            "setParameter",
            "setClusterParameter",
            "getClusterParameter",
            "setFeatureCompatibilityVersion",
            "setDefaultRWConcern",
            "getDefaultRWConcern",
            "setUserWriteBlockMode",
            "setFreeMonitoring",
            "getAuditConfig",
            "setAuditConfig",
            "logApplicationMessage",
            "autoCompact",
            "compactStructuredEncryptionData",
            "cleanupStructuredEncryptionData",
            "dbHash",
            "dbCheck",
            "driverOIDTest",
            "features",
            "availableQueryOptions",
            "netstat",
            "oidcListKeys",
            "oidcRefreshKeys",
            "validateDBMetadata",
            "pinHistoryReplicated",
            "httpClientRequest",
            "internalRenameIfOptionsAndIndexesMatch",
            "getChangeStreamState",
            "setChangeStreamState",
            "streams_startStreamProcessor",
            "setCommittedSnapshot",
            "whatsmysni",
            "getTrafficRecordingStatus",
            "getQueryableEncryptionCountInfo",
            "releaseMemory",
            "rotateFTDC",
            "eseRotateActiveKEK",
            "getESERotateActiveKEKStatus",
            "sysprofile",
            "dbhash",
        ],
        prefixes: &["streams_"],
    },
    RefusedGroup {
        title: "Replication",
        denial: Denial::NoReplication,
        advice: "the deployment behind the proxy is not the app's to see",
        names: &["replSetGetStatus", "replSetGetConfig", "replSetGetRBID"],
        prefixes: &[],
    },
    RefusedGroup {
        title: "Administration of replication",
        denial: Denial::Policy,
        advice: "the deployment behind the proxy is not the app's to change",
        names: &[
            "applyOps",
            "appendOplogNote",
            "replSetAbortPrimaryCatchUp",
            "replSetFreeze",
            "replSetHeartbeat",
            "replSetInitiate",
            "replSetMaintenance",
            "replSetReconfig",
            "replSetRequestVotes",
            "replSetResizeOplog",
            "replSetStepDown",
            "replSetStepUp",
            "replSetSyncFrom",
            "replSetTest",
            "replSetUpdatePosition",
            "resync",
            "getDatabaseVersion",
            "doTxn",
            "makeSnapshot",
        ],
        prefixes: &["replSet"],
    },
    RefusedGroup {
        title: "Sharding",
        denial: Denial::Policy,
        advice: "the deployment behind the proxy is not the app's to change",
        names: &[
            "shardCollection",
            "reshardCollection",
            "rewriteCollection",
            "refineCollectionShardKey",
            "unshardCollection",
            "moveCollection",
            "moveChunk",
            "moveRange",
            "movePrimary",
            "split",
            "splitVector",
            "autoSplitVector",
            "splitChunk",
            "mergeChunks",
            "mergeAllChunksOnShard",
            "configureCollectionBalancing",
            "clearJumboFlag",
            "cleanupOrphaned",
            "cleanupReshardCollection",
            "commitReshardCollection",
            "abortReshardCollection",
            "abortRewriteCollection",
            "abortUnshardCollection",
            "abortMoveCollection",
            "setAllowMigrations",
            "enableSharding",
            "flushRouterConfig",
            "getShardMap",
            "getShardVersion",
            "setShardVersion",
            "shardingState",
            "checkShardingIndex",
            "checkMetadataConsistency",
            "updateZoneKeyRange",
            "addShardToZone",
            "removeShardFromZone",
            "listShards",
            "untrackUnshardedCollection",
            "changePrimary",
            "commitShardRemoval",
            "startShardDraining",
            "stopShardDraining",
            "shardDrainingStatus",
            "transitionToDedicatedConfigServer",
            "transitionFromDedicatedConfigServer",
            "transitionToShardedCluster",
            "commitTransitionToDedicatedConfigServer",
            "getTransitionToDedicatedConfigServerStatus",
            "startTransitionToDedicatedConfigServer",
            "stopTransitionToDedicatedConfigServer",
            "multicast",
            "repairShardedCollectionChunksHistory",
            "resetPlacementHistory",
            "forceRoutingTableRefresh",
        ],
        prefixes: &[
            "addShard",
            "removeShard",
            "balancer",
            "_shardsvr",
            "_configsvr",
        ],
    },
    RefusedGroup {
        title: "Internal",
        denial: Denial::Policy,
        advice: "it is internal to servers",
        names: &[
            "prepareTransaction",
            "coordinateCommitTransaction",
            "forgetShardSplit",
            "commitShardSplit",
            "abortShardSplit",
            "voteCommitIndexBuild",
            "voteAbortIndexBuild",
            "waitForFailPoint",
            "configureFailPoint",
            "sleep",
            "godinsert",
            "captrunc",
            "emptycapped",
            "cpuload",
            "refreshLogicalSessionCacheNow",
            "reapLogicalSessionCacheNow",
            "replicateSearchIndexCommand",
            "clearLog",
            "logMessage",
            "sbe",
            "createUnsplittableCollection",
            "getShardingReady",
            "listDatabasesForAllTenants",
            "timeseriesCatalogBucketParamsChanged",
            "voteCommitImportCollection",
            "exportCollection",
            "importCollection",
            "waitForOngoingChunkSplits",
            "testDeprecation",
            "testDeprecationInVersion2",
            "testInternalTransactions",
            "testRemoval",
            "testReshardCloneCollection",
            "testVersion2",
            "testVersions1And2",
            "echo",
            "stageDebug",
        ],
        prefixes: &["_", "cluster", "donor", "recipient", "internal", "test"],
    },
];
