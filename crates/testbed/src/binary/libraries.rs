//! OpenSSL 1.1 for the older servers, where the system has it no longer: out of a package of Debian's release before.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fetch::{entries, success};

/// The environment variable with places of shared libraries.
pub(crate) const VARIABLE: &str = "LD_LIBRARY_PATH";

/// The last release of Debian with [`PACKAGE`].
const RELEASE: &str = "bullseye";

const PACKAGE: &str = "libssl1.1";

/// What of the package is taken.
const FILES: [&str; 2] = ["libcrypto.so.1.1", "libssl.so.1.1"];

/// Signs Debian's releases. Another distribution has it only with its package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the libraries of a mongod are.
pub(super) fn beside(mongod: &Path) -> PathBuf {
    mongod.with_file_name("lib")
}

/// A directory with the libraries below `place`, or nothing, with the reasons added to `tried`. The package manager
/// works in `place` alone: neither its lists nor the system change, and no privilege is needed. The mirror is the one
/// that the system itself is configured with.
pub(super) fn fetch(place: &Path, path: &OsStr, tried: &mut Vec<String>) -> Option<PathBuf> {
    let mut command = Command::new("apt-get");
    let format = [
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Identifier: Packages",
    ];
    let uris = success(
        "apt-get indextargets",
        command.args(format).env("PATH", path),
        tried,
    )?;
    let Some(mirror) = uris
        .lines()
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
    else {
        tried.push("apt-get (no mirror of Debian among its sources)".to_owned());
        return None;
    };
    if let Err(error) = prepare(place, mirror) {
        tried.push(format!("{} ({error})", place.display()));
        return None;
    }
    apt_get(place, path, &["update"], tried)?;
    apt_get(place, path, &["download", PACKAGE], tried)?;
    let Some(package) = entries(place).find(|path| path.extension() == Some(OsStr::new("deb")))
    else {
        tried.push(format!("{PACKAGE} (no package came)"));
        return None;
    };
    let unpacked = place.join("unpacked");
    let mut command = Command::new("dpkg");
    command
        .arg("-x")
        .arg(package)
        .arg(&unpacked)
        .env("PATH", path);
    success("dpkg -x", &mut command, tried)?;
    gather(&unpacked, &place.join("lib"), tried)
}

/// What `apt-get` wants to be there: its directories, and a list of sources.
fn prepare(place: &Path, mirror: &str) -> std::io::Result<()> {
    for directory in ["lists/partial", "cache/archives/partial", "sources"] {
        fs::create_dir_all(place.join(directory))?;
    }
    let source = format!("deb [signed-by={KEYRING}] {mirror} {RELEASE} main\n");
    fs::write(place.join("sources/older.list"), source)
}

fn apt_get(
    place: &Path,
    path: &OsStr,
    arguments: &[&str],
    tried: &mut Vec<String>,
) -> Option<String> {
    let mut command = Command::new("apt-get");
    for (option, value) in [
        ("Dir::Etc::SourceList", Path::new("/dev/null").to_owned()),
        ("Dir::Etc::SourceParts", place.join("sources")),
        ("Dir::State", place.to_owned()),
        ("Dir::State::Lists", place.join("lists")),
        ("Dir::State::Status", Path::new("/dev/null").to_owned()),
        ("Dir::Cache", place.join("cache")),
    ] {
        command
            .arg("-o")
            .arg(format!("{option}={}", value.display()));
    }
    // Nothing but the list of packages is needed, and nobody else's directory is written to.
    for option in [
        "Acquire::Languages=none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        "Acquire::Retries=2",
        "APT::Sandbox::User=",
    ] {
        command.args(["-o", option]);
    }
    command.args(arguments).current_dir(place).env("PATH", path);
    success(
        &format!("apt-get {}", arguments.join(" ")),
        &mut command,
        tried,
    )
}

/// Moves the libraries out of the unpacked package, where they are below a directory named after the architecture.
fn gather(unpacked: &Path, destination: &Path, tried: &mut Vec<String>) -> Option<PathBuf> {
    let place = entries(&unpacked.join("usr/lib")).find(|place| place.join(FILES[0]).is_file());
    let moved = place.is_some_and(|place| {
        fs::create_dir(destination).is_ok()
            && FILES
                .iter()
                .all(|file| fs::rename(place.join(file), destination.join(file)).is_ok())
    });
    if moved {
        return Some(destination.to_owned());
    }
    tried.push(format!("{PACKAGE} (holds no {})", FILES.join(" and ")));
    None
}
