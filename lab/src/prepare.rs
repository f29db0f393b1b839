//! Preparing the lab: from package names to the three files Xen boots from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    BootOptions, Dom0, Error, Result,
    apt::{self, Apt},
    boot,
    cache::{self, Lock, Manifest, hash_of_pieces, remove_folder, work_folder},
    command::{find, output_of},
    disk_guests, kernel,
    linux_guest::{GuestFile, archive_with},
    modules::Modules,
    packages::{installation, missing, update_lists},
    qemu::Qemu,
    release::Release,
    root::{self, Packages},
};

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
    /// The release of Debian whose Xen and dom0 are wanted. By default the newest that the
    /// machine's own apt sources offer. Any other comes from the same mirror with apt's lists of
    /// its own in the cache; the machine's are only read.
    pub release: Option<Release>,
}

impl Lab {
    /// Makes everything a boot needs, or finds it in the cache and checks it.
    ///
    /// Takes well under a second when the cache is warm, and under a minute the
    /// first time. May run in several processes and threads at once: one
    /// prepares, the others wait for it. `progress` receives one line per step.
    ///
    /// # Errors
    /// [`Error::MissingPackages`] if something in [`requirements`] is missing or
    /// apt's lists are empty and this process may not update them,
    /// [`Error::Unsupported`] if this machine's sources hold no Xen, [`Error::Release`] if the
    /// wanted release does not exist, is not trusted or holds no Xen.
    pub fn prepare(options: &Options, progress: &dyn Fn(&str)) -> Result<Prepared> {
        check_machine()?;
        let cache = cache::folder(options.cache.as_deref())?;
        let _lock = Lock::acquire(&cache, progress)?;
        let release = options.release.as_ref();
        let folder = cache.join(format!("{}{:.16}", prefix(release), recipe(release)));
        let found = (!options.refresh)
            .then(|| Manifest::load_checked(&folder))
            .flatten();
        let manifest = match found {
            Some(manifest) => manifest,
            None => build(&cache, &folder, release, progress)?,
        };
        let fact = |name: &str| manifest.fact(name).unwrap_or("unknown").to_owned();
        Ok(Prepared {
            xen_version: fact("xen"),
            kernel_version: fact("kernel"),
            qemu: Qemu::choose(&cache, progress)?,
            folder,
        })
    }
}

/// A lab that is ready to boot.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(crate) folder: PathBuf,
    pub(crate) qemu: Qemu,
    xen_version: String,
    kernel_version: String,
}

impl Prepared {
    /// Boots Xen and dom0, and returns when dom0's toolstack answers.
    ///
    /// Takes 10 to 60 s under software emulation. `progress` receives one line
    /// per stage of the boot.
    ///
    /// # Errors
    /// [`Error::PortInUse`] for a host port that is taken, [`Error::TimedOut`] and
    /// [`Error::Stopped`] with a diagnosis if dom0 does not come up.
    pub fn boot(&self, options: &BootOptions, progress: &dyn Fn(&str)) -> Result<Dom0> {
        boot::boot(self, options, progress)
    }

    /// dom0's kernel, unpacked where the form of its compression is known: for guests that are to
    /// have dom0's drivers and tools, too.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join(KERNEL)
    }

    /// The archive that dom0 starts from, with other `files` or further ones.
    ///
    /// # Errors
    /// If the prepared archive cannot be read.
    pub fn root(&self, files: &[GuestFile]) -> Result<Vec<u8>> {
        archive_with(&self.folder.join(ROOT), files)
    }

    /// What dom0 needs on top to run HVM guests, and PVH guests that boot from a disk: an archive for
    /// [`Dom0::unpack`].
    pub fn disk_guests(&self) -> PathBuf {
        self.folder.join(DISK_GUESTS)
    }

    /// The version of the Xen packages, as in "4.17".
    pub fn xen_version(&self) -> &str {
        &self.xen_version
    }

    /// The version of dom0's kernel, as in "6.1.0-56-amd64".
    pub fn kernel_version(&self) -> &str {
        &self.kernel_version
    }

    /// The version of the QEMU that will be used, as in "7.2.22".
    pub fn qemu_version(&self) -> &str {
        self.qemu.version()
    }
}

/// Names of the packages that must be installed on the host before
/// [`Lab::prepare`] and [`Prepared::boot`] can work, and are not.
///
/// Give them to [`packages::ensure`](crate::packages::ensure).
pub fn requirements() -> Vec<&'static str> {
    missing(&["qemu-system-x86"])
}

pub(crate) const XEN: &str = "xen";
pub(crate) const KERNEL: &str = "kernel";
pub(crate) const ROOT: &str = "root.cpio";
pub(crate) const DISK_GUESTS: &str = "disk-guests.cpio";

/// How the folders of files prepared from a release begin; what follows has no hyphen.
fn prefix(release: Option<&Release>) -> String {
    match release {
        Some(release) => format!("dom0-{release}-"),
        None => "dom0-".into(),
    }
}

const GRACE: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn check_machine() -> Result<()> {
    let unsupported = |reason: &str| {
        Err(Error::Unsupported {
            reason: reason.into(),
        })
    };
    if !cfg!(target_arch = "x86_64") {
        return unsupported("its packages are taken from an x86-64 Debian");
    }
    if find("apt-get").is_none() || find("dpkg-deb").is_none() {
        return unsupported("it needs Debian's apt to download Xen and dom0 from");
    }
    let missing = requirements();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::MissingPackages {
        command: installation(&missing),
        packages: missing.into_iter().map(str::to_owned).collect(),
        why: "to run Xen in".into(),
    })
}

/// Changes whenever this crate or the distribution's release would make
/// something else of the packages.
fn recipe(release: Option<&Release>) -> String {
    let release = match release {
        Some(release) => release.to_string(),
        None => fs::read_to_string("/etc/os-release").unwrap_or_default(),
    };
    let source = [
        include_str!("root.rs"),
        include_str!("disk_guests.rs"),
        include_str!("prepare.rs"),
        include_str!("kernel.rs"),
        include_str!("modules.rs"),
        root::COMMON,
        root::START,
        root::BRING_UP,
        root::AGENT,
        root::VIF_JOINS,
        &release,
    ];
    hash_of_pieces(source)
}

fn build(
    cache: &Path,
    folder: &Path,
    release: Option<&Release>,
    progress: &dyn Fn(&str),
) -> Result<Manifest> {
    let work = work_folder(cache);
    remove_folder(&work)?;
    let apt = Apt::new(cache, release, progress)?;
    let packages = choose(&apt, release, progress)?;
    let files = apt.fetch(&packages.list, progress)?;

    progress(&format!("unpacking {} packages", files.len()));
    let unpacked = work.join("unpacked");
    apt::unpack(&files, &unpacked)?;

    progress("putting dom0 together");
    let result = work.join("result");
    fs::create_dir_all(&result).map_err(Error::file("create", &result))?;
    let mut manifest = Manifest::default();
    manifest.add_fact("xen", &packages.xen);
    assemble(&unpacked, &packages.xen, &result, &mut manifest)?;
    for package in &packages.list {
        let value = format!("{} {} {}", package.name, package.version, package.sha256);
        manifest.add_fact("package", &value);
    }
    manifest.save(&result)?;
    remove_folder(folder)?;
    fs::rename(&result, folder).map_err(Error::file("rename", &result))?;
    remove_folder(&work)?;
    remove_outdated(cache, &prefix(release), folder);
    Ok(manifest)
}

/// Removes what earlier versions of this crate or of the packages left of a release. A day's
/// grace, because another checkout may be about to boot from its own.
fn remove_outdated(cache: &Path, prefix: &str, current: &Path) {
    let is_old = |path: &Path| {
        path.metadata()
            .and_then(|data| data.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > GRACE))
    };
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_of_release = name
            .strip_prefix(prefix)
            .is_some_and(|hash| !hash.contains('-'));
        if is_of_release && path != current && is_old(&path) {
            // It costs disk space and nothing else; next time then.
            let _ = remove_folder(&path);
        }
    }
}

/// What dom0 is made of.
struct Choice {
    xen: String,
    list: Vec<apt::Package>,
}

fn choose(apt: &Apt, release: Option<&Release>, progress: &dyn Fn(&str)) -> Result<Choice> {
    progress("asking apt for Xen");
    let mut xen = apt.newest_xen()?;
    if xen.is_none() && release.is_none() {
        update_lists(progress)?;
        xen = apt.newest_xen()?;
    }
    let xen = xen.ok_or_else(|| match release {
        Some(release) => release
            .error("it holds no xen-hypervisor-...-amd64 package; bookworm, trixie and sid do"),
        None => Error::Unsupported {
            reason: "apt's sources hold no xen-hypervisor-...-amd64 package; Debian 12 has one"
                .into(),
        },
    })?;
    let mut roots = vec![
        format!("xen-hypervisor-{xen}-amd64"),
        format!("xen-utils-{xen}"),
        apt.behind_metapackage("linux-image-amd64", "linux-image-")?,
    ];
    let others = root::PACKAGES.iter().chain(disk_guests::PACKAGES);
    roots.extend(others.map(|name| (*name).to_owned()));
    let list = apt.with_libraries(&roots)?;
    Ok(Choice { xen, list })
}

fn assemble(unpacked: &Path, xen: &str, result: &Path, manifest: &mut Manifest) -> Result<()> {
    let packages = Packages::new(unpacked, xen);
    let write = |name: &str, content: &[u8]| {
        let path = result.join(name);
        fs::write(&path, content).map_err(Error::file("write", path))
    };
    let packed = packages.xen_image()?;
    write(
        XEN,
        &output_of(Command::new("gzip").arg("-dc").arg(packed))?,
    )?;
    let modules = Modules::find(unpacked)?;
    let image = packages.kernel_image(&modules)?;
    let image = fs::read(&image).map_err(Error::file("read", image))?;
    write(KERNEL, &kernel::unpacked(&image).unwrap_or(image))?;
    // Not compressed: unpacking costs dom0 more time than reading.
    let (root, libraries) = packages.dom0_root(&modules)?;
    write(ROOT, &root)?;
    write(DISK_GUESTS, &disk_guests::archive(&packages, libraries)?)?;
    manifest.add_fact("kernel", modules.kernel_version());
    for name in [XEN, KERNEL, ROOT, DISK_GUESTS] {
        manifest.add_file(result, name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::time::SystemTime;

    #[test]
    fn only_old_preparations_of_others_are_removed() {
        let scratch = Scratch::new("outdated").unwrap();
        let old = SystemTime::now() - 2 * GRACE;
        let make = |name: &str, time: SystemTime| {
            let path = scratch.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
            path
        };
        let current = make("dom0-1", old);
        let outdated = make("dom0-2", old);
        let fresh = make("dom0-3", SystemTime::now());
        let other = make("packages", old);
        let release: Release = "trixie".parse().unwrap();
        let of_release = make("dom0-trixie-4", old);
        let outdated_of_release = make("dom0-trixie-5", old);
        remove_outdated(scratch.path(), &prefix(None), &current);
        assert!(!outdated.exists());
        assert!(current.exists() && fresh.exists() && other.exists());
        assert!(of_release.exists() && outdated_of_release.exists());
        remove_outdated(scratch.path(), &prefix(Some(&release)), &of_release);
        assert!(!outdated_of_release.exists());
        assert!(current.exists() && of_release.exists());
    }

    #[test]
    fn the_recipe_is_stable_within_a_build() {
        let release: Release = "trixie".parse().unwrap();
        assert_eq!(recipe(None), recipe(None));
        assert_eq!(recipe(None).len(), 64);
        assert_ne!(recipe(None), recipe(Some(&release)));
    }
}
