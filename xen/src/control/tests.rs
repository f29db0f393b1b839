use alloc::string::ToString;

use xen_proto::fake::{TaskHandle, TestBed};

use super::*;

const HOME: &str = "/local/domain/7";

struct Fixture {
    bed: TestBed,
    task: TaskHandle<Result<ShutdownRequest, StoreError>>,
}

impl Fixture {
    fn new(shutdown: Option<&str>) -> Self {
        let bed = TestBed::new();
        if let Some(word) = shutdown {
            bed.xenstored.write(&path("shutdown"), word);
        }
        // As libxl does.
        for name in ["shutdown", "feature-poweroff", "feature-reboot"] {
            if bed.xenstored.read(&path(name)).is_none() {
                bed.xenstored.write(&path(name), "");
            }
            bed.xenstored.set_owner(&path(name), TestBed::GUEST, &[]);
        }
        let store = bed.store.clone();
        let task = bed
            .executor
            .spawn(async move { shutdown_request(&store).await });
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
        ("poweroff", ShutdownRequest::Poweroff),
        ("reboot", ShutdownRequest::Reboot),
        ("halt", ShutdownRequest::Halt),
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
    assert_eq!(fixture.task.take(), Some(Ok(ShutdownRequest::Poweroff)));
}

#[test]
fn abilities_are_announced() {
    let fixture = Fixture::new(None);
    for name in ["feature-poweroff", "feature-reboot"] {
        let value = fixture.bed.xenstored.read(&path(name));
        assert_eq!(value.as_deref(), Some("1"), "{name}");
    }
    let suspend = fixture.bed.xenstored.read(&path("feature-suspend"));
    assert_ne!(suspend.as_deref(), Some("1"));
}

#[test]
fn unknown_words_are_left_for_the_toolstack_to_take_back() {
    let fixture = Fixture::new(None);
    for word in ["suspend", "dance", "poweroff now", "POWEROFF", ""] {
        fixture.ask(word);
        assert!(!fixture.task.is_finished(), "{word}");
        assert_eq!(fixture.node().as_deref(), Some(word));
    }
    fixture.ask("reboot");
    assert_eq!(fixture.task.take(), Some(Ok(ShutdownRequest::Reboot)));
}

#[test]
fn a_node_that_is_not_there_yet_is_no_order() {
    let bed = TestBed::new();
    let store = bed.store.clone();
    let task = bed
        .executor
        .spawn(async move { shutdown_request(&store).await });
    bed.executor.run_until_stalled();
    assert!(!task.is_finished());
}

#[test]
fn conflicts_are_tried_again() {
    let fixture = Fixture::new(None);
    fixture.bed.xenstored.refuse_commits(3);
    fixture.ask("poweroff");
    assert_eq!(fixture.task.take(), Some(Ok(ShutdownRequest::Poweroff)));
}

#[test]
fn a_store_that_refuses_for_long_does_not_lose_the_order() {
    let fixture = Fixture::new(None);
    // More often than one transaction is tried.
    fixture.bed.xenstored.refuse_commits(20);
    fixture.ask("poweroff");
    assert!(!fixture.task.is_finished());
    fixture.bed.executor.run_for(Duration::from_secs(5));
    assert_eq!(fixture.task.take(), Some(Ok(ShutdownRequest::Poweroff)));
    assert_eq!(fixture.node().as_deref(), Some(""));
}
