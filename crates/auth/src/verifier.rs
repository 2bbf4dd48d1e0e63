//! What is kept of a user's password.

use std::fmt;
use std::sync::Arc;

use subtle::Choice;

use crate::keys::{Keys, check_user, prepare};
use crate::{CredentialError, Mechanism, Salts, Secret};

/// The keys by which one user's password is checked, for both mechanisms. The password is not in it
/// and cannot be had from it. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    user: Arc<str>,
    scram_sha_1: Arc<Keys>,
    scram_sha_256: Arc<Keys>,
}

impl Verifier {
    /// Derives the keys of `user`: 10 000 rounds for SHA-1 and 15 000 for SHA-256 (mongod's defaults),
    /// which takes milliseconds. Fails on an empty or too long name or password, and on a password that
    /// SASLprep forbids: its user would be limited to one mechanism.
    pub fn try_new(user: &str, password: &Secret, salts: &Salts) -> Result<Self, CredentialError> {
        check_user(user)?;
        let keys = |mechanism: Mechanism| -> Result<Arc<Keys>, CredentialError> {
            let prepared = prepare(mechanism, user, password)?;
            let salt = salts.salt(mechanism, user);
            Ok(Arc::new(Keys::derive(
                mechanism,
                &prepared,
                salt,
                mechanism.iterations(),
            )))
        };
        // The one that may refuse comes first.
        let scram_sha_256 = keys(Mechanism::ScramSha256)?;
        let scram_sha_1 = keys(Mechanism::ScramSha1)?;
        Ok(Self {
            user: user.into(),
            scram_sha_1,
            scram_sha_256,
        })
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether both are of the same user and password, made with the same salts.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = Mechanism::ALL
            .map(|mechanism| self.keys(mechanism).ct_eq(other.keys(mechanism)))
            .into_iter()
            .fold(Choice::from(1), |all, one| all & one);
        self.user == other.user && bool::from(same)
    }

    pub(crate) fn keys(&self, mechanism: Mechanism) -> &Arc<Keys> {
        match mechanism {
            Mechanism::ScramSha1 => &self.scram_sha_1,
            Mechanism::ScramSha256 => &self.scram_sha_256,
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
