//! All guests of the workspace, built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use cargo_rekernel::build::{self, Guest};
use cargo_rekernel::package::{self, Package};
use cargo_rekernel::progress::Bytes;

use crate::measure::Measurements;

/// The guests by name: all that tests boot.
pub(crate) struct Guests {
    packages: Vec<Package>,
    built: Mutex<BTreeMap<String, Guest>>,
}

impl Guests {
    /// Finds the examples and the test guests; each is built when a test asks for it.
    pub(crate) fn find() -> Result<Self> {
        Ok(Self {
            packages: package::guests(Some(&workspace().join("Cargo.toml")))?,
            built: Mutex::default(),
        })
    }

    /// Builds them all, which takes less time than one after the other.
    pub(crate) fn build_all(&self) -> Result<()> {
        let guests = build::build_all(&self.packages)?;
        self.built().extend(
            guests
                .into_iter()
                .map(|guest| (guest.package.name.clone(), guest)),
        );
        Ok(())
    }

    /// The guest of this name.
    pub(crate) fn guest(&self, name: &str) -> Result<Guest> {
        if let Some(guest) = self.built().get(name) {
            return Ok(guest.clone());
        }
        let mut packages = self.packages.iter();
        let package = packages
            .find(|package| package.name == name)
            .with_context(|| format!("there is no guest `{name}`"))?;
        let guest = build::build(package)?;
        self.built().insert(name.to_owned(), guest.clone());
        Ok(guest)
    }

    fn built(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Guest>> {
        // A test that panicked left whole entries.
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the sizes of the examples, which are what users boot.
    pub(crate) fn note_sizes(&self, measurements: &Measurements) {
        let examples = workspace().join("examples");
        for guest in self
            .built()
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
