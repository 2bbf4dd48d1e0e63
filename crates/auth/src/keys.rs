//! Keys derived from a password.

use std::fmt::Write as _;

use md5::{Digest, Md5};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::limits::{PASSWORD_BYTES_MAX, USER_NAME_BYTES_MAX};
use crate::{CredentialError, Mechanism, Secret};

/// What a server keeps of one password for one mechanism (RFC 5802 section 3).
pub(crate) struct Keys {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
    pub(crate) stored_key: Zeroizing<Vec<u8>>,
    pub(crate) server_key: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// Whether both are the same, in constant time.
    pub(crate) fn ct_eq(&self, other: &Self) -> Choice {
        let stored = self.stored_key.as_slice().ct_eq(&other.stored_key);
        let server = self.server_key.as_slice().ct_eq(&other.server_key);
        stored & server
    }

    /// Derives the keys from a password that [`prepare`] has prepared.
    pub(crate) fn derive(
        mechanism: Mechanism,
        prepared: &[u8],
        salt: Vec<u8>,
        iterations: u32,
    ) -> Self {
        let salted = mechanism.salted_password(prepared, &salt, iterations);
        Self {
            stored_key: mechanism.hash(&client_key(mechanism, &salted)),
            server_key: server_key(mechanism, &salted),
            salt,
            iterations,
        }
    }
}

/// `ClientKey` of RFC 5802 section 3.
pub(crate) fn client_key(mechanism: Mechanism, salted_password: &[u8]) -> Zeroizing<Vec<u8>> {
    mechanism.hmac(salted_password, b"Client Key")
}

/// `ServerKey` of RFC 5802 section 3.
pub(crate) fn server_key(mechanism: Mechanism, salted_password: &[u8]) -> Zeroizing<Vec<u8>> {
    mechanism.hmac(salted_password, b"Server Key")
}

/// `a XOR b`, as long as the shorter.
pub(crate) fn xor(a: &[u8], b: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(a.iter().zip(b).map(|(x, y)| x ^ y).collect())
}

/// Checks a user name. Names are never normalised, as on mongod.
pub(crate) fn check_user(user: &str) -> Result<(), CredentialError> {
    if user.is_empty() || user.len() > USER_NAME_BYTES_MAX || user.contains('\0') {
        return Err(CredentialError::UserName);
    }
    Ok(())
}

/// The bytes that PBKDF2 stretches: for SHA-1 the hexadecimal MD5 of `user:mongo:password`, for
/// SHA-256 the password after SASLprep.
pub(crate) fn prepare(
    mechanism: Mechanism,
    user: &str,
    password: &Secret,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let password = password.expose();
    if password.is_empty() {
        return Err(CredentialError::PasswordEmpty);
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(CredentialError::PasswordTooLong);
    }
    match mechanism {
        Mechanism::ScramSha1 => Ok(mongo_digest(user, password)),
        Mechanism::ScramSha256 => {
            let prepared = stringprep::saslprep(password)
                .map_err(|_| CredentialError::PasswordForbidden)?
                .into_owned();
            if prepared.is_empty() {
                return Err(CredentialError::PasswordEmpty);
            }
            Ok(Zeroizing::new(prepared.into_bytes()))
        }
    }
}

fn mongo_digest(user: &str, password: &str) -> Zeroizing<Vec<u8>> {
    let mut md5 = Md5::new();
    for part in [user, ":mongo:", password] {
        md5.update(part);
    }
    let mut hex = String::with_capacity(MD5_HEX_BYTES);
    for byte in md5.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Zeroizing::new(hex.into_bytes())
}

/// Room for the digest, so that the text never moves and leaves no copy behind.
const MD5_HEX_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::{check_user, prepare};
    use crate::{CredentialError, Mechanism, PASSWORD_BYTES_MAX, Secret, USER_NAME_BYTES_MAX};

    fn prepared(mechanism: Mechanism, password: &str) -> Result<String, CredentialError> {
        prepare(mechanism, "user", &Secret::new(password.to_owned()))
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    // RFC 4013 section 3, and the SASLprep cases of the drivers' authentication tests.
    #[test]
    fn sha_256_prepares_by_saslprep() {
        let forbidden = Err(CredentialError::PasswordForbidden);
        let cases = [
            ("pencil", Ok("pencil".to_owned())),
            ("I\u{ad}X", Ok("IX".to_owned())),
            ("IX", Ok("IX".to_owned())),
            ("\u{2168}", Ok("IX".to_owned())),
            ("I\u{2168}", Ok("IIX".to_owned())),
            ("USER", Ok("USER".to_owned())),
            ("\u{aa}", Ok("a".to_owned())),
            ("a\u{a0}b", Ok("a b".to_owned())),
            ("\u{2168}\u{2163}", Ok("IXIV".to_owned())),
            ("\u{7}", forbidden.clone()),
            ("\u{627}1", forbidden.clone()),
            ("\u{e000}", forbidden.clone()),
            ("\u{221}", forbidden),
            ("\u{ad}", Err(CredentialError::PasswordEmpty)),
            ("", Err(CredentialError::PasswordEmpty)),
        ];
        for (password, expected) in cases {
            assert_eq!(
                prepared(Mechanism::ScramSha256, password),
                expected,
                "{password:?}"
            );
        }
    }

    // The digest is that of the drivers' specification for user `user` and password `pencil`.
    #[test]
    fn sha_1_prepares_by_md5_and_does_not_normalise() {
        assert_eq!(
            prepared(Mechanism::ScramSha1, "pencil").as_deref(),
            Ok("1c33006ec1ffd90f9cadcbcc0e118200")
        );
        assert_ne!(
            prepared(Mechanism::ScramSha1, "\u{2168}"),
            prepared(Mechanism::ScramSha1, "IX")
        );
        assert!(prepared(Mechanism::ScramSha1, "\u{7}").is_ok());
    }

    #[test]
    fn lengths_are_limited() {
        for mechanism in Mechanism::ALL {
            assert!(prepared(mechanism, &"x".repeat(PASSWORD_BYTES_MAX)).is_ok());
            assert_eq!(
                prepared(mechanism, &"x".repeat(PASSWORD_BYTES_MAX + 1)),
                Err(CredentialError::PasswordTooLong)
            );
        }
        assert_eq!(check_user(&"x".repeat(USER_NAME_BYTES_MAX)), Ok(()));
        for user in ["", "a\0b", &"x".repeat(USER_NAME_BYTES_MAX + 1)] {
            assert_eq!(check_user(user), Err(CredentialError::UserName));
        }
    }
}
