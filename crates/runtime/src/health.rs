//! Asking a running proxy whether it lives: one HTTP request, without a shell, for the health checks of containers.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use mdb_manifest::{Address, load_config};

use crate::args::HealthArgs;
use crate::ending::Ending;

/// Success if `/healthz` answers 200 in time; otherwise why not, on `err`.
pub fn health(args: &HealthArgs, err: &mut dyn Write) -> Ending {
    match address(args).and_then(|address| ask(&address)) {
        Ok(()) => Ending::Success,
        Err(error) => {
            // The exit code says it as well.
            let _ = writeln!(err, "not healthy: {error:#}");
            Ending::Failure
        }
    }
}

/// Takes no longer than about twice [`PATIENCE`] for each address of the host.
fn ask(address: &Address) -> anyhow::Result<()> {
    ensure!(address.port() != 0, "the port of {address} is not known");
    let resolved = (address.host(), address.port())
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve {address}"))?;
    let mut last = anyhow!("{address} has no address");
    for socket in resolved.map(reachable) {
        match ask_at(socket) {
            Ok(()) => return Ok(()),
            Err(error) => last = error.context(format!("asked {socket}")),
        }
    }
    Err(last)
}

fn address(args: &HealthArgs) -> anyhow::Result<Address> {
    match (&args.address, &args.config) {
        (Some(address), _) => Ok(address.clone()),
        (None, Some(config)) => configured(config),
        (None, None) => Ok(mdb_manifest::Admin::default().address),
    }
}

/// Only the address counts: whether the secrets are there is not asked, the check may run without them.
fn configured(config: &Path) -> anyhow::Result<Address> {
    let any_secret = |_: &str| Some("mongodb://localhost".to_owned());
    Ok(load_config(config, &any_secret)?.config.admin.address)
}

/// Who listens on all addresses is reached on the loopback one.
fn reachable(mut socket: SocketAddr) -> SocketAddr {
    if socket.ip().is_unspecified() {
        socket.set_ip(match socket.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    socket
}

fn ask_at(socket: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&socket, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let question = format!("GET /healthz HTTP/1.1\r\nHost: {socket}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes())?;
    let mut begin = [0; GOOD.len()];
    match stream.read_exact(&mut begin) {
        Ok(()) if begin == *GOOD => Ok(()),
        Ok(()) => bail!("answered {:?}", String::from_utf8_lossy(&begin)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => bail!("no HTTP answer"),
        Err(error) => Err(error.into()),
    }
}

/// What a good answer begins with.
const GOOD: &[u8; 12] = b"HTTP/1.1 200";
/// Longer than any answer of a process that is not stuck; shorter than the usual limit of a health check.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// An address that gives `answer` once.
    fn answering(answer: &'static str) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 512];
            let length = stream.read(&mut question).unwrap();
            assert!(question[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Address::parse(&address.to_string()).unwrap()
    }

    fn asked(address: Address) -> (Ending, String) {
        let args = HealthArgs {
            address: Some(address),
            config: None,
        };
        let mut err = Vec::new();
        let ending = health(&args, &mut err);
        (ending, String::from_utf8(err).unwrap())
    }

    #[test]
    fn only_a_200_is_healthy() {
        let good = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(asked(good), (Ending::Success, String::new()));
        for (answer, why) in [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "503"),
            ("", "no HTTP answer"),
            ("HTTP", "no HTTP answer"),
        ] {
            let (ending, text) = asked(answering(answer));
            assert_eq!(ending, Ending::Failure, "{answer}");
            assert!(text.contains(why), "{text}");
        }
    }

    #[test]
    fn nobody_there_and_no_port_are_failures() {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let (ending, text) = asked(Address::parse(&free.to_string()).unwrap());
        assert_eq!(ending, Ending::Failure);
        assert!(text.starts_with("not healthy: asked 127.0.0.1:"), "{text}");
        let (ending, _) = asked(Address::parse("127.0.0.1:0").unwrap());
        assert_eq!(ending, Ending::Failure);
    }

    #[test]
    fn the_configuration_names_the_address_without_its_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mdb-runtime.yaml");
        let text = "version: 1\nupstream: { uri: { env: NOT_SET_ANYWHERE } }\nmanifests: apps\n\
                    admin: { address: 0.0.0.0:9999 }\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(configured(&path).unwrap().to_string(), "0.0.0.0:9999");
        let socket = "0.0.0.0:9999".parse().unwrap();
        assert_eq!(reachable(socket).to_string(), "127.0.0.1:9999");
    }
}
