//! Building a guest: one ELF that Xen and QEMU both boot, and its twin with symbols.
//!
//! A guest is an ordinary package for the ordinary target; what makes it bootable are
//! the linker, the linker script (from `pvh-boot`) and a profile without unwinding. All
//! of that is passed on cargo's command line, so that a package needs no configuration
//! of its own and may live outside this workspace.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::package::{Package, cargo};
use crate::progress::{Bytes, Took, status};

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
    build_one(package, Purpose::Boot)
}

/// Builds a guest that runs its own tests instead of its main function.
///
/// # Errors
/// As [`build`]; names the setting without which cargo cannot compile such a guest.
pub fn build_tests(package: &Package) -> Result<Guest> {
    build_one(package, Purpose::Test).map_err(|error| match has_own_harness(&package.manifest) {
        true => error,
        false => error.context(format!(
            "tests of a guest need `harness = false` in the [[bin]] of {}, because Rust's own harness needs an \
             operating system",
            package.manifest.display()
        )),
    })
}

/// Whether a manifest may have the setting. Only asked when the build has failed.
fn has_own_harness(manifest: &Path) -> bool {
    let text = fs::read_to_string(manifest).unwrap_or_default();
    let words: String = text.split_whitespace().collect();
    words.contains("harness=false")
}

/// What a guest is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To run its main function.
    Boot,
    /// To run its tests.
    Test,
}

impl Purpose {
    /// The name of the guest's files.
    fn file_name(self, package: &Package) -> String {
        match self {
            Self::Boot => package.name.clone(),
            Self::Test => format!("{}-tests", package.name),
        }
    }
}

fn build_one(package: &Package, purpose: Purpose) -> Result<Guest> {
    let guests = build_for(std::slice::from_ref(package), purpose)?;
    guests.into_iter().next().context("cargo built nothing")
}

/// Builds guests of one workspace side by side.
///
/// # Errors
/// Where cargo fails (its messages have been shown) or a result cannot be stripped.
pub fn build_all(packages: &[Package]) -> Result<Vec<Guest>> {
    build_for(packages, Purpose::Boot)
}

fn build_for(packages: &[Package], purpose: Purpose) -> Result<Vec<Guest>> {
    let Some(first) = packages.first() else {
        return Ok(Vec::new());
    };
    let started = Instant::now();
    let names: Vec<_> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let what = match purpose {
        Purpose::Boot => "for Xen and QEMU",
        Purpose::Test => "with its tests, for Xen and QEMU",
    };
    status("Building", &format!("{} {what}", names.join(", ")));
    let executables = run_cargo(packages, purpose)?;
    let folder = first.target_directory.join("rekernel");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut guests = Vec::with_capacity(packages.len());
    for package in packages {
        let linked = executables.get(&package.binary);
        let linked =
            linked.with_context(|| format!("cargo built no executable for `{}`", package.name))?;
        let guest = finish(package, linked, &folder, purpose)?;
        status(
            "Built",
            &format!("{}, {}", guest.elf.display(), Bytes(guest.elf_bytes)),
        );
        guests.push(guest);
    }
    status(
        "Finished",
        &format!("building in {}", Took(started.elapsed())),
    );
    Ok(guests)
}

/// Leaves the two twins of a linked guest in `folder`.
fn finish(package: &Package, linked: &Path, folder: &Path, purpose: Purpose) -> Result<Guest> {
    let name = purpose.file_name(package);
    let elf = folder.join(&name);
    let debug = folder.join(format!("{name}.debug"));
    fs::copy(linked, &debug).with_context(|| format!("{} cannot be written", debug.display()))?;
    strip(&debug, &elf)?;
    let (elf_bytes, debug_bytes) = (size(&elf)?, size(&debug)?);
    Ok(Guest {
        package: package.clone(),
        elf,
        debug,
        elf_bytes,
        debug_bytes,
    })
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
    // Segments follow each other in the file: it is copied into memory, not mapped.
    "-Clink-arg=--nmagic",
    // A fixed address: the boot code runs before anything could relocate it.
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    // Backtraces walk the frame pointers.
    "-Cforce-frame-pointers=yes",
    // A `no_std` program has nothing to unwind with. Cargo ignores the profile's word for it where it
    // builds tests.
    "-Cpanic=abort",
];

/// What a guest needs of its profile, also outside this workspace.
const PROFILE: &[&str] = &[
    // The flag above says otherwise. This is what cargo takes for tests, so that dependencies are
    // compiled once for both.
    "profile.release.panic=\"unwind\"",
    // As the workspace has it.
    "profile.release.opt-level=\"s\"",
    "profile.release.lto=\"fat\"",
    "profile.release.codegen-units=1",
    // Counters from the network and from other guests are computed with.
    "profile.release.overflow-checks=true",
    // Function names and lines for backtraces; they stay in the `.debug` twin.
    "profile.release.debug=\"line-tables-only\"",
    "profile.release.strip=\"none\"",
];

/// Runs cargo and returns the paths of the linked executables by the names of their targets.
fn run_cargo(packages: &[Package], purpose: Purpose) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo();
    if let Some(package) = packages.first() {
        // Any member's manifest leads cargo to the workspace.
        command.current_dir(package.manifest.parent().unwrap_or(Path::new(".")));
        command
            .args(match purpose {
                Purpose::Boot => &["build"][..],
                Purpose::Test => &["test", "--no-run"],
            })
            .arg("--target-dir")
            .arg(&package.target_directory);
    }
    command.args([
        "--release",
        "--target",
        TARGET,
        "--message-format=json-render-diagnostics",
    ]);
    for package in packages {
        command.args(["--package", &package.name, "--bin", &package.binary]);
    }
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo could not be started")?;
    let messages = child.stdout.take().context("cargo has no output")?;
    let mut executables = BTreeMap::new();
    for line in BufReader::new(messages).lines() {
        executables.extend(executable_of(
            &line.context("cargo's messages cannot be read")?,
        ));
    }
    if !child.wait().context("cargo was lost")?.success() {
        let names: Vec<_> = packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        bail!(
            "{} could not be built (cargo's messages are above)",
            names.join(", ")
        );
    }
    Ok(executables)
}

/// The target and executable that one of cargo's JSON messages announces.
fn executable_of(message: &str) -> Option<(String, PathBuf)> {
    #[derive(Deserialize)]
    struct Message {
        executable: PathBuf,
        target: Target,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let message: Message = serde_json::from_str(message).ok()?;
    Some((message.target.name, message.executable))
}

/// Writes a copy of `from` without symbols. The parts that are loaded, the note that
/// names the entry point among them, stay as they are.
fn strip(from: &Path, to: &Path) -> Result<()> {
    // Rust brings its own; the one of binutils comes with the C compiler which cargo
    // needs for programs of the host.
    let tools = [rust_objcopy(), Some(Command::new("objcopy"))];
    let mut failures = Vec::new();
    for mut tool in tools.into_iter().flatten() {
        let program = tool.get_program().to_string_lossy().into_owned();
        match tool.arg("--strip-all").arg(from).arg(to).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                failures.push(format!("{program}: {}", said.trim()));
            }
            Err(error) => failures.push(format!("{program}: {error}")),
        }
    }
    bail!(
        "{} cannot be stripped ({}); `apt-get install binutils` brings a tool that can",
        from.display(),
        failures.join("; ")
    )
}

/// The objcopy in the folder of the Rust in use. It needs a library of that folder, which it
/// finds by itself only when cargo has set the path for it, as `cargo run` does.
pub(crate) fn rust_objcopy() -> Option<Command> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    let libraries = Path::new(sysroot.trim()).join("lib");
    let tool = libraries
        .join("rustlib")
        .join(TARGET)
        .join("bin/rust-objcopy");
    let mut command = Command::new(&tool);
    command.env("LD_LIBRARY_PATH", libraries);
    tool.exists().then_some(command)
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)
        .with_context(|| format!("{} cannot be read", path.display()))?
        .len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outside of cargo's environment, too: as an installed command runs.
    #[test]
    fn rusts_own_objcopy_starts_without_cargos_library_path() {
        let Some(mut tool) = rust_objcopy() else {
            return; // a Rust of the distribution, without this tool
        };
        assert!(tool.arg("--version").output().unwrap().status.success());
    }

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let artifact =
            r#"{"reason":"compiler-artifact","target":{"name":"http"},"executable":"/t/http"}"#;
        assert_eq!(
            executable_of(artifact),
            Some(("http".to_owned(), PathBuf::from("/t/http")))
        );
        let library = r#"{"reason":"compiler-artifact","target":{"name":"log"},"executable":null}"#;
        assert_eq!(executable_of(library), None);
        assert_eq!(
            executable_of(r#"{"reason":"build-finished","success":true}"#),
            None
        );
        assert_eq!(executable_of("not json"), None);
    }
}
