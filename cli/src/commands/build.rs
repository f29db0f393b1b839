//! `cargo rekernel build`: an ELF to boot and its twin with symbols.

use anyhow::Result;

use serde_json::json;

use crate::arguments::BuildCommandArguments;
use crate::progress::Bytes;
use crate::{build, json, package};

/// Builds a guest and says where its two files are.
///
/// # Errors
/// Where the package cannot be found or built.
pub fn command(arguments: &BuildCommandArguments) -> Result<()> {
    let package = package::find(
        arguments.build.package_name(),
        arguments.build.manifest_path.as_deref(),
    )?;
    let guest = build::build(&package)?;
    if arguments.json {
        json::line(&json!({
            "name": package.name,
            "elf": guest.elf,
            "elf_bytes": guest.elf_bytes,
            "debug": guest.debug,
            "debug_bytes": guest.debug_bytes,
        }));
        return Ok(());
    }
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
