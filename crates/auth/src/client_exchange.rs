//! The client's side of a conversation.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::error::{AuthError, Flaw};
use crate::keys::{check_user, client_key, prepare, server_key, xor};
use crate::limits::{ITERATIONS_MAX, ITERATIONS_MIN};
use crate::messages::{
    ServerFinal, ServerFirst, client_final, client_final_without_proof, client_first_bare,
    is_own_nonce,
};
use crate::{Mechanism, Secret, Stretched};

/// One conversation with the upstream, between two of its payloads. Every step consumes it.
pub struct ClientExchange {
    mechanism: Mechanism,
    stretched: Arc<Stretched>,
    state: State,
}

/// What the upstream's payload led to.
pub enum ClientStep {
    /// Send this payload in `saslContinue`. A `done: true` at this point is a lie: the upstream has
    /// not proven itself.
    Respond(ClientExchange, Vec<u8>),
    /// The upstream has proven that it holds the user's keys. If its reply said `done: false`, send one
    /// empty payload and expect `done: true`.
    Verified,
}

enum State {
    AwaitingChallenge {
        prepared: Zeroizing<Vec<u8>>,
        nonce: String,
        first_bare: String,
    },
    AwaitingSignature {
        expected: Zeroizing<Vec<u8>>,
    },
}

impl ClientExchange {
    /// Opens a conversation and gives the payload of `saslStart` (or of `speculativeAuthenticate`).
    ///
    /// `client_nonce` must be fresh and random, of [`crate::SERVER_NONCE_CHARS_MIN`] to
    /// [`crate::NONCE_BYTES_MAX`] printable ASCII characters without a comma. Fails on such a nonce
    /// ([`AuthError::OwnNonce`]) and on a name or password that cannot be used
    /// ([`AuthError::OwnCredential`]).
    pub fn begin(
        mechanism: Mechanism,
        user: &str,
        password: &Secret,
        client_nonce: &str,
    ) -> Result<(Self, Vec<u8>), AuthError> {
        if !is_own_nonce(client_nonce) {
            return Err(AuthError::OwnNonce);
        }
        check_user(user).map_err(AuthError::OwnCredential)?;
        let prepared = prepare(mechanism, user, password).map_err(AuthError::OwnCredential)?;
        Ok(Self::open(mechanism, user, prepared, client_nonce))
    }

    /// With what earlier conversations by the same password have made of it.
    #[must_use]
    pub fn recalling(self, stretched: &Arc<Stretched>) -> Self {
        let stretched = Arc::clone(stretched);
        Self { stretched, ..self }
    }

    /// Takes the upstream's next payload. The first call stretches the password, unless an earlier conversation has:
    /// milliseconds of work, more with the iterations the upstream asks for, at most [`ITERATIONS_MAX`]. An error ends the
    /// conversation, and the connection must be closed.
    pub fn next(self, server_payload: &[u8]) -> Result<ClientStep, AuthError> {
        let mechanism = self.mechanism;
        match self.state {
            State::AwaitingChallenge {
                prepared,
                nonce,
                first_bare,
            } => {
                let challenge = challenge(&nonce, server_payload)?;
                let (salt, iterations) = (&challenge.salt, challenge.iterations);
                let salted = self.stretched.of(mechanism, &prepared, salt, iterations);
                let (expected, payload) = answer(mechanism, &salted, &first_bare, &challenge);
                let state = State::AwaitingSignature { expected };
                Ok(ClientStep::Respond(Self { state, ..self }, payload))
            }
            State::AwaitingSignature { expected } => verify(&expected, server_payload),
        }
    }

    fn open(
        mechanism: Mechanism,
        user: &str,
        prepared: Zeroizing<Vec<u8>>,
        nonce: &str,
    ) -> (Self, Vec<u8>) {
        let first_bare = client_first_bare(user, nonce);
        let payload = format!("n,,{first_bare}").into_bytes();
        let state = State::AwaitingChallenge {
            prepared,
            nonce: nonce.to_owned(),
            first_bare,
        };
        let exchange = Self {
            mechanism,
            stretched: Arc::default(),
            state,
        };
        (exchange, payload)
    }
}

/// Reads the challenge, and checks what the upstream may ask for.
fn challenge<'p>(nonce: &str, payload: &'p [u8]) -> Result<ServerFirst<'p>, AuthError> {
    let challenge = ServerFirst::parse(payload).map_err(AuthError::UpstreamMalformed)?;
    // A server that adds nothing of its own could replay an old conversation.
    if challenge
        .nonce
        .strip_prefix(nonce)
        .is_none_or(str::is_empty)
    {
        return Err(AuthError::UpstreamMalformed(Flaw::Nonce));
    }
    if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&challenge.iterations) {
        return Err(AuthError::UpstreamIterations(challenge.iterations));
    }
    Ok(challenge)
}

/// The signature that the upstream has to give, and the payload that answers its challenge.
fn answer(
    mechanism: Mechanism,
    salted: &[u8],
    first_bare: &str,
    challenge: &ServerFirst<'_>,
) -> (Zeroizing<Vec<u8>>, Vec<u8>) {
    let client_key = client_key(mechanism, salted);
    let without_proof = client_final_without_proof(challenge.nonce);
    let signed = format!("{first_bare},{},{without_proof}", challenge.text);
    let signature = mechanism.hmac(&mechanism.hash(&client_key), signed.as_bytes());
    let payload = client_final(&without_proof, &xor(&client_key, &signature)).into_bytes();
    let expected = mechanism.hmac(&server_key(mechanism, salted), signed.as_bytes());
    (expected, payload)
}

fn verify(expected: &[u8], payload: &[u8]) -> Result<ClientStep, AuthError> {
    match ServerFinal::parse(payload).map_err(AuthError::UpstreamMalformed)? {
        ServerFinal::Refused => Err(AuthError::UpstreamRefused),
        ServerFinal::Signature(signature) if bool::from(signature.ct_eq(expected)) => {
            Ok(ClientStep::Verified)
        }
        ServerFinal::Signature(_) => Err(AuthError::UpstreamSignature),
    }
}

#[cfg(test)]
mod tests;
