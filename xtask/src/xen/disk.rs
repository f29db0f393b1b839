//! Guests that boot from a disk image, made by the CLI as a user types it.

use anyhow::{Result, ensure};
use lab::network;

use super::guest::address;
use super::{BOOT_LIMIT, Context, Guest, Test, XL_LIMIT};
use crate::command::Cli;

pub(super) const TESTS: &[Test] = &[
    (
        "HVM: a disk image and its xl file boot with BIOS, unplug the emulated network card, serve",
        hvm,
    ),
    (
        "pvgrub: a PVH guest starts GRUB, which boots the disk image",
        pvgrub,
    ),
];

/// QEMU's e1000, as PCI names it.
const CARD: &str = "8086:100e";

/// Where the file for xl expects the image.
const IMAGE: &str = "/var/lib/xen/images/http.raw";

/// The file for xl that was made with the image.
const CONFIGURATION: &str = "/guests/http.cfg";

/// GRUB for PVH guests, one of the files that dom0 is given for guests that boot from disks.
const PVGRUB: &str = "/usr/lib/grub-xen/grub-i386-xen_pvh.bin";

/// The last number of the address in the image. One guest at a time has it.
const LAST: u8 = 60;

fn hvm(context: &Context) -> Result<()> {
    // The disk is one that the firmware reads by DMA: for each two bytes of the other kind dom0 has
    // to be asked, which takes minutes in emulation.
    // Nor has dom0 a driver that would serve files as disks.
    let changes = format!(
        "videoram=8 nographic=1 vnc=0 'hdtype=\"ahci\"' \
         'disk=[ \"format=raw,vdev=hda,access=rw,backendtype=qdisk,target={IMAGE}\" ]' \
         'vif=[ \"bridge={},model=e1000\" ]'",
        network::BRIDGE
    );
    let guest = serving(context, "http-hvm", CONFIGURATION, &changes)?;
    let console = guest.console();
    let unplugged = format!("unplugged the emulated network card {CARD} at 00:");
    ensure!(
        console.contains(&unplugged),
        "the console lacks `{unplugged}`: {console}"
    );
    // The memory of a graphics card that is not there is no reason to give any back.
    let taken = "of this guest's memory";
    ensure!(!console.contains(taken), "the host took memory: {console}");
    // The device model has to say that the card is gone, too.
    let monitor = format!("xl qemu-monitor-command {} 'info pci'", guest.name);
    let devices = context.sh(&monitor, XL_LIMIT)?;
    ensure!(
        devices.contains("5853:0001") && !devices.contains(CARD),
        "`{monitor}` shows {devices}"
    );
    answers_and_ends(context, &guest)
}

fn pvgrub(context: &Context) -> Result<()> {
    let devices = format!(
        "type = \"pvh\"\nkernel = \"{PVGRUB}\"\n\
         disk = [ \"format=raw,vdev=xvda,access=rw,backendtype=qdisk,target={IMAGE}\" ]\n\
         vif = [ \"bridge={}\" ]\n",
        network::BRIDGE
    );
    let file = "/guests/http-pvgrub.cfg";
    context.dom0.write(file, devices.as_bytes())?;
    let guest = serving(context, "http-pvgrub", file, "memory=64 vcpus=1")?;
    answers_and_ends(context, &guest)
}

/// A guest of this configuration, with changes as `xl create` takes them, that has booted from the image and
/// says that it serves.
fn serving<'a>(
    context: &'a Context,
    name: &str,
    configuration: &str,
    changes: &str,
) -> Result<Guest<'a>> {
    put_image(context)?;
    let guest = Guest::adopt(context, name);
    let create =
        format!("xl create -q {configuration} 'name=\"{name}\"' 'on_crash=\"preserve\"' {changes}");
    context.sh(&create, 3 * XL_LIMIT)?;
    guest.explain(guest.wait_for("rekernel: ready", 4 * BOOT_LIMIT))?;
    let connected = "vif0: connected: backend in domain 0";
    let console = guest.console();
    ensure!(
        console.contains(connected),
        "the console lacks `{connected}`: {console}"
    );
    Ok(guest)
}

fn answers_and_ends(context: &Context, guest: &Guest) -> Result<()> {
    let page = format!("curl -sS --max-time 20 http://{}/", address(LAST));
    let page = guest.explain(context.sh(&page, XL_LIMIT))?;
    ensure!(page.contains("Xen"), "the page says {page}");
    let shut_down = format!("xl shutdown -w {}", guest.name);
    guest.explain(context.sh(&shut_down, XL_LIMIT))?;
    guest.wait_until("the end after xl shutdown", XL_LIMIT, |listing| {
        listing.is_none()
    })
}

/// Puts a raw image of `http` and its file for xl into dom0, and what dom0 needs for guests that boot from
/// disks, unless a test before did.
fn put_image(context: &Context) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let elf = context.guests.guest("http")?.elf.display().to_string();
    let output = folder.path().display().to_string();
    let ip = format!("ip={}/{}", address(LAST), network::PREFIX_LENGTH);
    let gateway = format!("gw={}", network::GATEWAY);
    let outcome = Cli::run(&[
        "image", "--elf", &elf, "--output", &output, "--format", "raw", "--format", "xl",
        "--append", &ip, "--append", &gateway,
    ])?;
    ensure!(outcome.success, "{outcome}");
    let is_there = context.dom0.run(&format!("test -e {PVGRUB}"), XL_LIMIT)?;
    if !is_there.success() {
        context.dom0.unpack(&context.lab.disk_guests())?;
    }
    for (made, place) in [("http.raw", IMAGE), ("http.cfg", CONFIGURATION)] {
        context.dom0.copy_in(&folder.path().join(made), place)?;
    }
    Ok(())
}
