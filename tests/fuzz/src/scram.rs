//! SCRAM: a byte for what is done, then payloads, `0xFF` between them.
//!
//! Bits 0 and 1: the server's side or the client's takes the payloads; or one of them takes those of a true conversation,
//! changed by the input. Bit 2: the mechanism. Bit 3: `skipEmptyExchange`.

use std::sync::OnceLock;

use mdb_auth::{
    AuthError, ClientExchange, ClientStep, Credentials, Exchange, ITERATIONS_MAX, Mechanism, Salts,
    Secret, Step, Verifier,
};

const CLIENT_NONCE: &str = "client-nonce-0123456789+/";
const SERVER_NONCE: &str = "server-nonce-0123456789+/";
const USER: &str = "ann";
/// What stands between payloads. UTF-8 has no such byte.
const BETWEEN: u8 = 0xFF;

/// Takes payloads on either side: without the password nobody is proven, and a conversation that was changed on its way
/// does not end well.
///
/// # Panics
/// Where a promise is broken.
pub fn check(input: &[u8]) {
    let Some((&mode, rest)) = input.split_first() else {
        return;
    };
    let mechanism = Mechanism::ALL[usize::from(mode >> 2 & 1)];
    let skips = mode & 8 != 0;
    match mode & 3 {
        0 => server(mechanism, &mut rest.split(|&b| b == BETWEEN), skips),
        1 => client(mechanism, &mut rest.split(|&b| b == BETWEEN)),
        2 => changed_server(mechanism, rest, skips),
        _ => changed_client(mechanism, rest),
    }
}

fn password() -> Secret {
    Secret::new("pencil".to_owned())
}

fn credentials() -> &'static Credentials<u8> {
    static CREDENTIALS: OnceLock<Credentials<u8>> = OnceLock::new();
    CREDENTIALS.get_or_init(|| {
        let salts = Salts::new(b"salt key");
        let mut credentials = Credentials::new(salts.clone());
        let verifier = Verifier::try_new(USER, &password(), &salts).expect("a verifier");
        credentials.insert(verifier, 1).expect("a new user");
        credentials
    })
}

/// The four payloads of a true conversation: first, challenge, proof, signature.
pub(crate) fn conversation(mechanism: Mechanism) -> &'static [Vec<u8>; 4] {
    static CONVERSATIONS: [OnceLock<[Vec<u8>; 4]>; 2] = [OnceLock::new(), OnceLock::new()];
    let place = usize::from(mechanism == Mechanism::ALL[1]);
    CONVERSATIONS[place].get_or_init(|| {
        let (client, first) =
            ClientExchange::begin(mechanism, USER, &password(), CLIENT_NONCE).expect("a client");
        let (server, challenge) =
            Exchange::begin(credentials(), mechanism.name(), &first, SERVER_NONCE, true)
                .expect("a server");
        let Ok(ClientStep::Respond(client, proof)) = client.next(&challenge) else {
            panic!("the client has no answer");
        };
        let Ok(Step::Proven(1, signature)) = server.next(&proof) else {
            panic!("the server has no answer");
        };
        assert!(matches!(client.next(&signature), Ok(ClientStep::Verified)));
        [first, challenge, proof, signature]
    })
}

fn refused(error: &AuthError) {
    assert_eq!(error.code(), 18);
    assert!(!error.to_string().is_empty() && !error.client_text().is_empty());
    assert!(!error.to_string().contains("pencil"));
}

/// The server's side takes payloads of somebody who does not know the password.
fn server<'a>(
    mechanism: Mechanism,
    payloads: &mut impl Iterator<Item = &'a [u8]>,
    skips_empty: bool,
) {
    let first = payloads.next().unwrap_or_default();
    let begun = Exchange::begin(
        credentials(),
        mechanism.name(),
        first,
        SERVER_NONCE,
        skips_empty,
    );
    let (exchange, challenge) = match begun {
        Ok(begun) => begun,
        Err(error) => return refused(&error),
    };
    assert!(!exchange.user().is_empty() && challenge.starts_with(b"r="));
    let proof = payloads.next().unwrap_or_default();
    let [true_first, _, true_proof, _] = conversation(mechanism);
    if (first, proof) == (true_first, true_proof) {
        return;
    }
    match exchange.next(proof) {
        Ok(_) => panic!("proven without the password"),
        Err(error) => refused(&error),
    }
}

/// The client's side takes payloads of somebody who does not know its keys.
fn client<'a>(mechanism: Mechanism, payloads: &mut impl Iterator<Item = &'a [u8]>) {
    let (exchange, _) =
        ClientExchange::begin(mechanism, USER, &password(), CLIENT_NONCE).expect("a client");
    let challenge = payloads.next().unwrap_or_default();
    if asks_for_much(challenge) {
        return;
    }
    let Ok(ClientStep::Respond(exchange, proof)) = exchange.next(challenge) else {
        return;
    };
    assert!(proof.starts_with(b"c=biws,r="));
    let signature = payloads.next().unwrap_or_default();
    let [_, true_challenge, _, true_signature] = conversation(mechanism);
    let is_true = (challenge, signature) == (true_challenge, true_signature);
    let verified = matches!(exchange.next(signature), Ok(ClientStep::Verified));
    assert!(!verified || is_true, "a false server was believed");
}

/// Many iterations are allowed, and take a second each.
fn asks_for_much(challenge: &[u8]) -> bool {
    let text = String::from_utf8_lossy(challenge);
    let iterations = text.split(',').find_map(|f| f.strip_prefix("i="));
    let iterations: Option<u32> = iterations.and_then(|i| i.parse().ok());
    iterations.is_some_and(|i| i > 20_000 && i <= ITERATIONS_MAX)
}

/// Changes payloads: of every three bytes of the input the first chooses a payload, the second a place, the third is added.
fn change(payloads: [&[u8]; 2], edits: &[u8]) -> [Vec<u8>; 2] {
    let mut changed = payloads.map(<[u8]>::to_vec);
    for change in edits.chunks_exact(3) {
        let payload = &mut changed[usize::from(change[0] & 1)];
        let place = usize::from(change[1]) % payload.len();
        if change[0] & 2 == 0 {
            payload[place] = payload[place].wrapping_add(change[2]);
        } else {
            payload.insert(place, change[2]);
        }
    }
    changed
}

/// The server's side takes a client's payloads that were changed on their way.
fn changed_server(mechanism: Mechanism, edits: &[u8], skips_empty: bool) {
    let [first, _, proof, _] = conversation(mechanism);
    let changed = change([first, proof], edits);
    let is_changed = changed != [first.clone(), proof.clone()];
    let begun = Exchange::begin(
        credentials(),
        mechanism.name(),
        &changed[0],
        SERVER_NONCE,
        skips_empty,
    );
    let exchange = match begun {
        Ok((exchange, _)) => exchange,
        Err(error) => {
            refused(&error);
            return assert!(is_changed);
        }
    };
    match exchange.next(&changed[1]) {
        Ok(_) => assert!(!is_changed, "a changed conversation was proven"),
        Err(error) => {
            refused(&error);
            assert!(is_changed);
        }
    }
}

/// The client's side takes a server's payloads that were changed on their way.
fn changed_client(mechanism: Mechanism, edits: &[u8]) {
    let [_, challenge, _, signature] = conversation(mechanism);
    let changed = change([challenge, signature], edits);
    let is_changed = changed != [challenge.clone(), signature.clone()];
    if asks_for_much(&changed[0]) && changed[0] != *challenge {
        return;
    }
    let (exchange, _) =
        ClientExchange::begin(mechanism, USER, &password(), CLIENT_NONCE).expect("a client");
    let verified = match exchange.next(&changed[0]) {
        Ok(ClientStep::Respond(exchange, _)) => {
            matches!(exchange.next(&changed[1]), Ok(ClientStep::Verified))
        }
        Ok(ClientStep::Verified) => panic!("verified before the proof"),
        Err(_) => false,
    };
    assert_eq!(verified, !is_changed, "a changed conversation was verified");
}
