//! From manifests to the users of the proxy.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use mdb_auth::{CredentialError, Credentials, Salts, Secret, Verifier};
use mdb_manifest::{AppManifest, Credential, IndexMode, Problem, Proof, Report, Role, Severity};
use mdb_proxy::{App, Grants, Identity, IsolationPolicy, Validity};
use mdb_scope::{AppId, IdPolicy, Isolation};
use mdb_telemetry::Metrics;
use sha2::{Digest, Sha256};

/// The users of a proxy.
pub(crate) type Users = Credentials<Arc<Identity>>;

/// The users of all apps. Derives the keys of every password, tens of milliseconds each, on several threads: call it where
/// blocking is allowed. With `before`, the users in force, on half of the cores, since clients are served meanwhile; then
/// apps and credentials that are the same keep their connections.
///
/// The report has every credential that cannot be used.
pub(crate) fn build(
    apps: &[AppManifest],
    salts: &Salts,
    metrics: &Metrics,
    before: Option<&Users>,
) -> Result<Users, Report> {
    let mut entries = Vec::new();
    let mut problems = Vec::new();
    let known = before.map(apps_of).unwrap_or_default();
    for manifest in apps {
        match app(manifest, metrics, &known) {
            Ok(app) => entries.extend(entries_of(manifest, &app)),
            Err(problem) => problems.push(problem),
        }
    }
    let mut credentials = Credentials::new(salts.clone());
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = if before.is_some() {
        cores.div_ceil(2)
    } else {
        cores
    };
    for (entry, verifier) in entries.iter().zip(verifiers(&entries, salts, workers)) {
        let added = verifier.and_then(|verifier| {
            let identity = entry.identity(before, verifier.as_ref());
            match verifier {
                Some(verifier) => credentials.insert(verifier, identity),
                None => credentials.insert_certified(&entry.credential.username, identity),
            }
        });
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
    app: Arc<App>,
}

impl Entry<'_> {
    /// The identity in force, if it is the same; else a new one, with the validity in force if the credential is the same.
    /// `verifier`: of its password, if it has one.
    fn identity(&self, before: Option<&Users>, verifier: Option<&Verifier>) -> Arc<Identity> {
        let grants = grants(self.credential);
        let username = &self.credential.username;
        let same = before.and_then(|before| {
            let identity = match verifier {
                Some(verifier) => before.identity(username).filter(|_| {
                    before
                        .verifier(username)
                        .is_some_and(|v| v.is_same(verifier))
                }),
                None => before.certified(username),
            }?;
            (identity.app.id == self.app.id).then_some(identity)
        });
        match same {
            Some(same) if same.grants == grants && Arc::ptr_eq(&same.app, &self.app) => {
                Arc::clone(same)
            }
            _ => Arc::new(Identity {
                app: Arc::clone(&self.app),
                username: username.clone(),
                grants,
                validity: same.map_or_else(Validity::default, |same| same.validity.clone()),
            }),
        }
    }
}

/// The apps in force, by slug.
pub(crate) fn apps_of(users: &Users) -> HashMap<&str, &Arc<App>> {
    users
        .identities()
        .map(|identity| (identity.app.id.as_str(), &identity.app))
        .collect()
}

/// The app of a manifest: the one in force if nothing about it has changed.
fn app(
    manifest: &AppManifest,
    metrics: &Metrics,
    known: &HashMap<&str, &Arc<App>>,
) -> Result<Arc<App>, Problem> {
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
    let before = known.get(id.as_str());
    let mut app = match before {
        Some(before) => before.renewed(exposes, policy),
        None => App::new(id, exposes, policy, metrics),
    };
    app.is_observed = manifest.index_mode != Some(IndexMode::Off);
    app.id_policy = match manifest.id_policy {
        mdb_manifest::IdPolicy::Any => IdPolicy::Any,
        mdb_manifest::IdPolicy::RandomOnly => IdPolicy::RandomOnly,
    };
    Ok(match before {
        Some(before) if before.is_same(&app) => Arc::clone(before),
        _ => Arc::new(app),
    })
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
        app: Arc::clone(app),
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

/// In the order of the entries; `None` for one without password.
fn verifiers(
    entries: &[Entry<'_>],
    salts: &Salts,
    workers: usize,
) -> Vec<Result<Option<Verifier>, CredentialError>> {
    let share = entries.len().div_ceil(workers).max(1);
    let derive = |entry: &Entry<'_>| {
        let Credential {
            username, proof, ..
        } = entry.credential;
        match proof {
            Proof::Password(password) => Verifier::try_new(username, password, salts).map(Some),
            Proof::Certificate => Ok(None),
        }
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

    fn manifests(files: &[(&str, &str)]) -> Vec<AppManifest> {
        let directory = tempfile::tempdir().unwrap();
        for (slug, rest) in files {
            let text = format!("version: \"3.0\"\nslug: {slug}\n{rest}\n");
            std::fs::write(directory.path().join(format!("{slug}.yaml")), text).unwrap();
        }
        let loaded = mdb_manifest::load_apps(directory.path(), &|_| None);
        loaded.unwrap().apps
    }

    #[test]
    fn what_is_the_same_in_the_next_reading_keeps_what_it_has() {
        let user = |name: &str, password: &str, role: &str| {
            format!("{{ username: {name}, password: {password}, roles: [{role}] }}")
        };
        let app =
            |users: &[String], rest: &str| format!("{rest}\ncredentials: [{}]", users.join(", "));
        let (ann, bob) = (user("ann", "a", "read"), user("bob", "b", "read"));
        let certified =
            |role: &str| format!("{{ certificate_subject: 'CN=fay,O=Example', roles: [{role}] }}");
        let (cid, dan, eve) = (
            user("cid", "c", "read"),
            user("dan", "d", "read"),
            user("eve", "e", "read"),
        );
        let first = [
            (
                "one",
                &*app(&[ann.clone(), bob, cid, certified("read")], ""),
            ),
            (
                "six",
                &*app(
                    &["{ certificate_subject: CN=gil, roles: [read] }".to_owned()],
                    "",
                ),
            ),
            ("two", &*app(std::slice::from_ref(&dan), "")),
            ("three", &*app(std::slice::from_ref(&eve), "")),
        ];
        let second = [
            (
                "one",
                &*app(
                    &[
                        ann,
                        user("bob", "new", "read"),
                        user("cid", "c", "readWrite"),
                        certified("readWrite"),
                    ],
                    "",
                ),
            ),
            ("six", &*app(&[user("CN=gil", "g", "read")], "")),
            ("two", &*app(&[dan], "expose_scope_field: true")),
            ("four", &*app(&[eve], "")),
        ];
        let (salts, metrics) = (Salts::new(b"key"), Metrics::new());
        let before = build(&manifests(&first), &salts, &metrics, None).unwrap();
        let after = build(&manifests(&second), &salts, &metrics, Some(&before)).unwrap();
        let pair = |name| {
            (
                before.identity(name).unwrap(),
                after.identity(name).unwrap(),
            )
        };
        // Columns: the very same identity, the same app, a credential that goes on.
        for (name, expected) in [
            ("ann", (true, true, true)),
            ("bob", (false, true, false)),
            ("cid", (false, true, true)),
            ("dan", (false, false, true)),
            ("eve", (false, false, false)),
            ("CN=fay,O=Example", (false, true, true)),
            ("CN=gil", (false, true, false)),
        ] {
            let (old, new) = pair(name);
            let found = (
                Arc::ptr_eq(old, new),
                Arc::ptr_eq(&old.app, &new.app),
                old.validity.is_same(&new.validity),
            );
            assert_eq!(found, expected, "{name}");
        }
        let (old, new) = pair("dan");
        assert!(Arc::ptr_eq(&old.app.connections, &new.app.connections));
        assert!(new.app.expose_scope_field && !old.app.expose_scope_field);
        assert!(pair("cid").1.grants.write);
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
                proof: Proof::Certificate,
                roles: roles.into_iter().collect(),
            };
            let Grants { read, write, admin } = grants(&credential);
            assert_eq!((read, write, admin), expected);
        }
    }
}
