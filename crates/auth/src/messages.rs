//! The four messages of SCRAM (RFC 5802 section 7): reading and writing, no secrets.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Flaw;
use crate::limits::{
    CLIENT_NONCE_CHARS_MIN, NONCE_BYTES_MAX, PAYLOAD_BYTES_MAX, SERVER_NONCE_CHARS_MIN,
    USER_NAME_BYTES_MAX,
};

/// The first message: `n,[a=user],n=user,r=nonce[,x=...]`.
#[derive(Debug)]
pub(crate) struct ClientFirst<'a> {
    /// `n,,` or `n,a=user,`.
    pub(crate) header: &'a str,
    /// All behind the header; goes into the signed text.
    pub(crate) bare: &'a str,
    pub(crate) user: String,
    pub(crate) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// Reads the message. Like mongod, takes an authorization identity that is empty or the user.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Flaw> {
        let text = text(payload)?;
        let rest = text.strip_prefix("n,").ok_or(Flaw::Header)?;
        let (identity, bare) = rest.split_once(',').ok_or(Flaw::Header)?;
        let header = text.strip_suffix(bare).ok_or(Flaw::Header)?;
        let identity = match identity {
            "" => "",
            named => named.strip_prefix("a=").ok_or(Flaw::Header)?,
        };
        let mut fields = fields(bare)?;
        let user = unescape(value(fields.next(), "n=", Flaw::UserName)?).ok_or(Flaw::UserName)?;
        if user.is_empty() || user.len() > USER_NAME_BYTES_MAX || user.contains('\0') {
            return Err(Flaw::UserName);
        }
        let nonce = value(fields.next(), "r=", Flaw::Nonce)?;
        if !is_nonce(nonce, CLIENT_NONCE_CHARS_MIN) {
            return Err(Flaw::Nonce);
        }
        let identity = unescape(identity).ok_or(Flaw::AuthorizationIdentity)?;
        if !identity.is_empty() && identity != user {
            return Err(Flaw::AuthorizationIdentity);
        }
        Ok(Self {
            header,
            bare,
            user: user.into_owned(),
            nonce,
        })
    }

    /// What `c=` of the last message must say: `biws` for `n,,`.
    pub(crate) fn channel_binding(&self) -> String {
        STANDARD.encode(self.header)
    }
}

/// `n=user,r=nonce`: the first message behind its header.
pub(crate) fn client_first_bare(user: &str, nonce: &str) -> String {
    format!(
        "n={},r={nonce}",
        user.replace('=', "=3D").replace(',', "=2C")
    )
}

/// The challenge: `r=nonces,s=salt,i=iterations`.
#[derive(Debug)]
pub(crate) struct ServerFirst<'a> {
    pub(crate) nonce: &'a str,
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
    /// The whole message; goes into the signed text.
    pub(crate) text: &'a str,
}

impl<'a> ServerFirst<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Flaw> {
        let text = text(payload)?;
        let mut fields = fields(text)?;
        let nonce = value(fields.next(), "r=", Flaw::Nonce)?;
        let salt = value(fields.next(), "s=", Flaw::Salt)?;
        let salt = STANDARD.decode(salt).map_err(|_| Flaw::Salt)?;
        if salt.is_empty() {
            return Err(Flaw::Salt);
        }
        let iterations = value(fields.next(), "i=", Flaw::Iterations)?;
        if !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Flaw::Iterations);
        }
        let iterations = iterations.parse().map_err(|_| Flaw::Iterations)?;
        Ok(Self {
            nonce,
            salt,
            iterations,
            text,
        })
    }
}

/// Writes the challenge.
pub(crate) fn server_first(nonce: &str, salt: &[u8], iterations: u32) -> String {
    format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt))
}

/// The proof: `c=header,r=nonces[,x=...],p=proof`.
#[derive(Debug)]
pub(crate) struct ClientFinal<'a> {
    pub(crate) channel_binding: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) proof: Vec<u8>,
    /// All before `,p=`; goes into the signed text.
    pub(crate) without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Flaw> {
        let text = text(payload)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Flaw::Proof)?;
        let proof = STANDARD.decode(proof).map_err(|_| Flaw::Proof)?;
        let mut fields = fields(without_proof)?;
        let channel_binding = value(fields.next(), "c=", Flaw::ChannelBinding)?;
        let nonce = value(fields.next(), "r=", Flaw::Nonce)?;
        Ok(Self {
            channel_binding,
            nonce,
            proof,
            without_proof,
        })
    }
}

/// `c=biws,r=nonces`: the last message before its proof.
pub(crate) fn client_final_without_proof(nonce: &str) -> String {
    format!("c=biws,r={nonce}")
}

/// Adds the proof.
pub(crate) fn client_final(without_proof: &str, proof: &[u8]) -> String {
    format!("{without_proof},p={}", STANDARD.encode(proof))
}

/// The answer to the proof.
#[derive(Debug)]
pub(crate) enum ServerFinal {
    /// `v=signature`.
    Signature(Vec<u8>),
    /// `e=reason`.
    Refused,
}

impl ServerFinal {
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Flaw> {
        let text = text(payload)?;
        let first = fields(text)?.next();
        if first.is_some_and(|field| field.starts_with("e=")) {
            return Ok(Self::Refused);
        }
        let signature = value(first, "v=", Flaw::Signature)?;
        STANDARD
            .decode(signature)
            .map(Self::Signature)
            .map_err(|_| Flaw::Signature)
    }
}

/// Writes the answer.
pub(crate) fn server_final(signature: &[u8]) -> String {
    format!("v={}", STANDARD.encode(signature))
}

/// Whether the proxy's own nonce will do, on either side.
pub(crate) fn is_own_nonce(nonce: &str) -> bool {
    is_nonce(nonce, SERVER_NONCE_CHARS_MIN)
}

/// The alphabet is RFC 5802's `printable`: ASCII from `!` to `~` without the comma.
fn is_nonce(nonce: &str, chars_min: usize) -> bool {
    (chars_min..=NONCE_BYTES_MAX).contains(&nonce.len())
        && nonce
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn text(payload: &[u8]) -> Result<&str, Flaw> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Flaw::TooLong);
    }
    std::str::from_utf8(payload).map_err(|_| Flaw::NotText)
}

/// Splits at commas. Every field must read `letter=...`; `m=` is a mandatory extension, and there are
/// none that we know. Others are left unread, as RFC 5802 section 5.1 asks.
fn fields(text: &str) -> Result<impl Iterator<Item = &str>, Flaw> {
    let has_form = |field: &str| {
        let mut chars = field.chars();
        chars
            .next()
            .is_some_and(|letter| letter.is_ascii_alphabetic() && letter != 'm')
            && chars.next() == Some('=')
    };
    if text.split(',').all(has_form) {
        Ok(text.split(','))
    } else {
        Err(Flaw::Extension)
    }
}

fn value<'a>(field: Option<&'a str>, name: &str, flaw: Flaw) -> Result<&'a str, Flaw> {
    field.and_then(|field| field.strip_prefix(name)).ok_or(flaw)
}

/// Undoes `=2C` and `=3D`; any other `=` is wrong (RFC 5802 section 5.1), small letters too.
fn unescape(name: &str) -> Option<Cow<'_, str>> {
    let mut parts = name.split('=');
    let first = parts.next()?;
    if first.len() == name.len() {
        return Some(Cow::Borrowed(name));
    }
    let mut plain = first.to_owned();
    for part in parts {
        if let Some(rest) = part.strip_prefix("2C") {
            plain.push(',');
            plain.push_str(rest);
        } else {
            plain.push('=');
            plain.push_str(part.strip_prefix("3D")?);
        }
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests;
