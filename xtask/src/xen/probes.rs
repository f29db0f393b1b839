//! Guests that examine what they run on, or are told to misbehave.

use anyhow::{Result, ensure};

use super::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT};

pub(super) const TESTS: &[Test] = &[
    (
        "xen-probe: every part of the hypervisor's interface",
        every_part,
    ),
    ("xen-probe: 1 MiB of console output", console_flood),
    ("boot-probe on Xen, and three attacks", boot_probe),
    (
        "memory-probe: pages are backed at first touch",
        memory_probe,
    ),
];

/// The lab's QEMU tells guests of guests the address of a fault; where one does not, this fails.
fn memory_probe(context: &Context) -> Result<()> {
    let guest = Guest::create(context, &Wish::new("memory-probe", "memory-probe", 53))?;
    guest.wait_for("PROBE OK", BOOT_LIMIT)?;
    guest.wait_until("the end of memory-probe", XL_LIMIT, |listing| {
        listing.is_none()
    })
}

fn every_part(context: &Context) -> Result<()> {
    let guest = Guest::create(context, &probe("xen-probe", "xen-probe", ""))?;
    guest.explain(guest.wait_for("PROBE OK", BOOT_LIMIT))?;
    guest.wait_until("the probe's end", XL_LIMIT, |listing| listing.is_none())
}

fn console_flood(context: &Context) -> Result<()> {
    let guest = Guest::create(context, &probe("xen-probe", "xen-flood", "flood"))?;
    guest.explain(guest.wait_for("PROBE OK", BOOT_LIMIT))?;
    guest.wait_until("the probe's end", XL_LIMIT, |listing| listing.is_none())
}

/// The boot code has no driver for Xen's console: its words are on the hypervisor's own.
fn boot_probe(context: &Context) -> Result<()> {
    let words = [
        ("", "PROBE OK"),
        ("write-text", "write to the program's code"),
        ("null", "null pointer (address 0x0)"),
        (
            "stack-overflow",
            "stack overflow: guard page of the boot stack",
        ),
    ];
    for (attack, expected) in words {
        let name = format!("boot-probe-{attack}");
        let before = context.dom0.serial_console().len();
        let guest = Guest::create(context, &probe("boot-probe", &name, attack))?;
        guest.wait_until("the probe's end", XL_LIMIT, |listing| {
            // A guest that stops for good may stay in the list as shut down.
            listing.is_none_or(|listing| listing.state.contains('s'))
        })?;
        let console = context.dom0.serial_console();
        let said = console.get(before..).unwrap_or_default();
        ensure!(
            said.contains(expected),
            "`{attack}`: Xen's console lacks `{expected}`: {said}"
        );
        ensure!(
            !said.contains("ATTACK SURVIVED"),
            "`{attack}` survived: {said}"
        );
    }
    Ok(())
}

/// A test guest without network that is told by one word what to do.
fn probe(program: &'static str, name: &str, word: &str) -> Wish {
    let append = if word.is_empty() {
        Vec::new()
    } else {
        vec![word.to_owned()]
    };
    Wish {
        append,
        interfaces: Vec::new(),
        ..Wish::new(program, name, 0)
    }
}
