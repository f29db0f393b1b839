//! Any split of the bytes gives the same messages; no bytes give a panic.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::xenstore::wire::{Header, MessageType, PAYLOAD_MAX, encode_message};
use crate::xenstore::{Message, Misbehaviour, Parser};

/// Feeds the pieces one after the other.
fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Message>, Misbehaviour> {
    let mut parser = Parser::new();
    let mut messages = Vec::new();
    for mut piece in pieces {
        while let Some(message) = parser.next_message(&mut piece)? {
            messages.push(message);
        }
        assert!(piece.is_empty(), "everything was taken");
    }
    Ok(messages)
}

fn message() -> impl Strategy<Value = Message> {
    let types = proptest::sample::select(MessageType::ALL);
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::collection::vec(any::<u8>(), PAYLOAD_MAX - 2..=PAYLOAD_MAX),
    ];
    (types, any::<u32>(), any::<u32>(), payload).prop_map(
        |(message_type, request_id, transaction_id, payload)| Message {
            header: Header {
                message_type,
                request_id,
                transaction_id,
                length: payload.len() as u32,
            },
            payload,
        },
    )
}

proptest! {
    #[test]
    fn any_split_gives_the_same_messages(
        messages in proptest::collection::vec(message(), 0..6),
        sizes in proptest::collection::vec(1_usize..600, 1..20),
    ) {
        let bytes: Vec<u8> = messages
            .iter()
            .flat_map(|Message { header, payload }| {
                encode_message(
                    header.message_type,
                    header.request_id,
                    header.transaction_id,
                    payload,
                )
            })
            .collect();
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(parse(pieces).unwrap(), messages.clone());
        prop_assert_eq!(parse(bytes.chunks(1)).unwrap(), messages);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = parse([&bytes[..]]);
        let _ = parse(bytes.chunks(3));
    }

    /// Random bytes rarely get past the type: so give it a good type and length.
    #[test]
    fn no_payload_makes_it_panic(
        number in 0_u32..24,
        length in 0_u32..5000,
        rest in proptest::collection::vec(any::<u8>(), 0..5000),
    ) {
        let mut bytes = Vec::from(number.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&rest);
        if let Ok(messages) = parse([&bytes[..]]) {
            prop_assert!(messages.iter().all(|message| message.payload.len() <= PAYLOAD_MAX));
        }
    }
}

#[test]
fn bad_headers_are_named_and_stay_bad() {
    let header = |message_type: u32, length: u32| {
        let mut bytes = vec![0; 16];
        bytes[..4].copy_from_slice(&message_type.to_le_bytes());
        bytes[12..].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    for (bytes, expected) in [
        (header(2, 4097), Misbehaviour::TooLong { length: 4097 }),
        (
            header(2, u32::MAX),
            Misbehaviour::TooLong { length: u32::MAX },
        ),
        (header(20, 0), Misbehaviour::UnknownType { value: 20 }),
        (header(23, 0), Misbehaviour::UnknownType { value: 23 }),
        (
            header(0xffff, 0),
            Misbehaviour::UnknownType { value: 0xffff },
        ),
    ] {
        let mut parser = Parser::new();
        assert_eq!(parser.next_message(&mut &bytes[..]), Err(expected.clone()));
        let good = encode_message(MessageType::Read, 1, 0, b"x");
        assert_eq!(parser.next_message(&mut &good[..]), Err(expected));
    }
}
