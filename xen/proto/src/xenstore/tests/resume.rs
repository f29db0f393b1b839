//! A guest that is restored in a new domain, whose xenstored knows nothing of it.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use super::{TestStore, ping, run};
use crate::fake::{Misbehave, TaskHandle, TestBed};
use crate::hypervisor::{EventPort, Hypervisor};
use crate::xenstore::wire::MessageType;
use crate::xenstore::{StoreError, Watch};

/// Sets the limit for operations so that none runs out while a test plays with time.
fn patient(bed: &TestBed) -> TestStore {
    bed.store.with_timeout(Duration::from_secs(3600))
}

fn write(bed: &TestBed, path: &str, value: &str) -> TaskHandle<Result<(), StoreError>> {
    let (store, path, value) = (patient(bed), String::from(path), String::from(value));
    bed.executor
        .spawn(async move { store.write(&path, &value).await })
}

fn assert_all_well(bed: &TestBed) {
    assert_eq!(ping(bed), Ok(()));
    assert_eq!(bed.xenstored.read("data/ping").as_deref(), Some("1"));
    assert_eq!(bed.xenstored.open_transactions(), 0);
    assert_eq!(run(bed, async |store| store.idle().await), ());
}

#[test]
fn an_idle_connection_goes_on() {
    let bed = TestBed::new();
    assert_all_well(&bed);
    for _ in 0..3 {
        bed.restore(|| ());
        assert_eq!(bed.xenstored.read("data/ping"), None);
        assert_all_well(&bed);
    }
}

#[test]
fn a_request_that_was_not_answered_is_sent_again() {
    for how in [Misbehave::Silent, Misbehave::Frozen] {
        let bed = TestBed::new();
        bed.xenstored.misbehave(how);
        let first = write(&bed, "data/a", "1");
        let second = write(&bed, "data/a", "2");
        bed.executor.run_until_stalled();
        bed.restore(|| ());
        bed.executor.run_until_stalled();
        assert_eq!(first.take(), Some(Ok(())), "{how:?}");
        assert_eq!(second.take(), Some(Ok(())), "{how:?}");
        // In the order in which they were made.
        assert_eq!(
            bed.xenstored.read("data/a").as_deref(),
            Some("2"),
            "{how:?}"
        );
        assert_all_well(&bed);
    }
}

#[test]
fn order_holds_where_ids_wrap() {
    let bed = TestBed::new();
    // Ids of the test bed begin 256 before the wrap.
    for _ in 0..200 {
        assert_eq!(ping(&bed), Ok(()));
    }
    bed.xenstored.misbehave(Misbehave::Frozen);
    let writes: Vec<_> = (0..100)
        .map(|number| write(&bed, "data/a", &format!("{number}")))
        .collect();
    bed.executor.run_until_stalled();
    bed.restore(|| ());
    bed.executor.run_until_stalled();
    assert!(writes.iter().all(|write| write.take() == Some(Ok(()))));
    assert_eq!(bed.xenstored.read("data/a").as_deref(), Some("99"));
}

#[test]
fn half_a_message_is_sent_whole_again() {
    let bed = TestBed::new();
    bed.xenstored.misbehave(Misbehave::Frozen);
    // The ring holds 1024 bytes of it.
    let value = "x".repeat(3000);
    let large = write(&bed, "data/large", &value);
    let next = write(&bed, "data/next", "1");
    bed.executor.run_until_stalled();
    bed.restore(|| ());
    bed.executor.run_until_stalled();
    assert_eq!((large.take(), next.take()), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(bed.xenstored.read("data/large"), Some(value));
    assert_all_well(&bed);
}

#[test]
fn half_a_reply_is_forgotten() {
    for bytes in 1..40 {
        let bed = TestBed::new();
        bed.xenstored.write("data/a", "of the old domain");
        let store = patient(&bed);
        let read = bed
            .executor
            .spawn(async move { store.read("data/a").await });
        bed.xenstored.misbehave(Misbehave::Silent);
        bed.executor.run_until_stalled();
        // The beginning of the reply to the first request of the test bed.
        let reply = b"\x02\0\0\0\0\xff\xff\xff\0\0\0\0\x11\0\0\0of the old domain";
        bed.xenstored.send_raw(&reply[..bytes.min(32)]);
        bed.executor.run_until_stalled();
        assert!(!read.is_finished());
        bed.hypervisor.restore_as(TestBed::RESTORED);
        bed.store.detach();
        let (ring, port) = bed.xenstored.start_over(&bed.hypervisor);
        bed.xenstored.write("data/a", "of the new one");
        bed.store.resume(Rc::new(ring), port);
        bed.executor.run_until_stalled();
        assert_eq!(read.take(), Some(Ok("of the new one".into())), "{bytes}");
        assert_all_well(&bed);
    }
}

/// Starts a transaction that writes `data/a`, waits for a second, writes `data/b`, and notes its steps.
fn slow_transaction(
    bed: &TestBed,
    steps: &Rc<RefCell<Vec<&'static str>>>,
) -> TaskHandle<Result<(), StoreError>> {
    let (store, steps) = (patient(bed), steps.clone());
    let hypervisor = bed.hypervisor.clone();
    bed.executor.spawn(async move {
        store
            .transaction(async |transaction| {
                steps.borrow_mut().push("start");
                transaction.write("data/a", "1").await?;
                let later = hypervisor.now() + Duration::from_secs(1);
                hypervisor.sleep_until(later).await;
                steps.borrow_mut().push("second");
                transaction.write("data/b", "2").await?;
                Ok(())
            })
            .await
    })
}

#[test]
fn an_open_transaction_starts_again() {
    let bed = TestBed::new();
    let steps = Rc::default();
    let transaction = slow_transaction(&bed, &steps);
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.open_transactions(), 1);
    bed.restore(|| ());
    bed.executor.run_for(Duration::from_secs(5));
    assert_eq!(transaction.take(), Some(Ok(())));
    assert_eq!(*steps.borrow(), ["start", "second", "start", "second"]);
    assert_eq!(bed.xenstored.read("data/a").as_deref(), Some("1"));
    assert_eq!(bed.xenstored.read("data/b").as_deref(), Some("2"));
    // Nothing of the first attempt reached the new xenstored.
    let ends = |received: &MessageType| *received == MessageType::TransactionEnd;
    assert_eq!(
        bed.xenstored.received().iter().filter(|r| ends(r)).count(),
        1
    );
    assert_all_well(&bed);
}

#[test]
fn a_transaction_starts_again_at_whatever_it_waits_for() {
    // Start, the first write, the end: what xenstored keeps to itself is lost with it.
    for answered in 0..3 {
        let bed = TestBed::new();
        let store = patient(&bed);
        let task = bed.executor.spawn(async move {
            store
                .transaction(async |transaction| transaction.write("data/a", "1").await)
                .await
        });
        bed.xenstored.misbehave(Misbehave::Dribble(1));
        let seen = |bed: &TestBed| bed.xenstored.received().len();
        while seen(&bed) < answered {
            assert!(bed.executor.run_once(), "nobody can go on");
        }
        bed.xenstored.misbehave(Misbehave::Silent);
        bed.executor.run_until_stalled();
        assert!(!task.is_finished());
        bed.restore(|| ());
        bed.executor.run_until_stalled();
        assert_eq!(task.take(), Some(Ok(())), "after {answered} answers");
        assert_eq!(bed.xenstored.read("data/a").as_deref(), Some("1"));
        assert_all_well(&bed);
    }
}

#[test]
fn a_started_transaction_whose_owner_did_not_look_yet_is_asked_for_again() {
    let bed = TestBed::new();
    let steps = Rc::default();
    let transaction = slow_transaction(&bed, &steps);
    // Until the answer is there, and its task was not run since.
    while bed.xenstored.open_transactions() == 0 {
        assert!(bed.executor.run_once());
    }
    bed.restore(|| ());
    bed.executor.run_for(Duration::from_secs(5));
    assert_eq!(transaction.take(), Some(Ok(())));
    assert_eq!(bed.xenstored.read("data/b").as_deref(), Some("2"));
    assert_all_well(&bed);
}

#[test]
fn a_dropped_transaction_of_old_says_nothing() {
    let bed = TestBed::new();
    let steps = Rc::default();
    let transaction = slow_transaction(&bed, &steps);
    bed.executor.run_until_stalled();
    bed.restore(|| ());
    transaction.abort();
    bed.executor.run_for(Duration::from_secs(5));
    assert_eq!(bed.xenstored.received(), []);
    assert_all_well(&bed);
}

#[test]
fn watches_are_registered_again_and_each_fires() {
    let bed = TestBed::new();
    let mut watches = run(&bed, async |store| {
        let mut watches = vec![];
        for path in ["data/a", "data/b", "/local/domain/0/backend"] {
            watches.push(store.watch(path).await.unwrap());
        }
        for watch in &mut watches {
            watch.changed().await.unwrap();
        }
        watches
    });
    bed.restore(|| ());
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.watches(), 3);
    for path in ["data/a", "data/b", "/local/domain/0/backend"] {
        let mut watch = watches.remove(0);
        let told = run(&bed, async move |_| {
            let first = watch.changed().await;
            (first, watch)
        });
        assert_eq!(told.0.as_deref(), Ok(path));
        watches.push(told.1);
    }
    bed.xenstored.write("data/b", "changed");
    bed.executor.run_until_stalled();
    let mut second: Watch<_> = watches.remove(1);
    let told = run(&bed, async move |_| second.changed().await);
    assert_eq!(told.as_deref(), Ok("data/b"));
    drop(watches);
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.watches(), 0);
    assert_all_well(&bed);
}

#[test]
fn what_changed_in_the_old_domain_is_not_told_in_the_new_one() {
    let bed = TestBed::new();
    let mut watch = run(&bed, async |store| store.watch("data").await.unwrap());
    bed.xenstored.write("data/a", "1");
    bed.executor.run_until_stalled();
    bed.restore(|| ());
    bed.executor.run_until_stalled();
    let mut told = run(&bed, async move |_| (watch.changed().await, watch));
    assert_eq!(told.0.as_deref(), Ok("data"));
    let pending = bed
        .executor
        .spawn(async move { told.1.changed().await.map(drop) });
    bed.executor.run_until_stalled();
    assert!(!pending.is_finished());
}

/// Whoever does not want the event of the start learns that much has changed all the same.
#[test]
fn a_watch_for_changes_fires_in_the_new_domain() {
    let bed = TestBed::new();
    let mut watch = run(&bed, async |store| {
        let watch = store.watch_changes("data").await.unwrap();
        store.read("data").await.unwrap();
        watch
    });
    bed.restore(|| ());
    let told = run(&bed, async move |_| watch.changed().await);
    assert_eq!(told.as_deref(), Ok("data"));
    assert_all_well(&bed);
}

#[test]
fn a_watch_that_is_being_registered_is_registered_once() {
    for how in [Misbehave::Silent, Misbehave::Frozen] {
        let bed = TestBed::new();
        bed.xenstored.misbehave(how);
        let store = patient(&bed);
        let task = bed
            .executor
            .spawn(async move { store.watch("data/a").await });
        bed.executor.run_until_stalled();
        bed.restore(|| ());
        bed.executor.run_until_stalled();
        let watch = task.take().expect("it is answered now");
        assert_eq!(bed.xenstored.watches(), 1);
        drop(watch);
        bed.executor.run_until_stalled();
        assert_eq!(bed.xenstored.watches(), 0);
        assert_all_well(&bed);
    }
}

#[test]
fn a_watch_given_up_before_is_not_registered_again() {
    let bed = TestBed::new();
    let watch = run(&bed, async |store| store.watch("data/a").await.unwrap());
    bed.xenstored.misbehave(Misbehave::Frozen);
    drop(watch);
    let store = patient(&bed);
    let given_up = bed
        .executor
        .spawn(async move { store.watch("data/b").await });
    bed.executor.run_until_stalled();
    given_up.abort();
    bed.restore(|| ());
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.watches(), 0);
    assert_eq!(bed.xenstored.received(), []);
    assert_all_well(&bed);
}

#[test]
fn what_drivers_give_up_between_two_lives_is_never_sent() {
    let bed = TestBed::new();
    bed.xenstored.misbehave(Misbehave::Frozen);
    let old = write(&bed, "data/a", "of the old domain");
    bed.executor.run_until_stalled();
    bed.restore(|| old.abort());
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.received(), []);
    assert_all_well(&bed);
}

#[test]
fn a_frozen_xenstored_is_no_longer_waited_for_in_the_next_life() {
    let bed = TestBed::new();
    bed.xenstored.misbehave(Misbehave::Frozen);
    let timed_out = write(&bed, "data/a", "1");
    bed.executor.run_for(Duration::from_secs(10));
    let store = bed.store.clone();
    let idle = bed.executor.spawn(async move { store.idle().await });
    bed.executor.run_until_stalled();
    assert!(!idle.is_finished());
    bed.restore(|| ());
    bed.executor.run_until_stalled();
    assert!(timed_out.is_finished() && idle.is_finished());
    assert_all_well(&bed);
}

#[test]
fn the_port_of_old_is_left_alone() {
    let bed = TestBed::new();
    let (old, _peer) = bed.hypervisor.connected_ports(TestBed::PEER);
    bed.restore(|| ());
    let open = bed.hypervisor.open_ports();
    let (_new, _peer) = bed.hypervisor.connected_ports(TestBed::PEER);
    old.notify();
    drop(old);
    assert_eq!(bed.hypervisor.open_ports(), open + 1);
    assert_all_well(&bed);
}
