//! Programs of the distribution that write what goes into an image.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs one that must succeed; the Debian package `package` has it.
pub(super) fn run(command: &mut Command, package: &str) -> Result<()> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| {
        format!("{name} cannot be started; `apt-get install {package}` brings it")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed: {}", said.trim());
    }
    Ok(())
}
