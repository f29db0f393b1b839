//! Our constants, layouts and rules against Xen's headers.

use alloc::string::String;
use alloc::vec::Vec;
use std::path::Path;
use std::process::Command;
use std::{env, eprintln, fs, println};

use super::{TEXT, bytes, constant, offset, rows, size};
use crate::byte_stream::{
    CONSOLE_INPUT, CONSOLE_OUTPUT, StreamLayout, XENSTORE_REQUESTS, XENSTORE_RESPONSES,
};
use crate::fake::FakePage;
use crate::hypervisor::{PAGE_SIZE, SharedPage};
use crate::ring::{BackRing, FrontRing, RingIndex, SLOTS_OFFSET, Slot, slots_in_page};
use crate::xenbus::State;
use crate::xenstore::wire::{self, MessageType};
use crate::xenstore::{Errno, Parser};

#[test]
fn the_committed_vectors_are_what_the_headers_say() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/abi.c");
    if !Path::new("/usr/include/xen/xen.h").exists() {
        eprintln!("skipped: no Xen headers in /usr/include (Debian: libxen-dev)");
        return;
    }
    if Command::new("gcc").arg("--version").output().is_err() {
        eprintln!("skipped: no gcc");
        return;
    }
    let program = env::temp_dir().join(std::format!("rekernel-abi-{}", std::process::id()));
    let compiler = Command::new("gcc")
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &source])
        .output()
        .expect("gcc runs");
    let messages = String::from_utf8_lossy(&compiler.stderr);
    assert!(compiler.status.success(), "{messages}");
    let output = Command::new(&program).output();
    fs::remove_file(&program).expect("the program can be removed");
    let printed = String::from_utf8(output.expect("the program runs").stdout);
    let printed = printed.expect("the program prints text");
    for (line, (new, committed)) in printed.lines().zip(TEXT.lines()).enumerate() {
        assert_eq!(
            new,
            committed,
            "line {} of abi.txt is out of date",
            line + 1
        );
    }
    assert_eq!(printed.lines().count(), TEXT.lines().count());
    println!("made anew from the headers and equal");
}

#[test]
fn byte_streams_lie_where_the_headers_say() {
    let check = |layout: StreamLayout, interface: &str, ring: &str, size: usize| {
        let at = |field: &str| offset(&std::format!("{interface}.{field}"));
        assert_eq!(layout.offset, at(ring));
        assert_eq!(layout.size as usize, size);
        assert_eq!(layout.consumer_word * 4, at(&std::format!("{ring}_cons")));
        assert_eq!(layout.producer_word * 4, at(&std::format!("{ring}_prod")));
    };
    let store = constant("XENSTORE_RING_SIZE") as usize;
    check(XENSTORE_REQUESTS, "xenstore_domain_interface", "req", store);
    check(
        XENSTORE_RESPONSES,
        "xenstore_domain_interface",
        "rsp",
        store,
    );
    let (input, output) = (size("xencons_interface.in"), size("xencons_interface.out"));
    check(CONSOLE_INPUT, "xencons_interface", "in", input);
    check(CONSOLE_OUTPUT, "xencons_interface", "out", output);
}

#[test]
fn xenstore_constants_are_the_headers() {
    assert_eq!(wire::HEADER_SIZE, size("xsd_sockmsg"));
    assert_eq!(wire::PAYLOAD_MAX as i64, constant("XENSTORE_PAYLOAD_MAX"));
    assert_eq!(
        wire::ABSOLUTE_PATH_MAX as i64,
        constant("XENSTORE_ABS_PATH_MAX")
    );
    assert_eq!(
        wire::RELATIVE_PATH_MAX as i64,
        constant("XENSTORE_REL_PATH_MAX")
    );
    assert_eq!(i64::from(wire::CONNECTED), constant("XENSTORE_CONNECTED"));
    assert_eq!(i64::from(wire::RECONNECT), constant("XENSTORE_RECONNECT"));
    assert_eq!(
        wire::CONNECTION_WORD * 4,
        offset("xenstore_domain_interface.connection")
    );
    for message_type in MessageType::ALL {
        let name = std::format!("XS_{}", message_type.name().to_uppercase());
        assert_eq!(i64::from(*message_type as u32), constant(&name));
    }
    for (index, errno) in Errno::ALL.iter().enumerate() {
        let name = std::format!("xsd_errors.{errno}");
        assert_eq!(index as i64, constant(&name));
    }
    for state in State::ALL {
        let name = std::format!("XenbusState{state}");
        assert_eq!(i64::from(state as u32), constant(&name));
        assert_eq!(State::parse(state.text()), Some(state));
    }
}

#[test]
fn a_xenstore_message_has_the_headers_bytes_both_ways() {
    let payload = bytes("xsd_payload");
    let mut expected = bytes("xsd_sockmsg");
    expected.extend_from_slice(&payload);
    let encoded = wire::encode_message(MessageType::Write, 0xffff_ff00, 0x0102_0304, &payload);
    assert_eq!(encoded, expected);

    let mut input = &expected[..];
    let message = Parser::new().next_message(&mut input);
    let message = message.expect("no misbehaviour").expect("it is whole");
    assert_eq!(message.header.message_type, MessageType::Write);
    assert_eq!(message.header.request_id, 0xffff_ff00);
    assert_eq!(message.header.transaction_id, 0x0102_0304);
    assert_eq!(message.payload, payload);
}

#[test]
fn rings_have_as_many_slots_as_the_headers_say() {
    assert_eq!(SLOTS_OFFSET, offset("netif_tx_sring.ring"));
    let slots = |name| i64::from(slots_in_page(size(name)));
    assert_eq!(slots("netif_tx_sring_entry"), constant("NET_TX_RING_SIZE"));
    assert_eq!(slots("netif_rx_sring_entry"), constant("NET_RX_RING_SIZE"));
}

#[test]
fn the_notify_rule_is_the_headers() {
    let mut checked = 0;
    for row in rows("notify") {
        let [old, new, event, notify] = row[..] else {
            panic!("four columns");
        };
        let (old, new, event) = (old as u32, new as u32, event as u32);
        let page = FakePage::zeroed();
        let mut ring = FrontRing::<_, Request, Response>::starting_at(
            page.clone(),
            SLOT_SIZE,
            RingIndex::new(old),
        );
        for id in 0..new.wrapping_sub(old) {
            let request = Request {
                id: id as u16,
                reference: 0,
            };
            ring.push_request(&request).expect("there is room");
        }
        page.store(1, event);
        assert_eq!(ring.publish_requests(), notify == 1, "row {row:?}");
        checked += 1;
    }
    assert!(checked > 200);
}

/// The steps of `ring_steps` in abi.c, through our two ends.
#[test]
fn a_ring_goes_through_the_headers_states() {
    for (name, start) in [("zero", 0), ("wrap", 0xffff_fffe)] {
        let page = FakePage::zeroed();
        let expect = |step: &str, decision: i64| {
            assert_eq!(
                decision,
                constant(&std::format!("ring.{name}.{step}")),
                "{step}"
            );
            let mut words = [0; 16];
            page.read(0, &mut words);
            let expected = bytes(&std::format!("ring.{name}.{step}.words"));
            assert_eq!(words[..], expected[..], "words after {step}");
        };
        let start = RingIndex::new(start);
        let mut front = FrontRing::starting_at(page.clone(), SLOT_SIZE, start);
        let mut back = BackRing::<_, Request, Response>::attach(page.clone(), SLOT_SIZE);
        expect("new", i64::from(front.free_requests()));

        for id in 0..3 {
            let reference = 100 + u32::from(id);
            let pushed = front.push_request(&Request { id, reference });
            pushed.expect("there is room");
        }
        expect("publish_three", i64::from(front.publish_requests()));
        front.push_raw(&[]).expect("there is room");
        expect("publish_one_more", i64::from(front.publish_requests()));

        while back.pop_request().expect("the index is right").is_some() {}
        expect(
            "back_final_check",
            i64::from(back.final_check_for_requests()),
        );

        for id in 0..2 {
            let status = 60 + id as i16;
            let pushed = back.push_response(&Response { id, status });
            pushed.expect("there are requests");
        }
        expect("respond_two", i64::from(back.publish_responses()));
        // The macro tells how many responses there are.
        let work = i64::from(front.final_check_for_responses());
        expect("front_final_check_with_work", 2 * work);
        let answers: Vec<Option<Response>> = (0..2)
            .map(|_| front.pop_response().expect("the index is right"))
            .collect();
        let ids = answers
            .iter()
            .flatten()
            .map(|answer| (answer.id, answer.status));
        assert_eq!(ids.collect::<Vec<_>>(), [(0, 60), (1, 61)]);
        expect(
            "front_final_check",
            i64::from(front.final_check_for_responses()),
        );
        front.push_raw(&[]).expect("there is room");
        expect(
            "publish_after_final_check",
            i64::from(front.publish_requests()),
        );
        expect("end", i64::from(front.free_requests()));

        let mut whole = [0; PAGE_SIZE];
        page.read(0, &mut whole);
        assert_eq!(whole[..], bytes(&std::format!("ring.{name}.page"))[..]);
    }
}

/// `union netif_rx_sring_entry`.
const SLOT_SIZE: usize = 8;

/// `struct netif_rx_request`.
struct Request {
    id: u16,
    reference: u32,
}

impl Slot for Request {
    const SIZE: usize = 8;

    fn decode(bytes: &[u8]) -> Self {
        Self {
            id: u16::from_le_bytes([bytes[0], bytes[1]]),
            reference: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    fn encode(&self, into: &mut [u8]) {
        into[..2].copy_from_slice(&self.id.to_le_bytes());
        into[2..4].fill(0);
        into[4..].copy_from_slice(&self.reference.to_le_bytes());
    }
}

/// `struct netif_rx_response`.
struct Response {
    id: u16,
    status: i16,
}

impl Slot for Response {
    const SIZE: usize = 8;

    fn decode(bytes: &[u8]) -> Self {
        Self {
            id: u16::from_le_bytes([bytes[0], bytes[1]]),
            status: i16::from_le_bytes([bytes[6], bytes[7]]),
        }
    }

    fn encode(&self, into: &mut [u8]) {
        into.fill(0);
        into[..2].copy_from_slice(&self.id.to_le_bytes());
        into[6..].copy_from_slice(&self.status.to_le_bytes());
    }
}
