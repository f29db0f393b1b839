//! Putting dom0's root together: programs with their libraries, kernel modules
//! in load order, Xen's scripts, and this crate's own start script and agent.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use crate::{
    Error, Result,
    cpio::Tree,
    elf::{is_elf, needed_libraries},
    files::{files_below, names_in, read},
    modules::Modules,
    network::HOTPLUG_SCRIPT,
};

/// Packages whose programs dom0 needs, besides Xen's and the kernel.
pub(crate) const PACKAGES: &[&str] = &[
    "apache2-utils",
    "bash",
    "busybox-static",
    "curl",
    "ethtool",
    "iproute2",
    "util-linux",
    "wrk",
    "xen-utils-common",
    "xenstore-utils",
];

/// Programs taken from those packages. Everything else is busybox's.
pub(crate) const PROGRAMS: &[&str] = &[
    "ab", "bash", "bridge", "busybox", "curl", "ethtool", "flock", "ip", "tc", "wrk",
];

/// Xen's programs that are large and that dom0 here has no use for.
const UNUSED_XEN_PROGRAMS: &[&str] = &["oxenstored", "xen-kdd", "xen-livepatch", "xenmon"];

pub(crate) const COMMON: &str = include_str!("dom0/common.sh");
pub(crate) const START: &str = include_str!("dom0/start.sh");
pub(crate) const BRING_UP: &str = include_str!("dom0/bring-up.sh");
pub(crate) const AGENT: &str = include_str!("dom0/agent.sh");
pub(crate) const VIF_JOINS: &str = include_str!("dom0/vif-joins.sh");
const INITTAB: &str = "::once:/lab/start\n";

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The unpacked packages.
#[derive(Debug)]
pub(crate) struct Packages {
    folder: PathBuf,
    xen: String,
    /// Folders that hold libraries, most general first.
    libraries: Vec<PathBuf>,
}

impl Packages {
    pub(crate) fn new(folder: &Path, xen: &str) -> Self {
        let xen_lib = format!("usr/lib/xen-{xen}/lib");
        let libraries = [
            LIBRARIES,
            "lib/x86_64-linux-gnu",
            &format!("{xen_lib}/x86_64-linux-gnu"),
            &xen_lib,
            "usr/lib64",
            "lib64",
        ];
        Self {
            folder: folder.into(),
            xen: xen.into(),
            libraries: libraries.iter().map(|name| folder.join(name)).collect(),
        }
    }

    /// The packed hypervisor.
    pub(crate) fn xen_image(&self) -> Result<PathBuf> {
        self.boot_file("xen-", ".gz")
    }

    /// The first file of the `boot` folder whose name matches.
    fn boot_file(&self, prefix: &str, suffix: &str) -> Result<PathBuf> {
        let boot = self.folder.join("boot");
        names_in(&boot)?
            .into_iter()
            .find(|name| name.starts_with(prefix) && name.ends_with(suffix))
            .map(|name| boot.join(name))
            .ok_or_else(|| Error::package("boot", &format!("there is no {prefix}...{suffix}")))
    }

    /// The packed kernel, which stands among its modules since Linux 7.
    pub(crate) fn kernel_image(&self, modules: &Modules) -> Result<PathBuf> {
        let beside_modules = modules.folder().join("vmlinuz");
        match beside_modules.exists() {
            true => Ok(beside_modules),
            false => self.boot_file("vmlinuz-", ""),
        }
    }

    /// The archive dom0 starts from, and the names of the libraries in it.
    pub(crate) fn dom0_root(&self, modules: &Modules) -> Result<(Vec<u8>, BTreeSet<String>)> {
        let mut tree = skeleton(&self.xen);
        let mut programs = Programs::with(self, &mut tree, BTreeSet::new());
        programs.add_named(PROGRAMS)?;
        programs.add_xen()?;
        let libraries = programs.seen;
        self.add_scripts(&mut tree)?;
        modules.add_to(&mut tree)?;
        Ok((tree.archive(), libraries))
    }

    /// Where a file of the packages was unpacked.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.join(inside)
    }

    /// Where the packages have what HVM guests begin with.
    pub(crate) fn hvm_loader(&self) -> String {
        format!("usr/lib/xen-{}/boot/hvmloader", self.xen)
    }

    fn add_scripts(&self, tree: &mut Tree) -> Result<()> {
        for folder in ["etc/xen", "usr/lib/xen-common"] {
            for file in files_below(&self.folder.join(folder))? {
                let inside = relative(&file, &self.folder);
                if fs::symlink_metadata(&file).is_ok_and(|data| data.is_symlink()) {
                    let target = fs::read_link(&file).map_err(Error::file("read", &file))?;
                    tree.link(&inside, &target.to_string_lossy());
                } else {
                    let content = read(&file)?;
                    let executable = content.starts_with(b"#!") || is_elf(&content);
                    tree.file(&inside, executable, content);
                }
            }
        }
        // The scripts ask for dom0's own idea of where Xen's programs are.
        tree.contains("etc/xen/scripts/vif-bridge")
            .then_some(())
            .ok_or_else(|| Error::package("xen-utils-common", "it holds no vif-bridge script"))
    }
}

/// Paths by which packages may name programs and libraries, and Linux's own first device.
pub(crate) fn add_usual_paths(tree: &mut Tree) {
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("var/run", "../run"),
    ] {
        tree.link(link, target);
    }
    // Linux opens it before anything can be mounted.
    tree.character_device("dev/console", 5, 1);
    let passwords = b"root:x:0:0:root:/root:/bin/bash\n";
    tree.file("etc/passwd", false, passwords.into());
    tree.file("etc/group", false, b"root:x:0:\n".into());
}

/// What every root of dom0 has, whatever the packages hold.
fn skeleton(xen: &str) -> Tree {
    let mut tree = Tree::default();
    add_usual_paths(&mut tree);
    for folder in [
        "dev",
        "etc",
        "lab/share",
        "mnt",
        "proc",
        "root",
        "run/lab",
        "sys",
        "tmp",
        "usr/bin",
        "usr/lib/busybox",
        "usr/sbin",
        "var/lib/xen",
        "var/lib/xenstored",
        "var/lock",
        "var/log/xen",
        "run/xen",
        "run/xenstored",
    ] {
        tree.folder(folder);
    }
    for (link, target) in [("usr/bin/sh", "bash"), ("init", "usr/bin/busybox")] {
        tree.link(link, target);
    }
    let environment = format!(
        "export PATH=/usr/lib/xen-{xen}/bin:/usr/sbin:/usr/bin:/usr/lib/busybox\n\
         export HOME=/root LANG=C TERM=dumb\n"
    );
    tree.file("lab/environment", false, environment.into_bytes());
    tree.file("lab/common", false, COMMON.into());
    tree.file("lab/start", true, START.into());
    tree.file("lab/bring-up", true, BRING_UP.into());
    tree.file("lab/agent", true, AGENT.into());
    tree.file(
        &format!("etc/xen/scripts/{HOTPLUG_SCRIPT}"),
        true,
        VIF_JOINS.into(),
    );
    tree.file("etc/inittab", false, INITTAB.into());
    tree.file(
        "etc/services",
        false,
        b"domain 53/tcp\ndomain 53/udp\nhttp 80/tcp\n".into(),
    );
    tree.file("etc/hosts", false, b"127.0.0.1 localhost dom0\n".into());
    tree
}

/// Adds programs and, once each, the libraries they load.
pub(crate) struct Programs<'a> {
    packages: &'a Packages,
    tree: &'a mut Tree,
    seen: BTreeSet<String>,
}

impl<'a> Programs<'a> {
    /// `seen` are the names of libraries that are there already.
    pub(crate) fn with(packages: &'a Packages, tree: &'a mut Tree, seen: BTreeSet<String>) -> Self {
        Self {
            packages,
            tree,
            seen,
        }
    }

    /// Adds programs of this name to `usr/bin`, wherever their package has them.
    pub(crate) fn add_named(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            let file = ["usr/bin", "bin", "usr/sbin", "sbin"]
                .map(|folder| self.packages.folder.join(folder).join(name))
                .into_iter()
                .find(|file| file.exists())
                .ok_or_else(|| Error::package(name, "no package holds this program"))?;
            self.add(&file, &format!("usr/bin/{name}"))?;
        }
        Ok(())
    }

    fn add_xen(&mut self) -> Result<()> {
        let private = format!("usr/lib/xen-{}/bin", self.packages.xen);
        for (folder, prefix) in [(private.as_str(), ""), ("usr/bin", "xenstore")] {
            let source = self.packages.folder.join(folder);
            for name in names_in(&source)? {
                let file = self.packages.resolved(&source.join(&name))?;
                let wanted = name.starts_with(prefix)
                    && !UNUSED_XEN_PROGRAMS.contains(&name.as_str())
                    && file.is_file()
                    && is_elf(&read(&file)?);
                if wanted {
                    self.add(&file, &format!("{folder}/{name}"))?;
                }
            }
        }
        for needed in ["xl", "xenstored", "xenconsoled", "xen-init-dom0"] {
            if !self.tree.contains(&format!("{private}/{needed}")) {
                return Err(Error::package(
                    "xen-utils",
                    &format!("it holds no {needed}"),
                ));
            }
        }
        Ok(())
    }

    /// Adds the program at `source`, with the libraries that it loads.
    pub(crate) fn add(&mut self, source: &Path, target: &str) -> Result<()> {
        let content = read(&self.packages.resolved(source)?)?;
        self.add_libraries_of(&content, target)?;
        self.tree.file(target, true, content);
        Ok(())
    }

    fn add_libraries_of(&mut self, program: &[u8], name: &str) -> Result<()> {
        let needed = needed_libraries(program)
            .map_err(|error| Error::package(name, &format!("not a readable ELF file: {error}")))?;
        for library in needed {
            if !self.seen.insert(library.clone()) {
                continue;
            }
            let file = self.packages.library(&library).ok_or_else(|| {
                Error::package(&library, &format!("no package holds it for {name}"))
            })?;
            // The loader's path is fixed in every program.
            let target = if library.starts_with("ld-linux") {
                format!("usr/lib64/{library}")
            } else {
                format!("{LIBRARIES}/{library}")
            };
            self.add(&file, &target)?;
        }
        Ok(())
    }
}

impl Packages {
    fn library(&self, name: &str) -> Option<PathBuf> {
        self.libraries
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| fs::symlink_metadata(file).is_ok())
    }

    /// Follows symbolic links as they will be in dom0: absolute ones start at the
    /// unpacked packages, not at the host's root.
    fn resolved(&self, path: &Path) -> Result<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let Ok(target) = fs::read_link(&path) else {
                return Ok(path);
            };
            path = match target.strip_prefix("/") {
                Ok(inside) => self.folder.join(inside),
                Err(_) => normal(&path.with_file_name("").join(target)),
            };
        }
        Err(Error::package(
            &path.to_string_lossy(),
            "too many symbolic links",
        ))
    }
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

fn relative(path: &Path, base: &Path) -> String {
    path.strip_prefix(base)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command::output_of, scratch::Scratch};
    use std::process::Command;

    #[test]
    fn links_are_followed_inside_the_packages() {
        let scratch = Scratch::new("links").unwrap();
        let folder = scratch.path();
        fs::create_dir_all(folder.join(LIBRARIES)).unwrap();
        fs::create_dir_all(folder.join("lib64")).unwrap();
        fs::write(folder.join(LIBRARIES).join("libx.so.1.2"), "x").unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
        };
        link("/usr/lib/x86_64-linux-gnu/libx.so.1.2", "absolute");
        link("../absolute", "lib64/relative");
        link("loop", "loop");
        let packages = Packages::new(folder, "4.17");
        let resolved = packages.resolved(&folder.join("lib64/relative")).unwrap();
        assert_eq!(fs::read(resolved).unwrap(), b"x");
        assert!(packages.resolved(&folder.join("loop")).is_err());
        assert!(packages.library("libx.so.1.2").is_some());
        assert!(packages.library("liby.so.1").is_none());
    }

    #[test]
    fn the_scripts_are_shell_that_parses() {
        for script in [COMMON, START, BRING_UP, AGENT, VIF_JOINS] {
            let scratch = Scratch::new("script").unwrap();
            let file = scratch.path().join("script");
            fs::write(&file, script).unwrap();
            output_of(Command::new("sh").arg("-n").arg(&file)).unwrap();
        }
    }
}
