//! What a packet costs the driver: checksums, and both directions against the fake backend.
//!
//! The backend's work is part of the figures of "transmit" and "receive": they compare with
//! themselves, from one version to the next. Without `--bench` (as `cargo test` runs it) everything
//! runs once, as a test.

use std::future::poll_fn;
use std::hint::black_box;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use netfront::checksum::{Segment, Verdict, verify};
use netfront::fake::{FakeBackend, Options, Packet};
use netfront::wire::ReceiveFlags;
use netfront::{Device, NetFront, Offload};
use xen_proto::fake::{FakeHypervisor, TestBed};

/// An Ethernet frame with one TCP segment over IPv4, of `bytes` bytes in all.
fn tcp_frame(bytes: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    let ip_bytes = u16::try_from(bytes - 14).expect("an IPv4 packet");
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6]);
    frame[16..18].copy_from_slice(&ip_bytes.to_be_bytes());
    // Twenty bytes of TCP header.
    frame[46] = 0x50;
    let segment = Segment::locate(&frame).expect("a TCP segment");
    let checksum = segment.checksum(&frame);
    frame[segment.field..][..2].copy_from_slice(&checksum.to_be_bytes());
    frame
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify a checksum");
    for bytes in [64, 1514, 9014, 65535] {
        let frame = tcp_frame(bytes);
        assert_eq!(verify(&frame), Verdict::Good);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &frame, |run, frame| {
            run.iter(|| verify(black_box(frame)));
        });
    }
    group.finish();
}

struct Interface {
    bed: TestBed,
    backend: FakeBackend,
    device: Device<FakeHypervisor>,
}

impl Interface {
    /// Connected, with room for frames of 64 KiB.
    fn connected() -> Self {
        let bed = TestBed::new();
        let backend = FakeBackend::plug(&bed, 0, "00:16:3e:12:34:56", Options::default());
        backend.write_frontend("mtu", "65521");
        let (device, control) = NetFront::new(bed.hypervisor.clone(), bed.store.clone(), 0);
        bed.executor.spawn(control.run());
        let mut interface = Self {
            bed,
            backend,
            device,
        };
        while !interface.device.link_is_up() {
            interface.bed.executor.run_for(Duration::from_millis(1));
            interface.backend.service();
        }
        interface
    }

    fn settle(&mut self) {
        while self.backend.service() {}
    }

    fn transmit(&mut self, frame: &[u8]) {
        self.device
            .transmit(frame, Offload::None)
            .expect("there is room");
        self.device.flush();
        self.settle();
        let sent = self.backend.rings().received.pop_front();
        assert_eq!(sent.expect("it arrived").bytes.len(), frame.len());
        self.poll();
    }

    fn receive(&mut self, frame: &[u8], into: &mut Vec<u8>) {
        let packet = Packet::cut(frame, 4096, ReceiveFlags::DATA_VALIDATED);
        self.backend.rings().send(packet);
        // The pool of pages grows under load: the first large frames may have to wait for it.
        while !self.device.receive(into) {
            self.settle();
            self.poll();
        }
        assert_eq!(into.len(), frame.len());
    }

    /// What the task of an interface does in every turn.
    fn poll(&mut self) {
        let mut polled = poll_fn(|context| self.device.poll_event(context));
        let mut context = Context::from_waker(Waker::noop());
        let _: Poll<()> = std::pin::pin!(&mut polled).poll(&mut context);
    }
}

fn transmit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transmit");
    for bytes in [64, 1514, 65535] {
        let frame = tcp_frame(bytes);
        let mut interface = Interface::connected();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &frame, |run, frame| {
            run.iter(|| interface.transmit(frame));
        });
    }
    group.finish();
}

fn receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("receive");
    for bytes in [64, 1514, 65535] {
        let frame = tcp_frame(bytes);
        let mut interface = Interface::connected();
        let mut into = Vec::new();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &frame, |run, frame| {
            run.iter(|| interface.receive(frame, &mut into));
        });
    }
    group.finish();
}

criterion_group!(packets, checksums, transmit, receive);
criterion_main!(packets);
