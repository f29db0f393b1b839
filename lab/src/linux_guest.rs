//! A small Linux guest from distribution packages: what guests of ours are compared with.
//!
//! A kernel and an archive that it unpacks into memory, as dom0 has: programs with their
//! libraries, the modules they need, and files of the caller's, of which `init` is one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error, Options, Result,
    apt::{self, Apt},
    cache::{self, Lock, Manifest, hash_of_pieces, remove_folder, work_folder},
    cpio::Tree,
    files::read,
    kernel,
    modules::Modules,
    prepare::check_machine,
    release::Release,
    root::{Packages, Programs, add_usual_paths},
};

/// What a Linux guest is made of.
#[derive(Debug, Clone, Copy)]
pub struct LinuxRecipe<'a> {
    /// The metapackage of the kernel, as in `linux-image-cloud-amd64`.
    pub kernel: &'a str,
    /// Packages that hold the programs; their libraries come along.
    pub packages: &'a [&'a str],
    /// Programs of those packages. They end up in `/usr/bin`.
    pub programs: &'a [&'a str],
    /// Kernel modules. They end up in `/lab/modules`, and with those they depend on in the order
    /// to load them in `/lab/modules.list`, unless the kernel has them built in.
    pub modules: &'a [&'a str],
}

/// A file of the caller's in the guest's root.
#[derive(Debug, Clone)]
pub struct GuestFile {
    /// Where it is.
    pub path: String,
    /// Whether it can be run.
    pub executable: bool,
    /// What it holds.
    pub content: Vec<u8>,
}

/// A prepared Linux guest.
#[derive(Debug, Clone)]
pub struct LinuxGuest {
    folder: PathBuf,
    kernel_version: String,
    packages: Vec<String>,
}

const KERNEL: &str = "kernel";
const PACKED_KERNEL: &str = "vmlinuz";
const BASE: &str = "base.cpio";

impl LinuxGuest {
    /// Makes the guest, or finds it in the cache and checks it, as
    /// [`Lab::prepare`](crate::Lab::prepare) does with dom0.
    ///
    /// # Errors
    /// As there, and [`Error::Package`] if a package, program or module does not exist.
    pub fn prepare(
        options: &Options,
        recipe: &LinuxRecipe,
        progress: &dyn Fn(&str),
    ) -> Result<Self> {
        check_machine()?;
        let cache = cache::folder(options.cache.as_deref())?;
        let _lock = Lock::acquire(&cache, progress)?;
        let release = options.release.as_ref();
        let folder = cache.join(format!("linux-{:.16}", recipe.hash(release)));
        let found = (!options.refresh)
            .then(|| Manifest::load_checked(&folder))
            .flatten();
        let manifest = match found {
            Some(manifest) => manifest,
            None => build(&cache, &folder, release, recipe, progress)?,
        };
        let facts = |name| manifest.facts(name).map(str::to_owned);
        Ok(Self {
            kernel_version: facts("kernel").next().unwrap_or_default(),
            packages: facts("package").collect(),
            folder,
        })
    }

    /// The kernel, unpacked where the form of its compression is known: unpacking takes a guest
    /// seconds under emulation.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join(KERNEL)
    }

    /// The kernel as its package has it.
    pub fn packed_kernel(&self) -> PathBuf {
        self.folder.join(PACKED_KERNEL)
    }

    /// The version of the kernel, as in "6.1.0-48-cloud-amd64".
    pub fn kernel_version(&self) -> &str {
        &self.kernel_version
    }

    /// The version of a package in it.
    pub fn package_version(&self, name: &str) -> Option<&str> {
        let mut words = self.packages.iter().map(|line| line.split(' '));
        words.find_map(|mut words| (words.next() == Some(name)).then(|| words.next())?)
    }

    /// The archive of the packages' files alone.
    pub fn base(&self) -> PathBuf {
        self.folder.join(BASE)
    }

    /// The archive to boot with: the packages' files, then `files`.
    ///
    /// # Errors
    /// If the prepared archive cannot be read.
    pub fn archive(&self, files: &[GuestFile]) -> Result<Vec<u8>> {
        archive_with(&self.base(), files)
    }
}

/// The archive at `base`, then `files`, which take the place of what is there.
pub(crate) fn archive_with(base: &Path, files: &[GuestFile]) -> Result<Vec<u8>> {
    // Linux takes archives one after another.
    let mut archive = read(base)?;
    let mut tree = Tree::default();
    for file in files {
        tree.file(&file.path, file.executable, file.content.clone());
    }
    archive.extend(tree.archive());
    Ok(archive)
}

impl LinuxRecipe<'_> {
    /// Changes whenever something else would be made of the packages.
    fn hash(&self, release: Option<&Release>) -> String {
        let release = match release {
            Some(release) => release.to_string(),
            None => fs::read_to_string("/etc/os-release").unwrap_or_default(),
        };
        let wanted = format!("{self:?}");
        let source = [
            include_str!("linux_guest.rs"),
            include_str!("root.rs"),
            include_str!("modules.rs"),
        ];
        hash_of_pieces(source.into_iter().chain([&*release, &*wanted]))
    }
}

fn build(
    cache: &Path,
    folder: &Path,
    release: Option<&Release>,
    recipe: &LinuxRecipe,
    progress: &dyn Fn(&str),
) -> Result<Manifest> {
    let work = work_folder(cache);
    remove_folder(&work)?;
    let apt = Apt::new(cache, release, progress)?;
    progress(&format!("asking apt for {}", recipe.kernel));
    let mut roots = vec![apt.behind_metapackage(recipe.kernel, "linux-image-")?];
    roots.extend(recipe.packages.iter().map(|name| (*name).to_owned()));
    let packages = apt.with_libraries(&roots)?;
    let files = apt.fetch(&packages, progress)?;

    progress("putting the Linux guest together");
    let unpacked = work.join("unpacked");
    apt::unpack(&files, &unpacked)?;
    let result = work.join("result");
    fs::create_dir_all(&result).map_err(Error::file("create", &result))?;
    let mut manifest = Manifest::default();
    assemble(&unpacked, recipe, &result, &mut manifest)?;
    for package in &packages {
        let value = format!("{} {} {}", package.name, package.version, package.sha256);
        manifest.add_fact("package", &value);
    }
    manifest.save(&result)?;
    remove_folder(folder)?;
    fs::rename(&result, folder).map_err(Error::file("rename", &result))?;
    remove_folder(&work)?;
    Ok(manifest)
}

fn assemble(
    unpacked: &Path,
    recipe: &LinuxRecipe,
    result: &Path,
    manifest: &mut Manifest,
) -> Result<()> {
    let packages = Packages::new(unpacked, "");
    let modules = Modules::find(unpacked)?;
    let image = read(&packages.kernel_image(&modules)?)?;
    let mut tree = Tree::default();
    add_usual_paths(&mut tree);
    for folder in ["proc", "run", "sys", "tmp", "usr/bin", "usr/lib"] {
        tree.folder(folder);
    }
    Programs::with(&packages, &mut tree, BTreeSet::new()).add_named(recipe.programs)?;
    modules.add_lists(&[("lab/modules.list", recipe.modules)], &mut tree)?;
    manifest.add_fact("kernel", modules.kernel_version());
    for (name, content) in [
        (
            KERNEL,
            kernel::unpacked(&image).as_deref().unwrap_or(&image),
        ),
        (PACKED_KERNEL, &image),
        (BASE, &tree.archive()),
    ] {
        let path = result.join(name);
        fs::write(&path, content).map_err(Error::file("write", path))?;
        manifest.add_file(result, name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_recipe_is_kept_elsewhere() {
        let recipe = LinuxRecipe {
            kernel: "linux-image-amd64",
            packages: &["nginx"],
            programs: &["nginx"],
            modules: &[],
        };
        let other = LinuxRecipe {
            modules: &["xen-netfront"],
            ..recipe
        };
        let release: Release = "trixie".parse().unwrap();
        assert_eq!(recipe.hash(None), recipe.hash(None));
        assert_ne!(recipe.hash(None), other.hash(None));
        assert_ne!(recipe.hash(None), recipe.hash(Some(&release)));
    }

    #[test]
    fn files_of_the_caller_follow_those_of_the_packages() {
        let scratch = crate::scratch::Scratch::new("linux").unwrap();
        fs::write(scratch.path().join(BASE), b"base").unwrap();
        let guest = LinuxGuest {
            folder: scratch.path().into(),
            kernel_version: String::new(),
            packages: vec!["nginx 1.22 abc".into()],
        };
        let file = GuestFile {
            path: "init".into(),
            executable: true,
            content: b"#!".into(),
        };
        let archive = guest.archive(&[file]).unwrap();
        assert!(archive.starts_with(b"base070701"));
        assert_eq!(guest.package_version("nginx"), Some("1.22"));
        assert_eq!(guest.package_version("ngin"), None);
    }
}
