//! The disk in the formats that hosts take.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::disk::Disk;
use super::{Content, Format, hosts, iso, oci, tool, vhd, xva};
use crate::progress::status;

/// Installs what the formats need.
pub(super) fn ensure_tools(formats: &[Format]) -> Result<()> {
    if formats.iter().any(|&format| conversion(format).is_some()) {
        let why = "qemu-img writes the formats qcow2 and vmdk";
        lab::packages::ensure(&["qemu-utils"], why, &|line| status("Installing", line))?;
    }
    if formats.contains(&Format::Iso) {
        let why = "xorriso writes CDs";
        lab::packages::ensure(&["xorriso"], why, &|line| status("Installing", line))?;
    }
    Ok(())
}

/// Writes the image as `path`. It is written in a folder beside it first: what is there is whole.
pub(super) fn write(content: &Content, format: Format, path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let workshop = tempfile::tempdir_in(folder)
        .with_context(|| format!("no folder can be made in {}", folder.display()))?;
    make(content, format, workshop.path())
        .and_then(|made| Ok(fs::rename(made, path)?))
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn make(content: &Content, format: Format, workshop: &Path) -> Result<PathBuf> {
    let text = match format {
        Format::Raw | Format::Qcow2 | Format::Vhd | Format::Vmdk => {
            return make_disk(content.disk()?, format, workshop);
        }
        Format::Iso => return iso::make(content, workshop),
        Format::Xva => {
            let disk = content.disk()?;
            return archive(workshop, |file| xva::write(content, disk, file));
        }
        Format::Oci => return archive(workshop, |file| oci::write(content, file)),
        Format::Xl => hosts::xl(content),
        Format::Libvirt => hosts::libvirt(content),
        Format::Terraform => hosts::terraform(content)?,
    };
    let file = workshop.join("text");
    fs::write(&file, text)?;
    Ok(file)
}

/// Makes a file that `write` fills.
fn archive(
    workshop: &Path,
    write: impl FnOnce(BufWriter<File>) -> std::io::Result<()>,
) -> Result<PathBuf> {
    let path = workshop.join("archive");
    write(BufWriter::new(File::create(&path)?))?;
    Ok(path)
}

fn make_disk(disk: &Disk, format: Format, workshop: &Path) -> Result<PathBuf> {
    // Some formats contain the name of their file.
    let raw = workshop.join("disk");
    let mut file = File::create(&raw)?;
    disk.write(&mut file)?;
    if format == Format::Vhd {
        file.write_all(&vhd::footer(disk.size(), disk.identity()))?;
    }
    let Some(arguments) = conversion(format) else {
        return Ok(raw);
    };
    let converted = workshop.join(format!("disk.{}", format.extension()));
    convert(&raw, &converted, arguments)?;
    if format == Format::Vmdk {
        name_content(&converted, disk.identity())?;
    }
    Ok(converted)
}

/// How qemu-img is told to write a format; `None` where it is not needed.
fn conversion(format: Format) -> Option<&'static [&'static str]> {
    match format {
        Format::Qcow2 => Some(&["-O", "qcow2", "-c"]),
        Format::Vmdk => Some(&["-O", "vmdk", "-o", "subformat=streamOptimized"]),
        _ => None,
    }
}

fn convert(from: &Path, to: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw"]);
    command.args(arguments).args([from, to]);
    tool::run(&mut command, "qemu-utils")
}

/// Replaces the random "content identifier" in a VMDK's description by `identity`.
fn name_content(path: &Path, identity: u32) -> Result<()> {
    let mut bytes = fs::read(path)?;
    set_content_identifier(&mut bytes, identity)
        .context("qemu-img wrote a VMDK whose description is not as expected")?;
    fs::write(path, bytes)?;
    Ok(())
}

/// Writes the identifier with all its digits. qemu-img leaves leading zeros out, so the rest of the
/// description may have to move: behind it there are zeros up to the next cluster. `None` where it is
/// not so.
fn set_content_identifier(bytes: &mut [u8], identity: u32) -> Option<()> {
    const MARK: &[u8] = b"\nCID=";
    const DIGITS: usize = 8;
    let place = |bytes: &[u8], wanted: &[u8]| {
        bytes
            .windows(wanted.len())
            .position(|window| window == wanted)
    };
    let start = place(bytes, MARK)? + MARK.len();
    let digits = place(&bytes[start..], b"\n").filter(|digits| (1..=DIGITS).contains(digits))?;
    let rest = start + digits;
    let end = rest + place(&bytes[rest..], b"\0")?;
    let missing = DIGITS - digits;
    let free = bytes.get(end..end + missing)?;
    if free.iter().any(|&byte| byte != 0) {
        return None;
    }
    bytes.copy_within(rest..end, start + DIGITS);
    bytes[start..start + DIGITS].copy_from_slice(format!("{identity:08x}").as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_identifier_gets_all_its_digits() {
        let expected = b"# Disk\nversion=1\nCID=0000abcd\nparentCID=ffffffff\n\0\0data";
        for (digits, padding) in [
            ("fedcba98", "\0\0"),
            ("edcba98", "\0\0\0"),
            ("98", "\0\0\0\0\0\0\0\0"),
        ] {
            let text =
                format!("# Disk\nversion=1\nCID={digits}\nparentCID=ffffffff\n{padding}data");
            let mut bytes = text.into_bytes();
            set_content_identifier(&mut bytes, 0xabcd).unwrap();
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn a_description_that_cannot_take_the_digits_is_left_alone() {
        for text in [
            "\nCID=12\nparent\0\0data",
            "\nCID=\n\0\0\0\0\0\0\0\0\0",
            "\nCID=123456789\n\0",
            "CID=12345678\n\0",
            "\nCID=1",
        ] {
            let mut bytes = text.as_bytes().to_vec();
            assert_eq!(set_content_identifier(&mut bytes, 1), None, "{text}");
            assert_eq!(bytes, text.as_bytes());
        }
    }
}
