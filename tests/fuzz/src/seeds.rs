//! Inputs to begin with: the cases that tests have as data, and the files in `tests/fuzz/seeds/TARGET`.
//!
//! The cases are read where they stand, so that each new one is a seed as well. What a fuzzer found stands in files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mdb_auth::Mechanism;
use mdb_notation::{Value, encode, read_document, read_text};
use mdb_wire::Compressor;
use mdb_wire::compression::compress;
use serde::Deserialize;

use crate::{manifest, scram};

/// A name and its bytes.
pub type Seed = (String, Vec<u8>);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The committed files of a target.
///
/// # Panics
/// Where they cannot be read.
pub fn committed(target: &str) -> Vec<Seed> {
    let directory = root().join("tests/fuzz/seeds").join(target);
    files(&directory)
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let bytes = fs::read(&path).expect("a seed can be read");
            (name.into_owned(), bytes)
        })
        .collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
        .map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.collect();
    files.sort();
    files
}

fn cases<T: for<'a> Deserialize<'a>>(directory: &str) -> Vec<(String, T)> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("cases can be read");
        let cases = serde_yaml::from_str(&text);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        (
            stem.into_owned(),
            cases.unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        )
    };
    files(&root().join(directory))
        .into_iter()
        .map(read)
        .collect()
}

/// A file of `crates/scope/tests/cases`, as far as seeds need it.
#[derive(Deserialize)]
struct Area {
    with: Option<Setting>,
    #[serde(default)]
    cases: Vec<Case>,
    #[serde(default)]
    replies: Vec<Reply>,
}

#[derive(Deserialize)]
struct Case {
    r#in: String,
    with: Option<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    hidden: Option<bool>,
    wire_version: Option<i32>,
    #[serde(default)]
    dedicated: bool,
    #[serde(default)]
    foreign: Vec<String>,
    #[serde(default)]
    random_ids: bool,
}

#[derive(Deserialize)]
struct Reply {
    rule: String,
    upstream: String,
    with: Option<Setting>,
}

impl Case {
    /// What stands in front of the command.
    fn bits(&self, area: &Area) -> u16 {
        let setting = self.with.as_ref().or(area.with.as_ref());
        let is_shown = setting.and_then(|s| s.hidden) == Some(false);
        let version = match setting.and_then(|s| s.wire_version) {
            Some(..13) => 1,
            Some(13..17) => 2,
            Some(21..) => 3,
            _ => 0,
        };
        let has = |is: fn(&Setting) -> bool| u16::from(setting.is_some_and(is));
        u16::from(is_shown)
            | version << 3
            | has(|s| s.dedicated) << 8
            | has(|s| !s.foreign.is_empty()) << 9
            | has(|s| s.random_ids) << 10
    }

    fn message(&self) -> Vec<u8> {
        let mut text = read_text(&self.r#in);
        if !text.body.iter().any(|(name, _)| name == "$db") {
            text.body.push(("$db".to_owned(), Value::string("d")));
        }
        text.message()
    }
}

fn areas() -> Vec<(String, Area)> {
    cases("crates/scope/tests/cases")
}

/// Every command of the cases.
pub fn scope() -> Vec<Seed> {
    let mut seeds = committed("scope");
    for (stem, area) in areas() {
        for (index, case) in area.cases.iter().enumerate() {
            let bits = case.bits(&area).to_le_bytes();
            let bytes = [&bits, &case.message()[20..]].concat();
            seeds.push((format!("{stem}-{index}"), bytes));
        }
    }
    seeds
}

/// Every reply of the cases.
pub fn reply() -> Vec<Seed> {
    let mut seeds = committed("reply");
    for (stem, area) in areas() {
        for (index, reply) in area.replies.iter().enumerate() {
            let rule = match reply.rule.as_str() {
                "plain" => 0,
                "cursor" => 1,
                "computed cursor" => 2,
                "value" => 3,
                "events" => 6,
                _ => 5,
            };
            let setting = reply.with.as_ref().or(area.with.as_ref());
            let is_dedicated = setting.is_some_and(|s| s.dedicated);
            let has_foreign = setting.is_some_and(|s| !s.foreign.is_empty());
            let rule = rule | u8::from(is_dedicated) << 6 | u8::from(has_foreign) << 7;
            let bytes = [vec![rule], encode(&read_document(&reply.upstream))].concat();
            seeds.push((format!("{stem}-{index}"), bytes));
        }
    }
    seeds
}

/// One command in so many is a seed of the targets that do not read what it asks for.
const FEW: usize = 25;

/// A few commands as whole messages.
pub fn message() -> Vec<Seed> {
    let mut seeds = committed("message");
    for (stem, area) in areas() {
        for (index, case) in area.cases.iter().enumerate().step_by(FEW) {
            let message = case.message();
            let compressor = Compressor::ALL[seeds.len() % Compressor::ALL.len()];
            if let Some(packed) = compress(&message, compressor) {
                seeds.push((format!("{stem}-{index}-{compressor}"), packed));
            }
            seeds.push((format!("{stem}-{index}"), message));
        }
    }
    seeds
}

/// A few commands behind one another, in chunks of several lengths.
pub fn stream() -> Vec<Seed> {
    let mut seeds = committed("stream");
    for (stem, area) in areas() {
        let stream: Vec<u8> = area
            .cases
            .iter()
            .step_by(FEW)
            .map(Case::message)
            .enumerate()
            .flat_map(|(index, message)| match Compressor::ALL.get(index % 6) {
                Some(compressor) => compress(&message, *compressor).unwrap_or(message),
                None => message,
            })
            .collect();
        for (limit, lengths) in [(0, &[1][..]), (1, &[7, 16, 90]), (2, &[255])] {
            let count = u8::try_from(lengths.len()).unwrap_or_default();
            let bytes = [&[limit, count], lengths, &stream].concat();
            seeds.push((format!("{stem}-{limit}"), bytes));
        }
    }
    seeds
}

/// True conversations, and beginnings of others.
pub fn scram() -> Vec<Seed> {
    let mut seeds = committed("scram");
    for (index, mechanism) in (0..).zip(Mechanism::ALL) {
        let [first, challenge, proof, signature] = scram::conversation(mechanism);
        let join = |side: u8, parts: [&Vec<u8>; 2]| {
            let bits = side | index << 2;
            [&[bits], parts[0].as_slice(), &[0xFF], parts[1]].concat()
        };
        seeds.push((format!("server-{index}"), join(0, [first, proof])));
        seeds.push((format!("client-{index}"), join(1, [challenge, signature])));
        for side in [2, 3] {
            let bits = side | index << 2;
            seeds.push((format!("true-{side}-{index}"), vec![bits]));
            seeds.push((format!("changed-{side}-{index}"), vec![bits, 1, 9, 1]));
        }
    }
    seeds
}

/// A case of `crates/manifest/tests/cases`, as far as seeds need it.
#[derive(Deserialize)]
struct Files {
    files: BTreeMap<String, String>,
}

/// The files of every case, and the examples.
///
/// # Panics
/// Where they cannot be read.
pub fn manifest() -> Vec<Seed> {
    let mut seeds = committed("manifest");
    for (stem, cases) in cases::<Vec<Files>>("crates/manifest/tests/cases") {
        for (index, case) in cases.iter().enumerate() {
            let (config, apps): (Vec<_>, Vec<_>) = case
                .files
                .iter()
                .partition(|(name, _)| *name == "config.yaml");
            let texts: Vec<&str> = config
                .iter()
                .chain(&apps)
                .map(|(_, t)| t.as_str())
                .collect();
            let text = texts.join(manifest::BETWEEN);
            seeds.push((format!("{stem}-{index}"), text.into_bytes()));
        }
    }
    for directory in ["config/apps", "crates/manifest/tests/contract/apps"] {
        for path in files(&root().join(directory)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            seeds.push((name.into_owned(), fs::read(&path).expect("an example")));
        }
    }
    seeds
}
