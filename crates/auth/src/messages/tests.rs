use super::{ClientFinal, ClientFirst, ServerFinal, ServerFirst, client_first_bare};
use crate::error::Flaw;
use crate::{NONCE_BYTES_MAX, PAYLOAD_BYTES_MAX, USER_NAME_BYTES_MAX};

#[test]
fn first_messages_that_are_taken() {
    let cases = [
        ("n,,n=user,r=abcd", "user", "n,,", "biws"),
        ("n,,n=a=2Cb=3Dc,r=abcd", "a,b=c", "n,,", "biws"),
        ("n,,n==3D2C,r=abcd", "=2C", "n,,", "biws"),
        ("n,,n=üser,r=abcd", "üser", "n,,", "biws"),
        ("n,,n=user,r=a=bcd", "user", "n,,", "biws"),
        ("n,,n=user,r=abcd,x=more", "user", "n,,", "biws"),
        (
            "n,a=user,n=user,r=abcd",
            "user",
            "n,a=user,",
            "bixhPXVzZXIs",
        ),
        ("n,a=,n=user,r=abcd", "user", "n,a=,", "bixhPSw="),
    ];
    for (message, user, header, channel_binding) in cases {
        let first = ClientFirst::parse(message.as_bytes()).unwrap();
        assert_eq!(
            (
                first.user.as_str(),
                first.header,
                first.channel_binding().as_str()
            ),
            (user, header, channel_binding),
            "{message}"
        );
        assert_eq!(format!("{header}{}", first.bare), message);
    }
}

#[test]
fn first_messages_that_are_refused() {
    let cases = [
        ("", Flaw::Header),
        ("n", Flaw::Header),
        ("n,", Flaw::Header),
        ("n,n=user,r=abcd", Flaw::Header),
        ("y,,n=user,r=abcd", Flaw::Header),
        ("p=tls-unique,,n=user,r=abcd", Flaw::Header),
        (" n,,n=user,r=abcd", Flaw::Header),
        ("n,m=x,n=user,r=abcd", Flaw::Header),
        ("n,a=other,n=user,r=abcd", Flaw::AuthorizationIdentity),
        ("n,a=us=er,n=user,r=abcd", Flaw::AuthorizationIdentity),
        ("n,,", Flaw::Extension),
        ("n,,m=x,n=user,r=abcd", Flaw::Extension),
        ("n,,n=user,r=abcd,m=x", Flaw::Extension),
        ("n,,n=user,r=abcd,", Flaw::Extension),
        ("n,,n=user,,r=abcd", Flaw::Extension),
        ("n,,r=abcd,n=user", Flaw::UserName),
        ("n,,n=,r=abcd", Flaw::UserName),
        ("n,,n=a=2cb,r=abcd", Flaw::UserName),
        ("n,,n=a=2Xb,r=abcd", Flaw::UserName),
        ("n,,n=user=,r=abcd", Flaw::UserName),
        ("n,,n=us\0er,r=abcd", Flaw::UserName),
        ("n,,n=user", Flaw::Nonce),
        ("n,,n=user,x=y,r=abcd", Flaw::Nonce),
        ("n,,n=user,r=abc", Flaw::Nonce),
        ("n,,n=user,r=ab cd", Flaw::Nonce),
        ("n,,n=user,r=abcd\n", Flaw::Nonce),
        ("n,,n=user,r=äbcd", Flaw::Nonce),
    ];
    for (message, flaw) in cases {
        assert_eq!(
            ClientFirst::parse(message.as_bytes()).err(),
            Some(flaw),
            "{message:?}"
        );
    }
    assert_eq!(
        ClientFirst::parse(b"n,,n=us\xffer,r=abcd").err(),
        Some(Flaw::NotText)
    );
}

#[test]
fn lengths_are_limited_at_the_edge() {
    let message = |user: usize, nonce: usize| {
        format!("n,,n={},r={}", "u".repeat(user), "r".repeat(nonce)).into_bytes()
    };
    let flaw = |user, nonce| ClientFirst::parse(&message(user, nonce)).err();
    assert_eq!(flaw(USER_NAME_BYTES_MAX, NONCE_BYTES_MAX), None);
    assert_eq!(flaw(USER_NAME_BYTES_MAX + 1, 24), Some(Flaw::UserName));
    assert_eq!(flaw(4, NONCE_BYTES_MAX + 1), Some(Flaw::Nonce));
    let padded = |bytes: usize| {
        let mut message = b"n,,n=user,r=abcd,x=".to_vec();
        message.resize(bytes, b'x');
        message
    };
    assert!(ClientFirst::parse(&padded(PAYLOAD_BYTES_MAX)).is_ok());
    assert_eq!(
        ClientFirst::parse(&padded(PAYLOAD_BYTES_MAX + 1)).err(),
        Some(Flaw::TooLong)
    );
}

#[test]
fn the_longest_name_fits_with_every_character_escaped() {
    let user = ",".repeat(USER_NAME_BYTES_MAX);
    let escaped = "=2C".repeat(USER_NAME_BYTES_MAX);
    let nonce = "r".repeat(NONCE_BYTES_MAX);
    let message = format!("n,a={escaped},{}", client_first_bare(&user, &nonce));
    assert_eq!(ClientFirst::parse(message.as_bytes()).unwrap().user, user);
}

#[test]
fn challenges() {
    let good = ServerFirst::parse(b"r=abcd,s=c2FsdA==,i=4096,x=y").unwrap();
    assert_eq!(
        (good.nonce, &*good.salt, good.iterations),
        ("abcd", &b"salt"[..], 4096)
    );
    let cases = [
        ("", Flaw::Extension),
        ("m=x,r=abcd,s=c2FsdA==,i=4096", Flaw::Extension),
        ("s=c2FsdA==,r=abcd,i=4096", Flaw::Nonce),
        ("r=abcd,i=4096", Flaw::Salt),
        ("r=abcd,s=,i=4096", Flaw::Salt),
        ("r=abcd,s=c2FsdA,i=4096", Flaw::Salt),
        ("r=abcd,s=c2FsdA==", Flaw::Iterations),
        ("r=abcd,s=c2FsdA==,i=", Flaw::Iterations),
        ("r=abcd,s=c2FsdA==,i=+4096", Flaw::Iterations),
        ("r=abcd,s=c2FsdA==,i=-1", Flaw::Iterations),
        ("r=abcd,s=c2FsdA==,i=4294967296", Flaw::Iterations),
    ];
    for (message, flaw) in cases {
        assert_eq!(
            ServerFirst::parse(message.as_bytes()).err(),
            Some(flaw),
            "{message}"
        );
    }
}

#[test]
fn proofs() {
    let good = ClientFinal::parse(b"c=biws,r=abcd,x=y,p=cHJvb2Y=").unwrap();
    assert_eq!(
        (
            good.channel_binding,
            good.nonce,
            &*good.proof,
            good.without_proof
        ),
        ("biws", "abcd", &b"proof"[..], "c=biws,r=abcd,x=y")
    );
    let cases = [
        ("", Flaw::Proof),
        ("c=biws,r=abcd", Flaw::Proof),
        ("c=biws,r=abcd,p=!!!!", Flaw::Proof),
        ("c=biws,r=abcd,p=cHJvb2Y", Flaw::Proof),
        ("c=biws,r=abcd,p=cHJvb2Y=,x=y", Flaw::Proof),
        ("r=abcd,c=biws,p=cHJvb2Y=", Flaw::ChannelBinding),
        ("c=biws,p=cHJvb2Y=", Flaw::Nonce),
        ("c=biws,r=abcd,m=x,p=cHJvb2Y=", Flaw::Extension),
    ];
    for (message, flaw) in cases {
        assert_eq!(
            ClientFinal::parse(message.as_bytes()).err(),
            Some(flaw),
            "{message}"
        );
    }
}

#[test]
fn answers() {
    assert!(matches!(
        ServerFinal::parse(b"v=cHJvb2Y="),
        Ok(ServerFinal::Signature(signature)) if signature == b"proof"
    ));
    assert!(matches!(
        ServerFinal::parse(b"e=other-error"),
        Ok(ServerFinal::Refused)
    ));
    let cases = [
        ("", Flaw::Extension),
        ("v=!", Flaw::Signature),
        ("x=y", Flaw::Signature),
    ];
    for (message, flaw) in cases {
        assert_eq!(
            ServerFinal::parse(message.as_bytes()).err(),
            Some(flaw),
            "{message}"
        );
    }
}
