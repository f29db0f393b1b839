//! The checks that need nobody's help.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use xen::{Hypervisor, Machine, clock};
use xen_proto::hypervisor::{
    Access, DomainId, EventPort, GrantedPage, Hypervisor as _, SharedPage,
};
use xen_proto::xenstore::Store;

use crate::executor::sleep;
use crate::say;

pub(crate) async fn all(
    machine: &'static Machine,
    store: &Store<Hypervisor>,
) -> Result<(), String> {
    identity(machine, store).await?;
    grants(machine)?;
    events(machine).await?;
    clocks()?;
    timer(machine).await
}

async fn identity(machine: &Machine, store: &Store<Hypervisor>) -> Result<(), String> {
    let vendor = core::arch::x86_64::__cpuid(0);
    let vendor = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    say!("Xen {}, {:?}", machine.version(), machine.features());
    say!(
        "processor by {}, {:?}",
        vendor.as_flattened().escape_ascii(),
        machine.detected()
    );
    let name = read(store, "name").await?;
    let domain = read(store, "domid").await?;
    let memory = read(store, "memory/target").await?;
    say!("this is {name}, domain {domain}, {memory} KiB");
    match machine.domain() {
        Some(DomainId(number)) if format!("{number}") != domain => Err(format!(
            "cpuid says domain {number}, xenstore says {domain}"
        )),
        _ => Ok(()),
    }
}

async fn read(store: &Store<Hypervisor>, path: &str) -> Result<String, String> {
    store.read(path).await.map_err(|error| format!("{error}"))
}

/// Grants enough pages for the table to grow, and ends them all.
fn grants(machine: &'static Machine) -> Result<(), String> {
    let hypervisor = machine.hypervisor();
    let before = machine.statistics();
    let mut pages = Vec::new();
    for number in 0..700_u32 {
        let page = hypervisor
            .share_page(DomainId(0), Access::ReadWrite)
            .map_err(|error| format!("share_page {number}: {error}"))?;
        if page.load(number as usize) != 0 {
            return Err(format!("page {number} was not zeroed"));
        }
        page.store(number as usize, number);
        page.write(4000, &[0xee; 96]);
        pages.push(page);
    }
    let mut bytes = [0; 4];
    pages[699].read(699 * 4, &mut bytes);
    let last = pages[699].reference();
    if u32::from_le_bytes(bytes) != 699 {
        return Err(format!("page of grant {last} holds {bytes:?}"));
    }
    drop(pages);
    let after = machine.statistics();
    say!("700 pages granted, the last as {last}; {after:?}");
    if after.quarantined != 0 || after.pages_free + 1 != before.pages_free {
        return Err(format!("grants: {before:?} became {after:?}"));
    }
    Ok(())
}

/// Ports can be had again and again: closing them works.
async fn events(machine: &'static Machine) -> Result<(), String> {
    let hypervisor = machine.hypervisor();
    let mut highest = 0;
    for _ in 0..5000 {
        let port = hypervisor
            .allocate_port(DomainId(0))
            .map_err(|error| format!("allocate_port: {error}"))?;
        highest = highest.max(port.number().0);
        port.notify();
    }
    say!("5000 ports allocated and closed, the highest {highest}");
    Ok(())
}

fn clocks() -> Result<(), String> {
    let start = clock::now();
    let mut latest = start;
    let mut reads = 0_u32;
    while latest < start + Duration::from_millis(100) {
        let now = clock::now();
        if now < latest {
            return Err(format!("time went from {latest:?} to {now:?}"));
        }
        latest = now;
        reads += 1;
    }
    let wall = clock::wall_clock().ok_or("no wall clock")?;
    say!("up {start:?}, {wall:?} since 1970, {reads} reads in 100 ms");
    // 2020.
    if wall < Duration::from_secs(1_577_836_800) {
        return Err(format!("wall clock says {wall:?}"));
    }
    Ok(())
}

/// 100 sleeps of 10 ms each, none too short.
async fn timer(machine: &Machine) -> Result<(), String> {
    const SLEEP: Duration = Duration::from_millis(10);
    let upcalls = machine.statistics().upcalls;
    let (mut worst, mut total) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..100 {
        let start = clock::now();
        sleep(SLEEP).await;
        let late = (clock::now() - start)
            .checked_sub(SLEEP)
            .ok_or("a sleep was too short")?;
        worst = worst.max(late);
        total += late;
    }
    let upcalls = machine.statistics().upcalls - upcalls;
    say!(
        "100 sleeps of {SLEEP:?}: late by {:?} on average, {worst:?} at worst, {upcalls} upcalls",
        total / 100
    );
    Ok(())
}
