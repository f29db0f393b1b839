//! Guests that boot from a disk image, made by the CLI as a user types it.

use anyhow::{Result, ensure};
use lab::network;

use super::guest::address;
use super::{BOOT_LIMIT, Context, Guest, Test, XL_LIMIT};
use crate::command::Cli;

pub(super) const TESTS: &[Test] = &[
    (
        "HVM: a disk image boots with BIOS, unplugs the emulated network card, serves",
        hvm,
    ),
    (
        "pvgrub: a PVH guest starts GRUB, which boots the disk image",
        pvgrub,
    ),
];

/// QEMU's e1000, as PCI names it.
const CARD: &str = "8086:100e";

/// The image in dom0.
const IMAGE: &str = "/guests/http.raw";

/// The last number of the address in the image. One guest at a time has it.
const LAST: u8 = 60;

fn hvm(context: &Context) -> Result<()> {
    // The disk is one that the firmware reads by DMA: for each two bytes of the other kind dom0 has
    // to be asked, which takes minutes in emulation.
    let devices = format!(
        "type = \"hvm\"\nvga = \"none\"\nvideoram = 8\nnographic = 1\nvnc = 0\nhdtype = \"ahci\"\n\
         disk = [ \"format=raw,vdev=hda,access=rw,backendtype=qdisk,target={IMAGE}\" ]\n\
         vif = [ \"bridge={},model=e1000\" ]\n",
        network::BRIDGE
    );
    let guest = serving(context, "http-hvm", &devices)?;
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
        "type = \"pvh\"\nkernel = \"/usr/lib/grub-xen/grub-i386-xen_pvh.bin\"\n\
         disk = [ \"format=raw,vdev=xvda,access=rw,backendtype=qdisk,target={IMAGE}\" ]\n\
         vif = [ \"bridge={}\" ]\n",
        network::BRIDGE
    );
    let guest = serving(context, "http-pvgrub", &devices)?;
    answers_and_ends(context, &guest)
}

/// A guest with these devices that has booted from the image and says that it serves.
fn serving<'a>(context: &'a Context, name: &str, devices: &str) -> Result<Guest<'a>> {
    put_image(context)?;
    let common = format!("name = \"{name}\"\nmemory = 64\nvcpus = 1\non_crash = \"preserve\"\n");
    let file = format!("/guests/{name}.cfg");
    context
        .dom0
        .write(&file, format!("{common}{devices}").as_bytes())?;
    let guest = Guest::adopt(context, name);
    context.sh(&format!("xl create -q {file}"), 3 * XL_LIMIT)?;
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

/// Puts a raw image of `http` into dom0, and what dom0 needs for guests that boot from disks, unless a
/// test before did.
fn put_image(context: &Context) -> Result<()> {
    let is_there = context.dom0.run(&format!("test -e {IMAGE}"), XL_LIMIT)?;
    if is_there.success() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let elf = context.guests.guest("http")?.elf.display().to_string();
    let output = folder.path().display().to_string();
    let ip = format!("ip={}/{}", address(LAST), network::PREFIX_LENGTH);
    let gateway = format!("gw={}", network::GATEWAY);
    let outcome = Cli::run(&[
        "image", "--elf", &elf, "--output", &output, "--append", &ip, "--append", &gateway,
    ])?;
    ensure!(outcome.success, "{outcome}");
    context.dom0.unpack(&context.lab.disk_guests())?;
    Ok(context
        .dom0
        .copy_in(&folder.path().join("http.raw"), IMAGE)?)
}
