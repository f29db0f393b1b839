//! The host tier: what the compiler, its helpers and the crates' own tests say.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use cargo_rekernel::package::{self, cargo};
use cargo_rekernel::progress::status;

use crate::guests::workspace;
use crate::summary::{Summary, Tier};
use crate::unsafe_code;

/// Runs the tier.
pub(crate) fn run(summary: &mut Summary) {
    summary.check(Tier::Host, "formatting", || {
        step(&["fmt", "--all", "--check"], &[])
    });
    summary.check(Tier::Host, "lints, warnings denied", lints);
    summary.check(Tier::Host, "documentation, warnings denied", documentation);
    summary.check(
        Tier::Host,
        "unsafe code is where docs/unsafe.md says",
        || unsafe_code::check(&workspace()),
    );
    summary.check(Tier::Host, "tests of all crates", crate_tests);
    summary.check(
        Tier::Host,
        "golden vectors are what Xen's headers say",
        golden_vectors,
    );
}

fn lints() -> Result<()> {
    // A guest has no tests of its own, and its runtime cannot be compiled as one.
    let halves = [
        (
            host_packages()?,
            &["--all-targets", UNWIND[0], UNWIND[1]][..],
        ),
        (guest_packages()?, &[]),
    ];
    for (packages, options) in halves {
        let after = [options, &["--", "-Dwarnings"]].concat();
        step(&arguments(&["clippy", "--quiet"], &packages, &after), &[])?;
    }
    Ok(())
}

fn documentation() -> Result<()> {
    let warnings = [("RUSTDOCFLAGS", "-Dwarnings")];
    for (packages, options) in [(host_packages()?, &UNWIND[..]), (guest_packages()?, &[])] {
        let before = ["doc", "--no-deps", "--document-private-items", "--quiet"];
        step(&arguments(&before, &packages, options), &warnings)?;
    }
    Ok(())
}

/// The tests of every crate that runs on the host: all but the guests themselves, which
/// are programs without an operating system below them.
fn crate_tests() -> Result<()> {
    step(
        &arguments(&["test", "--quiet"], &host_packages()?, &UNWIND),
        &[],
    )
}

/// What programs for the host are compiled with, everywhere, so that it happens once.
const UNWIND: [&str; 2] = ["--config", "profile.dev.panic='unwind'"];

/// The crate that brings a panic handler and so cannot be compiled where the standard library
/// is among the dependencies.
const RUNTIME: &str = "rekernel";

/// Selects everything but the guests and their runtime.
///
/// The two halves of the workspace are compiled apart: in one run cargo would give a crate that
/// both depend on the features that either asks for, and with them the tools' standard library.
fn host_packages() -> Result<Vec<String>> {
    let mut selection = vec!["--workspace".to_owned()];
    for name in guest_names()? {
        selection.extend(["--exclude".to_owned(), name]);
    }
    Ok(selection)
}

/// Selects the guests and their runtime.
fn guest_packages() -> Result<Vec<String>> {
    Ok(guest_names()?
        .into_iter()
        .flat_map(|name| ["--package".to_owned(), name])
        .collect())
}

fn guest_names() -> Result<Vec<String>> {
    let guests = package::guests(Some(&workspace().join("Cargo.toml")))?;
    let mut names: Vec<String> = guests.into_iter().map(|guest| guest.name).collect();
    names.push(RUNTIME.to_owned());
    Ok(names)
}

fn arguments<'a>(before: &[&'a str], packages: &'a [String], after: &[&'a str]) -> Vec<&'a str> {
    let packages = packages.iter().map(String::as_str);
    let before = before.iter().copied();
    before
        .chain(packages)
        .chain(after.iter().copied())
        .collect()
}

/// Programs that print what Xen's own headers say, and the files kept of it, which the
/// crates' tests read.
const VECTORS: &[(&str, &str)] = &[
    ("xen/proto/vectors/abi.c", "xen/proto/vectors/abi.txt"),
    (
        "pvh-boot/vectors/start_info.c",
        "pvh-boot/vectors/start_info.bin",
    ),
];

/// Makes the vectors anew: a typing error in a kept file would otherwise be believed for ever.
fn golden_vectors() -> Result<()> {
    let why = "the golden vectors are made anew from Xen's own headers";
    lab::packages::ensure(&["gcc", "libc6-dev", "libxen-dev"], why, &|line| {
        status("Installing", line)
    })?;
    let program = std::env::temp_dir().join(format!("rekernel-vectors-{}", std::process::id()));
    let outcome = VECTORS.iter().try_for_each(|(source, kept)| {
        compare_vectors(&workspace().join(source), &workspace().join(kept), &program)
    });
    // It is there only if a compilation succeeded.
    let _ = std::fs::remove_file(&program);
    outcome
}

fn compare_vectors(source: &Path, kept: &Path, program: &Path) -> Result<()> {
    status(
        "Running",
        &format!(
            "cc {} and comparing with {}",
            source.display(),
            kept.display()
        ),
    );
    let compiled = Command::new("cc")
        .arg("-o")
        .arg(program)
        .arg(source)
        .status()
        .context("cc could not be started")?;
    ensure!(compiled.success(), "{} does not compile", source.display());
    let made = Command::new(program)
        .output()
        .context("the made program could not be started")?;
    ensure!(made.status.success(), "{} fails when run", source.display());
    let kept_bytes =
        std::fs::read(kept).with_context(|| format!("{} cannot be read", kept.display()))?;
    ensure!(
        made.stdout == kept_bytes,
        "{} is not what {} prints",
        kept.display(),
        source.display()
    );
    Ok(())
}

/// Runs cargo with these arguments, telling so; its own messages go where ours go.
fn step<S: AsRef<str>>(arguments: &[S], environment: &[(&str, &str)]) -> Result<()> {
    let words: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
    let variables: Vec<_> = environment
        .iter()
        .map(|(name, value)| format!("{name}={value} "))
        .collect();
    let shown = format!("{}cargo {}", variables.concat(), words.join(" "));
    status("Running", &shown);
    let mut command: Command = cargo();
    command
        .args(&words)
        .envs(environment.iter().copied())
        .current_dir(workspace());
    let status = command.status().context("cargo could not be started")?;
    if !status.success() {
        bail!("`{shown}` failed with {status}");
    }
    Ok(())
}
