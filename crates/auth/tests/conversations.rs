//! Both sides against each other, through the public face alone.

use mdb_auth::{
    AuthError, ClientExchange, ClientStep, Credentials, Exchange, Mechanism, Salts, Secret, Step,
    Verifier,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const CLIENT_NONCE: &str = "client-nonce-0123456789+/";
const SERVER_NONCE: &str = "server-nonce-0123456789+/";

/// What a downstream sees of a conversation: every payload it received, and the end.
struct Seen {
    payloads: Vec<Vec<u8>>,
    end: Result<u32, AuthError>,
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn credentials(users: &[(&str, &str)]) -> Credentials<u32> {
    let salts = Salts::new(b"salt key");
    let mut credentials = Credentials::new(salts.clone());
    for ((user, password), identity) in users.iter().zip(1..) {
        let verifier = Verifier::try_new(user, &secret(password), &salts).unwrap();
        credentials.insert(verifier, identity).unwrap();
    }
    credentials
}

/// Runs a whole conversation. The client's checks must hold at every step.
fn converse(
    credentials: &Credentials<u32>,
    mechanism: Mechanism,
    (user, password): (&str, &str),
    skip_empty_exchange: bool,
) -> Seen {
    let (mut client, first) =
        ClientExchange::begin(mechanism, user, &secret(password), CLIENT_NONCE).unwrap();
    let (mut server, challenge) = Exchange::begin(
        credentials,
        mechanism.name(),
        &first,
        SERVER_NONCE,
        skip_empty_exchange,
    )
    .unwrap();
    assert_eq!(server.user(), user);
    let mut payloads = vec![challenge];
    let mut is_verified = false;
    loop {
        let received = payloads.last().unwrap();
        let send = if is_verified {
            Vec::new()
        } else {
            let ClientStep::Respond(next, send) = client.next(received).unwrap() else {
                panic!("verified before the proof")
            };
            client = next;
            send
        };
        match server.next(&send) {
            Ok(Step::Challenge(next, payload)) => {
                assert!(
                    !is_verified && !skip_empty_exchange,
                    "one exchange too many"
                );
                (client, is_verified) = verify(client, &payload, mechanism, user, password);
                payloads.push(payload);
                server = next;
            }
            Ok(Step::Proven(identity, payload)) => {
                if is_verified {
                    assert!(payload.is_empty());
                } else {
                    assert!(matches!(client.next(&payload), Ok(ClientStep::Verified)));
                }
                payloads.push(payload);
                return Seen {
                    payloads,
                    end: Ok(identity),
                };
            }
            Err(error) => {
                return Seen {
                    payloads,
                    end: Err(error),
                };
            }
        }
    }
}

/// Checks the server's signature, and hands back a client that is not used again.
fn verify(
    client: ClientExchange,
    payload: &[u8],
    mechanism: Mechanism,
    user: &str,
    password: &str,
) -> (ClientExchange, bool) {
    assert!(matches!(client.next(payload), Ok(ClientStep::Verified)));
    let spent = ClientExchange::begin(mechanism, user, &secret(password), CLIENT_NONCE)
        .unwrap()
        .0;
    (spent, true)
}

#[test]
fn both_mechanisms_in_both_lengths() {
    let credentials = credentials(&[("ann", "pencil"), ("a,b=c", "pen=cil,"), ("ümläut", "Ⅸ")]);
    let logins = [
        ("ann", "pencil", 1),
        ("a,b=c", "pen=cil,", 2),
        ("ümläut", "Ⅸ", 3),
    ];
    for mechanism in Mechanism::ALL {
        for (user, password, identity) in logins {
            let long = converse(&credentials, mechanism, (user, password), false);
            assert_eq!((long.end, long.payloads.len()), (Ok(identity), 3));
            let short = converse(&credentials, mechanism, (user, password), true);
            assert_eq!((short.end, short.payloads.len()), (Ok(identity), 2));
        }
    }
}

#[test]
fn sha_256_takes_a_password_in_any_of_its_spellings() {
    let credentials = credentials(&[("IX", "IX"), ("\u{2168}", "\u{2163}")]);
    let cases = [
        ("IX", "I\u{ad}X", Mechanism::ScramSha256, Ok(1)),
        ("IX", "\u{2168}", Mechanism::ScramSha256, Ok(1)),
        ("\u{2168}", "IV", Mechanism::ScramSha256, Ok(2)),
        ("\u{2168}", "I\u{ad}V", Mechanism::ScramSha256, Ok(2)),
        (
            "IX",
            "IV",
            Mechanism::ScramSha256,
            Err(AuthError::BadCredentials),
        ),
        (
            "IX",
            "\u{2168}",
            Mechanism::ScramSha1,
            Err(AuthError::BadCredentials),
        ),
        ("\u{2168}", "\u{2163}", Mechanism::ScramSha1, Ok(2)),
    ];
    for (user, password, mechanism, end) in cases {
        let seen = converse(&credentials, mechanism, (user, password), true);
        assert_eq!(seen.end, end, "{user:?} {password:?} {mechanism:?}");
    }
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_alike() {
    let known = credentials(&[("ann", "pencil")]);
    let unknown = credentials(&[("bob", "pencil")]);
    for mechanism in Mechanism::ALL {
        for skip_empty_exchange in [true, false] {
            let wrong = converse(&known, mechanism, ("ann", "pen"), skip_empty_exchange);
            let nobody = converse(&unknown, mechanism, ("ann", "pen"), skip_empty_exchange);
            // With the same salt key the very bytes are the same, whether the user exists or not.
            assert_eq!(wrong.payloads, nobody.payloads);
            assert_eq!(wrong.payloads.len(), 1);
            let (Err(wrong), Err(nobody)) = (wrong.end, nobody.end) else {
                panic!("{mechanism:?} let a stranger in")
            };
            assert_eq!(wrong, nobody);
            assert_eq!(wrong.to_string(), nobody.to_string());
            assert_eq!(
                (wrong.code(), wrong.code_name(), &*wrong.client_text()),
                (18, "AuthenticationFailed", "Authentication failed.")
            );
        }
    }
}

#[test]
fn one_mechanisms_proof_is_nothing_to_the_other() {
    let credentials = credentials(&[("ann", "pencil")]);
    let (client, first) =
        ClientExchange::begin(Mechanism::ScramSha1, "ann", &secret("pencil"), CLIENT_NONCE)
            .unwrap();
    let (server, challenge) =
        Exchange::begin(&credentials, "SCRAM-SHA-256", &first, SERVER_NONCE, true).unwrap();
    let Ok(ClientStep::Respond(_, proof)) = client.next(&challenge) else {
        panic!("no proof")
    };
    assert_eq!(
        server.next(&proof).err().map(|error| error.code()),
        Some(18)
    );
}

#[test]
fn a_proof_cannot_be_replayed() {
    let credentials = credentials(&[("ann", "pencil")]);
    let (client, first) = ClientExchange::begin(
        Mechanism::ScramSha256,
        "ann",
        &secret("pencil"),
        CLIENT_NONCE,
    )
    .unwrap();
    let begin =
        |nonce| Exchange::begin(&credentials, "SCRAM-SHA-256", &first, nonce, true).unwrap();
    let (server, challenge) = begin(SERVER_NONCE);
    let Ok(ClientStep::Respond(_, proof)) = client.next(&challenge) else {
        panic!("no proof")
    };
    assert!(matches!(server.next(&proof), Ok(Step::Proven(1, _))));
    let (later, _) = begin("another-nonce-0123456789+/");
    assert_eq!(later.next(&proof).err().map(|error| error.code()), Some(18));
}

/// Names and passwords of letters from several scripts, with the characters SCRAM escapes. Letters
/// written from right to left are left out: SASLprep forbids mixing them with others.
fn login() -> impl Strategy<Value = (String, String)> {
    (
        "[a-zA-Z0-9,=:. éßüжЯΩ漢字Ⅸ½]{1,24}",
        "[a-zA-Z0-9,=:. éßüжЯΩ漢字Ⅸ½]{1,24}",
    )
}

#[test]
fn any_user_gets_in_with_its_password_and_with_no_other() {
    // Each case stretches several passwords, so the count is small.
    let mut runner = TestRunner::new(Config {
        cases: 12,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(
            &(login(), any::<bool>()),
            |((user, password), skip_empty_exchange)| {
                let credentials = credentials(&[(&user, &password)]);
                let wrong = format!("{password}x");
                for mechanism in Mechanism::ALL {
                    let right = converse(
                        &credentials,
                        mechanism,
                        (&user, &password),
                        skip_empty_exchange,
                    );
                    prop_assert_eq!(right.end, Ok(1));
                    let wrong = converse(
                        &credentials,
                        mechanism,
                        (&user, &wrong),
                        skip_empty_exchange,
                    );
                    prop_assert_eq!(wrong.end, Err(AuthError::BadCredentials));
                }
                Ok(())
            },
        )
        .unwrap();
}

/// A payload cut at `cut` and with some of its bytes replaced; both are positions modulo its length.
fn mutate(payload: &[u8], cut: Option<usize>, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut mutated = payload.to_vec();
    for (at, byte) in changes {
        let at = at % payload.len();
        mutated[at] = *byte;
    }
    if let Some(cut) = cut {
        mutated.truncate(cut % payload.len());
    }
    mutated
}

fn mutation() -> impl Strategy<Value = (Option<usize>, Vec<(usize, u8)>)> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(&b",=nrcpsiave"[..])];
    (
        any::<Option<usize>>(),
        prop::collection::vec((any::<usize>(), byte), 0..4),
    )
}

#[test]
fn mutated_and_random_payloads_are_refused_without_panic() {
    let credentials = credentials(&[("ann", "pencil")]);
    let password = secret("pencil");
    let begin_client =
        || ClientExchange::begin(Mechanism::ScramSha1, "ann", &password, CLIENT_NONCE).unwrap();
    let begin =
        |payload: &[u8]| Exchange::begin(&credentials, "SCRAM-SHA-1", payload, SERVER_NONCE, false);
    let (client, first) = begin_client();
    let (_, challenge) = begin(&first).unwrap();
    let Ok(ClientStep::Respond(_, proof)) = client.next(&challenge) else {
        panic!("no proof")
    };
    let random = prop::collection::vec(any::<u8>(), 0..80);
    let mut runner = TestRunner::new(Config {
        cases: 2000,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&(mutation(), random), |((cut, changes), random)| {
            for payload in [mutate(&first, cut, &changes), random.clone()] {
                // Some changes give another well-formed message: another user or another nonce.
                if let Err(error) = begin(&payload) {
                    prop_assert_eq!(error.code(), 18);
                }
            }
            for payload in [mutate(&proof, cut, &changes), random.clone()] {
                let step = begin(&first).unwrap().0.next(&payload);
                if payload == proof {
                    prop_assert!(step.is_ok());
                } else {
                    prop_assert_eq!(step.err().map(|error| error.code()), Some(18));
                }
            }
            // A well-formed challenge costs a key derivation, so only those whose nonce is spoilt go in.
            let spoilt = mutate(&challenge, cut, &changes);
            for payload in [spoilt, random] {
                if !payload.starts_with(b"r=client-nonce") {
                    prop_assert!(begin_client().0.next(&payload).is_err());
                }
            }
            Ok(())
        })
        .unwrap();
}
