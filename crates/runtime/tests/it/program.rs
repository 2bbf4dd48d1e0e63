//! Starting the program, reading its log, and telling it to go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// The files of the contract in a directory of their own, with ports that the system chooses.
pub(crate) struct Files {
    directory: TempDir,
}

impl Files {
    pub(crate) fn of_the_contract() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifest/tests/contract");
        let directory = tempfile::tempdir().unwrap();
        let apps = directory.path().join("apps");
        fs::create_dir(&apps).unwrap();
        for entry in fs::read_dir(source.join("apps")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), apps.join(entry.file_name())).unwrap();
        }
        let config = fs::read_to_string(source.join("mdb-runtime.yaml")).unwrap();
        let files = Self { directory };
        files.write_config(
            &config
                .replace("127.0.0.1:27018", "127.0.0.1:0")
                .replace("127.0.0.1:9464", "127.0.0.1:0"),
        );
        files
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("mdb-runtime.yaml")
    }

    pub(crate) fn change_config(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from}");
        self.write_config(&text.replacen(from, to, 1));
    }

    pub(crate) fn change_app(&self, name: &str, from: &str, to: &str) {
        let path = self.directory.path().join("apps").join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// The path of another file beside the configuration.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file beside the configuration.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Removes a file or a link beside the configuration.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn write_config(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }
}

/// The program with the environment of the contract and nothing else.
pub(crate) fn program(upstream_uri: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mdb-runtime"));
    command
        .env_clear()
        .env("MDB_UPSTREAM_URI", upstream_uri)
        .env("SHOP_PASSWORD", "shop-secret")
        .env("SHOP_REPORTS_PASSWORD", "reports-secret")
        .env("NOTES_PASSWORD", "notes-secret")
        .env("TASK_MANAGER_PASSWORD", "tasks-secret")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs the program to its end.
pub(crate) async fn finished(upstream_uri: &str, arguments: &[&str]) -> Output {
    program(upstream_uri)
        .args(arguments)
        .output()
        .await
        .unwrap()
}

/// A serving program whose log is read.
pub(crate) struct Serving {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    /// Everything that was read so far.
    pub(crate) read: Vec<Value>,
}

impl Serving {
    pub(crate) fn start(upstream_uri: &str, files: &Files) -> Self {
        let mut child = program(upstream_uri)
            .args(["serve", "--log-format", "json", "--config"])
            .arg(files.config())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            log,
            read: Vec::new(),
        }
    }

    /// The next line with this message. Fails when the log ends without one.
    pub(crate) async fn logged(&mut self, message: &str) -> Value {
        while let Some(line) = self.log.next_line().await.unwrap() {
            let line: Value = serde_json::from_str(&line).expect("every line is JSON");
            self.read.push(line.clone());
            if line["message"] == message {
                return line;
            }
        }
        panic!("not in the log: {message}\n{:#?}", self.read);
    }

    pub(crate) fn send(&self, signal: Signal) {
        let id = self.child.id().expect("it runs");
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    /// The exit code. Reads the rest of the log.
    pub(crate) async fn exit_code(mut self) -> Option<i32> {
        while self.log.next_line().await.unwrap().is_some() {}
        self.child.wait().await.unwrap().code()
    }
}
