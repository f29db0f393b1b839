//! Disk images: a boot loader, the guest and its command line in one file.
//!
//! One disk starts everywhere: its boot sector serves BIOSes, its one partition is what UEFI
//! firmware looks for, and in both cases GRUB starts the guest through its multiboot2 entry. The
//! other formats hold the same disk. The same input gives the same bytes.

mod bootloader;
mod disk;
mod fat;
mod formats;
mod vhd;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::arguments::BuildArguments;
use crate::progress::{Bytes, status};
use crate::{build, package};

use self::bootloader::{Bootloader, CommandLine};
use self::disk::Disk;

/// What shall be made of a guest.
#[derive(Args, Clone, Debug)]
pub struct ImageArguments {
    /// Which guest.
    #[command(flatten)]
    pub build: BuildArguments,

    /// What to make; may be repeated
    #[arg(long, value_enum, default_values_t = [Format::Raw])]
    pub format: Vec<Format>,

    /// A key for the guest's command line, such as ip=10.0.2.15/24 or log=debug; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub append: Vec<String>,

    /// A guest that is already built, instead of NAME
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "package", "manifest_path"])]
    pub elf: Option<PathBuf>,

    /// Folder for the images [default: the `rekernel` folder of cargo's target directory]
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}

/// What an image is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The bytes of the disk
    Raw,
    /// QEMU's own, for libvirt, Proxmox and OpenStack
    Qcow2,
    /// Microsoft's, of fixed size, for XenServer, XCP-ng and Azure
    Vhd,
    /// VMware's, compressed
    Vmdk,
}

impl Format {
    /// How the names of its files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
        }
    }
}

/// `cargo rekernel image`.
///
/// # Errors
/// Where the guest cannot be built, is none of ours, or an image cannot be written. Nothing is left
/// of an image that was not finished.
pub fn command(arguments: &ImageArguments) -> Result<()> {
    let command_line = CommandLine::parse(&arguments.append)?;
    let (elf, folder) = match &arguments.elf {
        Some(elf) => (elf.clone(), PathBuf::from(".")),
        None => built(&arguments.build)?,
    };
    let folder = arguments.output.clone().unwrap_or(folder);
    for path in write_images(&elf, &command_line, &arguments.format, &folder)? {
        let bytes = fs::metadata(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?
            .len();
        println!("{}  {}", path.display(), Bytes(bytes));
    }
    Ok(())
}

fn built(arguments: &BuildArguments) -> Result<(PathBuf, PathBuf)> {
    let package = package::find(arguments.package_name(), arguments.manifest_path.as_deref())?;
    let guest = build::build(&package)?;
    let folder = guest.elf.parent().unwrap_or(Path::new(".")).to_owned();
    Ok((guest.elf, folder))
}

fn write_images(
    elf: &Path,
    command_line: &CommandLine,
    formats: &[Format],
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    let guest = fs::read(elf).with_context(|| format!("{} cannot be read", elf.display()))?;
    if !has_multiboot2_header(&guest) {
        bail!(
            "{} has no multiboot2 header in its first 32 KiB, so it is no guest of rekernel: build one with `cargo rekernel build`",
            elf.display()
        );
    }
    let name = elf
        .file_name()
        .with_context(|| format!("{} names no file", elf.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    formats::ensure_tools(formats)?;
    let bootloader = Bootloader::make(command_line)?;
    let disk = Disk::new(&guest, &bootloader)?;
    formats
        .iter()
        .map(|&format| {
            let mut file = name.to_owned();
            file.push(".");
            file.push(format.extension());
            let path = folder.join(file);
            status("Writing", &path.display().to_string());
            formats::write(&disk, format, &path)?;
            Ok(path)
        })
        .collect()
}

/// Whether GRUB would start it: section 3.1.1 of the Multiboot2 Specification.
fn has_multiboot2_header(elf: &[u8]) -> bool {
    const SEARCHED: usize = 32 << 10;
    const MAGIC: u32 = 0xe852_50d6;
    let (words, _) = elf[..elf.len().min(SEARCHED)].as_chunks::<8>();
    words.iter().zip(words.iter().skip(1)).any(|(first, next)| {
        let half = |word: &[u8; 8], index: usize| {
            u32::from_le_bytes([
                word[index],
                word[index + 1],
                word[index + 2],
                word[index + 3],
            ])
        };
        let [magic, architecture, length, checksum] =
            [half(first, 0), half(first, 4), half(next, 0), half(next, 4)];
        let sum = [magic, architecture, length, checksum]
            .into_iter()
            .fold(0, u32::wrapping_add);
        magic == MAGIC && architecture == 0 && sum == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let magic = 0xe852_50d6_u32;
        let words = [magic, 0, 16, 0_u32.wrapping_sub(magic + 16)];
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_guest_is_known_by_its_header() {
        let with = |offset: usize| [vec![0; offset], header(), vec![0; 8]].concat();
        assert!(has_multiboot2_header(&with(288)));
        assert!(!has_multiboot2_header(&with(284)), "not aligned");
        assert!(!has_multiboot2_header(&with(32 << 10)), "too far");
        assert!(!has_multiboot2_header(&header()[..12]), "cut short");
        let mut wrong = with(0);
        wrong[12] ^= 1;
        assert!(!has_multiboot2_header(&wrong), "wrong sum");
        assert!(!has_multiboot2_header(b""));
    }

    #[test]
    fn a_file_that_is_no_guest_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let elf = folder.path().join("ls");
        fs::write(&elf, b"\x7fELF and more").unwrap();
        let output = folder.path().join("images");
        let line = CommandLine::parse(&[]).unwrap();
        let error = write_images(&elf, &line, &[Format::Raw], &output).unwrap_err();
        assert!(
            error.to_string().contains("no guest of rekernel"),
            "{error}"
        );
        assert!(!output.exists());
    }
}
