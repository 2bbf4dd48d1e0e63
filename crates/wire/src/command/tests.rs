use super::*;
use crate::frame::next_frame;
use crate::limits::Limits;
use crate::message::reply;
use ::bson::doc;
use bytes::BytesMut;

fn message(body: &[u8]) -> Message {
    let mut bytes = BytesMut::from(&reply(1, 0, body, false)[..]);
    Message::parse(next_frame(&mut bytes, Limits::default()).unwrap().unwrap()).unwrap()
}

fn of(document: &::bson::Document) -> Message {
    message(&::bson::serialize_to_vec(document).unwrap())
}

#[test]
fn name_target_and_database() {
    let message = of(&doc! {"find": "orders", "filter": {}, "$db": "shop"});
    let command = Command::parse(&message).unwrap();
    assert_eq!(command.name, b"find");
    assert_eq!(command.target.as_str(), Some("orders"));
    assert_eq!(command.database, "shop");
}

#[test]
fn what_is_no_command() {
    let long = "x".repeat(64);
    let cases = [
        (doc! {}, 40571),
        (doc! {"ping": 1}, 40571),
        (doc! {"ping": 1, "$db": 1}, 13111),
        (doc! {"ping": 1, "$db": ""}, 73),
        (doc! {"ping": 1, "$db": "a.b"}, 73),
        (doc! {"ping": 1, "$db": "a$b"}, 73),
        (doc! {"ping": 1, "$db": "a\0b"}, 73),
        (doc! {"ping": 1, "$db": long}, 73),
    ];
    for (body, code) in cases {
        assert_eq!(
            Command::parse(&of(&body)).unwrap_err().code(),
            code,
            "{body}"
        );
    }
    let accepted = of(&doc! {"ping": 1, "$db": "x".repeat(63)});
    assert!(Command::parse(&accepted).is_ok());
}

#[test]
fn a_field_that_stands_twice_is_refused() {
    let mut writer = crate::writer::Writer::default();
    let mark = writer.begin();
    writer.string(b"find", "a");
    writer.string(b"$db", "x");
    writer.string(b"$db", "y");
    writer.end(mark);
    let message = message(&writer.into_bytes());
    assert_eq!(Command::parse(&message).unwrap_err().code(), 40413);
}
