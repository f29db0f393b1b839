//! All guests of the workspace, built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_rekernel::build::{self, Guest};
use cargo_rekernel::package;
use cargo_rekernel::progress::Bytes;

use crate::measure::Measurements;

/// The guests by name.
pub(crate) struct Guests {
    by_name: BTreeMap<String, Guest>,
}

impl Guests {
    /// Builds the examples and the test guests.
    pub(crate) fn build() -> Result<Self> {
        let packages = package::guests(Some(&workspace().join("Cargo.toml")))?;
        let guests = build::build_all(&packages)?;
        let by_name = guests
            .into_iter()
            .map(|guest| (guest.package.name.clone(), guest))
            .collect();
        Ok(Self { by_name })
    }

    /// The guest of this name.
    pub(crate) fn guest(&self, name: &str) -> Result<&Guest> {
        self.by_name
            .get(name)
            .with_context(|| format!("there is no guest `{name}`"))
    }

    /// Notes the sizes of the examples, which are what users boot.
    pub(crate) fn note_sizes(&self, measurements: &Measurements) {
        let examples = workspace().join("examples");
        for guest in self
            .by_name
            .values()
            .filter(|guest| guest.package.manifest.starts_with(&examples))
        {
            let what = format!("ELF size of {}", guest.package.name);
            measurements.note(
                &what,
                format!("{} ({} bytes)", Bytes(guest.elf_bytes), guest.elf_bytes),
            );
        }
    }
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    // xtask is a folder of it.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}
