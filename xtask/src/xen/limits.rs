//! How little a guest needs, and what it says when its host lets it down.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::network;

use super::guest::address;
use super::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT};

pub(super) const TESTS: &[Test] = &[
    ("an idle guest uses under 1 % of a CPU", idle),
    (
        "a backend that never connects is named, with both states",
        silent_backend,
    ),
    ("a guest without vif runs and says so", no_vif),
    ("least memory= at which http serves", least_memory),
];

fn idle(context: &Context) -> Result<()> {
    /// xl counts CPU time in tenths of a second: over this time 1 % is three of them.
    const WATCHED: Duration = Duration::from_secs(30);
    let guest = Guest::serving(context, &Wish::new("http", "http-idle", 60))?;
    // Let the boot's aftermath pass: router solicitations, the first announcements.
    sleep(Duration::from_secs(3));
    let time = || Ok::<_, anyhow::Error>(guest.listing()?.context("the guest is gone")?.time);
    let before = time()?;
    sleep(WATCHED);
    let used = time()? - before;
    let share = 100.0 * used / WATCHED.as_secs_f64();
    context.measurements.note(
        "CPU use of an idle http on Xen",
        format!("{share:.1} % ({used:.1} s in {} s)", WATCHED.as_secs()),
    );
    ensure!(
        share < 1.0,
        "{used:.1} s of CPU time in {} s are {share:.1} %",
        WATCHED.as_secs()
    );
    Ok(())
}

/// Linux's netback goes to Connected only after its hotplug script has reported success;
/// this one reports nothing.
fn silent_backend(context: &Context) -> Result<()> {
    let script = "/etc/xen/scripts/vif-silent";
    context.dom0.write(script, b"#!/bin/sh\nexit 0\n")?;
    context.sh(&format!("chmod 755 {script}"), XL_LIMIT)?;
    let wish = Wish {
        interfaces: vec![format!("bridge={},script=vif-silent", network::BRIDGE)],
        ..Wish::new("http", "http-silent", 61)
    };
    let guest = Guest::create(context, &wish)?;
    let line = guest.wait_for("backend", 2 * BOOT_LIMIT)?;
    let named = |state: &str| line.contains(state);
    let states = ["Initialising", "InitWait", "Initialised", "Connected"];
    let both = states.iter().filter(|state| named(state)).count() >= 2;
    guest.explain(if both {
        Ok(())
    } else {
        Err(anyhow::anyhow!("`{line}` does not name both states"))
    })
}

fn no_vif(context: &Context) -> Result<()> {
    let wish = Wish {
        interfaces: Vec::new(),
        append: Vec::new(),
        ..Wish::new("http", "http-no-vif", 62)
    };
    let guest = Guest::create(context, &wish)?;
    guest.wait_for("no network", BOOT_LIMIT)?;
    let listing = guest.listing()?.context("the guest is gone")?;
    ensure!(!listing.state.contains('c'), "it crashed");
    Ok(())
}

/// From small to large: a guest with too little memory dies soon, and says so or not.
fn least_memory(context: &Context) -> Result<()> {
    const SIZES_MIB: [u32; 9] = [2, 3, 4, 5, 6, 8, 10, 12, 16];
    /// Serving takes a fraction of a second; a guest that needs longer does not serve.
    const LIMIT: Duration = Duration::from_secs(10);
    let mut last = None;
    for memory_mib in SIZES_MIB {
        let wish = Wish {
            memory_mib,
            on_crash: "destroy",
            ..Wish::new("http", &format!("http-{memory_mib}-mib"), 63)
        };
        match serves(context, &wish, LIMIT) {
            Ok(()) => {
                context.measurements.note(
                    "least memory= at which http serves on Xen",
                    format!("{memory_mib} MiB"),
                );
                return Ok(());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no size was tried")?.context(format!(
        "http does not serve with {:?} MiB",
        SIZES_MIB.last()
    )))
}

fn serves(context: &Context, wish: &Wish, limit: Duration) -> Result<()> {
    let guest = Guest::create(context, wish)?;
    guest.wait_for("rekernel: ready", limit)?;
    let url = format!("http://{}/", address(63));
    guest.explain(context.sh(
        &format!("curl -sS -o /dev/null --max-time 10 -w '%{{http_code}}' {url}"),
        XL_LIMIT,
    ))?;
    guest.destroy()
}
