use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Exchange, Step};
use crate::error::{AuthError, Flaw};
use crate::keys::Keys;
use crate::messages::ClientFirst;
use crate::{Credentials, Mechanism, Salts};

struct Vector {
    mechanism: Mechanism,
    salt: &'static str,
    server_nonce: &'static str,
    messages: [&'static str; 4],
}

/// The examples of RFC 5802 section 5 and RFC 7677 section 3: user `user`, password `pencil`. They are
/// over the password as it is, not over MongoDB's digest of it.
const VECTORS: [Vector; 2] = [
    Vector {
        mechanism: Mechanism::ScramSha1,
        salt: "QSXCR+Q6sek8bf92",
        server_nonce: "3rfcNHYJY1ZVvWVs7j",
        messages: [
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ],
    },
    Vector {
        mechanism: Mechanism::ScramSha256,
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
        server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        messages: [
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ],
    },
];

fn open(vector: &Vector, identity: Option<u8>, skip: bool) -> (Exchange<u8>, Vec<u8>) {
    let salt = STANDARD.decode(vector.salt).unwrap();
    let keys = Arc::new(Keys::derive(vector.mechanism, b"pencil", salt, 4096));
    let first = ClientFirst::parse(vector.messages[0].as_bytes()).unwrap();
    Exchange::open(
        vector.mechanism,
        &first,
        keys,
        identity,
        vector.server_nonce,
        skip,
    )
}

#[test]
fn rfc_vectors_with_the_empty_exchange_skipped() {
    for vector in &VECTORS {
        let (exchange, challenge) = open(vector, Some(7), true);
        assert_eq!(challenge, vector.messages[1].as_bytes());
        assert_eq!(exchange.user(), "user");
        let Ok(Step::Proven(7, answer)) = exchange.next(vector.messages[2].as_bytes()) else {
            panic!("{:?} is not proven", vector.mechanism)
        };
        assert_eq!(answer, vector.messages[3].as_bytes());
    }
}

#[test]
fn rfc_vectors_with_the_empty_exchange() {
    for vector in &VECTORS {
        let proof = || match open(vector, Some(7), false)
            .0
            .next(vector.messages[2].as_bytes())
        {
            Ok(Step::Challenge(exchange, answer)) => (exchange, answer),
            _ => panic!("{:?} does not go on", vector.mechanism),
        };
        let (exchange, answer) = proof();
        assert_eq!(answer, vector.messages[3].as_bytes());
        assert!(matches!(exchange.next(b""), Ok(Step::Proven(7, rest)) if rest.is_empty()));
        let (exchange, _) = proof();
        assert_eq!(
            exchange.next(b"x").err(),
            Some(AuthError::Malformed(Flaw::NotEmpty))
        );
    }
}

#[test]
fn the_right_proof_of_an_unknown_user_is_refused() {
    for vector in &VECTORS {
        let (exchange, _) = open(vector, None, true);
        let step = exchange.next(vector.messages[2].as_bytes());
        assert_eq!(step.err(), Some(AuthError::BadCredentials));
    }
}

#[test]
fn proofs_of_wrong_form_are_refused() {
    let vector = &VECTORS[1];
    let good = vector.messages[2];
    let without_proof = good.rsplit_once(",p=").unwrap().0;
    let cases = [
        (String::new(), AuthError::Malformed(Flaw::Proof)),
        (without_proof.to_owned(), AuthError::Malformed(Flaw::Proof)),
        (
            format!("{without_proof},p=AAAA"),
            AuthError::Malformed(Flaw::Proof),
        ),
        (
            format!("{without_proof},p="),
            AuthError::Malformed(Flaw::Proof),
        ),
        (
            good.replace("biws", "eSws"),
            AuthError::Malformed(Flaw::ChannelBinding),
        ),
        (
            good.replace("rOpr", "rOpx"),
            AuthError::Malformed(Flaw::Nonce),
        ),
        (good.replace("$k0", "$k"), AuthError::Malformed(Flaw::Nonce)),
        (
            good.replace(",p=", ",m=x,p="),
            AuthError::Malformed(Flaw::Extension),
        ),
        // The proof signs everything before it, so an extension slipped in spoils it.
        (good.replace(",p=", ",x=y,p="), AuthError::BadCredentials),
        (good.replace("p=dH", "p=dG"), AuthError::BadCredentials),
    ];
    for (payload, error) in cases {
        let (exchange, _) = open(vector, Some(7), true);
        assert_eq!(
            exchange.next(payload.as_bytes()).err(),
            Some(error),
            "{payload}"
        );
    }
}

#[test]
fn own_nonces_and_mechanisms_are_checked() {
    let credentials: Credentials<u8> = Credentials::new(Salts::new(b"key"));
    let begin = |mechanism: &str, nonce: &str| {
        Exchange::begin(&credentials, mechanism, b"n,,n=user,r=abcd", nonce, true).err()
    };
    let nonce = "n".repeat(24);
    assert_eq!(begin("SCRAM-SHA-1", &nonce), None);
    for bad in [
        "n".repeat(23),
        "n".repeat(257),
        format!("{nonce},"),
        format!("{nonce}é"),
    ] {
        assert_eq!(
            begin("SCRAM-SHA-1", &bad),
            Some(AuthError::OwnNonce),
            "{bad}"
        );
    }
    let unavailable = AuthError::MechanismUnavailable("PLAIN".to_owned());
    assert_eq!(begin("PLAIN", &nonce), Some(unavailable));
}
