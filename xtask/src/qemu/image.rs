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

pub(super) const TESTS: &[Test] = &[
    (
        "image: one disk in four formats, the same bytes twice, boots with BIOS and UEFI",
        disk,
    ),
    (
        "image: iso boots with BIOS and UEFI; xva, oci and libvirt's domain are read by others",
        others,
    ),
];

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
        make(&elf, output, &FORMATS.map(|(name, _)| name))?;
    }
    for (extension, qemus_name) in FORMATS {
        same_bytes(context, extension, extension, [&first, &second])?;
        let image = first.join(format!("http.{extension}"));
        same_disk(&first.join("http.raw"), &image, qemus_name)?;
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

/// Compares two images that were made of the same guest, and notes their size.
fn same_bytes(context: &Context, format: &str, extension: &str, folders: [&Path; 2]) -> Result<()> {
    let [first, second] = folders.map(|folder| fs::read(folder.join(format!("http.{extension}"))));
    let bytes = first?;
    ensure!(
        bytes == second?,
        "two images of format {format} from the same guest differ"
    );
    let what = format!("size of http as {format}");
    context.measurements.note(&what, Bytes(bytes.len() as u64));
    Ok(())
}

/// Every other format, twice; those for which there is a reader are handed to it.
fn others(context: &Context) -> Result<()> {
    const FILES: [(&str, &str); 6] = [
        ("iso", "iso"),
        ("xva", "xva"),
        ("oci", "oci.tar"),
        ("xl", "cfg"),
        ("libvirt", "xml"),
        ("terraform", "tf"),
    ];
    let why = "images are read back with it";
    let packages = ["skopeo", "libxml2-utils", "libvirt0", "ovmf"];
    lab::packages::ensure(&packages, why, &|line| status("Installing", line))?;
    let elf = context.guests.guest("http")?.elf;
    let folder = tempfile::tempdir()?;
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let mut formats = FILES.map(|(name, _)| name).to_vec();
    formats.push("raw");
    for output in [&first, &second] {
        make(&elf, output, &formats)?;
    }
    for (format, extension) in FILES {
        same_bytes(context, format, extension, [&first, &second])?;
    }
    xva(&first, &folder.path().join("xva"))?;
    oci(&first, &elf, &folder.path().join("oci"))?;
    let domain = first.join("http.xml").display().to_string();
    run("xmllint", &["--noout", "--relaxng", SCHEMA, &domain])?;
    terraform(context, &first)?;
    for (firmware, what) in [(None, "BIOS"), (Some(FIRMWARE), "UEFI")] {
        let source = Source::Cd {
            image: first.join("http.iso"),
            firmware: firmware.map(PathBuf::from),
        };
        serves(context, source, Machine::Pc).with_context(|| format!("iso with {what}"))?;
    }
    Ok(())
}

/// libvirt's schema of domains, as Debian's package `libvirt0` leaves it.
const SCHEMA: &str = "/usr/share/libvirt/schemas/domain.rng";

/// Has OpenTofu or Terraform read its file, where there is one of them: Debian has neither.
fn terraform(context: &Context, images: &Path) -> Result<()> {
    let there_is = |program: &&str| Command::new(program).arg("version").output().is_ok();
    let reader = ["tofu", "terraform"].into_iter().find(there_is);
    let what = "reader of http's file for Terraform";
    let Some(reader) = reader else {
        let none = "skipped: neither tofu nor terraform is installed";
        context.measurements.note(what, none);
        return Ok(());
    };
    let file = images.join("http.tf").display().to_string();
    run(reader, &["fmt", "-check", "-diff", &file])?;
    context.measurements.note(what, reader);
    Ok(())
}

/// Unpacks the archive with tar, has sha1sum check each block, and puts the blocks where they belong.
fn xva(images: &Path, folder: &Path) -> Result<()> {
    const BLOCK: usize = 1 << 20;
    fs::create_dir(folder)?;
    let archive = images.join("http.xva").display().to_string();
    run(
        "tar",
        &["-xf", &archive, "-C", &folder.display().to_string()],
    )?;
    let description = folder.join("ova.xml").display().to_string();
    run("xmllint", &["--noout", &description])?;
    let expected = fs::read(images.join("http.raw"))?;
    let mut disk = vec![0; expected.len()];
    let mut blocks = 0;
    for entry in fs::read_dir(folder.join("Ref:2"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(number) = name.strip_suffix(".checksum") {
            let sum = fs::read_to_string(&path)?;
            let block = path.with_file_name(number);
            let found = run("sha1sum", &[&block.display().to_string()])?;
            ensure!(
                found.starts_with(&format!("{sum} ")),
                "block {number} has the checksum {sum}, and sha1sum says {found}"
            );
            let start = number.parse::<usize>()? * BLOCK;
            let place = disk.get_mut(start..start + BLOCK);
            place
                .with_context(|| format!("block {number} lies outside of the disk"))?
                .copy_from_slice(&fs::read(block)?);
            blocks += 1;
        }
    }
    ensure!(disk == expected, "the {blocks} blocks are not the disk");
    let description = fs::read_to_string(description)?;
    let size = format!("<name>virtual_size</name><value>{}</value>", expected.len());
    ensure!(description.contains(&size), "ova.xml lacks {size}");
    Ok(())
}

/// Has skopeo copy the image, which checks every hash, and looks for the guest in the copy's layer.
fn oci(images: &Path, elf: &Path, folder: &Path) -> Result<()> {
    let archive = format!("oci-archive:{}", images.join("http.oci.tar").display());
    let copy = format!("dir:{}", folder.display());
    run("skopeo", &["--insecure-policy", "copy", &archive, &copy])?;
    let configuration = run("skopeo", &["inspect", "--config", &archive])?;
    for word in ["\"xen\"", "ip=10.0.2.15/24"] {
        ensure!(
            configuration.contains(word),
            "skopeo says of the configuration: {configuration}"
        );
    }
    let layers = run(
        "skopeo",
        &["inspect", "--format", "{{index .Layers 0}}", &archive],
    )?;
    let layer = layers.trim().trim_start_matches("sha256:");
    let layer = folder.join(layer).display().to_string();
    run("tar", &["-xf", &layer, "-C", &folder.display().to_string()])?;
    for path in ["unikraft/bin/kernel", "kernel/image"] {
        let same = fs::read(folder.join(path))? == fs::read(elf)?;
        ensure!(same, "{path} of the layer is not the guest");
    }
    Ok(())
}

/// Runs a program that must succeed; returns what it printed.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} cannot be started"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `cargo rekernel image`, with a command line that shows on the page.
fn make(elf: &Path, output: &Path, formats: &[&str]) -> Result<()> {
    let (elf, output) = (elf.display().to_string(), output.display().to_string());
    let mut arguments = vec!["image", "--elf", &elf, "--output", &output];
    arguments.extend(formats.iter().flat_map(|name| ["--format", name]));
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
