//! The server's side of a conversation.

use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq as _};

use crate::error::{AuthError, Flaw};
use crate::keys::{Keys, xor};
use crate::messages::{ClientFinal, ClientFirst, is_own_nonce, server_final, server_first};
use crate::{Credentials, Mechanism};

/// One conversation with a downstream, between two of its payloads. Every step consumes it, so a step
/// cannot be taken twice or out of order.
pub struct Exchange<I> {
    user: String,
    state: State<I>,
}

/// What a payload led to.
pub enum Step<I> {
    /// The conversation goes on: answer `done: false` with this payload. Nothing is granted yet.
    Challenge(Exchange<I>, Vec<u8>),
    /// The user is who it says: answer `done: true` with this payload.
    Proven(I, Vec<u8>),
}

enum State<I> {
    AwaitingProof(Box<Challenge<I>>),
    AwaitingEmpty(I),
}

struct Challenge<I> {
    mechanism: Mechanism,
    keys: Arc<Keys>,
    /// None for an unknown user, whose keys are a decoy.
    identity: Option<I>,
    channel_binding: String,
    nonce: String,
    /// The first two messages, each with its comma: the start of the text that is signed.
    transcript: String,
    skip_empty_exchange: bool,
}

impl<I: Clone> Exchange<I> {
    /// Takes the first payload and gives the challenge; answer `done: false` with it.
    ///
    /// `server_nonce` must be fresh and random, of [`crate::SERVER_NONCE_CHARS_MIN`] to
    /// [`crate::NONCE_BYTES_MAX`] printable ASCII characters without a comma. `skip_empty_exchange` is
    /// the option of that name in `saslStart`. Succeeds for unknown users alike.
    pub fn begin(
        credentials: &Credentials<I>,
        mechanism: &str,
        payload: &[u8],
        server_nonce: &str,
        skip_empty_exchange: bool,
    ) -> Result<(Self, Vec<u8>), AuthError> {
        let mechanism = Mechanism::parse(mechanism)?;
        if !is_own_nonce(server_nonce) {
            return Err(AuthError::OwnNonce);
        }
        let first = ClientFirst::parse(payload).map_err(AuthError::Malformed)?;
        let (keys, identity) = credentials.keys(mechanism, &first.user);
        Ok(Self::open(
            mechanism,
            &first,
            keys,
            identity,
            server_nonce,
            skip_empty_exchange,
        ))
    }

    /// Takes the next payload. An error ends the conversation; the connection may start another.
    pub fn next(self, payload: &[u8]) -> Result<Step<I>, AuthError> {
        match self.state {
            State::AwaitingProof(challenge) => challenge.check(self.user, payload),
            State::AwaitingEmpty(identity) if payload.is_empty() => {
                Ok(Step::Proven(identity, Vec::new()))
            }
            State::AwaitingEmpty(_) => Err(AuthError::Malformed(Flaw::NotEmpty)),
        }
    }

    /// The name the downstream gave, whether such a user exists or not. For logs.
    pub fn user(&self) -> &str {
        &self.user
    }

    fn open(
        mechanism: Mechanism,
        first: &ClientFirst<'_>,
        keys: Arc<Keys>,
        identity: Option<I>,
        server_nonce: &str,
        skip_empty_exchange: bool,
    ) -> (Self, Vec<u8>) {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let answer = server_first(&nonce, &keys.salt, keys.iterations);
        let challenge = Challenge {
            mechanism,
            keys,
            identity,
            channel_binding: first.channel_binding(),
            nonce,
            transcript: format!("{},{answer},", first.bare),
            skip_empty_exchange,
        };
        let state = State::AwaitingProof(Box::new(challenge));
        (
            Self {
                user: first.user.clone(),
                state,
            },
            answer.into_bytes(),
        )
    }
}

impl<I> Challenge<I> {
    /// Checks the proof (RFC 5802 section 3). Up to the one comparison at the end all is done alike for
    /// right, wrong and decoy keys.
    fn check(self, user: String, payload: &[u8]) -> Result<Step<I>, AuthError> {
        let last = ClientFinal::parse(payload).map_err(AuthError::Malformed)?;
        if last.channel_binding != self.channel_binding {
            return Err(AuthError::Malformed(Flaw::ChannelBinding));
        }
        if last.nonce != self.nonce {
            return Err(AuthError::Malformed(Flaw::Nonce));
        }
        if last.proof.len() != self.mechanism.digest_bytes() {
            return Err(AuthError::Malformed(Flaw::Proof));
        }
        let signed = format!("{}{}", self.transcript, last.without_proof);
        let client_signature = self
            .mechanism
            .hmac(&self.keys.stored_key, signed.as_bytes());
        let client_key = xor(&last.proof, &client_signature);
        let server_signature = self
            .mechanism
            .hmac(&self.keys.server_key, signed.as_bytes());
        let is_known = Choice::from(u8::from(self.identity.is_some()));
        let is_right = self
            .mechanism
            .hash(&client_key)
            .ct_eq(&self.keys.stored_key)
            & is_known;
        let identity = match self.identity {
            Some(identity) if bool::from(is_right) => identity,
            _ => return Err(AuthError::BadCredentials),
        };
        let answer = server_final(&server_signature).into_bytes();
        if self.skip_empty_exchange {
            return Ok(Step::Proven(identity, answer));
        }
        Ok(Step::Challenge(
            Exchange {
                user,
                state: State::AwaitingEmpty(identity),
            },
            answer,
        ))
    }
}

#[cfg(test)]
mod tests;
