//! From manifests to the users of the proxy.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use mdb_auth::{CredentialError, Credentials, Salts, Secret, Verifier};
use mdb_manifest::{AppManifest, Credential, Problem, Report, Role, Severity};
use mdb_proxy::{App, Grants, Identity, IsolationPolicy};
use mdb_scope::{AppId, IdPolicy, Isolation};
use mdb_telemetry::Metrics;
use sha2::{Digest, Sha256};

/// The users of all apps. Derives the keys of every password, tens of milliseconds each, on all cores: call it where
/// blocking is allowed.
///
/// The report has every credential that cannot be used.
pub(crate) fn build(
    apps: &[AppManifest],
    salts: &Salts,
    metrics: &Metrics,
) -> Result<Credentials<Arc<Identity>>, Report> {
    let mut entries = Vec::new();
    let mut problems = Vec::new();
    for manifest in apps {
        match app(manifest, metrics) {
            Ok(app) => entries.extend(entries_of(manifest, &app)),
            Err(problem) => problems.push(problem),
        }
    }
    let mut credentials = Credentials::new(salts.clone());
    for (entry, verifier) in entries.iter().zip(verifiers(&entries, salts)) {
        let added =
            verifier.and_then(|verifier| credentials.insert(verifier, Arc::clone(&entry.identity)));
        if let Err(error) = added {
            let user = &entry.credential.username;
            problems.push(problem(
                entry.manifest,
                format!("the user `{user}`: {error}"),
            ));
        }
    }
    if problems.is_empty() {
        Ok(credentials)
    } else {
        Err(Report { problems })
    }
}

/// Salts are the same in every proxy of a deployment and after every start, so that drivers need to derive their keys
/// only once. What they are made from is known to all who know the connection string; salts are no secrets.
pub(crate) fn salts(upstream_uri: &Secret) -> Salts {
    let mut hash = Sha256::new();
    hash.update(SALT_LABEL);
    hash.update(upstream_uri.expose());
    Salts::new(&hash.finalize())
}

/// One user who is to be known.
struct Entry<'m> {
    manifest: &'m AppManifest,
    credential: &'m Credential,
    identity: Arc<Identity>,
}

fn app(manifest: &AppManifest, metrics: &Metrics) -> Result<Arc<App>, Problem> {
    let id = AppId::parse(manifest.slug.as_str())
        .map_err(|error| problem(manifest, error.to_string()))?;
    let collections = manifest.collection_isolation.iter();
    let policy = IsolationPolicy {
        default: isolation(manifest.isolation),
        collections: collections
            .map(|(name, wanted)| (name.clone(), isolation(*wanted)))
            .collect(),
    };
    let exposes = manifest.expose_scope_field;
    let mut app = App::new(id, exposes, policy, metrics);
    app.id_policy = match manifest.id_policy {
        mdb_manifest::IdPolicy::Any => IdPolicy::Any,
        mdb_manifest::IdPolicy::RandomOnly => IdPolicy::RandomOnly,
    };
    Ok(Arc::new(app))
}

fn isolation(wanted: mdb_manifest::Isolation) -> Isolation {
    match wanted {
        mdb_manifest::Isolation::Shared => Isolation::Shared,
        mdb_manifest::Isolation::Dedicated => Isolation::Dedicated,
    }
}

fn entries_of<'m>(manifest: &'m AppManifest, app: &Arc<App>) -> Vec<Entry<'m>> {
    let entry = |credential: &'m Credential| Entry {
        manifest,
        credential,
        identity: Arc::new(Identity {
            app: Arc::clone(app),
            username: credential.username.clone(),
            grants: grants(credential),
        }),
    };
    manifest.credentials.iter().map(entry).collect()
}

fn grants(credential: &Credential) -> Grants {
    let has = |role: Role| credential.roles.contains(&role);
    Grants {
        read: has(Role::Read),
        write: has(Role::ReadWrite),
        admin: has(Role::DbAdmin),
    }
}

/// In the order of the entries.
fn verifiers(entries: &[Entry<'_>], salts: &Salts) -> Vec<Result<Verifier, CredentialError>> {
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = entries.len().div_ceil(workers).max(1);
    let derive = |entry: &Entry<'_>| {
        let Credential {
            username, password, ..
        } = entry.credential;
        Verifier::try_new(username, password, salts)
    };
    thread::scope(|scope| {
        let spawn = |part| scope.spawn(move || Iterator::map(<[_]>::iter(part), derive).collect());
        let parts: Vec<thread::ScopedJoinHandle<'_, Vec<_>>> =
            entries.chunks(share).map(spawn).collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().expect("the derivation of keys does not panic"))
            .collect()
    })
}

fn problem(manifest: &AppManifest, text: String) -> Problem {
    Problem {
        file: manifest.file.clone(),
        line: None,
        column: None,
        severity: Severity::Error,
        text,
    }
}

/// Keeps the salts apart from anything else that may be made of the connection string one day.
const SALT_LABEL: &[u8] = b"mdb-runtime salts v1\0";

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a verifier made with one string's salts is taken where the other string's salts are in use.
    fn agree(one: &str, other: &str) -> bool {
        let salts_of = |uri: &str| salts(&Secret::new(uri.to_owned()));
        let password = Secret::new("pencil".to_owned());
        let verifier = Verifier::try_new("ann", &password, &salts_of(one)).unwrap();
        Credentials::new(salts_of(other))
            .insert(verifier, ())
            .is_ok()
    }

    #[test]
    fn salts_are_those_of_the_connection_string() {
        assert!(agree("mongodb://a", "mongodb://a"));
        assert!(!agree("mongodb://a", "mongodb://b"));
    }

    #[test]
    fn roles_become_grants() {
        for (roles, expected) in [
            (vec![Role::Read], (true, false, false)),
            (vec![Role::ReadWrite, Role::DbAdmin], (false, true, true)),
            (Role::ALL.to_vec(), (true, true, true)),
        ] {
            let credential = Credential {
                username: "ann".to_owned(),
                password: Secret::new("pencil".to_owned()),
                roles: roles.into_iter().collect(),
            };
            let Grants { read, write, admin } = grants(&credential);
            assert_eq!((read, write, admin), expected);
        }
    }
}
