//! A network that is silent, for five different reasons: told apart on the console and by `inspect`.

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::monitor::dom0::Domain;
use cargo_rekernel::monitor::{self, Report};

use super::bridge::with_bridge;
use super::operator::InDom0;
use crate::xen::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT, interface};

pub(super) const TESTS: &[Test] = &[(
    "a silent network: five reasons are told apart",
    five_reasons,
)];

/// A bridge of its own: dom0 is on it, and nobody gives addresses.
const BRIDGE: &str = "quiet0";
const DOM0: &str = "10.9.0.1";

/// A guest whose network will be silent, and how that is told.
struct Case {
    name: &'static str,
    /// Its command line.
    append: &'static [&'static str],
    /// On which bridge it is, if any.
    bridge: Option<&'static str>,
    /// What is done to it before it runs.
    before: &'static str,
    /// What its console says.
    said: &'static str,
    /// The verdict of `inspect`.
    verdict: &'static str,
}

const CASES: [Case; 5] = [
    Case {
        name: "silent-no-vif",
        append: &["ip=10.9.0.10/24"],
        bridge: None,
        before: "true",
        said: "no network interface",
        verdict: "no_interface",
    },
    Case {
        name: "silent-no-backend",
        append: &["ip=10.9.0.11/24"],
        bridge: Some(BRIDGE),
        // As when its driver is not loaded.
        before: "echo vif-$id-0 > /sys/bus/xen-backend/drivers/vif/unbind",
        said: "its other end does not connect",
        verdict: "not_connected",
    },
    Case {
        name: "silent-wrong-bridge",
        append: &["ip=10.9.0.12/24", "gw=10.9.0.254"],
        bridge: Some(BRIDGE),
        before: "true",
        said: "the gateway 10.9.0.254 does not answer ARP",
        verdict: "nobody_answers",
    },
    Case {
        name: "silent-no-dhcp",
        append: &["ip=dhcp"],
        bridge: Some(BRIDGE),
        before: "true",
        said: "no DHCP server answers, though",
        verdict: "no_dhcp_answer",
    },
    Case {
        name: "silent-clash",
        append: &["ip=10.9.0.1/24"],
        bridge: Some(BRIDGE),
        before: "true",
        said: "duplicate address: 10.9.0.1",
        verdict: "address_clash",
    },
];

fn five_reasons(context: &Context) -> Result<()> {
    // Somebody who looks for a host that is not there is heard by all.
    let looks = "ping -c 120 10.9.0.77";
    with_bridge(context, BRIDGE, DOM0, looks, || all_at_once(context))
}

fn all_at_once(context: &Context) -> Result<()> {
    // All of them wait at the same time.
    let mut guests = Vec::new();
    for case in &CASES {
        let wish = Wish {
            memory_mib: 32,
            append: case.append.iter().map(|&key| key.to_owned()).collect(),
            interfaces: case.bridge.into_iter().map(interface).collect(),
            ..Wish::new("http", case.name, 0)
        };
        let guest = Guest::create_paused(context, &wish)?;
        let before = format!("id=$(xl domid {}) && {}", case.name, case.before);
        context.sh(&before, XL_LIMIT)?;
        guest.unpause()?;
        guests.push((case, guest));
    }
    for (case, guest) in &guests {
        check(context, case, guest).with_context(|| case.name)?;
    }
    Ok(())
}

fn check(context: &Context, case: &Case, guest: &Guest) -> Result<()> {
    guest.explain(guest.wait_for(case.said, BOOT_LIMIT))?;
    let mut domain = Domain::new(InDom0(context), &guest.name)?;
    let report = guest.explain(monitor::ask(&mut domain, "inspect"))?;
    let report = Report::parse(&report);
    let subject = match case.bridge {
        Some(_) => "vif0 diagnosis",
        None => "diagnosis",
    };
    let verdict = report.field("network", subject, "verdict");
    ensure!(
        verdict == Some(case.verdict),
        "the verdict is {verdict:?}, not {}",
        case.verdict
    );
    // Said once, and nothing else is said to be wrong.
    let console = guest.console();
    for other in &CASES {
        let count = console.matches(other.said).count();
        ensure!(
            count == usize::from(other.name == case.name),
            "the console says `{}` {count} times",
            other.said
        );
    }
    Ok(())
}
