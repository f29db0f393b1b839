//! virtio-net's offloads: QEMU with a tap device, whose other side is this machine's Linux in a
//! namespace, which leaves frames unsegmented and checksums incomplete where the guest takes that.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::qemu::{Configuration, Machine, Qemu};

use super::{BOOT_LIMIT, Boot, Context, Test};
use crate::namespace::Namespace;

pub(super) const TESTS: &[Test] = &[
    (
        "offload on pc: long frames both ways, IPv4 and IPv6",
        |context| offloaded(context, Machine::Pc),
    ),
    (
        "offload on q35: long frames both ways, IPv4 and IPv6",
        |context| offloaded(context, Machine::Q35),
    ),
    (
        "offload on microvm: long frames both ways, IPv4 and IPv6",
        |context| offloaded(context, Machine::Microvm),
    ),
    ("offload: each feature switched off", switched_off),
    ("offload: MTU 9000 told by the device", large_mtu),
];

/// Why the tests cannot run here, if they cannot.
pub(super) fn obstacle() -> Option<String> {
    let error = Namespace::new(&setup(1500)).err()?;
    Some(format!(
        "needs network and user namespaces, `ip` (package iproute2) and /dev/net/tun: {error:#}"
    ))
}

/// A tap device that carries QEMU's headers, with this side's addresses.
fn setup(mtu: u32) -> String {
    format!(
        "ip tuntap add dev tap0 mode tap vnet_hdr
        ip link set tap0 mtu {mtu} up
        ip address add 10.9.0.1/24 dev tap0
        ip address add fd09::1/64 dev tap0 nodad"
    )
}

/// The guest's addresses.
const GUEST: [&str; 2] = ["10.9.0.2:80", "[fd09::2]:80"];

/// Bytes transferred each way, for each address.
const BYTES: usize = 8 << 20;

/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;

/// The frames of a transfer by their mean length, in which acknowledgements count too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frames {
    /// Longer than the MTU allows: unsegmented.
    Long,
    /// No longer than the MTU allows.
    Short,
}

use Frames::{Long, Short};

fn offloaded(context: &Context, machine: Machine) -> Result<()> {
    let means = transfer(context, machine, "", 1500, [Long, Long])?;
    for (version, [sent, received]) in ["IPv4", "IPv6"].iter().zip(means) {
        let name = machine.name();
        context.measurements.note(
            &format!("mean frame on {name} over {version}, tap device"),
            format!("{sent} bytes sent, {received} received"),
        );
    }
    Ok(())
}

/// Features that are switched off, and the frames that the guest sends and receives then.
const VARIANTS: &[(&str, [Frames; 2])] = &[
    // Segments cannot be made without their checksums, which is why one goes with the other.
    (",csum=off", [Short, Long]),
    (",guest_csum=off", [Long, Short]),
    (",host_tso4=off,host_tso6=off", [Short, Long]),
    (",guest_tso4=off,guest_tso6=off", [Long, Short]),
    (",mrg_rxbuf=off", [Long, Short]),
    (",event_idx=off", [Long, Long]),
    (
        ",csum=off,guest_csum=off,host_tso4=off,host_tso6=off,guest_tso4=off,guest_tso6=off,\
         mrg_rxbuf=off,event_idx=off",
        [Short, Short],
    ),
];

fn switched_off(context: &Context) -> Result<()> {
    for (options, expected) in VARIANTS {
        transfer(context, Machine::Q35, options, 1500, *expected)
            .with_context(|| options.trim_start_matches(',').to_owned())?;
    }
    Ok(())
}

fn large_mtu(context: &Context) -> Result<()> {
    const MTU: u64 = 9000;
    let unsegmented = ",host_tso4=off,host_tso6=off,guest_tso4=off,guest_tso6=off";
    let options = format!(",host_mtu={MTU}{unsegmented}");
    let means = transfer_any(context, Machine::Q35, &options, MTU as u32)?;
    for mean in means.as_flattened() {
        ensure!(
            (3000..=MTU + ETHERNET).contains(mean),
            "frames of {mean} bytes on average with an MTU of {MTU}"
        );
    }
    transfer(
        context,
        Machine::Q35,
        &format!(",host_mtu={MTU}"),
        MTU as u32,
        [Long, Long],
    )?;
    Ok(())
}

/// Transfers over both IP versions; for each, the mean length of the frames that the guest sent
/// and received, which must be as `expected`.
fn transfer(
    context: &Context,
    machine: Machine,
    options: &str,
    mtu: u32,
    expected: [Frames; 2],
) -> Result<[[u64; 2]; 2]> {
    let means = transfer_any(context, machine, options, mtu)?;
    for (guest, means) in GUEST.iter().zip(means) {
        for ((what, mean), expected) in ["sent", "received"].iter().zip(means).zip(expected) {
            let found = match mean <= u64::from(mtu) + ETHERNET {
                true => Short,
                false => Long,
            };
            ensure!(
                found == expected,
                "{guest}: frames {what} of {mean} bytes on average, expected are {expected:?} ones"
            );
        }
    }
    Ok(means)
}

fn transfer_any(
    context: &Context,
    machine: Machine,
    options: &str,
    mtu: u32,
) -> Result<[[u64; 2]; 2]> {
    let namespace = Namespace::new(&setup(mtu))?;
    let device = match machine {
        Machine::Pc | Machine::Q35 => "virtio-net-pci,romfile=,netdev=tap",
        Machine::Microvm => "virtio-net-device,netdev=tap",
    };
    let extra = [
        "-netdev",
        "tap,id=tap,ifname=tap0,script=no,downscript=no,vnet_hdr=on",
        "-device",
        &format!("{device}{options}"),
    ];
    let configuration = Configuration {
        machine,
        append: [
            "ip=10.9.0.2/24",
            "gw=10.9.0.1",
            "ip6=fd09::2/64",
            "log=debug",
        ]
        .map(str::to_owned)
        .to_vec(),
        extra: extra.map(str::to_owned).to_vec(),
        ..context.configuration("http")?
    };
    let qemu = Qemu {
        program: namespace.wrapper(&context.qemu.program)?,
        ..context.qemu.clone()
    };
    let mut boot = Boot::start(&qemu, &configuration)?;
    boot.wait_until_ready(BOOT_LIMIT)?;
    let mut means = [[0; 2]; 2];
    for (guest, means) in GUEST.iter().zip(&mut means) {
        *means = boot.explain(client(&namespace, guest.parse()?))?;
    }
    Ok(means)
}

/// Runs the transfers in the namespace.
fn client(namespace: &Namespace, guest: SocketAddr) -> Result<[u64; 2]> {
    let program = std::env::current_exe().context("this program's own name")?;
    let output = namespace
        .command(&program)
        .args(["transfer", &guest.to_string(), &BYTES.to_string(), "tap0"])
        .output()
        .context("`nsenter` (package util-linux) could not be started")?;
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{guest}: {}", errors.trim());
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map_while(|n| n.parse().ok())
        .collect();
    <[u64; 2]>::try_from(numbers).map_err(|_| anyhow::anyhow!("{guest}: `{}`", text.trim()))
}
