//! What dom0 needs on top to run guests that boot from disks: the device model that gives HVM guests
//! a PC's devices, with its firmware, and the GRUB that PVH guests start from.
//!
//! An archive of its own, unpacked in dom0 where it is wanted: half as large as dom0's root, and
//! most guests start without.

use std::collections::BTreeSet;

use crate::{
    Result,
    cpio::Tree,
    files::read,
    root::{Packages, Programs},
};

/// The packages that hold it.
pub(crate) const PACKAGES: &[&str] = &[
    "grub-xen-host",
    "ipxe-qemu",
    "qemu-system-data",
    "qemu-system-xen",
    "seabios",
];

/// Where xl looks for it.
const DEVICE_MODEL: &str = "usr/libexec/xen-qemu-system-i386";

/// What xl and the device model read.
const FILES: &[&str] = &[
    "usr/lib/grub-xen/grub-i386-xen_pvh.bin",
    "usr/share/qemu/keymaps/en-us",
    "usr/share/seabios/bios-256k.bin",
    "usr/share/seabios/vgabios-stdvga.bin",
];

/// The emulated network card's ROM, where Debian has it since version 13 and where before.
const CARD_ROM: [&str; 2] = [
    "usr/share/qemu/efi-e1000.rom",
    "usr/lib/ipxe/qemu/efi-e1000.rom",
];

/// The archive, without the libraries that are in dom0 already.
pub(crate) fn archive(packages: &Packages, present: BTreeSet<String>) -> Result<Vec<u8>> {
    let mut tree = Tree::default();
    let mut programs = Programs::with(packages, &mut tree, present);
    programs.add(&packages.path(DEVICE_MODEL), DEVICE_MODEL)?;
    let loader = packages.hvm_loader();
    let [usual, older] = CARD_ROM;
    let rom = match packages.path(usual).exists() {
        true => usual,
        false => older,
    };
    for file in FILES.iter().copied().chain([rom, &*loader]) {
        tree.file(file, false, read(&packages.path(file))?);
    }
    Ok(tree.archive())
}
