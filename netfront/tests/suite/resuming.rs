//! A guest that is saved and restored as another domain, with a new backend.

use std::time::Duration;

use netfront::Offload;
use netfront::fake::{FakeBackend, Options, Packet};
use netfront::wire::{RECEIVE_SLOT_BYTES, ReceiveFlags};
use xen_proto::fake::{Misbehave, TestBed};
use xen_proto::hypervisor::DomainId;
use xen_proto::xenbus::State;

use crate::support::{Lab, MAC, errors, plain_frame};

/// Where the interface's nodes are, if there are any.
fn nodes(lab: &Lab) -> Vec<String> {
    let home = format!("/local/domain/{}", TestBed::RESTORED);
    lab.bed.xenstored.directory(&format!("{home}/device/vif/0"))
}

#[test]
fn an_interface_goes_on_with_its_new_backend() {
    let mut lab = Lab::connected();
    lab.assert_working();
    let pages = lab.bed.hypervisor.granted_pages().len();
    let ports = lab.bed.hypervisor.open_ports();
    for life in 2..6 {
        lab.drain_events();
        let wakes = lab.wakes();
        lab.restore();
        assert!(!lab.device.link_is_up());
        assert!(lab.wakes() > wakes, "the device tells of it");
        lab.backend.plug_again(MAC);
        lab.settle();
        lab.assert_working();
        assert_eq!(lab.backend.connections(), life);
        assert_eq!(lab.bed.hypervisor.granted_pages().len(), pages);
        assert_eq!(lab.bed.hypervisor.quarantined_pages(), []);
        assert_eq!(lab.bed.hypervisor.open_ports(), ports);
    }
    assert_eq!(errors(), Vec::<String>::new());
}

#[test]
fn a_backend_that_offers_less_is_taken_as_it_is() {
    let mut lab = Lab::connected();
    assert!(lab.device.segmentation_offload().transmit_ipv4);
    lab.restore();
    *lab.backend.options_mut() = Options {
        domain: DomainId(5),
        scatter_gather: false,
        split_event_channels: false,
        no_checksum_offload: true,
        ipv6_checksum_offload: false,
        segmentation: false,
        ..Options::default()
    };
    lab.backend.plug_again("00:16:3e:00:00:99");
    lab.backend.write_frontend("mtu", "1400");
    lab.settle();
    lab.assert_working();
    assert!(!lab.device.segmentation_offload().transmit_ipv4);
    assert!(!lab.device.checksum_offload().transmit_ipv4);
    assert_eq!(lab.device.mac(), [0, 0x16, 0x3e, 0, 0, 0x99]);
    // And back where there is all of it.
    lab.restore();
    *lab.backend.options_mut() = Options::default();
    lab.backend.plug_again(MAC);
    lab.settle();
    lab.assert_working();
    assert!(lab.device.segmentation_offload().transmit_ipv4);
}

#[test]
fn a_device_that_is_missing_is_waited_for_and_not_written_to() {
    let mut lab = Lab::connected();
    lab.restore();
    lab.backend.leave_out();
    lab.pass(Duration::from_secs(30));
    assert!(!lab.device.link_is_up());
    assert_eq!(nodes(&lab), Vec::<String>::new());
    assert_eq!(lab.bed.hypervisor.granted_pages(), []);
    lab.backend.plug_again(MAC);
    lab.settle();
    lab.assert_working();
}

/// XSA-465: what is taken away before it was connected again.
#[test]
fn a_device_removed_right_after_the_restore() {
    // After so many turns of the tasks.
    for turns in 0..60 {
        let mut lab = Lab::connected();
        lab.restore();
        lab.backend.plug_again(MAC);
        for _ in 0..turns {
            lab.bed.executor.run_once();
        }
        lab.backend.remove();
        lab.settle();
        assert!(!lab.device.link_is_up());
        assert_eq!(nodes(&lab), Vec::<String>::new(), "after {turns} turns");
        assert_eq!(lab.bed.hypervisor.granted_pages(), []);
        lab.backend.plug_again(MAC);
        lab.settle();
        lab.assert_working();
    }
}

#[test]
fn a_guest_restored_at_any_moment_of_connecting() {
    for slowly in [false, true] {
        for turns in 0..80 {
            let mut lab = Lab::plugged(Options::default());
            if slowly {
                lab.bed.xenstored.misbehave(Misbehave::Dribble(100));
            }
            for _ in 0..turns {
                lab.bed.executor.run_once();
                lab.backend.service();
            }
            lab.restore();
            lab.backend.plug_again(MAC);
            // Nothing of the old life is written: the strict backend would map what is not granted.
            assert_eq!(lab.backend.frontend_state(), State::Initialising);
            lab.settle();
            lab.assert_working();
            assert_eq!(lab.bed.hypervisor.quarantined_pages(), []);
            assert_eq!(lab.bed.xenstored.open_transactions(), 0);
        }
    }
}

#[test]
fn a_guest_restored_at_any_moment_of_closing() {
    for turns in 0..40 {
        let mut lab = Lab::connected();
        lab.backend.detach();
        for _ in 0..turns {
            lab.bed.executor.run_once();
        }
        lab.restore();
        lab.backend.plug_again(MAC);
        lab.settle();
        lab.assert_working();
    }
}

#[test]
fn a_guest_restored_twice_before_anything_was_done() {
    let mut lab = Lab::connected();
    lab.restore();
    lab.backend.plug_again(MAC);
    lab.bed.executor.run_once();
    lab.restore();
    lab.restore();
    lab.backend.plug_again(MAC);
    lab.settle();
    lab.assert_working();
}

#[test]
fn frames_of_the_old_life_do_not_come_in_the_new_one() {
    let mut lab = Lab::connected();
    let frame = plain_frame(700, 0x44);
    let packet = Packet::whole(&frame, ReceiveFlags::empty());
    lab.backend.rings().send(packet);
    lab.backend.service();
    lab.device.transmit(&frame, Offload::None).unwrap();
    lab.restore();
    // Saved while the backend was at work, they may be half written.
    assert_eq!(lab.receive(), None);
    lab.device.flush();
    lab.backend.plug_again(MAC);
    lab.settle();
    assert_eq!(lab.receive(), None);
    assert!(lab.backend.rings().received.is_empty());
    lab.assert_working();
}

#[test]
fn a_connection_that_was_broken_is_whole_again() {
    let mut lab = Lab::connected();
    let rings = lab.backend.rings();
    rings.respond(|_| [0xff; RECEIVE_SLOT_BYTES]);
    rings.publish();
    lab.receive_all();
    assert!(lab.device.describe().contains("broken"));
    lab.restore();
    lab.backend.plug_again(MAC);
    lab.settle();
    lab.assert_working();
}

#[test]
fn an_interface_that_is_gone_needs_no_telling() {
    let bed = TestBed::new();
    let backend = FakeBackend::plug(&bed, 0, MAC, Options::default());
    let (device, control) = netfront::NetFront::new(bed.hypervisor.clone(), bed.store.clone(), 0);
    let handle = control.resume_handle();
    assert!(handle.restored());
    drop((device, control, backend));
    assert!(!handle.restored());
    assert!(handle.is_settled());
}
