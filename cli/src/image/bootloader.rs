//! GRUB, put together from the distribution's packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::tool;
use crate::progress::status;

/// Where the packages leave GRUB's parts.
const PARTS: &str = "/usr/lib/grub";

/// The folder of the configuration, on the disk's one partition.
const FOLDER: &str = "/grub";

/// What GRUB needs to find the partition, read its configuration and start a guest.
const MODULES: [&str; 5] = ["part_msdos", "fat", "normal", "configfile", "multiboot2"];

/// GRUB as it is put on a CD.
pub(super) struct CdBootloader {
    /// What a BIOS loads.
    pub(super) bios: Vec<u8>,
    /// What UEFI firmware starts.
    pub(super) efi: Vec<u8>,
    /// The text of [`CONFIGURATION`].
    pub(super) configuration: String,
}

/// GRUB as it is put on a disk.
pub(super) struct Bootloader {
    /// The boot sector: code, without a partition table.
    pub(super) boot_sector: Vec<u8>,
    /// What the boot sector loads, from the second sector on.
    pub(super) core: Vec<u8>,
    /// What UEFI firmware starts.
    pub(super) efi: Vec<u8>,
    /// The text of [`CONFIGURATION`].
    pub(super) configuration: String,
}

/// The configuration's path on the partition.
pub(super) const CONFIGURATION: &str = "grub/grub.cfg";
/// The guest's path on the partition.
pub(super) const GUEST: &str = "guest";
/// Where UEFI firmware looks on a disk that it does not know.
pub(super) const EFI: &str = "EFI/BOOT/BOOTX64.EFI";

impl Bootloader {
    /// Makes GRUB with a configuration for this command line.
    pub(super) fn make(command_line: &CommandLine) -> Result<Self> {
        ensure_grub()?;
        let pc = Path::new(PARTS).join("i386-pc");
        let sector = pc.join("boot.img");
        let boot_sector = fs::read(&sector)
            .with_context(|| format!("GRUB's boot sector {} cannot be read", sector.display()))?;
        let prefix = format!("(,msdos1){FOLDER}");
        Ok(Self {
            boot_sector,
            core: make_image("i386-pc", "i386-pc", &prefix, &["biosdisk"])?,
            // Firmware says which partition it started GRUB from.
            efi: make_image("x86_64-efi", "x86_64-efi", FOLDER, &[])?,
            configuration: configuration(command_line),
        })
    }
}

impl CdBootloader {
    /// Makes GRUB with a configuration for this command line.
    pub(super) fn make(command_line: &CommandLine) -> Result<Self> {
        ensure_grub()?;
        let modules = ["biosdisk", "iso9660"];
        Ok(Self {
            bios: make_image("i386-pc", "i386-pc-eltorito", FOLDER, &modules)?,
            // Started from the disk in the El Torito entry, it looks for the guest on the CD around it.
            efi: make_image("x86_64-efi", "x86_64-efi", FOLDER, &["iso9660"])?,
            configuration: configuration(command_line),
        })
    }
}

fn ensure_grub() -> Result<()> {
    let packages = ["grub-common", "grub-pc-bin", "grub-efi-amd64-bin"];
    let why = "GRUB starts the guest from a disk";
    Ok(lab::packages::ensure(&packages, why, &|line| {
        status("Installing", line)
    })?)
}

fn configuration(command_line: &CommandLine) -> String {
    format!(
        "# Made by `cargo rekernel image`. The guest's command line follows its name.\n\
         set timeout=0\n\
         multiboot2 /{GUEST}{}\n\
         boot\n",
        command_line.for_grub()
    )
}

/// `platform` is whose modules are used, `format` what comes out.
fn make_image(platform: &str, format: &str, prefix: &str, modules: &[&str]) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let image: PathBuf = folder.path().join("image");
    let mut command = Command::new("grub-mkimage");
    command
        .arg("--directory")
        .arg(Path::new(PARTS).join(platform))
        .args(["--format", format, "--prefix", prefix, "--output"])
        .arg(&image)
        .args(MODULES)
        .args(modules);
    tool::run(&mut command, "grub-common")
        .with_context(|| format!("GRUB for {format} cannot be made"))?;
    fs::read(&image).with_context(|| format!("{} cannot be read", image.display()))
}

/// Keys for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine(Vec<String>);

impl CommandLine {
    /// # Errors
    /// Where a word has characters that GRUB does not hand over as they are.
    pub(super) fn parse(words: &[String]) -> Result<Self> {
        for word in words {
            // GRUB puts quotes around words with spaces and backslashes before these characters.
            let altered = |character: char| {
                character.is_whitespace()
                    || character.is_control()
                    || matches!(character, '\'' | '"' | '\\')
            };
            if word.is_empty() || word.contains(altered) {
                bail!(
                    "--append {word:?} cannot be put on the command line of an image: GRUB changes spaces, quotes, backslashes and control characters"
                );
            }
        }
        Ok(Self(words.to_vec()))
    }

    pub(super) fn words(&self) -> &[String] {
        &self.0
    }

    /// As GRUB reads it, each word with a space before it.
    fn for_grub(&self) -> String {
        // In quotes nothing means anything to GRUB.
        let words = self.0.iter().map(|word| format!(" '{word}'"));
        words.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_nothing_to_grub() {
        let words = ["ip=10.0.2.15/24".to_owned(), "key=$x;#{}".to_owned()];
        let line = CommandLine::parse(&words).unwrap();
        let text = configuration(&line);
        assert!(
            text.contains("multiboot2 /guest 'ip=10.0.2.15/24' 'key=$x;#{}'\nboot\n"),
            "{text}"
        );
        let empty = configuration(&CommandLine::parse(&[]).unwrap());
        assert!(empty.contains("multiboot2 /guest\n"), "{empty}");
    }

    #[test]
    fn what_grub_would_change_is_refused() {
        for word in ["", "a b", "a='b'", "a=\"b\"", "a=\\", "a\nboot", "a=\u{7}"] {
            let error = CommandLine::parse(&[word.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(&format!("{word:?}")), "{error}");
        }
    }
}
