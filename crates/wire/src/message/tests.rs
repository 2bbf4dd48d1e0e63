use super::*;
use crate::frame::next_frame;
use crate::limits::Limits;
use ::bson::doc;
use bytes::BytesMut;

fn body() -> Vec<u8> {
    ::bson::serialize_to_vec(&doc! {"insert": "a", "$db": "x"}).unwrap()
}

fn sequence(name: &str, documents: &[::bson::Document]) -> Vec<u8> {
    let mut inside = name.as_bytes().to_vec();
    inside.push(0);
    for document in documents {
        inside.extend(::bson::serialize_to_vec(document).unwrap());
    }
    let mut out = vec![1];
    out.extend(i32::try_from(inside.len() + 4).unwrap().to_le_bytes());
    out.extend(inside);
    out
}

fn frame(flags: u32, sections: &[u8]) -> Frame {
    let mut payload = flags.to_le_bytes().to_vec();
    payload.extend_from_slice(sections);
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&header(16 + payload.len(), 9, 0, OpCode::Message));
    bytes.extend_from_slice(&payload);
    next_frame(&mut bytes, Limits::default()).unwrap().unwrap()
}

fn body_section() -> Vec<u8> {
    let mut out = vec![0];
    out.extend(body());
    out
}

#[test]
fn sequences_may_stand_before_and_behind_the_body() {
    let one = sequence("documents", &[doc! {"a": 1}, doc! {"b": 2}]);
    for sections in [
        [one.clone(), body_section()].concat(),
        [body_section(), one.clone()].concat(),
    ] {
        let message = Message::parse(frame(0, &sections)).unwrap();
        assert_eq!(message.body().first().unwrap().name(), "insert");
        let sequence = message.sequences().next().unwrap();
        assert_eq!(sequence.name, b"documents");
        let keys: Vec<_> = sequence
            .documents()
            .map(|d| d.first().unwrap().name().to_owned())
            .collect();
        assert_eq!(keys, ["a", "b"]);
    }
}

#[test]
fn a_wrong_checksum_is_refused_and_a_right_one_dropped() {
    let mut message = reply(1, 2, &body(), true);
    let parse = |bytes: &[u8]| {
        let mut bytes = BytesMut::from(bytes);
        Message::parse(next_frame(&mut bytes, Limits::default()).unwrap().unwrap())
    };
    let parsed = parse(&message).unwrap();
    assert!(parsed.has_checksum());
    assert_eq!(parsed.body().bytes(), body());
    let last = message.len() - 1;
    message[last] ^= 1;
    let error = parse(&message).unwrap_err();
    assert_eq!((error.what, error.request_id), (Malformed::Checksum, None));
}

#[test]
fn malformed_sections_are_refused() {
    let two_bodies = [body_section(), body_section()].concat();
    let cases: Vec<(u32, Vec<u8>, Malformed)> = vec![
        (0, vec![], Malformed::NoBody),
        (0, sequence("documents", &[]), Malformed::NoBody),
        (0, two_bodies, Malformed::Bodies),
        (
            0,
            [body_section(), vec![2, 0, 0, 0, 0]].concat(),
            Malformed::SectionKind(2),
        ),
        (0, [body_section(), vec![1]].concat(), Malformed::Section),
        (
            0,
            [body_section(), vec![1, 255, 255, 255, 127]].concat(),
            Malformed::Section,
        ),
        (
            0,
            [body_section(), vec![1, 3, 0, 0, 0]].concat(),
            Malformed::Section,
        ),
        (4, body_section(), Malformed::Flags(4)),
        (1 << 15, body_section(), Malformed::Flags(1 << 15)),
    ];
    for (flags, sections, what) in cases {
        let error = Message::parse(frame(flags, &sections)).unwrap_err();
        assert_eq!(error.what, what, "{sections:?}");
        let is_answered = !matches!(what, Malformed::Flags(_));
        assert_eq!(error.request_id, is_answered.then_some(9));
    }
    let many: Vec<u8> = (0..=SECTIONS_MAX)
        .flat_map(|i| sequence(&format!("s{i}"), &[]))
        .collect();
    assert_eq!(
        Message::parse(frame(0, &many)).unwrap_err().what,
        Malformed::Sections
    );
}

#[test]
fn optional_flag_bits_are_ignored() {
    let message = Message::parse(frame(1 << 20 | EXHAUST_ALLOWED, &body_section())).unwrap();
    assert!(message.exhaust_allowed() && !message.more_to_come());
}

#[test]
fn malformed_fire_and_forget_messages_get_no_reply() {
    let error = Message::parse(frame(MORE_TO_COME, &[])).unwrap_err();
    assert_eq!(error.request_id, None);
}
