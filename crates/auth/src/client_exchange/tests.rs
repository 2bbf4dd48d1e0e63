use zeroize::Zeroizing;

use super::{ClientExchange, ClientStep};
use crate::error::{AuthError, CredentialError, Flaw};
use crate::{ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, Secret};

/// Mechanism, client nonce and the four messages of RFC 5802 section 5 and RFC 7677 section 3.
const VECTORS: [(Mechanism, &str, [&str; 4]); 2] = [
    (
        Mechanism::ScramSha1,
        "fyko+d2lbbFgONRv9qkxdawL",
        [
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ],
    ),
    (
        Mechanism::ScramSha256,
        "rOprNGfwEbeRWgbNEkqO",
        [
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ],
    ),
];

const NONCE: &str = "0123456789abcdefghijklmn";

fn open(mechanism: Mechanism, nonce: &str) -> (ClientExchange, Vec<u8>) {
    ClientExchange::open(mechanism, "user", Zeroizing::new(b"pencil".to_vec()), nonce)
}

fn respond(exchange: ClientExchange, payload: &str) -> (ClientExchange, Vec<u8>) {
    match exchange.next(payload.as_bytes()) {
        Ok(ClientStep::Respond(exchange, payload)) => (exchange, payload),
        Ok(ClientStep::Verified) => panic!("verified without a signature"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn rfc_vectors() {
    for (mechanism, nonce, messages) in VECTORS {
        let (exchange, first) = open(mechanism, nonce);
        assert_eq!(first, messages[0].as_bytes());
        let (exchange, last) = respond(exchange, messages[1]);
        assert_eq!(last, messages[2].as_bytes());
        assert!(matches!(
            exchange.next(messages[3].as_bytes()),
            Ok(ClientStep::Verified)
        ));
    }
}

#[test]
fn a_false_server_is_found_out() {
    for (mechanism, nonce, messages) in VECTORS {
        let other = VECTORS
            .iter()
            .find(|vector| vector.0 != mechanism)
            .unwrap()
            .2[3];
        let cases = [
            (
                messages[3].replace("v=r", "v=s").replace("v=6", "v=7"),
                AuthError::UpstreamSignature,
            ),
            (other.to_owned(), AuthError::UpstreamSignature),
            ("v=".to_owned(), AuthError::UpstreamSignature),
            ("e=invalid-proof".to_owned(), AuthError::UpstreamRefused),
            (String::new(), AuthError::UpstreamMalformed(Flaw::Extension)),
            (
                "v=!".to_owned(),
                AuthError::UpstreamMalformed(Flaw::Signature),
            ),
        ];
        for (payload, error) in cases {
            let (exchange, _) = respond(open(mechanism, nonce).0, messages[1]);
            assert_eq!(
                exchange.next(payload.as_bytes()).err(),
                Some(error),
                "{payload}"
            );
        }
    }
}

#[test]
fn challenges_are_checked_before_any_work() {
    let cases = [
        (
            format!("r={NONCE},s=c2FsdA==,i=4096"),
            AuthError::UpstreamMalformed(Flaw::Nonce),
        ),
        (
            format!("r=x{NONCE}y,s=c2FsdA==,i=4096"),
            AuthError::UpstreamMalformed(Flaw::Nonce),
        ),
        (
            format!("r={NONCE}y,s=c2FsdA==,i={}", ITERATIONS_MIN - 1),
            AuthError::UpstreamIterations(ITERATIONS_MIN - 1),
        ),
        (
            format!("r={NONCE}y,s=c2FsdA==,i={}", ITERATIONS_MAX + 1),
            AuthError::UpstreamIterations(ITERATIONS_MAX + 1),
        ),
        (
            format!("m=x,r={NONCE}y,s=c2FsdA==,i=4096"),
            AuthError::UpstreamMalformed(Flaw::Extension),
        ),
    ];
    for (payload, error) in cases {
        let (exchange, _) = open(Mechanism::ScramSha256, NONCE);
        assert_eq!(
            exchange.next(payload.as_bytes()).err(),
            Some(error),
            "{payload}"
        );
    }
}

#[test]
fn own_input_is_checked() {
    let begin = |user: &str, password: &str, nonce: &str| {
        let password = Secret::new(password.to_owned());
        ClientExchange::begin(Mechanism::ScramSha256, user, &password, nonce)
            .map(|(_, first)| first)
    };
    let credential = |error| Err(AuthError::OwnCredential(error));
    assert_eq!(
        begin("a,b=c", "p", NONCE),
        Ok(format!("n,,n=a=2Cb=3Dc,r={NONCE}").into_bytes())
    );
    assert_eq!(begin("user", "p", "short"), Err(AuthError::OwnNonce));
    assert_eq!(begin("", "p", NONCE), credential(CredentialError::UserName));
    assert_eq!(
        begin("user", "", NONCE),
        credential(CredentialError::PasswordEmpty)
    );
    assert_eq!(
        begin("user", "\u{7}", NONCE),
        credential(CredentialError::PasswordForbidden)
    );
}
