//! A name server of the test's own, for `mongodb+srv://`.
//!
//! Programs ask the servers that `/etc/resolv.conf` names, at port 53. So that the way through that file is the one that
//! is tested, such a test runs once more by itself, in a process with a network and an `/etc` of its own (`unshare`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// All names below it are this machine.
pub const DOMAIN: &str = "example.test";

/// Answers questions for records of the types SRV, TXT and A until it is dropped with its runtime.
#[derive(Debug, Clone, Default)]
pub struct Names {
    zone: Arc<Mutex<Zone>>,
}

#[derive(Debug, Default)]
struct Zone {
    services: BTreeMap<String, Vec<(String, u16)>>,
    texts: BTreeMap<String, Vec<String>>,
    refused: HashSet<String>,
    asked: HashMap<(String, RecordType), usize>,
}

/// Runs `body` where [`Names`] answers all questions for names. `test` is the full name of the calling test, which runs
/// again in a process of its own.
///
/// Where the system does not let a user have namespaces, nothing is tested, and standard error says so.
pub fn with_names(test: &str, body: impl AsyncFnOnce(Names)) {
    if std::env::var_os(INSIDE).is_none() {
        run_again(test);
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let names = Names::serve().await;
        body(names).await;
    });
}

fn run_again(test: &str) {
    let files = tempfile::tempdir().unwrap();
    for (name, text) in ETC {
        std::fs::write(files.path().join(name), text).unwrap();
    }
    let apart = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--net"]);
        command.args(["sh", "-ec", script, "sh"]).arg(files.path());
        command
    };
    let try_out = apart(PREPARE).output();
    if !try_out.as_ref().is_ok_and(|tried| tried.status.success()) {
        // Past the harness, which keeps the output of tests that pass to itself.
        let mut err = std::io::stderr().lock();
        let said = format!("{test} could not run, for want of a network of its own: {try_out:?}");
        writeln!(err, "{said}").unwrap();
        return;
    }
    let run = format!("{PREPARE}shift; exec \"$@\"");
    let program = std::env::current_exe().unwrap();
    let ran = apart(&run)
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let texts = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text));
    let has_run = ran.status.success() && texts[0].contains("1 passed");
    assert!(has_run, "{test}, by itself:\n{}\n{}", texts[0], texts[1]);
}

impl Names {
    async fn serve() -> Self {
        let names = Self::default();
        let socket = UdpSocket::bind("127.0.0.1:53").await.unwrap();
        let answering = names.clone();
        tokio::spawn(async move {
            let mut question = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let answer = answering.answer(&question[..length]);
                let _ = socket.send_to(&answer, from).await;
            }
        });
        names
    }

    /// From now on `service`, as in `_mongodb._tcp.cluster.example.test`, is at these hosts and ports.
    pub fn set_service(&self, service: &str, hosts: &[(&str, u16)]) {
        let hosts = hosts.iter().map(|(host, port)| ((*host).to_owned(), *port));
        let mut zone = self.zone();
        zone.services.insert(service.to_owned(), hosts.collect());
    }

    /// From now on `name` has these TXT records.
    pub fn set_texts(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        self.zone().texts.insert(name.to_owned(), texts);
    }

    /// From now on questions for `name` are refused.
    pub fn refuse(&self, name: &str) {
        self.zone().refused.insert(name.to_owned());
    }

    /// From now on it has the records again that were set.
    pub fn answer_again(&self, name: &str) {
        self.zone().refused.remove(name);
    }

    /// How often the hosts of a service were asked for.
    pub fn asked(&self, service: &str) -> usize {
        let key = (service.to_owned(), RecordType::SRV);
        self.zone().asked.get(&key).copied().unwrap_or_default()
    }

    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let asked = Message::from_vec(question).unwrap();
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        answer.metadata.recursion_desired = asked.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        for query in &asked.queries {
            answer.add_query(query.clone());
            let name = query.name().to_ascii().to_lowercase();
            match self
                .zone()
                .look_up(name.trim_end_matches('.'), query.query_type)
            {
                Ok(records) => {
                    let record = |data| Record::from_rdata(query.name().clone(), TTL_SECONDS, data);
                    answer.add_answers(records.into_iter().map(record));
                }
                Err(code) => answer.metadata.response_code = code,
            }
        }
        answer.to_vec().unwrap()
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Zone {
    /// Empty: there is such a name, without records of this type.
    fn look_up(&mut self, name: &str, kind: RecordType) -> Result<Vec<RData>, ResponseCode> {
        *self.asked.entry((name.to_owned(), kind)).or_default() += 1;
        if self.refused.contains(name) {
            return Err(ResponseCode::Refused);
        }
        let is_service = name.starts_with('_');
        if is_service && !self.services.contains_key(name) || !name.ends_with(DOMAIN) {
            return Err(ResponseCode::NXDomain);
        }
        Ok(match kind {
            RecordType::SRV => {
                let hosts = self.services.get(name).into_iter().flatten();
                let target = |host: &str| Name::from_ascii(format!("{host}.")).unwrap();
                let srv = |(host, port): &(String, u16)| SRV::new(0, 0, *port, target(host));
                hosts.map(srv).map(RData::SRV).collect()
            }
            RecordType::TXT => {
                let texts = self.texts.get(name).into_iter().flatten();
                let txt = |text: &String| TXT::new(vec![text.clone()]);
                texts.map(txt).map(RData::TXT).collect()
            }
            RecordType::A if !is_service => vec![RData::A(A::new(127, 0, 0, 1))],
            _ => Vec::new(),
        })
    }
}

/// Set in the process that runs apart.
const INSIDE: &str = "MDB_TESTS_WITH_NAMES";

/// Nobody keeps an answer: the next question sees what the test has changed.
const TTL_SECONDS: u32 = 0;

/// Files of `/etc` that say who knows names.
const ETC: &[(&str, &str)] = &[
    ("resolv.conf", "nameserver 127.0.0.1\n"),
    ("hosts", "127.0.0.1 localhost\n"),
    ("nsswitch.conf", "hosts: files dns\n"),
];

/// Puts the files of [`ETC`], found in the directory `$1`, into their place.
const PREPARE: &str = "ip link set lo up
    for file in resolv.conf hosts nsswitch.conf; do mount --bind \"$1/$file\" \"/etc/$file\"; done
    ";
