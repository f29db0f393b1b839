//! Watches fire, coalesce, end, and never take memory without bound.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::time::Duration;

use super::{ping, run};
use crate::fake::{Misbehave, TestBed};
use crate::xenstore::connection::MAX_CHANGED_PATHS;
use crate::xenstore::wire::MessageType;

#[test]
fn a_watch_fires_once_at_the_start_and_at_each_change() {
    let bed = TestBed::new();
    let server = bed.xenstored.clone();
    let seen = run(&bed, async move |store| {
        let mut watch = store.watch("data").await.unwrap();
        let mut seen = vec![watch.changed().await.unwrap()];
        server.write("data/a", "1");
        seen.push(watch.changed().await.unwrap());
        server.write("data/a", "1");
        seen.push(watch.changed().await.unwrap());
        server.remove("data");
        seen.push(watch.changed().await.unwrap());
        seen
    });
    assert_eq!(seen, ["data", "data/a", "data/a", "data"]);
}

#[test]
fn a_watch_for_changes_does_not_fire_at_the_start() {
    let bed = TestBed::new();
    let server = bed.xenstored.clone();
    let seen = run(&bed, async move |store| {
        let mut watch = store.watch_changes("data").await.unwrap();
        // The event of the start has come before this answer.
        store.read("data").await.unwrap();
        server.write("data/a", "1");
        watch.changed().await.unwrap()
    });
    assert_eq!(seen, "data/a");
}

#[test]
fn absolute_watches_tell_absolute_paths() {
    let bed = TestBed::new();
    let server = bed.xenstored.clone();
    let seen = run(&bed, async move |store| {
        let mut watch = store.watch("/local/domain/7/data").await.unwrap();
        watch.changed().await.unwrap();
        server.write("data/a", "1");
        watch.changed().await.unwrap()
    });
    assert_eq!(seen, "/local/domain/7/data/a");
}

#[test]
fn removing_what_lies_above_fires() {
    let bed = TestBed::new();
    let server = bed.xenstored.clone();
    server.add_device("vif", 0, TestBed::PEER);
    let seen = run(&bed, async move |store| {
        let mut watch = store.watch("device/vif/0/backend").await.unwrap();
        watch.changed().await.unwrap();
        server.remove("device/vif/0");
        watch.changed().await.unwrap()
    });
    assert_eq!(seen, "device/vif/0/backend");
}

#[test]
fn dropping_a_watch_ends_it_and_a_second_one_is_another() {
    let bed = TestBed::new();
    let server = bed.xenstored.clone();
    run(&bed, async move |store| {
        let first = store.watch("data").await.unwrap();
        let mut second = store.watch("data").await.unwrap();
        second.changed().await.unwrap();
        drop(first);
        server.write("data/a", "1");
        assert_eq!(second.changed().await.unwrap(), "data/a");
        server.wait_until(|server| server.watches() == 1).await;
    });
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.watches(), 0);
}

#[test]
fn changes_nobody_looks_at_take_bounded_memory() {
    let bed = TestBed::new();
    let server = bed.xenstored.clone();
    let executor = bed.executor.clone();
    let store = bed.store.clone();
    let watch = bed
        .executor
        .block_on(async move { store.watch("data").await.unwrap() });
    for round in 0..20 {
        for index in 0..200 {
            server.write(&format!("data/{index}"), &format!("{round}"));
        }
        executor.run_until_stalled();
    }
    let seen = bed.executor.spawn(async move {
        let mut watch = watch;
        let mut seen = Vec::new();
        loop {
            seen.push(watch.changed().await.unwrap());
            let done = seen.last().map(String::as_str) == Some("data/last");
            if done {
                return seen;
            }
        }
    });
    executor.run_until_stalled();
    server.write("data/last", "");
    executor.run_until_stalled();
    let seen = seen.take().expect("the last change came through");
    assert!(
        seen.len() <= MAX_CHANGED_PATHS + 1,
        "{} paths were kept",
        seen.len()
    );
    assert!(
        seen.iter().any(|path| path == "data"),
        "it is told that something changed"
    );
    let different: BTreeSet<_> = seen.iter().collect();
    assert_eq!(different.len(), seen.len(), "each path is told once");
}

#[test]
fn a_watch_given_up_before_its_reply_is_taken_back() {
    let bed = TestBed::new();
    bed.xenstored.misbehave(Misbehave::Frozen);
    let result = run(&bed, async |store| {
        let watch = store.watch("data").await;
        watch.map(drop)
    });
    assert!(result.is_err());
    bed.xenstored.behave();
    bed.executor.run_until_stalled();
    let received = bed.xenstored.received();
    assert_eq!(received, [MessageType::Watch, MessageType::Unwatch]);
    assert_eq!(bed.xenstored.watches(), 0);
    assert_eq!(ping(&bed), Ok(()));
}

#[test]
fn watch_events_between_replies_are_no_matter() {
    let bed = TestBed::new();
    bed.xenstored.misbehave(Misbehave::Dribble(5));
    let store = bed.store.clone();
    let server = bed.xenstored.clone();
    let watcher = bed.executor.spawn(async move {
        let mut watch = store.watch("data").await.unwrap();
        for _ in 0..10 {
            watch.changed().await.unwrap();
        }
    });
    for index in 0..30 {
        server.write("data/x", &format!("{index}"));
        server.send_watch_event(b"data/y\0rekernel-999999\0");
        server.send_watch_event(b"data/y\0someone else's\0");
        assert_eq!(ping(&bed), Ok(()));
    }
    bed.executor.run_for(Duration::from_secs(1));
    assert!(watcher.is_finished());
}
