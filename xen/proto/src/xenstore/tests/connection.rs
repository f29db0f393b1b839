//! The client's machine alone.

use core::task::{Context, Poll, Waker};

use crate::byte_stream::{ByteWriter, XENSTORE_REQUESTS, XENSTORE_RESPONSES};
use crate::fake::FakePage;
use crate::hypervisor::SharedPage;
use crate::xenstore::connection::{Connection, TransactionId, Undo};
use crate::xenstore::wire::{MessageType, encode_message};
use crate::xenstore::{Errno, Misbehaviour};

const OUTSIDE: TransactionId = TransactionId::OUTSIDE;

#[test]
fn an_id_that_still_waits_is_skipped_after_the_wrap() {
    let mut connection = Connection::new(u32::MAX);
    let submit = |connection: &mut Connection| {
        connection.submit(MessageType::Read, OUTSIDE, b"a\0", Undo::Nothing)
    };
    assert_eq!(submit(&mut connection), u32::MAX);
    assert_eq!(submit(&mut connection), 0);
    connection.next_request_id = u32::MAX;
    assert_eq!(submit(&mut connection), 1);
}

#[test]
fn a_reply_to_what_is_not_yet_sent_breaks_the_connection() {
    for request_id in [1, 2] {
        let page = FakePage::zeroed();
        let mut connection = Connection::new(1);
        // The first fills the ring, so that the second is still ours alone.
        connection.submit(MessageType::Write, OUTSIDE, &[b'x'; 3000], Undo::Nothing);
        connection.submit(MessageType::Read, OUTSIDE, b"a\0", Undo::Nothing);
        assert!(connection.pump(&page).notify);
        let mut peer = ByteWriter::attach(&page, XENSTORE_RESPONSES);
        let reply = encode_message(MessageType::Error, request_id, 0, b"ENOENT\0");
        peer.write(&page, &reply).expect("the index is right");
        connection.pump(&page);
        let expected = Misbehaviour::UnknownRequest { request_id };
        assert_eq!(connection.broken(), Some(&expected));
    }
}

#[test]
fn what_was_not_sent_is_never_sent_once_given_up() {
    let page = FakePage::zeroed();
    let mut connection = Connection::new(1);
    let large = connection.submit(MessageType::Write, OUTSIDE, &[b'x'; 2000], Undo::Nothing);
    let given_up = connection.submit(MessageType::Read, OUTSIDE, b"a\0", Undo::Nothing);
    let last = connection.submit(MessageType::Read, OUTSIDE, b"b\0", Undo::Nothing);
    connection.pump(&page);
    // The rest of the first must follow; of the second, nothing was sent.
    connection.abandon(large);
    connection.abandon(given_up);
    let total = 16 + 2000 + 16 + 2;
    for _ in 0..3 {
        let produced = page.load(XENSTORE_REQUESTS.producer_word);
        page.store(XENSTORE_REQUESTS.consumer_word, produced);
        connection.pump(&page);
    }
    assert_eq!(page.load(XENSTORE_REQUESTS.producer_word), total);

    let mut peer = ByteWriter::attach(&page, XENSTORE_RESPONSES);
    for request_id in [large, last] {
        let reply = encode_message(MessageType::Error, request_id, 0, b"EAGAIN\0");
        peer.write(&page, &reply).expect("the index is right");
    }
    connection.pump(&page);
    let mut context = Context::from_waker(Waker::noop());
    let reply = connection.poll_reply(last, &mut context);
    assert_eq!(reply, Poll::Ready(Ok(Err(Errno::EAGAIN))));
    assert_eq!(connection.broken(), None);
}
