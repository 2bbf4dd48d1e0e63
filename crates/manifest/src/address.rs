//! `host:port` to listen on.

use std::fmt;
use std::net::Ipv6Addr;

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no colon with a port behind it.
    #[error("expected `host:port`, such as `127.0.0.1:27018` or `[::1]:27018`")]
    Form,
    /// The port is not a number from 0 to 65535.
    #[error("the port is a number from 0 to 65535")]
    Port,
    /// The host is neither an address nor a legal name.
    #[error("the host is a name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
}

/// A host, as a name or an IP address, and a port. Port 0 lets the system choose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// `host:port`; an IPv6 host stands in brackets. The host is not looked up.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::Form)?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = if is_number { port.parse().ok() } else { None };
        let port = port.ok_or(AddressError::Port)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_host = match bracketed {
            Some(host) => host.parse::<Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        if !is_host {
            return Err(AddressError::Host);
        }
        Ok(Self {
            host: bracketed.unwrap_or(host).to_owned(),
            port,
        })
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

fn is_name(host: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(is_legal)
}

/// RFC 1035, section 2.3.4.
const HOST_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("127.0.0.1:27018", "127.0.0.1", 27018),
            ("0.0.0.0:0", "0.0.0.0", 0),
            ("localhost:1", "localhost", 1),
            ("[::1]:65535", "::1", 65535),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), text);
        }
        for (text, error) in [
            ("localhost", AddressError::Form),
            ("", AddressError::Form),
            ("localhost:", AddressError::Port),
            ("localhost:65536", AddressError::Port),
            ("localhost:+1", AddressError::Port),
            ("localhost:http", AddressError::Port),
            (":27018", AddressError::Host),
            ("::1:27018", AddressError::Host),
            ("[localhost]:1", AddressError::Host),
            ("a b:1", AddressError::Host),
            ("mongodb://a:1", AddressError::Host),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text}");
        }
    }
}
