//! The disk in the formats that hosts take.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use super::Format;
use super::disk::Disk;
use super::vhd;
use crate::progress::status;

/// Installs what the formats need.
pub(super) fn ensure_tools(formats: &[Format]) -> Result<()> {
    if formats.iter().any(|&format| conversion(format).is_some()) {
        let why = "qemu-img writes the formats qcow2 and vmdk";
        lab::packages::ensure(&["qemu-utils"], why, &|line| status("Installing", line))?;
    }
    Ok(())
}

/// Writes the disk as `path`. It is written beside it first: what is there is whole.
pub(super) fn write(disk: &Disk, format: Format, path: &Path) -> Result<()> {
    let cannot = || format!("{} cannot be written", path.display());
    let mut file = temporary(path)?;
    disk.write(file.as_file_mut()).with_context(cannot)?;
    if format == Format::Vhd {
        let footer = vhd::footer(disk.size(), disk.identity());
        file.write_all(&footer).with_context(cannot)?;
    }
    if let Some(arguments) = conversion(format) {
        let converted = temporary(path)?;
        convert(file.path(), converted.path(), arguments).with_context(cannot)?;
        file = converted;
    }
    if format == Format::Vmdk {
        name_content(file.path(), disk.identity()).with_context(cannot)?;
    }
    let mut permissions = file
        .as_file()
        .metadata()
        .with_context(cannot)?
        .permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    file.as_file()
        .set_permissions(permissions)
        .with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

/// An empty file in the folder of `path`, which goes away unless it is kept.
fn temporary(path: &Path) -> Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    NamedTempFile::new_in(folder)
        .with_context(|| format!("no file can be made in {}", folder.display()))
}

/// How qemu-img is told to write a format; `None` where it is not needed.
fn conversion(format: Format) -> Option<&'static [&'static str]> {
    match format {
        Format::Raw | Format::Vhd => None,
        Format::Qcow2 => Some(&["-O", "qcow2", "-c"]),
        Format::Vmdk => Some(&["-O", "vmdk", "-o", "subformat=streamOptimized"]),
    }
}

fn convert(from: &Path, to: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["convert", "-f", "raw"])
        .args(arguments)
        .args([from, to])
        .output()
        .context("qemu-img cannot be started; `apt-get install qemu-utils` brings it")?;
    if !output.status.success() {
        bail!(
            "qemu-img failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Replaces the random "content identifier" in a VMDK's description by `identity`.
fn name_content(path: &Path, identity: u32) -> Result<()> {
    const MARK: &[u8] = b"\nCID=";
    const DIGITS: usize = 8;
    let mut bytes = std::fs::read(path)?;
    let start = bytes
        .windows(MARK.len())
        .position(|window| window == MARK)
        .context("qemu-img wrote a VMDK without CID")?
        + MARK.len();
    bytes
        .get_mut(start..start + DIGITS)
        .context("qemu-img wrote a VMDK with a short CID")?
        .copy_from_slice(format!("{identity:08x}").as_bytes());
    std::fs::write(path, bytes)?;
    Ok(())
}
