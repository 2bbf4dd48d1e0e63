//! The two mechanisms and the primitives they are made of.

use hmac::digest::array::Array;
use hmac::digest::common::KeySizeUser;
use hmac::digest::consts::U64;
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::AuthError;

/// A SCRAM mechanism without channel binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// `SCRAM-SHA-1` (RFC 5802) over the hexadecimal MD5 of `user:mongo:password`.
    ScramSha1,
    /// `SCRAM-SHA-256` (RFC 7677) over the password prepared by SASLprep.
    ScramSha256,
}

impl Mechanism {
    /// Every mechanism, in the order in which mongod lists them in `saslSupportedMechs`.
    pub const ALL: [Self; 2] = [Self::ScramSha1, Self::ScramSha256];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }

    /// Reads a name, exactly as written: mongod knows no other case. Anything else is
    /// [`AuthError::MechanismUnavailable`].
    pub fn parse(name: &str) -> Result<Self, AuthError> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
            .ok_or_else(|| {
                AuthError::MechanismUnavailable(name.chars().take(NAME_SHOWN_CHARS_MAX).collect())
            })
    }

    /// Iterations of new verifiers: mongod's defaults.
    pub(crate) const fn iterations(self) -> u32 {
        match self {
            Self::ScramSha1 => 10_000,
            Self::ScramSha256 => 15_000,
        }
    }

    /// Length of new salts: mongod's, which is the digest's less the block counter of PBKDF2.
    pub(crate) const fn salt_bytes(self) -> usize {
        match self {
            Self::ScramSha1 => 16,
            Self::ScramSha256 => 28,
        }
    }

    pub(crate) const fn digest_bytes(self) -> usize {
        match self {
            Self::ScramSha1 => 20,
            Self::ScramSha256 => 32,
        }
    }

    pub(crate) fn hash(self, data: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::ScramSha1 => Sha1::digest(data).to_vec(),
            Self::ScramSha256 => Sha256::digest(data).to_vec(),
        })
    }

    /// HMAC over a short key: no key of SCRAM is longer than a digest.
    pub(crate) fn hmac(self, key: &[u8], message: &[u8]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::ScramSha1 => sign::<Hmac<Sha1>>(&block(key), &[message]),
            Self::ScramSha256 => sign::<Hmac<Sha256>>(&block(key), &[message]),
        }
    }

    /// `SaltedPassword` of RFC 5802 section 3: PBKDF2, the costly step.
    pub(crate) fn salted_password(
        self,
        prepared: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Zeroizing<Vec<u8>> {
        let mut salted = Zeroizing::new(vec![0; self.digest_bytes()]);
        match self {
            Self::ScramSha1 => pbkdf2_hmac::<Sha1>(prepared, salt, iterations, &mut salted),
            Self::ScramSha256 => pbkdf2_hmac::<Sha256>(prepared, salt, iterations, &mut salted),
        }
        salted
    }
}

/// HMAC-SHA-256 over the parts in turn, for keys of any length.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    if key.len() > BLOCK_BYTES {
        return sign::<Hmac<Sha256>>(&block(&Sha256::digest(key)), parts);
    }
    sign::<Hmac<Sha256>>(&block(key), parts)
}

fn sign<M>(key: &[u8; BLOCK_BYTES], parts: &[&[u8]]) -> Zeroizing<Vec<u8>>
where
    M: Mac + KeyInit + KeySizeUser<KeySize = U64>,
{
    let mut mac = <M as KeyInit>::new(&Array::from(*key));
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// The key padded to one block, which is how HMAC reads a short key (RFC 2104 section 2).
fn block(key: &[u8]) -> Zeroizing<[u8; BLOCK_BYTES]> {
    let mut block = Zeroizing::new([0; BLOCK_BYTES]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    block
}

/// Block length of SHA-1 and of SHA-256.
const BLOCK_BYTES: usize = 64;

/// How much of an unknown mechanism's name errors repeat: the longest registered name has 20.
const NAME_SHOWN_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::{Mechanism, hmac_sha256};
    use crate::AuthError;

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    #[test]
    fn names_are_exact() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::parse(mechanism.name()), Ok(mechanism));
        }
        for name in [
            "",
            "scram-sha-256",
            "SCRAM-SHA-256-PLUS",
            "SCRAM-SHA-512",
            "PLAIN",
        ] {
            assert_eq!(
                Mechanism::parse(name),
                Err(AuthError::MechanismUnavailable(name.to_owned()))
            );
        }
        let long = "é".repeat(1000);
        assert_eq!(
            Mechanism::parse(&long),
            Err(AuthError::MechanismUnavailable("é".repeat(64)))
        );
    }

    // RFC 4231, test cases 2 and 6.
    #[test]
    fn hmac_of_short_and_long_keys() {
        assert_eq!(
            hex(&hmac_sha256(
                b"Jefe",
                &[b"what do ya want ", b"for nothing?"]
            )),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac_sha256(
                &[0xaa; 131],
                &[b"Test Using Larger Than Block-Size Key - Hash Key First"]
            )),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn digests_have_the_stated_length() {
        for mechanism in Mechanism::ALL {
            assert_eq!(mechanism.hash(b"x").len(), mechanism.digest_bytes());
            assert_eq!(mechanism.hmac(b"k", b"x").len(), mechanism.digest_bytes());
        }
    }
}
