//! Building a guest: one ELF that Xen and QEMU both boot, and its twin with symbols.
//!
//! A guest is an ordinary package for the ordinary target; what makes it bootable are
//! the linker, the linker script (from `pvh-boot`) and a profile without unwinding. All
//! of that is passed on cargo's command line, so that a package needs no configuration
//! of its own and may live outside this workspace.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::arguments::BuildArguments;
use crate::package::{self, Package, cargo};
use crate::progress::{Bytes, Took, status};

/// `cargo rekernel build`.
///
/// # Errors
/// Where the package cannot be found or built.
pub fn command(arguments: &BuildArguments) -> Result<()> {
    let package = package::find(arguments.package_name(), arguments.manifest_path.as_deref())?;
    let guest = build(&package)?;
    println!(
        "{}  {} (boot this one)",
        guest.elf.display(),
        Bytes(guest.elf_bytes)
    );
    println!(
        "{}  {} (with symbols)",
        guest.debug.display(),
        Bytes(guest.debug_bytes)
    );
    Ok(())
}

/// A built guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The package it was built from.
    pub package: Package,
    /// The stripped ELF, which is booted.
    pub elf: PathBuf,
    /// The same ELF with its symbols and line tables.
    pub debug: PathBuf,
    /// Size of `elf` in bytes.
    pub elf_bytes: u64,
    /// Size of `debug` in bytes.
    pub debug_bytes: u64,
}

/// Builds one guest, with cargo's own progress on standard error.
///
/// # Errors
/// Where cargo fails (its messages have been shown) or the result cannot be stripped.
pub fn build(package: &Package) -> Result<Guest> {
    let started = Instant::now();
    status(
        "Building",
        &format!("guest {} for Xen and QEMU", package.name),
    );
    let linked = run_cargo(package)?;
    let folder = package.target_directory.join("rekernel");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let elf = folder.join(&package.name);
    let debug = folder.join(format!("{}.debug", package.name));
    fs::copy(&linked, &debug).with_context(|| format!("{} cannot be written", debug.display()))?;
    strip(&debug, &elf)?;
    let guest = Guest {
        package: package.clone(),
        elf_bytes: size(&elf)?,
        debug_bytes: size(&debug)?,
        elf,
        debug,
    };
    let (path, took) = (guest.elf.display(), Took(started.elapsed()));
    status(
        "Built",
        &format!("{path}, {}, in {took}", Bytes(guest.elf_bytes)),
    );
    Ok(guest)
}

/// The target whose prebuilt `core` and `alloc` guests use. Naming it, although it is the
/// host's own, keeps build scripts and procedural macros free of the guest's flags.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Flags for every crate of a guest.
const RUSTFLAGS: &[&str] = &[
    // Link with the lld that comes with Rust: guests need no C compiler.
    "-Clinker=rust-lld",
    "-Clinker-flavor=ld.lld",
    // pvh-boot puts this script on the search path.
    "-Clink-arg=-Tlink.x",
    // A fixed address: the boot code runs before anything could relocate it.
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    // Backtraces walk the frame pointers.
    "-Cforce-frame-pointers=yes",
];

/// What a guest needs of its profile, also outside this workspace.
const PROFILE: &[&str] = &[
    // A `no_std` program has nothing to unwind with.
    "profile.release.panic=\"abort\"",
    "profile.release.lto=\"fat\"",
    "profile.release.codegen-units=1",
    // Counters from the network and from other guests are computed with.
    "profile.release.overflow-checks=true",
    // Function names and lines for backtraces; they stay in the `.debug` twin.
    "profile.release.debug=\"line-tables-only\"",
    "profile.release.strip=\"none\"",
];

/// Runs cargo and returns the path of the linked executable.
fn run_cargo(package: &Package) -> Result<PathBuf> {
    let mut command = cargo();
    command.args([
        "build",
        "--release",
        "--target",
        TARGET,
        "--message-format=json-render-diagnostics",
    ]);
    command.arg("--manifest-path").arg(&package.manifest);
    command.args(["--package", &package.name, "--bin", &package.binary]);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo could not be started")?;
    let messages = child.stdout.take().context("cargo has no output")?;
    let mut executable = None;
    for line in BufReader::new(messages).lines() {
        let line = line.context("cargo's messages cannot be read")?;
        if let Some(path) = executable_of(&line, &package.binary) {
            executable = Some(path);
        }
    }
    if !child.wait().context("cargo was lost")?.success() {
        bail!(
            "guest `{}` could not be built (cargo's messages are above)",
            package.name
        );
    }
    executable.with_context(|| format!("cargo built no executable for `{}`", package.name))
}

/// The executable that one of cargo's JSON messages announces for the binary target.
fn executable_of(message: &str, binary: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let message: Message = serde_json::from_str(message).ok()?;
    message
        .executable
        .filter(|_| message.target.is_some_and(|target| target.name == binary))
}

/// Writes a copy of `from` without symbols. The parts that are loaded, the note that
/// names the entry point among them, stay as they are.
fn strip(from: &Path, to: &Path) -> Result<()> {
    // Rust brings its own; the one of binutils comes with the C compiler which cargo
    // needs for programs of the host.
    let tools = [sysroot_tool("rust-objcopy"), Some(PathBuf::from("objcopy"))];
    for tool in tools.into_iter().flatten() {
        match Command::new(&tool)
            .arg("--strip-all")
            .arg(from)
            .arg(to)
            .output()
        {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => bail!(
                "{} could not strip {}: {}",
                tool.display(),
                from.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("{} could not be started", tool.display()));
            }
        }
    }
    bail!(
        "no objcopy: neither rust-objcopy in Rust's own folder nor objcopy; `apt-get install binutils` brings it"
    )
}

/// A tool in the folder of the Rust in use.
fn sysroot_tool(name: &str) -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    let tool = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(TARGET)
        .join("bin")
        .join(name);
    tool.exists().then_some(tool)
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)
        .with_context(|| format!("{} cannot be read", path.display()))?
        .len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let artifact =
            r#"{"reason":"compiler-artifact","target":{"name":"http"},"executable":"/t/http"}"#;
        assert_eq!(
            executable_of(artifact, "http"),
            Some(PathBuf::from("/t/http"))
        );
        assert_eq!(executable_of(artifact, "other"), None);
        assert_eq!(
            executable_of(r#"{"reason":"build-finished","success":true}"#, "http"),
            None
        );
        assert_eq!(executable_of("not json", "http"), None);
    }
}
