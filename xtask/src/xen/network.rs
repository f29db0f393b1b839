//! What the network can do on Xen beyond HTTP over one interface.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::network;

use super::guest::address;
use super::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT};
use crate::guests::workspace;

pub(super) const TESTS: &[Test] = &[
    ("echo: TCP and UDP", echo),
    ("ping and HTTP over IPv6", ipv6),
    ("two interfaces, one with vif ip=", two_interfaces),
    ("the examples' own rekernel.cfg", shipped_configurations),
];

fn echo(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("echo", "echo-both", 70))?;
    for protocol in ["tcp", "udp"] {
        let script = format!(
            "exec 3<>/dev/{protocol}/{}/7; printf 'over {protocol}' >&3; timeout 10 head -c 8 <&3",
            address(70)
        );
        let answer = guest.explain(context.sh(&script, XL_LIMIT))?;
        ensure!(
            answer == format!("over {protocol}"),
            "echo over {protocol} answered `{answer}`"
        );
    }
    Ok(())
}

/// Over the link-local addresses, which need no router and no configuration.
fn ipv6(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "http-ipv6", 71))?;
    let console = guest.console();
    let own = link_local(&console)?;
    let bridge = network::BRIDGE;
    let script = format!(
        "ping -6 -c 3 -W 5 {own}%{bridge} && \
         curl -sS -g --max-time 20 -o /dev/null -w '%{{http_code}}' 'http://[{own}%25{bridge}]/'"
    );
    let printed = guest.explain(context.sh(&script, XL_LIMIT))?;
    ensure!(printed.ends_with("200"), "ping and curl printed {printed}");
    Ok(())
}

/// The link-local address that a guest printed.
pub(super) fn link_local(console: &str) -> Result<&str> {
    console
        .lines()
        .find(|line| line.contains("(link-local)"))
        .and_then(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with("fe80:"))
        })
        .and_then(|prefix| prefix.split('/').next())
        .with_context(|| format!("no link-local address on the console: {console}"))
}

/// The first interface takes the address that xl was given, the second that of the command line.
fn two_interfaces(context: &Context) -> Result<()> {
    let (first, second) = (address(72), address(73));
    let bridge = network::BRIDGE;
    let wish = Wish {
        append: vec![format!("net1.ip={second}/{}", network::PREFIX_LENGTH)],
        interfaces: vec![
            format!("bridge={bridge},ip={first}"),
            format!("bridge={bridge}"),
        ],
        ..Wish::new("http", "http-two-vifs", 72)
    };
    let guest = Guest::serving(context, &wish)?;
    for own in [&first, &second] {
        let url = format!("http://{own}/");
        let page = context.sh(
            &format!("curl -sS --max-time 20 --retry 5 --retry-connrefused {url}"),
            XL_LIMIT,
        );
        let page = guest.explain(page)?;
        ensure!(
            page.contains(&first) && page.contains(&second),
            "{url} does not name both addresses: {page}"
        );
    }
    Ok(())
}

/// As a user would: `xl create rekernel.cfg`, with nothing changed but where the kernel lies.
fn shipped_configurations(context: &Context) -> Result<()> {
    for (example, said) in [
        ("hello", "hello from Xen"),
        ("echo", "rekernel: ready"),
        ("http", "rekernel: ready"),
    ] {
        let path = workspace()
            .join("examples")
            .join(example)
            .join("rekernel.cfg");
        let shipped = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let kernel = format!("\"target/rekernel/{example}\"");
        if !shipped.contains(&kernel) {
            bail!("{} does not name {kernel}", path.display());
        }
        // Puts the kernel into dom0; the configuration written beside it is not used.
        Guest::put_files(context, &Wish::new(example, example, 0))?;
        let text = shipped.replace(&kernel, &format!("\"/guests/{example}\""));
        let file = format!("/guests/{example}-shipped.cfg");
        context.dom0.write(&file, text.as_bytes())?;
        let guest = Guest::adopt(context, example);
        guest.explain(context.sh(&format!("xl create -q {file}"), XL_LIMIT))?;
        guest.explain(guest.wait_for(said, BOOT_LIMIT))?;
        drop(guest);
        // The next one's backend may only come when this one's is gone.
        context.sh("sleep 1", Duration::from_secs(10))?;
    }
    Ok(())
}
