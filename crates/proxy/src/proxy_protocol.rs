//! The PROXY protocol (versions 1 and 2): what a load balancer says in front of a connection's first byte about where the
//! connection comes from.
//!
//! It is believed, so it is read only on listeners that ask for it: whoever reaches such a listener can claim any address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What stands in front of every version 2 (specification, 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included (specification, 2.1).
const LINE_BYTES_MAX: usize = 107;
/// What may follow the fixed part of version 2: 216 bytes for the longest addresses, the rest for the balancer's notes, of
/// which the largest known are certificates' names.
const BLOCK_BYTES_MAX: usize = 4096;

/// Why a connection that should begin with the PROXY protocol is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyProtocolError {
    /// The stream failed or ended.
    #[error("the stream ended inside the PROXY protocol: {0}")]
    Io(#[from] io::Error),
    /// It begins with something else.
    #[error("no PROXY protocol where the listener asks for it")]
    Absent,
    /// It begins so, and goes on wrongly.
    #[error("malformed PROXY protocol: {0}")]
    Malformed(&'static str),
}

/// Reads the header of a new connection, and not a byte beyond it. `None` where the balancer names no address: it speaks
/// for itself (`LOCAL`, as in its health checks), or of something else than TCP (`UNKNOWN`). Then the connection's own
/// address holds.
///
/// Waits for as long as the peer takes; callers set a limit.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == *SIGNATURE {
        read_block(stream).await
    } else if start.starts_with(b"PROXY ") {
        read_line(stream, &start).await
    } else {
        Err(ProxyProtocolError::Absent)
    }
}

/// Version 1: a line of text.
async fn read_line<S: AsyncRead + Unpin>(
    stream: &mut S,
    start: &[u8],
) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_BYTES_MAX {
            return Err(ProxyProtocolError::Malformed("a line without end"));
        }
        line.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&line).map_err(|_| ProxyProtocolError::Malformed("no text"))?;
    let line = text.trim_end_matches("\r\n");
    if line == "PROXY UNKNOWN" || line.starts_with("PROXY UNKNOWN ") {
        return Ok(None);
    }
    let address = address_of_line(line).map(Some);
    address.ok_or(ProxyProtocolError::Malformed(
        "a line that is not understood",
    ))
}

/// `PROXY TCP4 <source> <destination> <source port> <destination port>`, or `TCP6` likewise.
fn address_of_line(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    let [source, destination] = [words.next()?, words.next()?];
    let [port, destination_port] = [words.next()?, words.next()?];
    if words.next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    address(destination)?;
    port_of(destination_port)?;
    Some(SocketAddr::new(address(source)?, port_of(port)?))
}

/// Digits without a zero in front.
fn port_of(text: &str) -> Option<u16> {
    let port = text.parse::<u16>().ok()?;
    (port.to_string() == text).then_some(port)
}

/// Version 2: version and command, family and protocol, the length of what follows, and that.
async fn read_block<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > BLOCK_BYTES_MAX {
        return Err(ProxyProtocolError::Malformed("more than 4096 bytes of it"));
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await?;
    match command {
        // LOCAL
        0x20 => Ok(None),
        // PROXY
        0x21 => match family {
            0x11 => address_of_block(&block, ip_v4).map(Some),
            0x21 => address_of_block(&block, ip_v6).map(Some),
            _ => without_address(family, length).map(|()| None),
        },
        _ => Err(ProxyProtocolError::Malformed(
            "an unknown version or command",
        )),
    }
}

/// Datagrams, Unix sockets, and what is not told. Of any other family or transport, and of addresses that are cut off, the
/// specification (2.2) says that the connection is dropped.
fn without_address(family: u8, length: usize) -> Result<(), ProxyProtocolError> {
    let addresses = match family >> 4 {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err(ProxyProtocolError::Malformed("an unknown address family")),
    };
    if family & 0xF > 2 {
        return Err(ProxyProtocolError::Malformed("an unknown transport"));
    }
    if length < addresses {
        return Err(CUT_OFF);
    }
    Ok(())
}

const CUT_OFF: ProxyProtocolError = ProxyProtocolError::Malformed("addresses that are cut off");

/// Source, destination, and the port of each; notes may follow.
fn address_of_block<const N: usize>(
    block: &[u8],
    ip: fn([u8; N]) -> IpAddr,
) -> Result<SocketAddr, ProxyProtocolError> {
    let source = block.first_chunk::<N>();
    let ports = block.get(2 * N..).and_then(<[u8]>::first_chunk::<4>);
    match (source, ports) {
        (Some(source), Some(&[high, low, _, _])) => Ok(SocketAddr::new(
            ip(*source),
            u16::from_be_bytes([high, low]),
        )),
        _ => Err(CUT_OFF),
    }
}

fn ip_v4(bytes: [u8; 4]) -> IpAddr {
    IpAddr::V4(bytes.into())
}

fn ip_v6(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version 2 header.
    fn block(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([command, family]);
        out.extend(length.to_be_bytes());
        out.extend(rest);
        out
    }

    /// What is read of the bytes, and what is left of them.
    async fn read_all(bytes: &[u8]) -> (Result<Option<SocketAddr>, ProxyProtocolError>, Vec<u8>) {
        let mut stream = bytes;
        let read = read(&mut stream).await;
        (read, stream.to_vec())
    }

    #[tokio::test]
    async fn addresses_are_read_and_nothing_beyond_them() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x69, 0x87];
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[33]) = (0x20, 1, 9, 80);
        let long_v6 = format!(
            "PROXY TCP6 {0} {0} 65535 65535\r\n",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        );
        let cases = [
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 27017\r\n".to_vec(),
                Some("192.0.2.7:4660"),
            ),
            (
                b"PROXY TCP6 2001::9 ::1 80 27017\r\n".to_vec(),
                Some("[2001::9]:80"),
            ),
            (
                long_v6.into_bytes(),
                Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 whatever 1\r\n".to_vec(), None),
            (block(0x21, 0x11, 12, &v4), Some("192.0.2.7:4660")),
            (
                block(0x21, 0x11, 15, &[&v4[..], &[4, 0, 0]].concat()),
                Some("192.0.2.7:4660"),
            ),
            (block(0x21, 0x21, 36, &v6), Some("[2001::9]:80")),
            (block(0x20, 0x00, 0, &[]), None),
            (block(0x20, 0x11, 12, &v4), None),
            (block(0x21, 0x00, 0, &[]), None),
            (block(0x20, 0x44, 0, &[]), None),
            (block(0x21, 0x00, 3, &[1, 2, 3]), None),
            (block(0x21, 0x12, 12, &v4), None),
            (block(0x21, 0x31, 216, &[0; 216]), None),
            (block(0x21, 0x32, 220, &[0; 220]), None),
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 0 0\r\n".to_vec(),
                Some("192.0.2.7:0"),
            ),
            (
                block(0x21, 0x11, 4096, &[&v4[..], &[0; 4084]].concat()),
                Some("192.0.2.7:4660"),
            ),
        ];
        for (bytes, expected) in cases {
            let (read, rest) = read_all(&[&bytes[..], b"hello"].concat()).await;
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(read.unwrap(), expected, "{bytes:?}");
            assert_eq!(rest, b"hello", "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
        let cases = [
            b"GET / HTTP/1.1\r\n".to_vec(),
            // An OP_MSG.
            [&[60, 0, 0, 0][..], &[0; 56]].concat(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 04660 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +4660 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1 \r\n".to_vec(),
            b"PROXY TCP4 192.0.2.07 10.0.0.1 4660 1\r\n".to_vec(),
            b"PROXY TCP4 2001::9 10.0.0.1 4660 1\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.7 10.0.0.1 4660 1\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 10.0.0.1 4660 1\r\n".to_vec(),
            b"PROXY \xff\xff\xff\xff\xff\xff\xff\r\n".to_vec(),
            endless,
            block(0x11, 0x11, 12, &[0; 12]),
            block(0x22, 0x11, 12, &[0; 12]),
            block(0x21, 0x11, 11, &[0; 11]),
            block(0x21, 0x21, 35, &[0; 35]),
            block(0x21, 0x12, 11, &[0; 11]),
            block(0x21, 0x31, 215, &[0; 215]),
            block(0x21, 0x41, 216, &[0; 216]),
            block(0x21, 0x13, 216, &[0; 216]),
            block(0x31, 0x11, 12, &[0; 12]),
            block(0x21, 0x11, 4097, &[0; 4097]),
            block(0x21, 0x11, 12, &[0; 5]),
            b"PROXY TCP4".to_vec(),
            Vec::new(),
        ];
        for bytes in cases {
            assert!(read_all(&bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
