//! One guest, one interface, one backend, and what the log said.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use netfront::fake::{FakeBackend, Options, Packet};
use netfront::wire::ReceiveFlags;
use netfront::{Device, NetFront, Offload, ResumeHandle};
use xen_proto::fake::{FakeHypervisor, TestBed};
use xen_proto::ring::RingIndex;

pub(crate) const MAC: &str = "00:16:3e:12:34:56";

pub(crate) struct Lab {
    pub(crate) bed: TestBed,
    pub(crate) backend: FakeBackend,
    pub(crate) device: Device<FakeHypervisor>,
    pub(crate) resume_handle: ResumeHandle<FakeHypervisor>,
    waker: Arc<CountingWaker>,
}

impl Lab {
    /// Connected, with everything that Linux offers.
    pub(crate) fn connected() -> Self {
        Self::connected_with(Options::default())
    }

    pub(crate) fn connected_with(options: Options) -> Self {
        let mut lab = Self::plugged(options);
        lab.settle();
        assert!(lab.device.link_is_up(), "{}", lab.device.describe());
        lab
    }

    /// The control task runs; nothing has happened yet.
    pub(crate) fn plugged(options: Options) -> Self {
        Self::prepared(options, |_| ())
    }

    /// Like `plugged`, after the toolstack did something.
    pub(crate) fn prepared(options: Options, prepare: impl FnOnce(&FakeBackend)) -> Self {
        let bed = TestBed::new();
        let backend = FakeBackend::plug(&bed, 0, MAC, options);
        prepare(&backend);
        Self::around(bed, backend, 0)
    }

    pub(crate) fn around(bed: TestBed, backend: FakeBackend, handle: u32) -> Self {
        start_capturing();
        let (device, resume_handle) = start_resumable(&bed, handle);
        Self {
            bed,
            backend,
            device,
            resume_handle,
            waker: Arc::default(),
        }
    }

    /// Lets everyone run until nobody can go on. Time stands still.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.bed.executor.run_until_stalled();
            if !self.backend.service() {
                self.bed.executor.run_until_stalled();
                if !self.backend.service() {
                    return;
                }
            }
        }
        panic!("frontend and backend never come to rest");
    }

    /// Lets time pass, in steps of a tenth of a second.
    pub(crate) fn pass(&mut self, duration: Duration) {
        const STEP: Duration = Duration::from_millis(100);
        for _ in 0..duration.as_millis() / STEP.as_millis() {
            self.settle();
            self.bed.executor.run_for(STEP);
        }
        self.settle();
    }

    /// The guest is saved and restored as another domain.
    pub(crate) fn restore(&mut self) {
        let handle = &self.resume_handle;
        self.bed.restore(|| {
            handle.restored();
            assert!(!handle.is_settled());
        });
        assert!(self.resume_handle.is_settled());
        assert_eq!(self.bed.hypervisor.granted_pages(), []);
    }

    pub(crate) fn poll_event(&mut self) -> Poll<()> {
        let waker = Waker::from(self.waker.clone());
        self.device.poll_event(&mut Context::from_waker(&waker))
    }

    /// Polls until nothing is to be done, so that the next event must wake.
    pub(crate) fn drain_events(&mut self) {
        for _ in 0..100 {
            if self.poll_event().is_pending() {
                return;
            }
            while self.receive().is_some() {}
        }
        panic!("the device is ready for ever");
    }

    pub(crate) fn wakes(&self) -> u64 {
        self.waker.wakes.load(Ordering::Relaxed)
    }

    /// Drops the device, as the network stack does with one that was taken away.
    pub(crate) fn drop_device(self) -> (TestBed, FakeBackend) {
        (self.bed, self.backend)
    }

    /// Whether [`Device::identified`] is ready, and with what.
    pub(crate) fn poll_identified(&mut self) -> Poll<bool> {
        let waker = Waker::from(self.waker.clone());
        let identified = std::pin::pin!(self.device.identified());
        identified.poll(&mut Context::from_waker(&waker))
    }

    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        let mut frame = vec![0xee; 3];
        self.device.receive(&mut frame).then_some(frame)
    }

    pub(crate) fn receive_all(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.receive()).collect()
    }

    /// Sends a frame from the guest and returns it as it leaves the host.
    pub(crate) fn transmit(&mut self, frame: &[u8], offload: Offload) -> Vec<u8> {
        self.device.transmit(frame, offload).expect("there is room");
        self.device.flush();
        self.settle();
        let sent = self.backend.rings().received.pop_front();
        sent.expect("the frame arrived").bytes
    }

    /// Sends a frame to the guest and returns what it received.
    pub(crate) fn deliver(&mut self, packet: Packet) -> Option<Vec<u8>> {
        self.backend.rings().send(packet);
        self.settle();
        let frame = self.receive();
        assert_eq!(self.receive(), None, "more than one frame");
        frame
    }

    /// Frames flow in both directions.
    pub(crate) fn assert_working(&mut self) {
        assert!(self.device.link_is_up(), "{}", self.device.describe());
        let frame = plain_frame(64, 0x5a);
        assert_eq!(self.transmit(&frame, Offload::None), frame);
        let packet = Packet::whole(&frame, ReceiveFlags::empty());
        assert_eq!(self.deliver(packet), Some(frame));
    }
}

pub(crate) fn start(bed: &TestBed, handle: u32) -> Device<FakeHypervisor> {
    start_resumable(bed, handle).0
}

fn start_resumable(
    bed: &TestBed,
    handle: u32,
) -> (Device<FakeHypervisor>, ResumeHandle<FakeHypervisor>) {
    // All counters wrap in every test.
    let start = RingIndex::new(0xffff_ff00);
    let hypervisor = bed.hypervisor.clone();
    let (device, control) = NetFront::starting_at(hypervisor, bed.store.clone(), handle, start);
    let resume_handle = control.resume_handle();
    bed.executor.spawn(control.run());
    (device, resume_handle)
}

/// A frame that is neither IPv4 nor IPv6.
pub(crate) fn plain_frame(bytes: usize, fill: u8) -> Vec<u8> {
    let mut frame = vec![fill; bytes];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

#[derive(Default)]
struct CountingWaker {
    wakes: AtomicU64,
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

fn start_capturing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).expect("no other logger");
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// What this test's thread logged so far, at level info and above.
pub(crate) fn log_lines() -> Vec<String> {
    LINES.with_borrow(Vec::clone)
}

/// The lines of level error.
pub(crate) fn errors() -> Vec<String> {
    let mut lines = log_lines();
    lines.retain(|line| line.starts_with("ERROR"));
    lines
}

/// Forgets what was logged.
pub(crate) fn clear_log() {
    LINES.with_borrow_mut(Vec::clear);
}
