//! The fakes are strict: what Xen would refuse fails the test.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;

use super::{Executor, FakeHypervisor, MapError, TestBed};
use crate::hypervisor::{
    Access, DomainId, EventPort, GrantReference, GrantedPage, Hypervisor, PortNumber,
    ResourceError, SharedPage,
};

const PEER: DomainId = TestBed::PEER;
const OTHER: DomainId = DomainId(9);

fn hypervisor() -> FakeHypervisor {
    FakeHypervisor::new(TestBed::GUEST)
}

fn share(hypervisor: &FakeHypervisor) -> impl GrantedPage {
    let page = hypervisor.share_page(PEER, Access::ReadWrite);
    page.expect("there are pages")
}

#[test]
fn both_sides_see_the_same_page() {
    let hypervisor = hypervisor();
    let page = share(&hypervisor);
    let mapped = hypervisor.peer(PEER).map(page.reference());
    page.write(100, b"hello");
    let mut bytes = [0; 5];
    mapped.read(100, &mut bytes);
    assert_eq!(&bytes, b"hello");
    mapped.store(1023, 0x0403_0201);
    page.read(4092, &mut bytes[..4]);
    assert_eq!(bytes[..4], [1, 2, 3, 4]);
    assert_eq!(page.load(1023), 0x0403_0201);
}

#[test]
#[should_panic(expected = "domain 0 maps grant 99: it is not granted")]
fn mapping_what_was_never_granted_fails_the_test() {
    hypervisor().peer(PEER).map(GrantReference(99));
}

#[test]
#[should_panic(expected = "it is not granted")]
fn mapping_after_the_end_fails_the_test() {
    let hypervisor = hypervisor();
    let page = share(&hypervisor);
    let reference = page.reference();
    drop(page);
    hypervisor.peer(PEER).map(reference);
}

#[test]
fn only_the_domain_meant_may_map() {
    let hypervisor = hypervisor();
    let page = share(&hypervisor);
    let result = hypervisor.peer(OTHER).try_map(page.reference());
    assert_eq!(result.err(), Some(MapError::GrantedTo(PEER)));
}

#[test]
#[should_panic(expected = "read-only")]
fn writing_to_a_read_only_page_fails_the_test() {
    let hypervisor = hypervisor();
    let page = hypervisor.share_page(PEER, Access::ReadOnly).unwrap();
    hypervisor.peer(PEER).map(page.reference()).store(0, 1);
}

#[test]
fn a_page_in_use_is_kept_apart_until_the_peer_lets_go() {
    let hypervisor = hypervisor();
    hypervisor.limit_pages(1);
    let page = share(&hypervisor);
    let reference = page.reference();
    let peer = hypervisor.peer(PEER);
    let first = peer.map(reference);
    let second = peer.map(reference);
    first.write(0, b"secret");
    drop(page);
    assert_eq!(hypervisor.granted_pages(), []);
    assert_eq!(hypervisor.quarantined_pages(), [reference]);
    assert_eq!(peer.try_map(reference).err(), Some(MapError::Ended));
    let refused = hypervisor.share_page(PEER, Access::ReadWrite);
    assert_eq!(refused.err(), Some(ResourceError::OutOfPages));
    drop(first);
    assert_eq!(hypervisor.quarantined_pages(), [reference]);
    drop(second);
    assert_eq!(hypervisor.quarantined_pages(), []);
    let again = share(&hypervisor);
    assert_eq!(
        again.reference(),
        reference,
        "used again as soon as possible"
    );
    let mut bytes = [1; 6];
    again.read(0, &mut bytes);
    assert_eq!(bytes, [0; 6], "zeroed");
}

#[test]
fn any_one_allocation_can_be_refused() {
    let hypervisor = hypervisor();
    hypervisor.refuse_allocation(1);
    let first = hypervisor.share_page(PEER, Access::ReadWrite);
    assert!(first.is_ok());
    let second = hypervisor.allocate_port(PEER);
    assert!(matches!(second.err(), Some(ResourceError::Refused { .. })));
    assert!(hypervisor.allocate_port(PEER).is_ok());
    assert_eq!(hypervisor.allocations(), 3);
}

#[test]
fn a_second_read_is_counted_and_lied_to() {
    let hypervisor = hypervisor();
    hypervisor.lie_at_second_read(true);
    let page = share(&hypervisor);
    let mapped = hypervisor.peer(PEER).map(page.reference());
    let mut bytes = [0; 4];
    for _ in 0..2 {
        mapped.write(64, b"once");
        page.read(64, &mut bytes);
        assert_eq!(&bytes, b"once");
    }
    assert_eq!(hypervisor.double_reads(), 0);
    page.read(66, &mut bytes[..1]);
    assert_ne!(bytes[0], b'c');
    assert_eq!(hypervisor.double_reads(), 1);
    drop(mapped);
    drop(page);
    assert_eq!(hypervisor.double_reads(), 1);
}

#[test]
fn events_reach_the_other_end_and_outlive_the_bind() {
    let bed = TestBed::new();
    let port = bed.hypervisor.allocate_port(PEER).unwrap();
    port.notify();
    let peer = bed.hypervisor.peer(PEER).bind(port.number());
    assert_eq!(peer.events(), 1, "the one at the bind");
    let woken = bed.executor.spawn(async move {
        peer.event().await;
        peer.event().await;
        peer
    });
    bed.executor.run_until_stalled();
    assert!(!woken.is_finished());
    port.notify();
    bed.executor.run_until_stalled();
    let peer = woken.take().expect("it was woken");
    drop(port);
    assert!(!peer.is_bound());
    peer.notify();
}

#[test]
#[should_panic(expected = "domain 7 has no port 44")]
fn binding_to_no_port_fails_the_test() {
    hypervisor().peer(PEER).bind(PortNumber(44));
}

#[test]
#[should_panic(expected = "is for another")]
fn binding_to_anothers_port_fails_the_test() {
    let hypervisor = hypervisor();
    let port = hypervisor.allocate_port(PEER).unwrap();
    hypervisor.peer(OTHER).bind(port.number());
}

#[test]
#[should_panic(expected = "bound already")]
fn binding_twice_fails_the_test() {
    let hypervisor = hypervisor();
    let port = hypervisor.allocate_port(PEER).unwrap();
    let _first = hypervisor.peer(PEER).bind(port.number());
    hypervisor.peer(PEER).bind(port.number());
}

#[test]
fn closed_ports_are_counted_out() {
    let hypervisor = hypervisor();
    let first = hypervisor.allocate_port(PEER).unwrap();
    let second = hypervisor.allocate_port(PEER).unwrap();
    assert_ne!(first.number(), second.number());
    assert_eq!(hypervisor.open_ports(), 2);
    drop(first);
    assert_eq!(hypervisor.open_ports(), 1);
}

#[test]
fn time_moves_only_when_told() {
    let hypervisor = hypervisor();
    let executor = Executor::new(&hypervisor);
    let log = Rc::new(Cell::new(0));
    for seconds in [3, 1, 2] {
        let (log, hypervisor) = (log.clone(), hypervisor.clone());
        executor.spawn(async move {
            let deadline = hypervisor.now() + Duration::from_secs(seconds);
            hypervisor.sleep_until(deadline).await;
            assert_eq!(hypervisor.now(), deadline);
            log.set(log.get() * 10 + seconds);
        });
    }
    executor.run_until_stalled();
    assert_eq!(log.get(), 0);
    executor.run_for(Duration::from_millis(2999));
    assert_eq!(log.get(), 12);
    executor.run_for(Duration::from_millis(1));
    assert_eq!(log.get(), 123);
}

#[test]
#[should_panic(expected = "everything waits, and for no timer")]
fn waiting_for_ever_fails_the_test() {
    let executor = Executor::new(&hypervisor());
    executor.block_on(core::future::pending::<()>());
}

#[test]
fn tasks_spawn_tasks_and_are_aborted() {
    let executor = Executor::new(&hypervisor());
    let inner = executor.clone();
    let outer = executor.spawn(async move { inner.spawn(async { 5 }) });
    executor.run_until_stalled();
    assert_eq!(outer.take().and_then(|handle| handle.take()), Some(5));

    let dropped = Rc::new(());
    let held = dropped.clone();
    let task = executor.spawn(async move {
        core::future::pending::<()>().await;
        drop(held);
    });
    executor.run_until_stalled();
    assert_eq!(Rc::strong_count(&dropped), 2);
    task.abort();
    executor.run_until_stalled();
    assert_eq!(Rc::strong_count(&dropped), 1);
}

#[test]
fn every_granted_page_can_be_searched() {
    let hypervisor = hypervisor();
    let pages: Vec<_> = (0..3).map(|_| share(&hypervisor)).collect();
    pages[1].write(4000, b"canary");
    let mut found = Vec::new();
    hypervisor.for_each_granted_page(|reference, bytes| {
        if bytes.windows(6).any(|window| window == b"canary") {
            found.push(reference);
        }
    });
    assert_eq!(found, [pages[1].reference()]);
}
