//! A device's whole life over the fake xenstored: a frontend task that does nothing but the
//! handshake, and a backend played by the test.

use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;
use core::time::Duration;

use crate::fake::{FakeHypervisor, TestBed};
use crate::hypervisor::DomainId;
use crate::xenbus::{Action, Device, Frontend, Phase, State};
use crate::xenstore::{Store, StoreError};

/// Performs the machine's actions, without any rings.
async fn drive(store: Store<FakeHypervisor>, phase: Rc<Cell<Phase>>) -> Result<(), StoreError> {
    let device = Device::new(store, "device/vif/0");
    let mut follower = device.follow();
    let mut frontend = Frontend::new();
    loop {
        follower.changed().await?;
        let mut seen = follower.observe().await?;
        loop {
            let state = match frontend.step(&seen) {
                Action::Wait => break,
                Action::Start | Action::Release => None,
                Action::Begin | Action::Restart { .. } => Some(State::Initialising),
                Action::Publish => Some(State::Connected),
                Action::Close => Some(State::Closed),
            };
            phase.set(frontend.phase());
            if let Some(state) = state {
                device.write_state(state).await?;
            }
            seen = follower.observe().await?;
        }
    }
}

struct Scene {
    bed: TestBed,
    backend: String,
    phase: Rc<Cell<Phase>>,
}

impl Scene {
    fn new() -> Self {
        let bed = TestBed::new();
        let phase = Rc::new(Cell::new(Phase::Absent));
        bed.executor.spawn(drive(bed.store.clone(), phase.clone()));
        let backend = bed.xenstored.add_device("vif", 0, TestBed::PEER);
        Self {
            bed,
            backend,
            phase,
        }
    }

    /// The backend says its state; returns ours once everything has settled.
    fn backend_says(&self, state: State) -> Option<String> {
        let path = alloc::format!("{}/state", self.backend);
        self.bed.xenstored.write(&path, state.text());
        self.settled()
    }

    fn settled(&self) -> Option<String> {
        self.bed.executor.run_for(Duration::from_millis(1));
        self.bed.xenstored.read("device/vif/0/state")
    }

    fn connect(&self) {
        assert_eq!(self.settled().as_deref(), Some("1"));
        assert_eq!(self.backend_says(State::InitWait).as_deref(), Some("4"));
        assert_eq!(self.phase.get(), Phase::Published);
        self.backend_says(State::Connected);
        assert_eq!(self.phase.get(), Phase::Running);
    }
}

#[test]
fn a_device_connects_and_reconnects() {
    let scene = Scene::new();
    scene.connect();
    for _ in 0..3 {
        assert_eq!(scene.backend_says(State::Closing).as_deref(), Some("6"));
        assert_eq!(scene.phase.get(), Phase::Closed);
        assert_eq!(scene.backend_says(State::Closed).as_deref(), Some("1"));
        scene.connect();
    }
}

#[test]
fn a_device_that_is_detached_is_not_made_again() {
    let scene = Scene::new();
    scene.connect();
    scene
        .bed
        .xenstored
        .write(&alloc::format!("{}/online", scene.backend), "0");
    assert_eq!(scene.backend_says(State::Closing).as_deref(), Some("6"));
    assert_eq!(scene.backend_says(State::Closed).as_deref(), Some("6"));
    scene.bed.xenstored.remove("device/vif/0");
    scene.bed.xenstored.remove(&scene.backend);
    assert_eq!(scene.settled(), None);
    assert_eq!(scene.phase.get(), Phase::Absent);
    assert!(scene.bed.xenstored.directory("device/vif").is_empty());

    scene.bed.xenstored.add_device("vif", 0, TestBed::PEER);
    scene.connect();
}

#[test]
fn a_device_taken_away_in_use_is_not_made_again() {
    let scene = Scene::new();
    scene.connect();
    scene.bed.xenstored.remove("device/vif/0");
    assert_eq!(scene.settled(), None);
    assert_eq!(scene.phase.get(), Phase::Absent);
    assert!(scene.bed.xenstored.directory("device/vif").is_empty());
}

#[test]
fn a_backend_in_another_domain_is_followed() {
    let scene = Scene::new();
    scene.connect();
    scene.bed.xenstored.remove("device/vif/0");
    scene.bed.xenstored.remove(&scene.backend);
    scene.settled();
    let backend = scene.bed.xenstored.add_device("vif", 0, DomainId(5));
    assert!(backend.starts_with("/local/domain/5/"));
    let scene = Scene { backend, ..scene };
    scene.connect();
}

#[test]
fn a_backend_that_moves_in_place_is_followed() {
    let scene = Scene::new();
    scene.connect();
    let there = alloc::format!("/local/domain/5/backend/vif/{}/0", TestBed::GUEST);
    scene
        .bed
        .xenstored
        .write(&alloc::format!("{there}/state"), "1");
    scene
        .bed
        .xenstored
        .set_owner(&there, DomainId(5), &[TestBed::GUEST]);
    let state = alloc::format!("{there}/state");
    scene
        .bed
        .xenstored
        .set_owner(&state, DomainId(5), &[TestBed::GUEST]);
    scene.bed.xenstored.write("device/vif/0/backend-id", "5");
    scene.bed.xenstored.write("device/vif/0/backend", &there);
    let scene = Scene {
        backend: there,
        ..scene
    };
    scene.connect();
    // The old one has no say any more.
    let old = alloc::format!("/local/domain/0/backend/vif/{}/0/state", TestBed::GUEST);
    scene.bed.xenstored.write(&old, State::Closing.text());
    assert_eq!(scene.settled().as_deref(), Some("4"));
    scene.bed.executor.run_until_stalled();
    assert_eq!(
        scene.bed.xenstored.watches(),
        2,
        "the old one is not watched"
    );
}

#[test]
fn a_backend_that_goes_before_it_connected_is_waited_for() {
    let scene = Scene::new();
    scene.settled();
    for going in [State::Closing, State::Closed, State::Unknown] {
        assert_eq!(scene.backend_says(State::InitWait).as_deref(), Some("4"));
        assert_eq!(scene.phase.get(), Phase::Published);
        scene.backend_says(going);
        assert_ne!(scene.phase.get(), Phase::Published, "{going}");
    }
    scene.backend_says(State::Closed);
    scene.connect();
}

#[test]
fn a_state_is_not_written_to_a_device_that_is_gone() {
    let bed = TestBed::new();
    bed.xenstored.add_device("vif", 0, TestBed::PEER);
    // The worst case: the guest could make it again.
    bed.xenstored.set_owner("device/vif", TestBed::GUEST, &[]);
    let store = bed.store.clone();
    let server = bed.xenstored.clone();
    let written = bed.executor.block_on(async move {
        let device = Device::new(store, "device/vif/0");
        let before = device.write_state(State::Connected).await;
        server.remove("device/vif/0");
        (before, device.write_state(State::Closed).await)
    });
    assert_eq!(written, (Ok(true), Ok(false)));
    assert!(bed.xenstored.directory("device/vif").is_empty());
    assert_eq!(bed.xenstored.open_transactions(), 0);
}

#[test]
fn only_what_was_made_again_is_removed() {
    let bed = TestBed::new();
    bed.xenstored.add_device("vif", 0, TestBed::PEER);
    bed.xenstored.set_owner("device/vif", TestBed::GUEST, &[]);
    let store = bed.store.clone();
    let server = bed.xenstored.clone();
    bed.executor.block_on(async move {
        let device = Device::new(store.clone(), "device/vif/0");
        assert_eq!(device.clear_if_gone().await, Ok(()));
        assert_eq!(server.read("device/vif/0/state").as_deref(), Some("1"));
        server.remove("device/vif/0");
        assert_eq!(device.clear_if_gone().await, Ok(()), "nothing is there");
        assert_eq!(store.write(&device.node("state"), "4").await, Ok(()));
        assert_eq!(device.clear_if_gone().await, Ok(()));
        assert!(server.directory("device/vif").is_empty());
        // As libxl has it.
        server.set_owner("device/vif", TestBed::PEER, &[TestBed::GUEST]);
        assert_eq!(device.clear_if_gone().await, Ok(()));
    });
    assert_eq!(bed.xenstored.open_transactions(), 0);
}

#[test]
fn a_backend_that_dies_and_returns_is_connected_again() {
    let scene = Scene::new();
    scene.connect();
    scene
        .bed
        .xenstored
        .remove(&alloc::format!("{}/state", scene.backend));
    assert_eq!(scene.settled().as_deref(), Some("6"));
    assert_eq!(
        scene.backend_says(State::Initialising).as_deref(),
        Some("1")
    );
    scene.connect();
}

#[test]
fn states_that_are_none_are_unknown() {
    let scene = Scene::new();
    scene.connect();
    let path = alloc::format!("{}/state", scene.backend);
    for nonsense in ["", "-1", "999", "four"] {
        scene.bed.xenstored.write(&path, nonsense);
        assert_eq!(scene.settled().as_deref(), Some("6"), "{nonsense:?}");
        scene.backend_says(State::Closed);
        scene.connect();
    }
    scene.bed.xenstored.write_bytes(&path, &[0xff, 0xfe]);
    assert_eq!(scene.settled().as_deref(), Some("6"));
}

#[test]
fn nonsense_about_the_backend_is_no_device() {
    for (node, value) in [
        ("backend-id", ""),
        ("backend-id", "-1"),
        ("backend-id", "65536"),
        ("backend", ""),
        ("backend", &"/x".repeat(600)),
    ] {
        let scene = Scene::new();
        scene.connect();
        scene
            .bed
            .xenstored
            .write(&alloc::format!("device/vif/0/{node}"), value);
        // Only the path itself is watched: an id changes together with it.
        let path = scene.bed.xenstored.read("device/vif/0/backend").unwrap();
        scene.bed.xenstored.write("device/vif/0/backend", &path);
        scene.settled();
        assert_eq!(scene.phase.get(), Phase::Absent, "{node} {value:?}");
    }
}

#[test]
fn a_missing_state_is_unknown_and_a_broken_store_is_an_error() {
    let bed = TestBed::new();
    let store = bed.store.clone();
    let state = bed
        .executor
        .block_on(async move { Device::new(store, "device/none").state().await });
    assert_eq!(state, Ok(State::Unknown));
    bed.xenstored.send_watch_event(b"no NUL");
    bed.executor.run_until_stalled();
    let store = bed.store.clone();
    let state = bed
        .executor
        .block_on(async move { Device::new(store, "device/none").state().await });
    assert!(matches!(state, Err(StoreError::Broken(_))));
}
