//! Ends and beginnings: asked to end, to start again, crashing, created over and over.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::xen::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT, address};

pub(super) const TESTS: &[Test] = &[
    ("hello: ends by itself", ends_by_itself),
    ("xl shutdown -w is obeyed", shutdown),
    ("xl reboot is obeyed", reboot),
    ("crashes are told to Xen, with a report", crashes),
    ("cycles of create and destroy leave nothing behind", cycles),
];

fn ends_by_itself(context: &Context) -> Result<()> {
    let guest = Guest::create(context, &Wish::new("hello", "hello", 50))?;
    guest.wait_for("hello from Xen", BOOT_LIMIT)?;
    guest.wait_until("the end of hello", XL_LIMIT, |listing| listing.is_none())
}

fn shutdown(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "http-shutdown", 51))?;
    for feature in ["poweroff", "reboot"] {
        let path = format!(
            "/local/domain/$(xl domid {})/control/feature-{feature}",
            guest.name
        );
        let offered = guest.explain(context.sh(&format!("xenstore-read {path}"), XL_LIMIT))?;
        ensure!(offered.trim() == "1", "{path} is `{}`", offered.trim());
    }
    guest.explain(context.sh(&format!("xl shutdown -w {}", guest.name), XL_LIMIT))?;
    guest.wait_for("rekernel: poweroff", Duration::from_secs(5))?;
    guest.wait_until("the end after xl shutdown", XL_LIMIT, |listing| {
        listing.is_none()
    })
}

fn reboot(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "http-reboot", 52))?;
    let before = guest.listing()?.map(|listing| listing.id);
    guest.explain(context.sh(&format!("xl reboot {}", guest.name), XL_LIMIT))?;
    guest.wait_until("a new domain of the same name", XL_LIMIT, |listing| {
        listing.is_some_and(|listing| Some(listing.id) != before)
    })?;
    let page = format!(
        "for try in $(seq 30); do curl -sS --max-time 5 http://{}/ && exit 0; sleep 1; done; exit 1",
        address(52)
    );
    guest.explain(context.sh(&page, 2 * BOOT_LIMIT))?;
    Ok(())
}

fn crashes(context: &Context) -> Result<()> {
    for (how, message) in [
        ("panic", "the panic asked for"),
        ("fault", "page fault"),
        ("overflow", "stack overflow"),
        ("exhaust", "heap"),
    ] {
        let wish = Wish {
            append: vec![format!("do={how}")],
            interfaces: Vec::new(),
            ..Wish::new("misbehave", &format!("misbehave-{how}"), 53)
        };
        let guest = Guest::create(context, &wish)?;
        guest.explain(guest.wait_for(message, BOOT_LIMIT))?;
        guest.explain(guest.wait_for(" #0 0x", XL_LIMIT))?;
        // `c` in the state column: Xen was told that this is a crash, and xl preserved it.
        guest.wait_until("the crash in xl's list", XL_LIMIT, |listing| {
            listing.is_some_and(|listing| listing.state.contains('c'))
        })?;
    }
    Ok(())
}

/// Everything a guest takes from its host must come back: memory, interfaces, xenstore nodes.
fn cycles(context: &Context) -> Result<()> {
    let cycles = context.extent.pick(5, 20);
    let mut before = String::new();
    for cycle in 0..cycles {
        let guest = Guest::serving(
            context,
            &Wish::new("http", &format!("http-cycle-{cycle}"), 54),
        )?;
        guest.explain(context.sh(
            &format!(
                "curl -sS -o /dev/null --max-time 20 http://{}/",
                address(54)
            ),
            XL_LIMIT,
        ))?;
        guest.destroy()?;
        if cycle == 0 {
            before = left_behind(context)?;
        }
    }
    let after = left_behind(context)?;
    ensure!(
        before == after,
        "left after the first cycle:\n{before}and after {cycles}:\n{after}"
    );
    Ok(())
}

/// What the host has when guests are gone; the first cycle may warm caches up, later ones
/// must change nothing.
fn left_behind(context: &Context) -> Result<String> {
    let script = "for try in $(seq 20); do
           vifs=$(ls /sys/class/net | grep -c '^vif'); [ \"$vifs\" = 0 ] && break; sleep 0.5
         done
         echo \"interfaces $vifs\"
         echo \"domains $(xl list | tail -n +2 | wc -l)\"
         echo \"free MiB $(xl info free_memory)\"
         echo \"xenstore domains $(xenstore-list /local/domain | wc -l)\"
         echo \"backends $(xenstore-list /local/domain/0/backend/vif 2>/dev/null | wc -l)\"";
    context.sh(script, XL_LIMIT)
}
