//! The client against the fake xenstored, over a real ring.

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::fake::TestBed;

#[test]
fn reads_what_was_written() {
    let bed = TestBed::new();
    let store = bed.store.clone();
    let value = bed.executor.block_on(async move {
        store.write("data/key", "value").await?;
        store.read("data/key").await
    });
    assert_eq!(value, Ok("value".to_string()));
    assert_eq!(bed.xenstored.read("data/key").as_deref(), Some("value"));
}

#[test]
fn a_watch_fires_once_at_the_start_and_at_each_change() {
    let bed = TestBed::new();
    let store = bed.store.clone();
    let server = bed.xenstored.clone();
    let seen = bed.executor.block_on(async move {
        let mut watch = store.watch("data").await.unwrap();
        let mut seen = Vec::new();
        seen.push(watch.changed().await.unwrap());
        server.write("data/a", "1");
        seen.push(watch.changed().await.unwrap());
        seen
    });
    assert_eq!(seen, ["data", "data/a"]);
    bed.executor.run_until_stalled();
    assert_eq!(bed.xenstored.watches(), 0, "dropping the watch ends it");
}
