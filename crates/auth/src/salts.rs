//! Salts, and the keys of users who do not exist.

use zeroize::Zeroizing;

use crate::Mechanism;
use crate::keys::Keys;
use crate::mechanism::hmac_sha256;

/// Makes the salt of every user, known or not, from one secret key.
///
/// The salt is `HMAC-SHA-256(key, mechanism || 0 || user)`, cut to mongod's length. It is thus the
/// same at every start and in every instance that shares the key, and tells nothing about whether
/// the user exists.
#[derive(Clone)]
pub struct Salts {
    key: Zeroizing<Vec<u8>>,
}

impl Salts {
    /// Takes the secret key; 32 random bytes are right. With a new key every driver derives its keys
    /// anew, and verifiers made before must be made again.
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: Zeroizing::new(key.to_vec()),
        }
    }

    pub(crate) fn salt(&self, mechanism: Mechanism, user: &str) -> Vec<u8> {
        let mut salt = self.derive(&[], mechanism, user).to_vec();
        salt.truncate(mechanism.salt_bytes());
        salt
    }

    /// Keys that no password has, in the shape of real ones.
    pub(crate) fn decoy(&self, mechanism: Mechanism, user: &str) -> Keys {
        let cut = |label: &[u8]| {
            let mut key = self.derive(label, mechanism, user);
            key.truncate(mechanism.digest_bytes());
            key
        };
        Keys {
            salt: self.salt(mechanism, user),
            iterations: mechanism.iterations(),
            stored_key: cut(b"stored key\0"),
            server_key: cut(b"server key\0"),
        }
    }

    fn derive(&self, label: &[u8], mechanism: Mechanism, user: &str) -> Zeroizing<Vec<u8>> {
        hmac_sha256(
            &self.key,
            &[label, mechanism.name().as_bytes(), &[0], user.as_bytes()],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Salts;
    use crate::Mechanism;
    use crate::mechanism::hmac_sha256;

    #[test]
    fn a_salt_follows_the_stated_formula() {
        let salts = Salts::new(b"key");
        let cases = [
            (Mechanism::ScramSha1, &b"SCRAM-SHA-1\0ann"[..], 16),
            (Mechanism::ScramSha256, &b"SCRAM-SHA-256\0ann"[..], 28),
        ];
        for (mechanism, message, length) in cases {
            let salt = salts.salt(mechanism, "ann");
            assert_eq!(salt, hmac_sha256(b"key", &[message])[..length]);
            assert_eq!(salt, salts.decoy(mechanism, "ann").salt);
            assert_ne!(salt, salts.salt(mechanism, "bob"));
            assert_ne!(salt, Salts::new(b"other").salt(mechanism, "ann"));
        }
    }

    #[test]
    fn decoy_keys_have_the_shape_of_real_ones() {
        let salts = Salts::new(b"key");
        for mechanism in Mechanism::ALL {
            let decoy = salts.decoy(mechanism, "ann");
            assert_eq!(decoy.stored_key.len(), mechanism.digest_bytes());
            assert_eq!(decoy.server_key.len(), mechanism.digest_bytes());
            assert_ne!(decoy.stored_key, decoy.server_key);
            assert_ne!(decoy.stored_key[..16], decoy.salt[..16]);
        }
    }
}
