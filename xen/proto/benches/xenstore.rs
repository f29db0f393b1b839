//! What the protocols cost: messages of xenstore, and slots of a ring.
//!
//! Without `--bench` (as `cargo test` runs it) everything runs once, as a test.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xen_proto::fake::{FakePage, TestBed};
use xen_proto::ring::{BackRing, FrontRing, Slot};
use xen_proto::xenstore::Parser;
use xen_proto::xenstore::wire::{MessageType, encode_message};

fn xenstore(criterion: &mut Criterion) {
    const MESSAGES: u64 = 100;
    let mut stream = Vec::new();
    for id in 0..MESSAGES as u32 {
        let payload = b"/local/domain/7/device/vif/0/backend\0token\0";
        stream.extend(encode_message(MessageType::WatchEvent, id, 0, payload));
    }
    let mut group = criterion.benchmark_group("xenstore");
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("parse 100 messages", |run| {
        run.iter(|| assert_eq!(parse(black_box(&stream)), MESSAGES));
    });
    group.throughput(Throughput::Elements(1));
    let bed = TestBed::new();
    bed.xenstored.write("/local/domain/7/data/key", "value");
    group.bench_function("read a node from the fake store", |run| {
        run.iter(|| {
            let store = bed.store.clone();
            let done = Rc::new(Cell::new(false));
            let told = done.clone();
            bed.executor.spawn(async move {
                told.set(store.read("data/key").await.as_deref() == Ok("value"));
            });
            bed.executor.run_until_stalled();
            assert!(done.get());
        });
    });
    group.finish();
}

fn parse(mut stream: &[u8]) -> u64 {
    let mut parser = Parser::new();
    let mut messages = 0;
    while let Some(message) = parser.next_message(&mut stream).expect("well formed") {
        black_box(message);
        messages += 1;
    }
    messages
}

/// A slot as small as netfront's.
struct Word(u64);

impl Slot for Word {
    const SIZE: usize = 12;

    fn decode(bytes: &[u8]) -> Self {
        Self(bytes[..8].try_into().map_or(0, u64::from_le_bytes))
    }

    fn encode(&self, into: &mut [u8]) {
        into[..8].copy_from_slice(&self.0.to_le_bytes());
    }
}

fn ring(criterion: &mut Criterion) {
    const BATCH: u64 = 64;
    let page = FakePage::zeroed();
    let mut front = FrontRing::<_, Word, Word>::new(page.clone(), Word::SIZE);
    let mut back = BackRing::<_, Word, Word>::attach(page, Word::SIZE);
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("64 requests and their responses", |run| {
        run.iter(|| {
            for number in 0..BATCH {
                front.push_request(&Word(number)).expect("there is room");
            }
            let _ = front.publish_requests();
            while let Some(request) = back.pop_request().expect("sound indices") {
                back.push_response(&request).expect("there is room");
            }
            let _ = back.publish_responses();
            let mut sum = 0;
            while let Some(Word(number)) = front.pop_response().expect("sound indices") {
                sum += number;
            }
            assert_eq!(sum, BATCH * (BATCH - 1) / 2);
        });
    });
    group.finish();
}

criterion_group!(protocols, xenstore, ring);
criterion_main!(protocols);
