//! Disk images, made by the CLI as a user types it and booted with both kinds of firmware.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::progress::{Bytes, status};
use cargo_rekernel::qemu::{Machine, Source};

use super::{Context, Test};
use crate::command::Cli;
use crate::http;

pub(super) const TESTS: &[Test] = &[(
    "image: one disk in four formats, the same bytes twice, boots with BIOS and UEFI",
    disk,
)];

/// Time for firmware, boot loader and guest in software emulation: UEFI alone takes ten seconds.
const FIRMWARE_LIMIT: Duration = Duration::from_secs(180);

/// Time for one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// UEFI firmware for virtual machines, as Debian's package `ovmf` leaves it.
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE.fd";

/// Formats, and what QEMU calls them. A fixed VHD is found by its end, so QEMU must be told.
const FORMATS: [(&str, &str); 4] = [
    ("raw", "raw"),
    ("qcow2", "qcow2"),
    ("vhd", "vpc"),
    ("vmdk", "vmdk"),
];

fn disk(context: &Context) -> Result<()> {
    let why = "UEFI firmware is what images are booted with";
    lab::packages::ensure(&["ovmf"], why, &|line| status("Installing", line))?;
    let elf = context.guests.guest("http")?.elf;
    let folder = tempfile::tempdir()?;
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    for output in [&first, &second] {
        make(&elf, output)?;
    }
    for (extension, qemus_name) in FORMATS {
        let image = |folder: &Path| folder.join(format!("http.{extension}"));
        let bytes = fs::read(image(&first))?;
        ensure!(
            bytes == fs::read(image(&second))?,
            "two images of format {extension} from the same guest differ"
        );
        let what = format!("size of http as {extension}");
        context.measurements.note(&what, Bytes(bytes.len() as u64));
        same_disk(&first.join("http.raw"), &image(&first), qemus_name)?;
    }
    let boots = [
        ("raw", "raw", Machine::Pc, None),
        ("vhd", "vpc", Machine::Q35, None),
        ("qcow2", "qcow2", Machine::Q35, Some(FIRMWARE)),
        ("vmdk", "vmdk", Machine::Pc, None),
    ];
    for (extension, format, machine, firmware) in boots {
        let source = Source::Disk {
            image: first.join(format!("http.{extension}")),
            format,
            firmware: firmware.map(PathBuf::from),
        };
        serves(context, source, machine).with_context(|| {
            format!(
                "{extension} on {} with {}",
                machine.name(),
                firmware.map_or("BIOS", |_| "UEFI")
            )
        })?;
    }
    Ok(())
}

/// `cargo rekernel image`, with a command line that shows on the page.
fn make(elf: &Path, output: &Path) -> Result<()> {
    let (elf, output) = (elf.display().to_string(), output.display().to_string());
    let mut arguments = vec!["image", "--elf", &elf, "--output", &output];
    arguments.extend(FORMATS.iter().flat_map(|(name, _)| ["--format", name]));
    arguments.extend(["--append", "ip=10.0.2.15/24", "--append", "gw=10.0.2.2"]);
    let outcome = Cli::run(&arguments)?;
    ensure!(outcome.success, "{outcome}");
    Ok(())
}

/// Has a reader of its own compare two images.
fn same_disk(raw: &Path, other: &Path, format: &str) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["compare", "-f", "raw", "-F", format])
        .args([raw, other])
        .output()
        .context("qemu-img cannot be started")?;
    ensure!(
        output.status.success(),
        "qemu-img finds that {} is another disk: {}{}",
        other.display(),
        String::from_utf8_lossy(&output.stdout).trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn serves(context: &Context, source: Source, machine: Machine) -> Result<()> {
    let (mut boot, port) = context.boot_with_port("http", 80, |guest| {
        guest.source = source;
        guest.machine = machine;
        guest.memory_mib = 128;
    })?;
    boot.wait_until_ready(FIRMWARE_LIMIT)?;
    let page = http::get(port, "/", REQUEST_LIMIT);
    let page = boot.explain(page)?;
    ensure!(page.status == 200, "GET / answered {}", page.status);
    Ok(())
}
