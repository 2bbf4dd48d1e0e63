use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::frame::next_frame;

const LIMITS: Limits = Limits {
    message_bytes_max: 1024,
};

fn all() -> Compressors {
    Compressor::ALL.into_iter().collect()
}

fn plain(payload: &[u8]) -> Vec<u8> {
    let mut out = header(HEADER_BYTES + payload.len(), 7, 8, OpCode::Message).to_vec();
    out.extend_from_slice(payload);
    out
}

fn frame(bytes: &[u8]) -> Frame {
    let mut bytes = BytesMut::from(bytes);
    next_frame(&mut bytes, Limits::default()).unwrap().unwrap()
}

/// An OP_COMPRESSED of these parts.
fn of_parts(opcode: i32, bytes: i32, number: u8, data: &[u8]) -> Frame {
    let mut payload = opcode.to_le_bytes().to_vec();
    payload.extend_from_slice(&bytes.to_le_bytes());
    payload.push(number);
    payload.extend_from_slice(data);
    let mut message = header(HEADER_BYTES + payload.len(), 7, 0, OpCode::Compressed).to_vec();
    message.extend_from_slice(&payload);
    frame(&message)
}

/// What stands behind the head of a compressed message.
fn data(payload: &[u8], compressor: Compressor) -> Vec<u8> {
    compress(&plain(payload), compressor).unwrap()[HEADER_BYTES + COMPRESSION_HEAD_BYTES..].to_vec()
}

#[test]
fn names_and_numbers_are_those_of_the_specification() {
    let expected = [("snappy", 1), ("zlib", 2), ("zstd", 3)];
    for (compressor, (name, number)) in Compressor::ALL.into_iter().zip(expected) {
        assert_eq!((compressor.name(), compressor.number()), (name, number));
        assert_eq!(Compressor::of_name(name), Some(compressor));
    }
    assert_eq!(Compressor::of_name("none"), None);
    assert!(Compressors::default().is_empty() && !all().is_empty());
    let twice = [Compressor::Zstd, Compressor::Snappy, Compressor::Zstd];
    let list: Compressors = twice.into_iter().collect();
    assert_eq!(list.iter().collect::<Vec<_>>(), twice[..2]);
}

#[test]
fn a_claim_that_is_not_met_to_the_byte_is_refused() {
    let payload = [5; 100];
    for compressor in Compressor::ALL {
        let data = data(&payload, compressor);
        let unpack = |bytes, data: &[u8]| {
            let frame = of_parts(2013, bytes, compressor.number(), data);
            decompress(&frame, all(), LIMITS)
        };
        let (message, used) = unpack(100, &data).unwrap();
        assert_eq!((message.payload(), used), (&payload[..], compressor));
        assert_eq!(message.request_id, 7);
        for bytes in [0, 1, 99, 101] {
            let error = unpack(bytes, &data).unwrap_err();
            assert_eq!(error.what, Malformed::Compression, "{compressor} {bytes}");
            assert_eq!(error.request_id, None);
        }
        let cut = &data[..data.len() - 1];
        assert!(unpack(100, cut).is_err(), "{compressor}, one byte short");
        let longer = [&data[..], &[0]].concat();
        assert!(unpack(100, &longer).is_err(), "{compressor}, one byte over");
        assert!(unpack(100, &[]).is_err(), "{compressor}, nothing");
    }
}

#[test]
fn sizes_are_compared_with_the_limit_before_anything_is_done() {
    let too_long = |length| Malformed::TooLong { length, max: 1024 };
    let room = 1024 - HEADER_BYTES;
    for compressor in Compressor::ALL {
        let fits = of_parts(
            2013,
            i32::try_from(room).unwrap(),
            compressor.number(),
            &data(&vec![0; room], compressor),
        );
        assert!(decompress(&fits, all(), LIMITS).is_ok(), "{compressor}");
        let cases = [
            (i32::try_from(room).unwrap() + 1, too_long(1025)),
            (i32::MAX, too_long(0x7fff_ffff + HEADER_BYTES)),
            (-1, Malformed::Length(-1)),
        ];
        for (bytes, what) in cases {
            let frame = of_parts(2013, bytes, compressor.number(), &[]);
            let error = decompress(&frame, all(), LIMITS).unwrap_err();
            assert_eq!(error.what, what);
        }
        // A bomb: much in little, and it says so falsely.
        let bomb = data(&vec![0; 10_000_000], compressor);
        let frame = of_parts(2013, 1000, compressor.number(), &bomb);
        let error = decompress(&frame, all(), LIMITS).unwrap_err();
        assert_eq!(error.what, Malformed::Compression);
    }
}

#[test]
fn only_what_was_agreed_on_is_unpacked() {
    let payload = [1; 30];
    for compressor in Compressor::ALL {
        let frame = frame(&compress(&plain(&payload), compressor).unwrap());
        for agreed in Compressor::ALL {
            let result = decompress(&frame, Compressors::from_iter([agreed]), LIMITS);
            assert_eq!(result.is_ok(), agreed == compressor);
        }
    }
    for number in [0, 4, 255] {
        let error = decompress(&of_parts(2013, 30, number, &payload), all(), LIMITS).unwrap_err();
        assert_eq!(error.what, Malformed::Compressor(number));
    }
    for opcode in [2012, 2001, 0] {
        let data = data(&payload, Compressor::Zlib);
        let error = decompress(&of_parts(opcode, 30, 2, &data), all(), LIMITS).unwrap_err();
        assert_eq!(error.what, Malformed::OpCode(opcode));
    }
    let short = header(HEADER_BYTES, 1, 0, OpCode::Compressed);
    assert!(decompress(&frame(&short), all(), LIMITS).is_err());
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked(
        noise in prop::collection::vec(any::<u8>(), 0..5000),
        repeats in 1_usize..20,
    ) {
        let message = plain(&noise.repeat(repeats));
        for compressor in Compressor::ALL {
            let packed = frame(&compress(&message, compressor).unwrap());
            prop_assert_eq!(packed.opcode, OpCode::Compressed);
            prop_assert_eq!(claimed_bytes(&packed), message.len() - HEADER_BYTES);
            let (unpacked, _) = decompress(&packed, all(), Limits::default()).unwrap();
            prop_assert_eq!(&unpacked.bytes[..], &message[..]);
            prop_assert_eq!(unpacked.response_to, 8);
        }
    }
}
