//! Both sides of SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, RFC 7677) as MongoDB speaks them.
//!
//! [`Exchange`] is the side of the server: it turns what an app's driver sends into the identity its
//! [`Credentials`] carry. [`ClientExchange`] is the side of the client: with it the proxy proves itself
//! to the upstream, and makes the upstream prove itself.
//!
//! The crate does no IO and reads neither clock nor randomness: nonces are handed in. Payloads are the
//! bytes inside `saslStart`, `saslContinue` and `speculativeAuthenticate`; the commands around them
//! belong to the caller.
//!
//! A wrong password, an unknown user and a malformed payload are one and the same to the downstream:
//! code 18 with a constant text. `Display` of [`AuthError`] tells them apart, for logs only.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod client_exchange;
mod credentials;
mod error;
mod exchange;
mod keys;
mod limits;
mod mechanism;
mod messages;
mod salts;
mod secret;
mod stretched;
mod verifier;

pub use client_exchange::{ClientExchange, ClientStep};
pub use credentials::Credentials;
pub use error::{AuthError, CredentialError, Flaw};
pub use exchange::{Exchange, Step};
pub use limits::{
    CLIENT_NONCE_CHARS_MIN, ITERATIONS_MAX, ITERATIONS_MIN, NONCE_BYTES_MAX, PASSWORD_BYTES_MAX,
    PAYLOAD_BYTES_MAX, SERVER_NONCE_CHARS_MIN, USER_NAME_BYTES_MAX,
};
pub use mechanism::Mechanism;
pub use salts::Salts;
pub use secret::Secret;
pub use stretched::Stretched;
pub use verifier::Verifier;
