//! A CD that boots with a BIOS and with UEFI firmware (El Torito), written by xorriso.
//!
//! A BIOS loads GRUB, which reads the guest from the CD's own file system. UEFI firmware takes an image
//! of a FAT file system for a disk, with GRUB, its configuration and the guest in it once more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Content;
use super::bootloader::{CONFIGURATION, CdBootloader, EFI, GUEST};
use super::{fat, identity, tool};

const BIOS_IMAGE: &str = "grub/bios.img";
const EFI_IMAGE: &str = "grub/efi.img";
const CATALOGUE: &str = "grub/boot.cat";

/// Makes the CD in the folder `workshop`; returns its file.
pub(super) fn make(content: &Content, workshop: &Path) -> Result<PathBuf> {
    const MIB: u64 = 1 << 20;
    let bootloader = CdBootloader::make(content.command_line)?;
    let configuration = bootloader.configuration.as_bytes();
    let files = [
        (EFI, &bootloader.efi[..]),
        (CONFIGURATION, configuration),
        (GUEST, content.guest),
    ];
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    // Half a MiB for the file system's own.
    let size = (bytes + MIB / 2).next_multiple_of(MIB);
    let efi = fat::partition(size, identity::of(&files), &files)
        .context("the file system for UEFI cannot be made")?;

    let root = workshop.join("root");
    for (path, bytes) in [
        (CONFIGURATION, configuration),
        (GUEST, content.guest),
        (BIOS_IMAGE, &bootloader.bios[..]),
        (EFI_IMAGE, &efi[..]),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&root))?;
        fs::write(path, bytes)?;
    }
    let cd = workshop.join("cd");
    write(&root, &cd)?;
    Ok(cd)
}

fn write(root: &Path, cd: &Path) -> Result<()> {
    let mut command = Command::new("xorriso");
    command
        .args(["-as", "mkisofs", "-quiet", "-r", "-V", "REKERNEL"])
        // FAT's epoch, in hundredths of a second.
        .args(["--set_all_file_dates", "1980010100000000"])
        .args(["-c", CATALOGUE])
        .args(["-b", BIOS_IMAGE, "-no-emul-boot", "-boot-load-size", "4"])
        // Tell GRUB where it lies.
        .args(["-boot-info-table", "--grub2-boot-info"])
        .args(["-eltorito-alt-boot", "-e", EFI_IMAGE, "-no-emul-boot"])
        .arg("-o")
        .args([cd, root])
        // All other times, and the numbers made of them.
        .env("SOURCE_DATE_EPOCH", "0");
    tool::run(&mut command, "xorriso")
}
