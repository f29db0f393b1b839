use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use xen_proto::fake::{TaskHandle, TestBed};

use super::*;

const HOME: &str = "/local/domain/7";

struct Fixture {
    bed: TestBed,
    task: TaskHandle<Result<Order, StoreError>>,
}

impl Fixture {
    fn new(shutdown: Option<&str>) -> Self {
        let bed = TestBed::new();
        if let Some(word) = shutdown {
            bed.xenstored.write(&path("shutdown"), word);
        }
        // As libxl does.
        for name in [
            "shutdown",
            "feature-poweroff",
            "feature-reboot",
            "feature-suspend",
        ] {
            if bed.xenstored.read(&path(name)).is_none() {
                bed.xenstored.write(&path(name), "");
            }
            bed.xenstored.set_owner(&path(name), TestBed::GUEST, &[]);
        }
        let store = bed.store.clone();
        let task = bed
            .executor
            .spawn(async move { Orders::new(store).next().await });
        bed.executor.run_until_stalled();
        Self { bed, task }
    }

    fn ask(&self, word: &str) {
        self.bed.xenstored.write(&path("shutdown"), word);
        self.bed.executor.run_until_stalled();
    }

    fn node(&self) -> Option<String> {
        self.bed.xenstored.read(&path("shutdown"))
    }
}

fn path(name: &str) -> String {
    alloc::format!("{HOME}/control/{name}")
}

#[test]
fn an_order_is_acknowledged_and_returned() {
    for (word, request) in [
        ("poweroff", Order::Poweroff),
        ("reboot", Order::Reboot),
        ("halt", Order::Halt),
        ("suspend", Order::Suspend),
    ] {
        let fixture = Fixture::new(None);
        assert!(!fixture.task.is_finished());
        fixture.ask(word);
        assert_eq!(fixture.task.take(), Some(Ok(request)));
        assert_eq!(fixture.node().as_deref(), Some(""));
        assert_eq!(request.to_string(), word);
        // The watch is given back, no transaction is left open.
        fixture.bed.executor.run_until_stalled();
        assert_eq!(fixture.bed.xenstored.watches(), 0);
        assert_eq!(fixture.bed.xenstored.open_transactions(), 0);
    }
}

#[test]
fn an_order_from_before_the_start_counts() {
    let fixture = Fixture::new(Some("poweroff"));
    assert_eq!(fixture.task.take(), Some(Ok(Order::Poweroff)));
}

#[test]
fn abilities_are_announced() {
    let fixture = Fixture::new(None);
    for name in ["feature-poweroff", "feature-reboot", "feature-suspend"] {
        let value = fixture.bed.xenstored.read(&path(name));
        assert_eq!(value.as_deref(), Some("1"), "{name}");
    }
}

#[test]
fn unknown_words_are_acknowledged_and_lead_to_nothing() {
    let fixture = Fixture::new(None);
    for word in ["dance", "dance", "poweroff now", "POWEROFF", "sus", ""] {
        fixture.ask(word);
        assert!(!fixture.task.is_finished(), "{word}");
        assert_eq!(fixture.node().as_deref(), Some(""));
    }
    let bytes = &[0xff, 0xfe];
    fixture.bed.xenstored.write_bytes(&path("shutdown"), bytes);
    fixture.bed.executor.run_until_stalled();
    assert_eq!(fixture.node().as_deref(), Some(""));
    fixture.ask("reboot");
    assert_eq!(fixture.task.take(), Some(Ok(Order::Reboot)));
}

#[test]
fn orders_come_one_after_the_other_also_after_a_restore() {
    let bed = TestBed::new();
    let taken = Rc::new(RefCell::new(Vec::new()));
    let (store, place) = (bed.store.clone(), taken.clone());
    bed.executor.spawn(async move {
        let mut orders = Orders::new(store);
        loop {
            let order = orders.next().await.expect("xenstored behaves");
            place.borrow_mut().push(order);
            if order == Order::Suspend {
                orders.restored();
            }
        }
    });
    for _ in 0..3 {
        bed.executor.run_until_stalled();
        let home = alloc::format!("/local/domain/{}/control", bed.hypervisor.guest());
        for word in ["poweroff", "suspend"] {
            let node = alloc::format!("{home}/shutdown");
            bed.xenstored.write(&node, word);
            bed.executor.run_until_stalled();
            assert_eq!(bed.xenstored.read(&node).as_deref(), Some(""));
        }
        assert_eq!(*taken.borrow(), [Order::Poweroff, Order::Suspend]);
        taken.borrow_mut().clear();
        let able = bed
            .xenstored
            .read(&alloc::format!("{home}/feature-suspend"));
        assert_eq!(able.as_deref(), Some("1"));
        bed.restore(|| ());
    }
}

#[test]
fn a_node_that_is_not_there_yet_is_no_order() {
    let bed = TestBed::new();
    let store = bed.store.clone();
    let task = bed
        .executor
        .spawn(async move { Orders::new(store).next().await });
    bed.executor.run_until_stalled();
    assert!(!task.is_finished());
}

#[test]
fn conflicts_are_tried_again() {
    let fixture = Fixture::new(None);
    fixture.bed.xenstored.refuse_commits(3);
    fixture.ask("poweroff");
    assert_eq!(fixture.task.take(), Some(Ok(Order::Poweroff)));
}

#[test]
fn a_store_that_refuses_for_long_does_not_lose_the_order() {
    let fixture = Fixture::new(None);
    // More often than one transaction is tried.
    fixture.bed.xenstored.refuse_commits(20);
    fixture.ask("poweroff");
    assert!(!fixture.task.is_finished());
    fixture.bed.executor.run_for(Duration::from_secs(5));
    assert_eq!(fixture.task.take(), Some(Ok(Order::Poweroff)));
    assert_eq!(fixture.node().as_deref(), Some(""));
}
