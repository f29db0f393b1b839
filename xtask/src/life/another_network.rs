//! A guest that is moved to another network, where other addresses are given away.

use anyhow::{Context as _, Result, ensure};
use lab::network;

use super::bridge::with_bridge;
use super::devices::functions;
use crate::xen::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT, attach_arguments, interface};

pub(super) const TESTS: &[Test] = &[(
    "a vif moves to another network and back: DHCP gives other addresses",
    there_and_back,
)];

/// A bridge of its own, with a DHCP server of its own that has one address to give.
const BRIDGE: &str = "other0";
const DOM0: &str = "10.8.0.1";
const ADDRESS: &str = "10.8.0.50";

/// The guest's, wherever it is.
const MAC: &str = "00:16:3e:77:02:01";

fn there_and_back(context: &Context) -> Result<()> {
    let file = "/guests/udhcpd";
    let configuration = format!(
        "start {ADDRESS}\nend {ADDRESS}\ninterface {BRIDGE}\noption subnet 255.255.255.0\nlease_file /guests/leases\n"
    );
    context.dom0.write(file, configuration.as_bytes())?;
    let server = format!("udhcpd -f {file}");
    with_bridge(context, BRIDGE, DOM0, &server, || moved(context))
}

fn moved(context: &Context) -> Result<()> {
    let wish = Wish {
        append: vec!["ip=dhcp".to_owned()],
        interfaces: vec![format!("{},mac={MAC}", interface(network::BRIDGE))],
        ..Wish::new("http", "life-moved", 0)
    };
    let guest = Guest::serving(context, &wish)?;
    let said = guest.wait_for("DHCP lease of ", BOOT_LIMIT)?;
    let home = said
        .split_once("DHCP lease of ")
        .and_then(|(_, lease)| lease.split_once('/'))
        .map(|(address, _)| address.to_owned())
        .with_context(|| format!("the guest said `{said}`"))?;
    move_to(context, &guest, BRIDGE, ADDRESS)?;
    gave_up(&guest, &home)?;
    // The lab's own server knows the guest by its Ethernet address.
    move_to(context, &guest, network::BRIDGE, &home)?;
    gave_up(&guest, ADDRESS)
}

/// The guest is attached to another bridge, and serves at this address there.
fn move_to(context: &Context, guest: &Guest, bridge: &str, address: &str) -> Result<()> {
    let script = functions(guest, address)
        + &format!(
            "xl network-detach $name 0 || fail 'detach'
             xl network-attach $name {interface} mac={MAC} || fail 'attach to {bridge}'
             serves 60 || fail \"no answer at $peer on {bridge}\"",
            interface = attach_arguments(&interface(bridge))
        );
    guest.explain(context.sh(&script, 2 * XL_LIMIT)).map(drop)
}

/// An address of the network before is none of the guest's any more.
fn gave_up(guest: &Guest, address: &str) -> Result<()> {
    let console = guest.console();
    let is_gone = console
        .lines()
        .any(|line| line.contains(&format!("address {address}/")) && line.ends_with("is gone"));
    ensure!(
        is_gone,
        "the guest did not give {address} up; its console: {console}"
    );
    Ok(())
}
