//! Preparing the lab: from package names to the three files Xen boots from.

use std::path::PathBuf;

use crate::{BootOptions, Dom0, Error, Result};

/// The entry to the lab.
#[derive(Debug)]
pub struct Lab;

/// How to prepare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The folder to keep downloads and results in. By default
    /// `$REKERNEL_LAB_CACHE`, else `rekernel/lab` in the user's cache folder
    /// (`$XDG_CACHE_HOME` or `~/.cache`), else `target/lab`.
    pub cache: Option<PathBuf>,
    /// Download and build again even if a checked result is there.
    pub refresh: bool,
}

impl Lab {
    /// Makes everything a boot needs, or finds it in the cache and checks it.
    ///
    /// Takes well under a second when the cache is warm, and about a minute the
    /// first time. May run in several processes and threads at once: one
    /// prepares, the others wait for it. `progress` receives one line per step.
    pub fn prepare(options: &Options, progress: &dyn Fn(&str)) -> Result<Prepared> {
        let _ = (options, progress);
        Err(Error::Unsupported {
            reason: "preparation is not written yet".into(),
        })
    }
}

/// A lab that is ready to boot.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(crate) folder: PathBuf,
    pub(crate) xen_version: String,
}

impl Prepared {
    /// Boots Xen and dom0, and returns when dom0's toolstack answers.
    ///
    /// Takes 25 to 60 s under software emulation. `progress` receives one line
    /// per stage of the boot.
    pub fn boot(&self, options: &BootOptions, progress: &dyn Fn(&str)) -> Result<Dom0> {
        let _ = (options, progress, &self.folder);
        Err(Error::Unsupported {
            reason: "booting is not written yet".into(),
        })
    }

    /// The version of the Xen packages, as in "4.17".
    pub fn xen_version(&self) -> &str {
        &self.xen_version
    }
}

/// Names of the packages that must be installed on the host before
/// [`Lab::prepare`] and [`Prepared::boot`] can work, and are not.
///
/// Give them to [`packages::ensure`](crate::packages::ensure).
pub fn requirements() -> Vec<&'static str> {
    crate::packages::missing(&["qemu-system-x86"])
}
