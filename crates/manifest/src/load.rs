//! From paths to loaded values, or to a report of everything that is wrong.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::app::{self, AppManifest, AppReading, Proof};
use crate::config::{self, Config, ConfigReading, Listener};
use crate::file;
use crate::reader::quoted;
use crate::report::{Position, Problem, Report, Sheet, has_errors};
use crate::secret::Secrets;
use crate::yaml::{self, FILE_BYTES_MAX, Node};

/// A configuration and its apps.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Where the configuration was read from.
    pub file: PathBuf,
    /// The server's configuration.
    pub config: Config,
    /// By file name.
    pub apps: Vec<AppManifest>,
    /// The files that secrets of manifests were read from.
    pub secret_files: BTreeSet<PathBuf>,
    /// What is doubtful, in the order of a [`Report`].
    pub warnings: Vec<Problem>,
}

/// A configuration alone.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// The server's configuration.
    pub config: Config,
    /// What is doubtful in it.
    pub warnings: Vec<Problem>,
}

/// The apps alone.
#[derive(Debug, Clone)]
pub struct LoadedApps {
    /// By file name.
    pub apps: Vec<AppManifest>,
    /// The files that secrets were read from.
    pub secret_files: BTreeSet<PathBuf>,
    /// What is doubtful in them.
    pub warnings: Vec<Problem>,
}

/// Reads the configuration and the manifests it names. `environment` gives the value of an environment variable.
///
/// The report has every problem of every file: a mistake in the configuration does not hide those in manifests, as long
/// as it can be read where they are.
pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Report> {
    let (reading, mut problems) = read_config(path, environment);
    let Some(manifests) = reading.manifests else {
        return Err(Report { problems });
    };
    let secret_files = RefCell::default();
    let (apps, app_problems) = read_apps(&manifests, environment, &secret_files);
    problems.extend(app_problems);
    let canary = reading.config.as_ref().and_then(|c| c.canary.as_ref());
    if let Some(slug) = canary.filter(|slug| !apps.iter().any(|app| app.slug == **slug)) {
        let sheet = Sheet::new(path);
        sheet.error(None, format!("`canary`: no manifest has the slug `{slug}`"));
        problems.extend(sheet.into_problems());
    }
    if let Some(config) = &reading.config {
        problems.extend(unreachable_certificates(path, config, &apps));
    }
    match reading.config {
        Some(config) if !has_errors(&problems) => Ok(Loaded {
            file: path.to_owned(),
            config,
            apps,
            secret_files: secret_files.into_inner(),
            warnings: problems,
        }),
        _ => Err(Report { problems }),
    }
}

/// A warning if somebody is to log in by a certificate that no listener asks for.
fn unreachable_certificates(path: &Path, config: &Config, apps: &[AppManifest]) -> Vec<Problem> {
    let asks = |listener: &Listener| {
        let tls = listener.tls.as_ref();
        tls.is_some_and(|tls| tls.client_certificates.authorities().is_some())
    };
    let mut credentials = apps.iter().flat_map(|app| &app.credentials);
    let sheet = Sheet::new(path);
    if credentials.any(|c| matches!(c.proof, Proof::Certificate))
        && !config.listeners.iter().any(asks)
    {
        sheet.warning(
            None,
            "a manifest has a `certificate_subject`, and no listener asks for certificates of clients \
             (`client_certificates`): nobody can log in by one",
        );
    }
    sheet.into_problems()
}

/// Reads the configuration without the manifests.
pub fn load_config(
    config: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<LoadedConfig, Report> {
    let (reading, problems) = read_config(config, environment);
    match reading.config {
        Some(config) => Ok(LoadedConfig {
            config,
            warnings: problems,
        }),
        None => Err(Report { problems }),
    }
}

/// Reads the manifests in a directory: each file whose name ends in `.yaml`, `.yml` or `.json` is an app; other files and
/// those whose name begins with a dot are passed over.
pub fn load_apps(
    directory: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<LoadedApps, Report> {
    let secret_files = RefCell::default();
    let (apps, problems) = read_apps(directory, environment, &secret_files);
    if has_errors(&problems) {
        Err(Report { problems })
    } else {
        Ok(LoadedApps {
            apps,
            secret_files: secret_files.into_inner(),
            warnings: problems,
        })
    }
}

fn read_config(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> (ConfigReading, Vec<Problem>) {
    let sheet = Sheet::new(path);
    let secrets = Secrets {
        directory: directory_of(path),
        environment,
        files: &RefCell::default(),
    };
    let reading = match parse(path, &sheet) {
        Some(root) => config::read(&root, &sheet, &secrets),
        None => ConfigReading {
            config: None,
            manifests: None,
        },
    };
    (reading, sheet.into_problems())
}

fn read_apps(
    directory: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    secret_files: &RefCell<BTreeSet<PathBuf>>,
) -> (Vec<AppManifest>, Vec<Problem>) {
    let sheet = Sheet::new(directory);
    let files = match manifest_files(directory) {
        Ok(files) => files,
        Err(error) => {
            sheet.error(
                None,
                format!("the directory of the manifests cannot be read: {error}"),
            );
            return (Vec::new(), sheet.into_problems());
        }
    };
    if files.is_empty() {
        sheet.warning(None, "the directory has no manifest: no app is served");
    }
    if files.len() > APPS_MAX {
        sheet.error(
            None,
            format!("the directory has more than {APPS_MAX} manifests"),
        );
        return (Vec::new(), sheet.into_problems());
    }
    let mut clashes = Clashes::default();
    let mut apps = Vec::new();
    let mut problems = sheet.into_problems();
    for path in files {
        let sheet = Sheet::new(&path);
        let secrets = Secrets {
            directory,
            environment,
            files: secret_files,
        };
        if let Some(root) = parse(&path, &sheet) {
            let reading = app::read(&root, &sheet, &secrets);
            clashes.check(&reading, &sheet);
            apps.extend(reading.manifest);
        }
        problems.extend(sheet.into_problems());
    }
    (apps, problems)
}

fn parse(path: &Path, sheet: &Sheet) -> Option<Node> {
    match file::read(path, FILE_BYTES_MAX) {
        Ok(bytes) => yaml::parse(&bytes, sheet),
        Err(error) => {
            sheet.error(None, error.to_string());
            None
        }
    }
}

/// Sorted by name. A link to a file is a file: containers mount configuration so.
fn manifest_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_manifest = extension.is_some_and(|extension| EXTENSIONS.contains(&extension));
        // A link that leads nowhere is kept: reading it fails with a reason, and passing it over would lose an app.
        let is_directory = || fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        if is_manifest && !is_hidden && !is_directory() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// What apps may not share, with the place where each stands.
#[derive(Default)]
struct Clashes {
    slugs: HashMap<String, (String, Place)>,
    usernames: HashMap<String, Place>,
}

#[derive(Clone)]
struct Place {
    file: PathBuf,
    at: Position,
}

impl Clashes {
    /// Reports what an earlier file has taken, naming that file.
    fn check(&mut self, reading: &AppReading, sheet: &Sheet) {
        let place = |at: Position| Place {
            file: sheet.file().to_owned(),
            at,
        };
        if let Some((slug, at)) = &reading.slug {
            match self.slugs.entry(slug.folded()) {
                Entry::Vacant(vacant) => {
                    vacant.insert((slug.to_string(), place(*at)));
                }
                Entry::Occupied(taken) => sheet.error(*at, slug_clash(slug.as_str(), taken.get())),
            }
        }
        for (username, at) in &reading.usernames {
            match self.usernames.entry(username.clone()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(place(*at));
                }
                Entry::Occupied(taken) => {
                    let text = format!(
                        "the user name {} is taken by {}",
                        quoted(username),
                        taken.get()
                    );
                    sheet.error(*at, text);
                }
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.file.display(), self.at.line)
    }
}

fn slug_clash(slug: &str, (taken, place): &(String, Place)) -> String {
    if slug == taken {
        format!("the slug `{slug}` is taken by {place}")
    } else {
        format!(
            "the slug `{slug}` is too like `{taken}` of {place}: some collation cannot tell them apart"
        )
    }
}

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Each app costs some tens of milliseconds of key derivation at the start.
const APPS_MAX: usize = 10_000;
