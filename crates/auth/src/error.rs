//! What can go wrong, and which part of it a peer may learn.

use std::borrow::Cow;

use thiserror::Error;

use crate::limits::{
    CLIENT_NONCE_CHARS_MIN, ITERATIONS_MAX, ITERATIONS_MIN, NONCE_BYTES_MAX, PASSWORD_BYTES_MAX,
    PAYLOAD_BYTES_MAX, SERVER_NONCE_CHARS_MIN, USER_NAME_BYTES_MAX,
};

/// Why a conversation ended without proof.
///
/// `Display` is for logs. What a downstream may read is [`AuthError::client_text`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The user does not exist or the password is wrong; which of the two is not recorded on purpose.
    #[error("unknown user or wrong password")]
    BadCredentials,
    /// The downstream's payload breaks the form. mongod answers like to a wrong password, so do we.
    #[error("malformed payload: {0}")]
    Malformed(Flaw),
    /// The mechanism is none of [`crate::Mechanism::ALL`]. Carries the name, cut to 64 characters.
    #[error("mechanism {0:?} is not available")]
    MechanismUnavailable(String),
    /// `saslContinue` without an open conversation, or with another conversation's id.
    #[error("no conversation is open")]
    NoConversation,
    /// The caller handed in a nonce of its own that is too short, too long or not printable ASCII.
    #[error(
        "own nonce must be {SERVER_NONCE_CHARS_MIN} to {NONCE_BYTES_MAX} printable ASCII characters without a comma"
    )]
    OwnNonce,
    /// The proxy's own user name or password for the upstream cannot be used.
    #[error("own credential for the upstream: {0}")]
    OwnCredential(#[source] CredentialError),
    /// The upstream's payload breaks the form.
    #[error("malformed payload from the upstream: {0}")]
    UpstreamMalformed(Flaw),
    /// The upstream asks for fewer iterations than are safe or more than are reasonable.
    #[error("the upstream asks for {0} iterations, outside {ITERATIONS_MIN} to {ITERATIONS_MAX}")]
    UpstreamIterations(u32),
    /// The upstream refused within the conversation (`e=`).
    #[error("the upstream refused the proof")]
    UpstreamRefused,
    /// The upstream does not know the password either: its signature is wrong.
    #[error("the upstream's signature is wrong: it does not hold the user's keys")]
    UpstreamSignature,
}

impl AuthError {
    /// MongoDB's error code. The proxy's own faults are never 18: a driver would drop its pool.
    pub fn code(&self) -> i32 {
        self.code_pair().0
    }

    /// MongoDB's name of [`AuthError::code`].
    pub fn code_name(&self) -> &'static str {
        self.code_pair().1
    }

    /// What the downstream may read. The texts are mongod's.
    pub fn client_text(&self) -> Cow<'static, str> {
        match self {
            Self::BadCredentials | Self::Malformed(_) => "Authentication failed.".into(),
            Self::MechanismUnavailable(name) => {
                format!("Received authentication for mechanism {name} which is not enabled").into()
            }
            Self::NoConversation => "No SASL session state found".into(),
            Self::OwnNonce
            | Self::OwnCredential(_)
            | Self::UpstreamMalformed(_)
            | Self::UpstreamIterations(_)
            | Self::UpstreamRefused
            | Self::UpstreamSignature => "Authentication is not possible at the moment.".into(),
        }
    }

    fn code_pair(&self) -> (i32, &'static str) {
        match self {
            Self::BadCredentials | Self::Malformed(_) => (18, "AuthenticationFailed"),
            Self::MechanismUnavailable(_) => (334, "MechanismUnavailable"),
            Self::NoConversation => (17, "ProtocolError"),
            Self::OwnNonce
            | Self::OwnCredential(_)
            | Self::UpstreamMalformed(_)
            | Self::UpstreamIterations(_)
            | Self::UpstreamRefused
            | Self::UpstreamSignature => (1, "InternalError"),
        }
    }
}

/// Which part of a payload breaks the form. Never says anything about users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The payload is over [`PAYLOAD_BYTES_MAX`].
    #[error("longer than {PAYLOAD_BYTES_MAX} bytes")]
    TooLong,
    /// The payload is not UTF-8.
    #[error("not UTF-8")]
    NotText,
    /// The first message does not start `n,`, or the header is not closed by a second comma.
    #[error("must start `n,,` or `n,a=<user>,`")]
    Header,
    /// The authorization identity is neither empty nor the user.
    #[error("authorization identity differs from the user name")]
    AuthorizationIdentity,
    /// `n=` is missing, empty, too long, holds NUL or a sequence other than `=2C` and `=3D`.
    #[error("user name missing, over {USER_NAME_BYTES_MAX} bytes or wrongly escaped")]
    UserName,
    /// `r=` is missing, of wrong length or alphabet, or not the nonce of this conversation.
    #[error(
        "nonce missing, not of this conversation, not printable, or not {CLIENT_NONCE_CHARS_MIN} to {NONCE_BYTES_MAX} characters"
    )]
    Nonce,
    /// A mandatory extension (`m=`), which must be refused, or a field that is no `letter=value`.
    #[error("unknown mandatory extension, or a field of no form")]
    Extension,
    /// `c=` is missing or differs from the header of the first message (`biws` for `n,,`).
    #[error("channel binding missing or not that of the first message")]
    ChannelBinding,
    /// `p=` is missing, not last, not base64 or not of the digest's length.
    #[error("proof missing, not base64 or of wrong length")]
    Proof,
    /// The last exchange must be empty.
    #[error("payload after the proof")]
    NotEmpty,
    /// `s=` is missing, empty or not base64.
    #[error("salt missing or not base64")]
    Salt,
    /// `i=` is missing or no number.
    #[error("iteration count missing or no number")]
    Iterations,
    /// `v=` is missing or not base64.
    #[error("signature missing or not base64")]
    Signature,
}

/// Why a credential cannot be used. No variant carries the password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The user name is empty, over [`USER_NAME_BYTES_MAX`] or holds NUL.
    #[error("a user name must have 1 to {USER_NAME_BYTES_MAX} bytes and no NUL")]
    UserName,
    /// The password is empty, before or after preparation.
    #[error("the password is empty")]
    PasswordEmpty,
    /// The password is over [`PASSWORD_BYTES_MAX`].
    #[error("the password is over {PASSWORD_BYTES_MAX} bytes")]
    PasswordTooLong,
    /// SASLprep (RFC 4013) forbids the password, so SCRAM-SHA-256 cannot use it.
    #[error("the password holds characters that SASLprep (RFC 4013) forbids")]
    PasswordForbidden,
    /// There is a user of that name already.
    #[error("user {0:?} exists already")]
    DuplicateUser(String),
    /// The verifier was made with another salt key: its salt would set its user apart from unknown ones.
    #[error("the verifier of user {0:?} was made with another salt key")]
    ForeignSalt(String),
}

#[cfg(test)]
mod tests {
    use super::{AuthError, CredentialError, Flaw};

    #[test]
    fn codes_and_texts() {
        let failed = (18, "AuthenticationFailed", "Authentication failed.");
        let internal = (
            1,
            "InternalError",
            "Authentication is not possible at the moment.",
        );
        let cases = [
            (AuthError::BadCredentials, failed),
            (AuthError::Malformed(Flaw::Nonce), failed),
            (
                AuthError::MechanismUnavailable("GSSAPI".to_owned()),
                (
                    334,
                    "MechanismUnavailable",
                    "Received authentication for mechanism GSSAPI which is not enabled",
                ),
            ),
            (
                AuthError::NoConversation,
                (17, "ProtocolError", "No SASL session state found"),
            ),
            (AuthError::OwnNonce, internal),
            (
                AuthError::OwnCredential(CredentialError::PasswordEmpty),
                internal,
            ),
            (AuthError::UpstreamMalformed(Flaw::Salt), internal),
            (AuthError::UpstreamIterations(1), internal),
            (AuthError::UpstreamRefused, internal),
            (AuthError::UpstreamSignature, internal),
        ];
        for (error, expected) in cases {
            assert_eq!(
                (error.code(), error.code_name(), &*error.client_text()),
                expected,
                "{error}"
            );
        }
    }
}
