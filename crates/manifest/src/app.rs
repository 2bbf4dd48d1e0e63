//! The manifest of one app.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mdb_auth::Secret;

use crate::config::IndexMode;
use crate::index::ManagedIndex;
use crate::names::AppSlug;

mod migration;
mod reading;

pub(crate) use migration::without_effect;
pub(crate) use reading::{AppReading, read};

/// One app, checked. An app that is not active never becomes one of these.
#[derive(Debug, Clone)]
pub struct AppManifest {
    /// The file it was read from.
    pub file: PathBuf,
    /// Unlike every other app's, also when folded.
    pub slug: AppSlug,
    /// For people; the slug when the manifest gives none.
    pub name: String,
    /// For people; empty when the manifest gives none.
    pub description: String,
    /// Who may log in. Empty when nobody can, which was warned about.
    pub credentials: Vec<Credential>,
    /// Where the app's documents are, but for the collections below.
    pub isolation: Isolation,
    /// Where the documents of single collections are, by the collection's name in any database.
    pub collection_isolation: BTreeMap<String, Isolation>,
    /// Which `_id` values the app may bring into shared collections.
    pub id_policy: IdPolicy,
    /// Whether replies show the scope field.
    pub expose_scope_field: bool,
    /// How far the proxy may go with indexes for this app; as the configuration says if not given.
    pub index_mode: Option<IndexMode>,
    /// Indexes the app asks for, in the order of the file.
    pub managed_indexes: Vec<ManagedIndex>,
    /// Whether indexes that were built from `managed_indexes`, and stand there no more, are dropped.
    pub prune: bool,
    /// The app's own roles, from the old form's `auth_policy.roles`. They mean nothing to the proxy.
    pub app_roles: Vec<String>,
}

/// One user of one app.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Unlike every other user name of every app: the name alone says which app it is. Of a user with a certificate, its
    /// subject.
    pub username: String,
    /// How the user shows who it is.
    pub proof: Proof,
    /// At least one.
    pub roles: BTreeSet<Role>,
}

/// How a user shows who it is.
#[derive(Debug, Clone)]
pub enum Proof {
    /// By a password, before any preparation.
    Password(Secret),
    /// By the certificate of its connection, whose subject is the user's name (`MONGODB-X509`).
    Certificate,
}

/// What a credential may do inside its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read documents.
    Read,
    /// Read and write documents.
    ReadWrite,
    /// Indexes, collections and their statistics.
    DbAdmin,
}

impl Role {
    /// Every role: what an administrator of an app has.
    pub const ALL: [Self; 3] = [Self::Read, Self::ReadWrite, Self::DbAdmin];

    /// The word in the manifest, the server's own.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "readWrite",
            Self::DbAdmin => "dbAdmin",
        }
    }
}

/// Which `_id` values an app may bring into shared collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdPolicy {
    /// Any.
    #[default]
    Any,
    /// ObjectIds and UUIDs, which do not collide with another app's.
    RandomOnly,
}

/// Where an app's documents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// In the collections it names, beside other apps' documents. The default: it needs nothing of the deployment.
    #[default]
    Shared,
    /// In collections of its own, which nothing else is in.
    Dedicated,
}
