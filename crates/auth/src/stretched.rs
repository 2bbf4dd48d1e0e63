//! What stretching a password gave, for the next conversation.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::Mechanism;

/// The last `SaltedPassword` of one login, so that only its first conversation pays for it, as the drivers' authentication
/// specification asks of clients: a server gives a user the same salt every time. Wiped when dropped.
///
/// It belongs to one password. A server with changing salts has it made anew each time.
#[derive(Default)]
pub struct Stretched(Mutex<Option<Salted>>);

struct Salted {
    mechanism: Mechanism,
    salt: Vec<u8>,
    iterations: u32,
    password: Zeroizing<Vec<u8>>,
}

impl Stretched {
    /// The stretched password: the one that is known, or milliseconds of work.
    pub(crate) fn of(
        &self,
        mechanism: Mechanism,
        prepared: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Zeroizing<Vec<u8>> {
        let is_same = |known: &&Salted| {
            known.mechanism == mechanism && known.salt == salt && known.iterations == iterations
        };
        // Either all of it is there or nothing, so a panic elsewhere does not spoil it.
        let last = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last().as_ref().filter(is_same) {
            return known.password.clone();
        }
        // Without the lock: others need not wait for it.
        let password = mechanism.salted_password(prepared, salt, iterations);
        *last() = Some(Salted {
            mechanism,
            salt: salt.to_vec(),
            iterations,
            password: password.clone(),
        });
        password
    }
}

impl fmt::Debug for Stretched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stretched").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mechanism::{ScramSha1, ScramSha256};

    #[test]
    fn what_is_asked_for_again_is_not_made_again() {
        let stretched = Stretched::default();
        let of = |prepared: &[u8], mechanism, salt: &[u8], iterations| {
            stretched.of(mechanism, prepared, salt, iterations)
        };
        let first = of(b"pencil", ScramSha256, b"salt", 4096);
        // Another password would give something else, were it looked at.
        assert_eq!(of(b"crayon", ScramSha256, b"salt", 4096), first);
        let others: [(Mechanism, &[u8], u32); 3] = [
            (ScramSha256, b"tlas", 4096),
            (ScramSha256, b"salt", 4097),
            (ScramSha1, b"salt", 4096),
        ];
        for (mechanism, salt, iterations) in others {
            let made = of(b"pencil", mechanism, salt, iterations);
            assert_eq!(
                made,
                mechanism.salted_password(b"pencil", salt, iterations),
                "{mechanism:?} {iterations}"
            );
        }
    }

    #[test]
    fn it_is_not_printed() {
        let stretched = Stretched::default();
        stretched.of(ScramSha256, b"pencil", b"salt", 4096);
        assert_eq!(format!("{stretched:?}"), "Stretched { .. }");
    }
}
