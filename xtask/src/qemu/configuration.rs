//! The guest's command line and network, right and wrong.

use std::time::Duration;

use anyhow::{Result, ensure};
use cargo_rekernel::qemu::{Configuration, Link};

use super::{BOOT_LIMIT, Context, Test};
use crate::http;

pub(super) const TESTS: &[Test] = &[
    ("command line: a static address is used", static_address),
    (
        "command line: wrong keys are named, the rest is honoured",
        wrong_keys,
    ),
    ("no network device: runs and says so", no_network),
    ("DHCP without answer: says so and keeps trying", silent_dhcp),
];

const REQUEST_LIMIT: Duration = Duration::from_secs(30);

fn static_address(context: &Context) -> Result<()> {
    let (mut boot, port) = context.boot_with_port("http", 80, |guest| {
        guest.append = words("ip=10.0.2.15/24 gw=10.0.2.2 dns=10.0.2.3");
    })?;
    let place = boot.wait_until_ready(BOOT_LIMIT)?;
    ensure!(place.contains("10.0.2.15"), "it serves at {place}");
    let page = http::get(port, "/", REQUEST_LIMIT);
    ensure!(boot.explain(page)?.status == 200, "GET / failed");
    Ok(())
}

/// The wrong keys stand first, so that a parser that gives up at them loses the address.
fn wrong_keys(context: &Context) -> Result<()> {
    let (mut boot, port) = context.boot_with_port("http", 80, |guest| {
        guest.append = words("colour=blue gw=10.0.2.999 log=loud ip=10.0.2.15/24");
    })?;
    boot.wait_until_ready(BOOT_LIMIT)?;
    for (key, value) in [("colour", "blue"), ("gw", "10.0.2.999"), ("log", "loud")] {
        boot.must_have_line_with(&[key, value])?;
    }
    let page = http::get(port, "/", REQUEST_LIMIT);
    ensure!(boot.explain(page)?.status == 200, "GET / failed");
    Ok(())
}

fn no_network(context: &Context) -> Result<()> {
    let mut boot = context.boot(&context.configuration("http")?)?;
    boot.wait_for("no network", BOOT_LIMIT)?;
    Ok(())
}

fn silent_dhcp(context: &Context) -> Result<()> {
    let configuration = Configuration {
        link: Link::Silent,
        ..context.configuration("http")?
    };
    let mut boot = context.boot(&configuration)?;
    boot.wait_for("DHCP", BOOT_LIMIT)?;
    // A second complaint shows that it still tries.
    boot.wait_for("DHCP", BOOT_LIMIT)?;
    Ok(())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
