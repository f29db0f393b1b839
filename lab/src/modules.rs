//! dom0's kernel modules: which, and in which order they are loaded.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error, Result,
    command::{find, output_of},
    cpio::Tree,
    elf::module_depends,
    files::{files_below, names_in, read},
};

/// Those that carry the control port, so that start-up can report from
/// early on. Those they depend on come along.
const FIRST: &[&str] = &["virtio_pci", "virtio_console"];

/// All others.
const REST: &[&str] = &[
    "9p",
    "9pnet_virtio",
    "bridge",
    "loop",
    "sch_netem",
    "tun",
    "veth",
    "virtio_net",
    "xen-blkback",
    "xen-evtchn",
    "xen-gntalloc",
    "xen-gntdev",
    "xen-netback",
    // For driver domains, which start from the same files.
    "xen-netfront",
    "xen-privcmd",
    "xenfs",
];

/// The modules of an unpacked kernel.
#[derive(Debug)]
pub(crate) struct Modules {
    folder: PathBuf,
    version: String,
    files: Vec<PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Finds them among the unpacked packages.
    pub(crate) fn find(packages: &Path) -> Result<Self> {
        for modules in ["usr/lib/modules", "lib/modules"] {
            let folder = packages.join(modules);
            let Some(version) = names_in(&folder)?.into_iter().next() else {
                continue;
            };
            let folder = folder.join(&version);
            let list = folder.join("modules.builtin");
            let builtin = fs::read_to_string(&list).map_err(Error::file("read", &list))?;
            return Ok(Self {
                version,
                folder: folder.clone(),
                files: files_below(&folder.join("kernel"))?,
                builtin: builtin.lines().map(name_of).collect(),
            });
        }
        Err(Error::package("linux-image", "it holds no lib/modules"))
    }

    /// Where they were unpacked.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The version of the kernel they belong to.
    pub(crate) fn kernel_version(&self) -> &str {
        &self.version
    }

    /// Adds dom0's modules to its root, with two lists of the order to load them in.
    pub(crate) fn add_to(&self, tree: &mut Tree) -> Result<()> {
        self.add_lists(
            &[("lab/modules.first", FIRST), ("lab/modules.rest", REST)],
            tree,
        )
    }

    /// Adds modules, those they depend on, and a file for each list with the order to load its
    /// modules in.
    pub(crate) fn add_lists(&self, lists: &[(&str, &[&str])], tree: &mut Tree) -> Result<()> {
        let mut order = Vec::new();
        for (file, modules) in lists {
            let start = order.len();
            for module in *modules {
                add_module(name_of(module), &|name| self.content(name), &mut order)?;
            }
            let added = order[start..].iter().map(|(name, _)| format!("{name}\n"));
            tree.file(file, false, added.collect::<String>().into_bytes());
        }
        for (name, content) in order {
            tree.file(&format!("lab/modules/{name}.ko"), false, content);
        }
        Ok(())
    }

    /// The content of a module; none if it is part of the kernel.
    fn content(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if self.builtin.contains(name) {
            return Ok(None);
        }
        let file = self
            .files
            .iter()
            .find(|file| name_of(file) == name)
            .ok_or_else(|| Error::package("linux-image", &format!("it holds no module {name}")))?;
        let extension = file.extension().unwrap_or_default().to_string_lossy();
        let (decompressor, package) = match &*extension {
            "ko" => return read(file).map(Some),
            "xz" => ("xz", "xz-utils"),
            "zst" => ("zstd", "zstd"),
            _ => ("gzip", "gzip"),
        };
        if find(decompressor).is_none() {
            return Err(Error::MissingPackages {
                packages: vec![package.into()],
                why: "to unpack kernel modules".into(),
                command: format!("sudo apt-get install -y {package}"),
            });
        }
        output_of(Command::new(decompressor).arg("-dc").arg(file)).map(Some)
    }
}

/// `net/9p/9pnet-virtio.ko.xz` is the module `9pnet_virtio`.
fn name_of(path: impl AsRef<Path>) -> String {
    let name = path
        .as_ref()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

/// Appends a module after the ones it depends on, unless it is there.
fn add_module(
    name: String,
    content_of: &dyn Fn(&str) -> Result<Option<Vec<u8>>>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    if order.iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    let Some(content) = content_of(&name)? else {
        return Ok(());
    };
    let depends = module_depends(&content)
        .map_err(|error| Error::package(&name, &format!("not a readable module: {error}")))?;
    for depended in depends {
        add_module(name_of(depended), content_of, order)?;
    }
    order.push((name, content));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_known_by_the_kernels_names() {
        assert_eq!(
            name_of("kernel/drivers/net/xen-netback/xen-netback.ko"),
            "xen_netback"
        );
        assert_eq!(name_of("9pnet_virtio.ko.xz"), "9pnet_virtio");
    }

    #[test]
    fn a_module_that_is_nowhere_is_an_error_and_a_built_in_one_is_not() {
        let modules = Modules {
            folder: PathBuf::new(),
            version: "6.1".into(),
            files: vec![],
            builtin: BTreeSet::from(["xenfs".to_owned()]),
        };
        assert_eq!(modules.content("xenfs").unwrap(), None);
        let error = modules.content("bridge").unwrap_err().to_string();
        assert!(error.contains("no module bridge"), "{error}");
    }
}
