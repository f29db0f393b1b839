//! Every byte arrives, whatever the network between dom0 and the guest is asked to do: with the
//! backend's offloads and without, in frames of 1500 and of 9000 bytes, over IPv4 and IPv6, over
//! several connections at once, and when packets are lost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::progress::status;
use lab::network;

use super::guest::address;
use super::{Context, Guest, Test, Wish, XL_LIMIT};

pub(super) const TESTS: &[Test] = &[
    (
        "echo: equal SHA-256, MTU 1500, offloads on and off",
        usual_frames,
    ),
    (
        "echo: equal SHA-256, MTU 9000, offloads on and off",
        jumbo_frames,
    ),
    ("echo: equal SHA-256 through 1 % loss each way", lossy),
];

/// Connections at once.
const STREAMS: u64 = 4;

/// dom0's address for IPv6, a unique local one (RFC 4193).
const DOM0_IPV6: &str = "fd00:2::1";

/// The offloads of a virtual interface that Linux can switch.
const OFFLOADS: &[&str] = &["tx", "sg", "tso", "gso", "gro"];

fn usual_frames(context: &Context) -> Result<()> {
    all_ways(context, 1500, 75)
}

fn jumbo_frames(context: &Context) -> Result<()> {
    let outcome = all_ways(context, 9000, 76);
    context.sh(
        &format!("ip link set {} mtu 1500", network::BRIDGE),
        XL_LIMIT,
    )?;
    outcome
}

/// Offloads on, then off; each over IPv4 and IPv6.
fn all_ways(context: &Context, mtu: u32, last: u8) -> Result<()> {
    let bridge = network::BRIDGE;
    // Xen's hotplug script gives a new interface the MTU of its bridge, and tells the guest.
    let prepare = format!(
        "ip link set {bridge} mtu {mtu} && ip -6 addr replace {DOM0_IPV6}/64 dev {bridge} nodad"
    );
    context.sh(&prepare, XL_LIMIT)?;
    let guest = echo_guest(context, &format!("integrity-{mtu}"), last)?;
    let interface = interface_of(context, &guest)?;
    let found = context.sh(&format!("cat /sys/class/net/{interface}/mtu"), XL_LIMIT)?;
    ensure!(
        found.trim() == mtu.to_string(),
        "{interface} has an MTU of {}, not {mtu}",
        found.trim()
    );
    for offloads in ["on", "off"] {
        let settings: Vec<_> = OFFLOADS
            .iter()
            .map(|name| format!("{name} {offloads}"))
            .collect();
        let command = format!("ethtool -K {interface} {}", settings.join(" "));
        guest.explain(context.sh(&command, XL_LIMIT))?;
        for peer in [address(last), address_ipv6(last)] {
            let what = format!("MTU {mtu}, offloads {offloads}, {peer}");
            echo_equally(context, &guest, "", &peer, &what)?;
        }
    }
    Ok(())
}

/// The client sits in a network of its own behind a link that loses packets in both directions.
fn lossy(context: &Context) -> Result<()> {
    let guest = echo_guest(context, "integrity-loss", 77)?;
    let (bridge, far) = (network::BRIDGE, address(78));
    let prefix = network::PREFIX_LENGTH;
    let prepare = format!(
        "set -e
         ip netns add far
         ip link add near0 type veth peer name far0
         ip link set far0 netns far
         ip link set near0 master {bridge} up
         ip netns exec far ip addr add {far}/{prefix} dev far0
         ip netns exec far ip link set far0 up
         tc qdisc add dev near0 root netem loss 1%
         ip netns exec far tc qdisc add dev far0 root netem loss 1%"
    );
    let outcome = context.sh(&prepare, XL_LIMIT).and_then(|_| {
        echo_equally(
            context,
            &guest,
            "ip netns exec far",
            &address(77),
            "1 % loss",
        )
    });
    context.sh("ip link del near0; ip netns del far", XL_LIMIT)?;
    outcome
}

fn address_ipv6(last: u8) -> String {
    format!("fd00:2::{last}")
}

fn echo_guest<'a>(context: &'a Context<'a>, name: &str, last: u8) -> Result<Guest<'a>> {
    let mut wish = Wish::new("echo", name, last);
    wish.interfaces = vec![format!("bridge={}", network::BRIDGE)];
    wish.append.push(format!("ip6={}/64", address_ipv6(last)));
    Guest::serving(context, &wish)
}

/// The guest's interface as dom0 calls it.
fn interface_of(context: &Context, guest: &Guest) -> Result<String> {
    let domain = guest.listing()?.context("the guest is gone")?.id;
    ensure!(
        context
            .dom0
            .run(&format!("test -e /sys/class/net/vif{domain}.0"), XL_LIMIT)?
            .success()
    );
    Ok(format!("vif{domain}.0"))
}

/// Sends a different stream over each of several connections to the echo service, and compares
/// the hash of what was sent with the hash of what came back.
fn echo_equally(
    context: &Context,
    guest: &Guest,
    within: &str,
    peer: &str,
    what: &str,
) -> Result<()> {
    let mebibytes = context.extent.integrity_mebibytes() / STREAMS;
    // Blocks are random and repeated: dom0 makes random numbers slower than it sends them.
    let script = format!(
        "cd /tmp; mkdir -p integrity; cd integrity
         trap 'rm -rf /tmp/integrity' EXIT
         cat > one <<'END'
           stream=$1
           head -c 1048576 /dev/urandom > block$stream
           data() {{ for copy in $(seq {mebibytes}); do cat block$stream; done; }}
           exec 3<>/dev/tcp/{peer}/7 || exit
           data >&3 &
           received=$(head -c $(({mebibytes} << 20)) <&3 | sha256sum)
           sent=$(data | sha256sum)
           [ \"$received\" = \"$sent\" ] && echo equal || echo \"stream $stream: sent $sent, received $received\"
END
         for stream in $(seq {STREAMS}); do {within} bash one $stream & done; wait"
    );
    let started = Instant::now();
    // Far more than it takes: a stream that has stopped is what is looked for.
    let limit = Duration::from_secs(120) + Duration::from_secs(4) * (mebibytes * STREAMS) as u32;
    let printed = guest.explain(context.sh(&script, limit))?;
    let equal = printed.lines().filter(|line| *line == "equal").count() as u64;
    guest.explain(match equal {
        STREAMS => Ok(()),
        _ => Err(anyhow::anyhow!(
            "{what}: {equal} of {STREAMS} streams of {mebibytes} MiB came back as they were sent: {printed}"
        )),
    })?;
    let seconds = started.elapsed().as_secs();
    status(
        "Equal",
        &format!("{what}: {STREAMS} x {mebibytes} MiB in {seconds} s"),
    );
    Ok(())
}
