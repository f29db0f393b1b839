//! Bytes in any split, indices around the wrap, and peers that lie about them.

use alloc::vec::Vec;
use alloc::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::fake::{AdversarialPage, FakePage};

const LAYOUTS: [StreamLayout; 4] = [
    XENSTORE_REQUESTS,
    XENSTORE_RESPONSES,
    CONSOLE_INPUT,
    CONSOLE_OUTPUT,
];

fn pair(layout: StreamLayout, start: u32) -> (FakePage, ByteReader, ByteWriter) {
    let page = FakePage::zeroed();
    page.store(layout.consumer_word, start);
    page.store(layout.producer_word, start);
    let reader = ByteReader::attach(&page, layout);
    let writer = ByteWriter::attach(&page, layout);
    (page, reader, writer)
}

#[test]
fn a_ring_holds_exactly_its_size() {
    for layout in LAYOUTS {
        let size = layout.size as usize;
        let (page, mut reader, mut writer) = pair(layout, 0xffff_ff00);
        let bytes: Vec<u8> = (0..size + 1).map(|index| (index % 251) as u8).collect();
        assert_eq!(writer.write(&page, &bytes), Ok(size));
        assert_eq!(writer.write(&page, &bytes[size..]), Ok(0), "it is full");
        let mut back = vec![0; size + 10];
        assert_eq!(reader.read(&page, &mut back), Ok(size));
        assert_eq!(back[..size], bytes[..size]);
        assert_eq!(reader.read(&page, &mut back), Ok(0), "it is empty");
    }
}

#[test]
fn rings_and_indices_do_not_overlap() {
    for layout in LAYOUTS {
        let (page, _, mut writer) = pair(layout, 0);
        let before: Vec<u32> = (512..519)
            .chain(768..772)
            .map(|word| page.load(word))
            .collect();
        writer.write(&page, &[0xff; 4096]).unwrap();
        for (index, word) in (512..519).chain(768..772).enumerate() {
            let inside =
                (layout.offset..layout.offset + layout.size as usize).contains(&(word * 4));
            if word != layout.producer_word && !inside {
                assert_eq!(page.load(word), before[index], "word {word} of {layout:?}");
            }
        }
    }
}

#[test]
fn a_producer_that_claims_too_much_is_an_error() {
    for claim in [1025_u32, 0x8000_0000, u32::MAX] {
        let start = 0xffff_ff00_u32;
        let (page, mut reader, _) = pair(XENSTORE_RESPONSES, start);
        let value = start.wrapping_add(claim);
        page.store(XENSTORE_RESPONSES.producer_word, value);
        let error = reader.read(&page, &mut [0; 16]).unwrap_err();
        assert_eq!(
            (error.field, error.value, error.ours),
            ("producer", value, start)
        );
        let text = format!("{error}");
        assert!(text.contains(&format!("{value:#x}")), "{text}");
    }
}

#[test]
fn a_consumer_that_claims_too_much_is_an_error() {
    let (page, _, mut writer) = pair(CONSOLE_OUTPUT, 0);
    assert_eq!(writer.write(&page, b"hello"), Ok(5));
    page.store(CONSOLE_OUTPUT.consumer_word, 6);
    let error = writer.write(&page, b"x").unwrap_err();
    assert_eq!((error.field, error.value, error.ours), ("consumer", 6, 5));
}

#[test]
fn our_own_index_in_the_page_is_never_read_again() {
    let (page, mut reader, mut writer) = pair(CONSOLE_INPUT, 0);
    writer.write(&page, b"abcd").unwrap();
    let mut two = [0; 2];
    reader.read(&page, &mut two).unwrap();
    page.store(CONSOLE_INPUT.consumer_word, 0);
    reader.read(&page, &mut two).unwrap();
    assert_eq!(&two, b"cd");
    assert_eq!(page.load(CONSOLE_INPUT.consumer_word), 4);
}

#[test]
fn an_enemy_gets_no_panic_and_no_second_read() {
    for seed in 0..1000 {
        let page = AdversarialPage::new(seed);
        let mut reader = ByteReader::attach(&page, XENSTORE_RESPONSES);
        let mut writer = ByteWriter::attach(&page, XENSTORE_REQUESTS);
        for _ in 0..20 {
            let mut buffer = [0; 700];
            let read = reader.read(&page, &mut buffer);
            assert!(page.take_most_reads() <= 1);
            if read.is_err() || writer.write(&page, &buffer).is_err() {
                break;
            }
        }
    }
}

proptest! {
    #[test]
    fn bytes_come_out_as_they_went_in(
        start: u32,
        bytes in proptest::collection::vec(any::<u8>(), 0..6000),
        pieces in proptest::collection::vec((0_usize..1500, 0_usize..1500), 1..50),
    ) {
        let (page, mut reader, mut writer) = pair(XENSTORE_REQUESTS, start);
        let mut rest = &bytes[..];
        let mut out = Vec::new();
        for (put, take) in pieces.iter().cycle() {
            let piece = &rest[..rest.len().min(put + 1)];
            let written = writer.write(&page, piece).unwrap();
            rest = &rest[written..];
            let mut buffer = vec![0; take + 1];
            let read = reader.read(&page, &mut buffer).unwrap();
            out.extend_from_slice(&buffer[..read]);
            if out.len() == bytes.len() {
                break;
            }
        }
        prop_assert_eq!(out, bytes);
    }
}
