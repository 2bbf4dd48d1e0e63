//! The users the proxy knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::keys::Keys;
use crate::{CredentialError, Mechanism, Salts, Verifier};

/// User name to verifier and identity. The identity `I` is what a proven user is to the caller: an
/// app, with whatever goes with it.
pub struct Credentials<I> {
    salts: Salts,
    users: BTreeMap<Arc<str>, (Proof, I)>,
}

/// By what a user proves itself. None has two: a user of one name is one user.
enum Proof {
    Password(Verifier),
    Certificate,
}

impl<I: Clone> Credentials<I> {
    /// No users yet. `salts` gives unknown users their salts, and must be the one the verifiers are
    /// made with.
    pub fn new(salts: Salts) -> Self {
        Self {
            salts,
            users: BTreeMap::new(),
        }
    }

    /// Adds a user. Refuses a second one of the same name, and a verifier made with another salt key.
    pub fn insert(&mut self, verifier: Verifier, identity: I) -> Result<(), CredentialError> {
        let user = verifier.user();
        if self.users.contains_key(user) {
            return Err(CredentialError::DuplicateUser(user.to_owned()));
        }
        for mechanism in Mechanism::ALL {
            if verifier.keys(mechanism).salt != self.salts.salt(mechanism, user) {
                return Err(CredentialError::ForeignSalt(user.to_owned()));
            }
        }
        let user = user.into();
        self.users
            .insert(user, (Proof::Password(verifier), identity));
        Ok(())
    }

    /// Adds a user that proves itself by a certificate with this subject, which is its name. Refuses a second one of the
    /// same name.
    pub fn insert_certified(&mut self, subject: &str, identity: I) -> Result<(), CredentialError> {
        if self.users.contains_key(subject) {
            return Err(CredentialError::DuplicateUser(subject.to_owned()));
        }
        self.users
            .insert(subject.into(), (Proof::Certificate, identity));
        Ok(())
    }

    /// The identity of a user, by exact name.
    pub fn identity(&self, user: &str) -> Option<&I> {
        self.users.get(user).map(|(_, identity)| identity)
    }

    /// What is kept of a user's password, by exact name. `None` for a user that has none.
    pub fn verifier(&self, user: &str) -> Option<&Verifier> {
        match self.users.get(user) {
            Some((Proof::Password(verifier), _)) => Some(verifier),
            Some((Proof::Certificate, _)) | None => None,
        }
    }

    /// The identity of who holds a certificate with this subject, which the caller has verified. A user of the same name
    /// that has a password is not meant.
    pub fn certified(&self, subject: &str) -> Option<&I> {
        match self.users.get(subject) {
            Some((Proof::Certificate, identity)) => Some(identity),
            Some((Proof::Password(_), _)) | None => None,
        }
    }

    /// The identities of all users, by name.
    pub fn identities(&self) -> impl Iterator<Item = &I> {
        self.users.values().map(|(_, identity)| identity)
    }

    /// The answer to `saslSupportedMechs`: the same for every name, so that none can be probed.
    pub fn mechanisms(&self, _user: &str) -> &'static [Mechanism] {
        &Mechanism::ALL
    }

    /// Keys for a conversation, and the identity if the user exists. The decoy is made in either case,
    /// so that both cost the same.
    pub(crate) fn keys(&self, mechanism: Mechanism, user: &str) -> (Arc<Keys>, Option<I>) {
        let decoy = Arc::new(self.salts.decoy(mechanism, user));
        match self.users.get(user) {
            Some((Proof::Password(verifier), identity)) => {
                (Arc::clone(verifier.keys(mechanism)), Some(identity.clone()))
            }
            Some((Proof::Certificate, _)) | None => (decoy, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Credentials;
    use crate::{CredentialError, Mechanism, Salts, Secret, Verifier};

    fn verifier(key: &[u8]) -> Verifier {
        Verifier::try_new("ann", &Secret::new("pencil".to_owned()), &Salts::new(key)).unwrap()
    }

    #[test]
    fn a_name_is_taken_once_and_salts_must_agree() {
        let mut credentials = Credentials::new(Salts::new(b"key"));
        let ours = verifier(b"key");
        assert_eq!(
            credentials.insert(verifier(b"other"), 0),
            Err(CredentialError::ForeignSalt("ann".to_owned()))
        );
        assert_eq!(credentials.identity("ann"), None);
        assert_eq!(credentials.insert(ours.clone(), 1), Ok(()));
        assert_eq!(
            credentials.insert(ours, 2),
            Err(CredentialError::DuplicateUser("ann".to_owned()))
        );
        assert_eq!(credentials.identity("ann"), Some(&1));
        assert_eq!(credentials.identity("Ann"), None);
    }

    #[test]
    fn every_name_has_the_same_mechanisms_salt_shape_and_iterations() {
        let mut credentials = Credentials::new(Salts::new(b"key"));
        credentials.insert(verifier(b"key"), ()).unwrap();
        assert_eq!(
            credentials.mechanisms("ann"),
            credentials.mechanisms("nobody")
        );
        for mechanism in Mechanism::ALL {
            let (known, identity) = credentials.keys(mechanism, "ann");
            let (unknown, none) = credentials.keys(mechanism, "nobody");
            assert_eq!((identity, none), (Some(()), None));
            assert_eq!(known.iterations, unknown.iterations);
            assert_eq!(known.salt.len(), unknown.salt.len());
        }
    }

    #[test]
    fn a_password_proves_no_certificate_and_a_certificate_no_password() {
        let mut credentials = Credentials::new(Salts::new(b"key"));
        credentials.insert(verifier(b"key"), 1).unwrap();
        assert_eq!(credentials.insert_certified("CN=bob", 2), Ok(()));
        for taken in ["ann", "CN=bob"] {
            assert_eq!(
                credentials.insert_certified(taken, 3),
                Err(CredentialError::DuplicateUser(taken.to_owned()))
            );
        }
        let of = |name: &str| {
            let (_, by_password) = credentials.keys(Mechanism::ScramSha256, name);
            (by_password, credentials.certified(name).copied())
        };
        assert_eq!(of("ann"), (Some(1), None));
        assert_eq!(of("CN=bob"), (None, Some(2)));
        assert_eq!(of("cn=bob"), (None, None));
        assert!(credentials.verifier("CN=bob").is_none());
        assert_eq!(credentials.identity("CN=bob"), Some(&2));
    }

    #[test]
    fn the_same_password_is_known_again_and_no_other() {
        let of = |user: &str, password: &str, salt: &[u8]| {
            let secret = Secret::new(password.to_owned());
            Verifier::try_new(user, &secret, &Salts::new(salt)).unwrap()
        };
        let ann = of("ann", "pencil", b"key");
        assert!(ann.is_same(&of("ann", "pencil", b"key")));
        for other in [
            of("ann", "pencil2", b"key"),
            of("bob", "pencil", b"key"),
            of("ann", "pencil", b"other"),
        ] {
            assert!(!ann.is_same(&other));
        }
    }

    #[test]
    fn a_verifier_does_not_print_its_keys() {
        assert_eq!(
            format!("{:?}", verifier(b"key")),
            "Verifier { user: \"ann\", .. }"
        );
    }
}
