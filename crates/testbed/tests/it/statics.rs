//! A deployment in a static is never dropped, and still ends with its process.

use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write, stdin, stdout};
use std::net::TcpStream;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use mdb_testbed::Deployment;
use tokio::sync::OnceCell;

/// Set for a second process of this test binary, to the way in which it is to end.
const ENDING: &str = "TESTBED_ENDING";

/// Precedes a server's address, among what else the second process prints.
const MARK: &str = "runs at ";

/// Far more than a process takes to die; only a failing test waits so long.
const DEATH_TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_static_deployment_ends_with_its_process() {
    if let Ok(ending) = env::var(ENDING) {
        return keep_in_static_until_told(&ending).await;
    }
    for ending in ["return", "exit", "abort"] {
        let mut process = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "statics::a_static_deployment_ends_with_its_process",
            ])
            .arg("--nocapture")
            .env(ENDING, ending)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Kept until the end, or printing would fail in the process.
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| Some(line.unwrap().split_once(MARK)?.1.to_owned()))
            .unwrap();
        let mut connection = TcpStream::connect(&address).unwrap();
        connection.set_read_timeout(Some(DEATH_TIMEOUT)).unwrap();

        process.stdin.take().unwrap().write_all(b"end\n").unwrap();
        let status = process.wait().unwrap();

        assert_eq!(status.success(), ending != "abort", "{ending}: {status}");
        // A mongod never closes an idle connection; its death does, with an end or a reset.
        let silence = connection.read(&mut [0]);
        let timed_out = silence.as_ref().is_err_and(|error| {
            matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
        });
        assert!(!timed_out, "{ending}: {address} outlives its process");
    }
}

/// What a test binary that shares a deployment between its tests does.
async fn keep_in_static_until_told(ending: &str) {
    static SHARED: OnceCell<Deployment> = OnceCell::const_new();
    let start = async || Deployment::standalone().start().await.unwrap();
    let deployment = SHARED.get_or_init(start).await;
    let mut output = stdout();
    writeln!(output, "{MARK}{}", deployment.member(0).address()).unwrap();
    stdin().read_line(&mut String::new()).unwrap();
    match ending {
        "exit" => process::exit(0),
        "abort" => process::abort(),
        _ => (),
    }
}
