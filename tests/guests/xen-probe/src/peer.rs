//! The other side of grants and events: a program in dom0 (peer.c) that maps a page, answers,
//! and lets go late; or sends events as fast as it can.

use alloc::format;
use alloc::string::String;
use core::future::poll_fn;
use core::time::Duration;

use xen::{Hypervisor, Machine, clock};
use xen_proto::hypervisor::{
    Access, DomainId, EventPort, GrantedPage, Hypervisor as _, SharedPage,
};
use xen_proto::xenstore::Store;

use crate::executor::sleep;
use crate::say;

const ROUNDS: u32 = 1000;

/// Word 0 is what we say, word 1 what the peer answers, word 2 that it may let go.
pub(crate) async fn meet(
    machine: &'static Machine,
    store: &Store<Hypervisor>,
) -> Result<(), String> {
    let text = |error: &dyn core::fmt::Display| format!("peer: {error}");
    let hypervisor = machine.hypervisor();
    let page = hypervisor
        .share_page(DomainId(0), Access::ReadWrite)
        .map_err(|error| text(&error))?;
    let port = hypervisor
        .allocate_port(DomainId(0))
        .map_err(|error| text(&error))?;
    for (path, value) in [
        ("data/reference", page.reference().0),
        ("data/port", port.number().0),
    ] {
        let value = format!("{value}");
        store
            .write(path, &value)
            .await
            .map_err(|error| text(&error))?;
    }
    say!("PEER WANTED");
    for round in 1..=ROUNDS {
        page.store(0, round);
        port.notify();
        while page.load(1) != round {
            poll_fn(|context| port.poll_event(context)).await;
        }
    }
    say!("{ROUNDS} answers in {} events", port.events());

    // The peer still has the page: it must stay ours and out of use.
    drop(page);
    let held = machine.statistics().quarantined;
    for _ in 0..100 {
        drop(hypervisor.share_page(DomainId(0), Access::ReadOnly));
    }
    let still_held = machine.statistics().quarantined;
    say!("in quarantine: {held}, after 100 more grants {still_held}");
    if (held, still_held) != (1, 1) {
        return Err(String::from("a mapped page was not kept in quarantine"));
    }
    store
        .write("data/release", "1")
        .await
        .map_err(|error| text(&error))?;
    for _ in 0..50 {
        sleep(Duration::from_millis(100)).await;
        if machine.statistics().quarantined == 0 {
            say!("the page came back");
            return Ok(());
        }
    }
    Err(String::from("the page did not come back"))
}

/// How long the storm is measured.
const STORM: Duration = Duration::from_secs(10);

/// The peer sends events without a pause, while we sleep 10 ms at a time.
pub(crate) async fn weather_storm(
    machine: &'static Machine,
    store: &Store<Hypervisor>,
) -> Result<(), String> {
    let text = |error: &dyn core::fmt::Display| format!("storm: {error}");
    let port = machine
        .hypervisor()
        .allocate_port(DomainId(0))
        .map_err(|error| text(&error))?;
    let number = format!("{}", port.number());
    store
        .write("data/port", &number)
        .await
        .map_err(|error| text(&error))?;
    say!("STORM WANTED");
    poll_fn(|context| port.poll_event(context)).await;
    let (start, events) = (clock::now(), port.events());
    let upcalls = machine.statistics().upcalls;
    let (mut naps, mut worst) = (0_u32, Duration::ZERO);
    while clock::now() < start + STORM {
        let nap = clock::now();
        sleep(Duration::from_millis(10)).await;
        worst = worst.max(clock::now() - nap);
        naps += 1;
    }
    say!(
        "storm: {} events noted, {} upcalls, {naps} sleeps of 10 ms, the longest {worst:?}",
        port.events() - events,
        machine.statistics().upcalls - upcalls
    );
    Ok(())
}
