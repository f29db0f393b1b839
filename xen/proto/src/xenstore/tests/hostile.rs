//! A xenstored that breaks the protocol, is slow, silent or frozen.

use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::cell::Cell;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Waker};
use core::time::Duration;

use proptest::prelude::*;

use super::{ping, run};
use crate::byte_stream::{XENSTORE_REQUESTS, XENSTORE_RESPONSES};
use crate::fake::{AdversarialPage, Executor, FakeHypervisor, Misbehave, Random, TestBed};
use crate::hypervisor::{Hypervisor, SharedPage};
use crate::xenstore::connection::MAX_UNANSWERED;
use crate::xenstore::wire::{self, MessageType, encode_message};
use crate::xenstore::{Misbehaviour, Store, StoreError};

/// Every caller, present and future, learns that the connection is broken, and why; none
/// waits for a timeout.
fn expect_broken(bed: &TestBed, break_it: impl FnOnce(&TestBed)) -> Misbehaviour {
    let store = bed.store.clone();
    let watch = bed.executor.block_on(async move {
        let mut watch = store.watch("data").await.unwrap();
        watch.changed().await.unwrap();
        watch
    });
    let started = bed.hypervisor.now();
    let watcher = bed.executor.spawn(async move {
        let mut watch = watch;
        watch.changed().await
    });
    let store = bed.store.clone();
    let other = bed.executor.spawn(async move {
        store
            .transaction(async |transaction| transaction.read("data").await)
            .await
    });
    break_it(bed);
    bed.executor.run_until_stalled();
    let Err(StoreError::Broken(why)) = ping(bed) else {
        panic!("the connection still works");
    };
    assert_eq!(watcher.take(), Some(Err(StoreError::Broken(why.clone()))));
    assert_eq!(other.take(), Some(Err(StoreError::Broken(why.clone()))));
    assert_eq!(bed.hypervisor.now(), started, "nobody had to wait");
    let text = StoreError::Broken(why.clone()).to_string();
    assert!(
        text.starts_with("xenstore connection is broken: "),
        "{text}"
    );
    why
}

#[test]
fn a_wrong_reply_breaks_the_connection() {
    for (how, expected) in [
        (
            Misbehave::Length(4097),
            Misbehaviour::TooLong { length: 4097 },
        ),
        (
            Misbehave::Length(u32::MAX),
            Misbehaviour::TooLong { length: u32::MAX },
        ),
        (Misbehave::Type(20), Misbehaviour::UnknownType { value: 20 }),
        (
            Misbehave::Type(0xffff),
            Misbehaviour::UnknownType { value: 0xffff },
        ),
        (
            Misbehave::Type(MessageType::Read as u32),
            Misbehaviour::WrongReply {
                asked: MessageType::TransactionStart,
                answered: MessageType::Read,
            },
        ),
        (
            Misbehave::EmptyPayload,
            Misbehaviour::BadReply {
                operation: MessageType::TransactionStart,
            },
        ),
    ] {
        let bed = TestBed::new();
        let why = expect_broken(&bed, |bed| bed.xenstored.misbehave(how));
        assert_eq!(why, expected);
    }
}

#[test]
fn a_reply_to_what_was_never_asked_breaks_the_connection() {
    for how in [Misbehave::WrongRequestId, Misbehave::Twice] {
        let bed = TestBed::new();
        let why = expect_broken(&bed, |bed| bed.xenstored.misbehave(how));
        assert!(matches!(why, Misbehaviour::UnknownRequest { .. }), "{why}");
    }
}

#[test]
fn a_malformed_watch_event_breaks_the_connection() {
    for payload in [
        &b""[..],
        b"data",
        b"data\0",
        b"data\0rekernel-1",
        b"data\0rekernel-1\0\0",
        b"data\0rekernel-1\0more\0",
        b"\xff\xfe\0rekernel-1\0",
    ] {
        let bed = TestBed::new();
        let why = expect_broken(&bed, |bed| bed.xenstored.send_watch_event(payload));
        assert_eq!(why, Misbehaviour::BadWatchEvent, "{payload:?}");
    }
}

#[test]
fn bad_ring_indices_break_the_connection() {
    for (word, ours) in [
        (
            XENSTORE_RESPONSES.producer_word,
            XENSTORE_RESPONSES.consumer_word,
        ),
        (
            XENSTORE_REQUESTS.consumer_word,
            XENSTORE_REQUESTS.producer_word,
        ),
    ] {
        for distance in [1025, u32::MAX / 2] {
            let bed = TestBed::new();
            let why = expect_broken(&bed, |bed| {
                // The fake would find out as well.
                bed.xenstored.misbehave(Misbehave::Frozen);
                bed.xenstored.scribble(word, ours, distance);
            });
            assert!(matches!(why, Misbehaviour::Stream(_)), "{why}");
        }
    }
}

#[test]
fn a_frozen_xenstored_makes_operations_time_out_and_is_forgiven() {
    let bed = TestBed::new();
    bed.xenstored.misbehave(Misbehave::Frozen);
    for _ in 0..1000 {
        let started = bed.hypervisor.now();
        let error = ping(&bed).unwrap_err();
        assert!(matches!(error, StoreError::TimedOut { .. }), "{error}");
        assert_eq!(bed.hypervisor.now() - started, Duration::from_secs(10));
    }
    bed.xenstored.behave();
    assert_eq!(ping(&bed), Ok(()));
    // Only what reached the ring before it was full was ever sent.
    assert!(bed.xenstored.received().len() < 100);
}

#[test]
fn a_late_reply_is_not_taken_for_another() {
    let bed = TestBed::new();
    bed.xenstored.write("data/a", "a");
    bed.xenstored.write("data/b", "b");
    bed.xenstored.misbehave(Misbehave::Frozen);
    let first = run(&bed, async |store| store.read("data/a").await);
    assert!(matches!(first, Err(StoreError::TimedOut { .. })));
    let store = bed.store.clone();
    let second = bed
        .executor
        .spawn(async move { store.read("data/b").await });
    bed.executor.run_until_stalled();
    bed.xenstored.behave();
    bed.executor.run_until_stalled();
    assert_eq!(second.take(), Some(Ok("b".to_string())));
    let reads = vec![MessageType::Read, MessageType::Read];
    assert_eq!(
        bed.xenstored.received(),
        reads,
        "both were asked, one reply was late"
    );
}

#[test]
fn a_silent_xenstored_cannot_make_us_remember_without_bound() {
    let bed = TestBed::new();
    bed.xenstored.misbehave(Misbehave::Silent);
    let mut overloaded = 0;
    for _ in 0..MAX_UNANSWERED + 50 {
        match ping(&bed).unwrap_err() {
            StoreError::TimedOut { .. } => assert_eq!(overloaded, 0),
            StoreError::Overloaded { .. } => overloaded += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(overloaded, 50);
}

#[test]
fn a_flood_of_watch_events_lets_others_run() {
    let bed = TestBed::new();
    let store = bed.store.clone();
    let _watch = bed
        .executor
        .block_on(async move { store.watch("data").await.unwrap() });
    let server = bed.xenstored.clone();
    // Never ends by itself: the flooder is fed whenever it runs.
    let flood = bed.executor.spawn(async move {
        for index in 0..20_000 {
            server.send_watch_event(format!("data/{index}\0rekernel-1\0").as_bytes());
            if index % 100 == 0 {
                yield_now().await;
            }
        }
    });
    assert_eq!(ping(&bed), Ok(()));
    bed.executor.run_until_stalled();
    assert!(flood.is_finished());
    assert_eq!(ping(&bed), Ok(()));
}

/// A ring that is never empty: whenever it is looked at, there are more events.
struct EndlessEvents {
    event: Vec<u8>,
    consumer: Cell<u32>,
}

impl SharedPage for EndlessEvents {
    fn load(&self, word: usize) -> u32 {
        let more = u32::from(word == XENSTORE_RESPONSES.producer_word) * 1024;
        match word {
            wire::CONNECTION_WORD => wire::CONNECTED,
            _ if word == XENSTORE_REQUESTS.consumer_word => 0,
            _ if word == XENSTORE_REQUESTS.producer_word => 0,
            _ => self.consumer.get().wrapping_add(more),
        }
    }

    fn store(&self, word: usize, value: u32) {
        if word == XENSTORE_RESPONSES.consumer_word {
            self.consumer.set(value);
        }
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        // The event's length divides the ring's.
        for (index, byte) in into.iter_mut().enumerate() {
            *byte = self.event[(offset + index) % self.event.len()];
        }
    }

    fn write(&self, _: usize, _: &[u8]) {}
}

#[test]
fn a_ring_that_is_never_empty_does_not_keep_others_from_running() {
    let event = encode_message(MessageType::WatchEvent, 0, 0, b"some/path\0token\0");
    assert_eq!(event.len(), 32);
    let consumer = Cell::new(0);
    let ring = Rc::new(EndlessEvents { event, consumer });
    let hypervisor = FakeHypervisor::new(TestBed::GUEST);
    let (port, _peer) = hypervisor.connected_ports(TestBed::PEER);
    let store = Store::new(hypervisor, ring.clone(), port);
    let mut task = pin!(store.run());
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10 {
        let before = ring.consumer.get();
        assert!(task.as_mut().poll(&mut context).is_pending());
        assert!(
            ring.consumer.get() > before,
            "it goes on with the next poll"
        );
    }
}

#[test]
fn a_page_that_lies_at_every_read_gives_no_panic_and_no_hang() {
    for seed in 0..300 {
        let hypervisor = FakeHypervisor::new(TestBed::GUEST);
        let executor = Executor::new(&hypervisor);
        let (port, peer) = hypervisor.connected_ports(TestBed::PEER);
        let ring = Rc::new(AdversarialPage::new(seed));
        let store = Store::new(hypervisor.clone(), ring, port);
        let client = store.clone();
        executor.spawn(async move { client.run().await });
        let started = hypervisor.now();
        let random = Random::new(seed);
        executor.spawn(async move {
            for _ in 0..200 {
                peer.raise();
                crate::hypervisor::EventPort::notify(&peer);
                if random.below(3) == 0 {
                    yield_now().await;
                }
            }
        });
        let result = executor.block_on(async move { store.read("data/x").await });
        assert!(result.is_err());
        assert!(hypervisor.now() - started <= Duration::from_secs(10));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever comes: an answer, an error, or a timeout.
    #[test]
    fn no_bytes_make_the_client_panic_or_hang(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..100),
                (0_u32..24, 0xffff_fef0_u32..=0xffff_ffff, proptest::collection::vec(any::<u8>(), 0..60))
                    .prop_map(|(number, request_id, payload)| {
                        let number = MessageType::from_wire(number).unwrap_or(MessageType::Error);
                        encode_message(number, request_id, 0, &payload)
                    }),
            ],
            0..20,
        ),
    ) {
        let bed = TestBed::new();
        let started = bed.hypervisor.now();
        let tasks: Vec<_> = (0..4)
            .map(|index| {
                let store = bed.store.clone();
                bed.executor.spawn(async move {
                    match index {
                        0 => store.read("data/a").await.map(drop),
                        1 => store.directory("data").await.map(drop),
                        2 => store.permissions("data").await.map(drop),
                        _ => store.transaction(async |inner| inner.write("data/b", "").await).await,
                    }
                })
            })
            .collect();
        for piece in &pieces {
            bed.xenstored.send_raw(piece);
            bed.executor.run_until_stalled();
        }
        bed.executor.run_for(Duration::from_secs(60));
        prop_assert!(bed.hypervisor.now() - started <= Duration::from_secs(61));
        for task in tasks {
            prop_assert!(task.is_finished());
        }
    }
}

/// Lets the other tasks run once.
async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|context| {
        if yielded {
            return core::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        core::task::Poll::Pending
    })
    .await;
}
