//! `cargo rekernel build`: an ELF to boot and its twin with symbols.

use anyhow::Result;

use crate::arguments::BuildArguments;
use crate::progress::Bytes;
use crate::{build, package};

/// Builds a guest and says where its two files are.
///
/// # Errors
/// Where the package cannot be found or built.
pub fn command(arguments: &BuildArguments) -> Result<()> {
    let package = package::find(arguments.package_name(), arguments.manifest_path.as_deref())?;
    let guest = build::build(&package)?;
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
