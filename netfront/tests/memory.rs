//! An allocation fails, whichever: an interface goes on, or connects a little later.

use std::task::{Context, Waker};
use std::time::Duration;

use failing_memory::{Trial, every_allocation, unharmed};
use netfront::fake::{FakeBackend, Options, Packet};
use netfront::wire::ReceiveFlags;
use netfront::{Device, NetFront, Offload};
use xen_proto::fake::{FakeHypervisor, TestBed};

#[global_allocator]
static MEMORY: failing_memory::Allocator = failing_memory::Allocator;

struct Lab {
    bed: TestBed,
    backend: FakeBackend,
    device: Device<FakeHypervisor>,
}

impl Lab {
    fn new() -> Self {
        let bed = TestBed::new();
        let backend = FakeBackend::plug(&bed, 0, "00:16:3e:12:34:56", Options::default());
        let (device, control) = NetFront::new(bed.hypervisor.clone(), bed.store.clone(), 0);
        bed.executor.spawn(control.run());
        Self {
            bed,
            backend,
            device,
        }
    }

    /// Lets time pass, in steps of a tenth of a second.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..10 * seconds {
            while unharmed(|| self.backend.service()) {
                self.bed.executor.run_until_stalled();
            }
            self.bed.executor.run_for(Duration::from_millis(100));
        }
    }

    fn poll(&mut self) {
        let waker = Waker::noop();
        let _ = self.device.poll_event(&mut Context::from_waker(waker));
    }

    /// Sends a frame and has one delivered; whether both arrived.
    fn exchange(&mut self, bytes: usize) -> bool {
        let mut frame = unharmed(|| vec![0x5a; bytes]);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        let sent = self.device.transmit(&frame, Offload::None).is_ok();
        self.device.flush();
        unharmed(|| self.backend.service());
        self.poll();
        let arrived = unharmed(|| self.backend.rings().received.pop_front().is_some());
        unharmed(|| {
            let packet = Packet::whole(&frame, ReceiveFlags::empty());
            self.backend.rings().send(packet);
            self.backend.service();
        });
        self.poll();
        let mut received = Vec::new();
        let delivered = self.device.receive(&mut received) && received == frame;
        sent && arrived && delivered
    }

    fn assert_working(&mut self) {
        self.pass(120);
        assert!(self.device.link_is_up(), "{}", self.device.describe());
        assert!(self.exchange(1000), "{}", self.device.describe());
    }
}

#[test]
fn connecting_and_connecting_again() {
    let count = every_allocation("connecting_and_connecting_again", |trial: &mut Trial| {
        let mut lab = Lab::new();
        trial.begin();
        lab.pass(2);
        unharmed(|| lab.backend.die());
        lab.pass(2);
        unharmed(|| lab.backend.start());
        lab.pass(2);
        unharmed(|| lab.backend.detach());
        lab.pass(2);
        trial.end();
        lab.backend.remove();
        lab.pass(2);
        lab.bed.xenstored.add_device("vif", 0, TestBed::PEER);
        lab.backend.write_frontend("mac", "00:16:3e:12:34:56");
        lab.backend.start();
        lab.assert_working();
    });
    assert!(count > 30, "only {count}");
}

#[test]
fn frames() {
    every_allocation("frames", |trial: &mut Trial| {
        let mut lab = Lab::new();
        lab.pass(2);
        assert!(lab.device.link_is_up());
        trial.begin();
        for bytes in [60, 1000, 1514] {
            lab.exchange(bytes);
        }
        trial.end();
        lab.assert_working();
    });
}
