//! Disk images: a boot loader, the guest and its command line in one file.
//!
//! One disk starts everywhere: its boot sector serves BIOSes, its one partition is what UEFI
//! firmware looks for, and in both cases GRUB starts the guest through its multiboot2 entry. The
//! other formats of disks hold the same. A CD has its own GRUB, and an image for container platforms
//! the guest alone. The same input gives the same bytes.

mod archive;
mod bootloader;
mod disk;
mod fat;
mod formats;
mod hosts;
mod identity;
mod iso;
mod oci;
mod tool;
mod vhd;
mod xml;
mod xva;

use std::cell::OnceCell;
use std::ffi::OsStr;
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

    /// Memory in MiB of the guests that xva, xl, libvirt and terraform describe
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..))]
    pub memory: u32,

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
    /// A CD, for BIOS and UEFI
    Iso,
    /// A guest with its disk, for `xe vm-import` on XenServer and XCP-ng
    Xva,
    /// A container image with the guest as kernel, for KraftKit and krata
    Oci,
    /// A configuration for `xl create`, to be used with raw
    Xl,
    /// A domain for libvirt's driver of Xen, to be used with raw
    Libvirt,
    /// An example for OpenTofu or Terraform and XCP-ng, to be used with xva
    Terraform,
}

impl Format {
    /// How the names of its files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
            Self::Iso => "iso",
            Self::Xva => "xva",
            Self::Oci => "oci.tar",
            Self::Xl => "cfg",
            Self::Libvirt => "xml",
            Self::Terraform => "tf",
        }
    }
}

/// What images are made of.
struct Content<'a> {
    /// What the guest is called on its host.
    name: String,
    guest: &'a [u8],
    command_line: &'a CommandLine,
    memory_mib: u32,
    disk: OnceCell<Disk>,
}

impl<'a> Content<'a> {
    fn new(name: String, guest: &'a [u8], command_line: &'a CommandLine, memory_mib: u32) -> Self {
        Self {
            name,
            guest,
            command_line,
            memory_mib,
            disk: OnceCell::new(),
        }
    }

    /// The disk, made once.
    fn disk(&self) -> Result<&Disk> {
        if let Some(disk) = self.disk.get() {
            return Ok(disk);
        }
        let bootloader = Bootloader::make(self.command_line)?;
        let disk = Disk::new(self.guest, &bootloader)?;
        Ok(self.disk.get_or_init(|| disk))
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
    let paths = write_images(
        &elf,
        &command_line,
        arguments.memory,
        &arguments.format,
        &folder,
    )?;
    for path in paths {
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
    memory_mib: u32,
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
    let name = name_of(elf)?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    formats::ensure_tools(formats)?;
    let content = Content::new(name, &guest, command_line, memory_mib);
    formats
        .iter()
        .map(|&format| {
            let path = folder.join(format!("{}.{}", content.name, format.extension()));
            status("Writing", &path.display().to_string());
            formats::write(&content, format, &path)?;
            Ok(path)
        })
        .collect()
}

/// The name of the file, which becomes the guest's: it ends up in configurations of many kinds.
fn name_of(elf: &Path) -> Result<String> {
    let name = elf.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(is_plain) {
        bail!(
            "{} cannot name a guest: rename the file to letters, digits, `-`, `_` and `.`",
            elf.display()
        );
    }
    Ok(name.to_owned())
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
    fn names_that_configurations_would_misread_are_refused() {
        assert_eq!(name_of(Path::new("target/http")).unwrap(), "http");
        for name in ["a b", "a\"", "<a>", "${a}", "a\n", "é", ".."] {
            let error = name_of(Path::new(name)).map(drop);
            assert!(error.is_err(), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_no_guest_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let elf = folder.path().join("ls");
        fs::write(&elf, b"\x7fELF and more").unwrap();
        let output = folder.path().join("images");
        let line = CommandLine::parse(&[]).unwrap();
        let error = write_images(&elf, &line, 64, &[Format::Raw], &output).unwrap_err();
        assert!(
            error.to_string().contains("no guest of rekernel"),
            "{error}"
        );
        assert!(!output.exists());
    }
}
