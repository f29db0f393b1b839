//! Packages from apt's sources, the machine's own or those of another release: what there is,
//! what belongs together, and their verified files. Nothing is installed and no root is needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error, Result,
    cache::{hash_of, remove_folder, work_folder},
    command::{output_of, text_of},
    release::{Release, private_apt},
};

/// One version of a package, as apt's lists describe it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SHA-256 of its file, in hexadecimal.
    pub(crate) sha256: String,
    /// The size of its file in bytes.
    pub(crate) size: u64,
    /// First alternatives of Depends and Pre-Depends.
    depends: Vec<String>,
}

/// apt, with its index and the files it downloads kept in folders of ours.
#[derive(Debug)]
pub(crate) struct Apt {
    /// The files, of all releases: their names hold their hashes.
    folder: PathBuf,
    /// What each command is told first.
    options: Vec<String>,
}

impl Apt {
    /// apt as it is set up on this machine, or for a release alone, whose lists are fetched into
    /// the folder of work now.
    pub(crate) fn new(
        cache: &Path,
        release: Option<&Release>,
        progress: &dyn Fn(&str),
    ) -> Result<Self> {
        let folder = cache.join("packages");
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let options = match release {
            Some(release) => {
                let state = work_folder(cache).join("apt");
                let configuration = private_apt(&state, release, progress)?;
                vec!["-c".into(), configuration.to_string_lossy().into_owned()]
            }
            // apt builds an index of its lists for each command where it may not keep
            // one, as in containers; here it may.
            None => ["pkgcache", "srcpkgcache"]
                .iter()
                .flat_map(|index| {
                    let file = folder.join(index);
                    let option = format!("Dir::Cache::{index}={}.bin", file.display());
                    ["-o".to_owned(), option]
                })
                .collect(),
        };
        Ok(Self { folder, options })
    }

    /// The newest Xen version that apt offers a hypervisor for, as in "4.17".
    pub(crate) fn newest_xen(&self) -> Result<Option<String>> {
        let names = text_of(
            self.command("apt-cache")
                .args(["pkgnames", "xen-hypervisor-"]),
        )?;
        Ok(newest_xen_of(&names))
    }

    /// The concrete package that a metapackage such as `linux-image-amd64` stands for.
    pub(crate) fn behind_metapackage(&self, name: &str, prefix: &str) -> Result<String> {
        self.candidates(&[name.to_owned()])?
            .into_iter()
            .flat_map(|package| package.depends)
            .find(|depended| depended.starts_with(prefix))
            .ok_or_else(|| Error::Package {
                name: name.into(),
                reason: format!("apt offers no such package that depends on {prefix}..."),
            })
    }

    /// The candidate versions of `roots` and of every library they need, directly
    /// or through other libraries.
    pub(crate) fn with_libraries(&self, roots: &[String]) -> Result<Vec<Package>> {
        let found = closure(roots, |names| self.candidates(names))?;
        for root in roots {
            if !found.contains_key(root) {
                return Err(Error::Package {
                    name: root.clone(),
                    reason: "apt's sources do not offer it".into(),
                });
            }
        }
        Ok(found.into_values().collect())
    }

    /// All versions of one package that apt offers.
    pub(crate) fn versions(&self, name: &str) -> Result<Vec<Package>> {
        let mut command = self.command("apt-cache");
        let text = text_of(command.args(["show", "--all-versions", name]))?;
        Ok(parse_records(&text))
    }

    /// The version of each package that apt would install. A version that is installed but
    /// offered by no source any more has no file to download: then the newest that is.
    fn candidates(&self, names: &[String]) -> Result<Vec<Package>> {
        let mut packages = self.records(&["--no-all-versions"], names)?;
        let missing: Vec<String> = names
            .iter()
            .filter(|name| !packages.iter().any(|package| package.name == **name))
            .cloned()
            .collect();
        if !missing.is_empty() {
            let others = self.records(&["--all-versions"], &missing)?;
            packages.extend(newest_of_each(others));
        }
        Ok(packages)
    }

    /// What apt knows about packages, newest versions first. Names that it does not know are
    /// left out.
    fn records(&self, options: &[&str], names: &[String]) -> Result<Vec<Package>> {
        let mut command = self.command("apt-cache");
        command.arg("show").args(options).args(names);
        // Status 100 with some answers means that one of the names is virtual.
        let output = command.output().map_err(Error::file("run", "apt-cache"))?;
        Ok(parse_records(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Makes sure that each package's file is here, with the right hash, and
    /// returns the files in the same order.
    pub(crate) fn fetch(
        &self,
        packages: &[Package],
        progress: &dyn Fn(&str),
    ) -> Result<Vec<PathBuf>> {
        let file_of = |package: &Package| self.folder.join(file_name(package));
        let mut wanted = Vec::new();
        for package in packages {
            let file = file_of(package);
            if !file.exists() || hash_of(&file)? != package.sha256 {
                wanted.push(package);
            }
        }
        if !wanted.is_empty() {
            let bytes: u64 = wanted.iter().map(|package| package.size).sum();
            let megabytes = bytes as f64 / 1e6;
            progress(&format!(
                "downloading {} packages, {megabytes:.1} MB",
                wanted.len()
            ));
            self.download(&wanted)?;
        }
        for package in wanted {
            if !file_of(package).exists() {
                return Err(Error::Package {
                    name: package.name.clone(),
                    reason: format!(
                        "apt downloaded no file with the SHA-256 {} of version {}",
                        package.sha256, package.version
                    ),
                });
            }
        }
        Ok(packages.iter().map(file_of).collect())
    }

    fn download(&self, packages: &[&Package]) -> Result<()> {
        for package in packages {
            // What is there has the wrong content.
            let _ = fs::remove_file(self.folder.join(file_name(package)));
        }
        let arriving = self.folder.join("arriving");
        remove_folder(&arriving)?;
        fs::create_dir_all(&arriving).map_err(Error::file("create", &arriving))?;
        let names = packages
            .iter()
            .map(|package| format!("{}={}", package.name, package.version));
        let mut command = self.command("apt-get");
        command.arg("download").args(names).current_dir(&arriving);
        output_of(&mut command)?;
        // Files are known by their content: their names are apt's affair.
        for entry in fs::read_dir(&arriving).map_err(Error::file("list", &arriving))? {
            let path = entry.map_err(Error::file("list", &arriving))?.path();
            let hash = hash_of(&path)?;
            if let Some(package) = packages.iter().find(|package| package.sha256 == hash) {
                let target = self.folder.join(file_name(package));
                fs::rename(&path, &target).map_err(Error::file("rename", &path))?;
            }
        }
        remove_folder(&arriving)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }
}

fn newest_xen_of(names: &str) -> Option<String> {
    names
        .lines()
        .filter_map(|name| name.strip_prefix("xen-hypervisor-")?.strip_suffix("-amd64"))
        .max_by_key(|version| {
            version
                .split('.')
                .map(|number| number.parse::<u32>().unwrap_or(0))
                .collect::<Vec<_>>()
        })
        .map(str::to_owned)
}

/// Follows dependencies level by level, so that apt is asked a few times only.
fn closure(
    roots: &[String],
    lookup: impl Fn(&[String]) -> Result<Vec<Package>>,
) -> Result<BTreeMap<String, Package>> {
    let mut found = BTreeMap::new();
    let mut asked: BTreeSet<String> = roots.iter().cloned().collect();
    let mut level = roots.to_vec();
    while !level.is_empty() {
        let packages = lookup(&level)?;
        level.clear();
        for package in packages {
            for depended in &package.depends {
                // Interpreters and services are of no use in the lab's dom0;
                // a library that is really missing is noticed by its users.
                if is_part(depended) && asked.insert(depended.clone()) {
                    level.push(depended.clone());
                }
            }
            found.insert(package.name.clone(), package);
        }
    }
    Ok(found)
}

/// Whether what depends on this package cannot do without: a library (zlib is the one that
/// Debian names otherwise), or a part of a kernel, since Linux 7 spread over packages that
/// `linux-image-` only names.
fn is_part(name: &str) -> bool {
    let prefixes = [
        "lib",
        "zlib",
        "linux-base-",
        "linux-binary-",
        "linux-modules-",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The first of each name, as apt lists newer versions first.
fn newest_of_each(mut packages: Vec<Package>) -> Vec<Package> {
    let mut seen = BTreeSet::new();
    packages.retain(|package| seen.insert(package.name.clone()));
    packages
}

fn parse_records(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(parse_record).collect()
}

fn parse_record(record: &str) -> Option<Package> {
    let field = |name: &str| {
        record
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(str::trim)
    };
    let depends = ["Pre-Depends", "Depends"]
        .into_iter()
        .filter_map(field)
        .flat_map(first_alternatives)
        .collect();
    Some(Package {
        name: field("Package")?.into(),
        version: field("Version")?.into(),
        sha256: field("SHA256")?.into(),
        size: field("Size")?.parse().ok()?,
        depends,
    })
}

/// `a (>= 1), b:any | c` names a and b.
fn first_alternatives(field: &str) -> impl Iterator<Item = String> {
    field.split(',').filter_map(|alternatives| {
        let name = alternatives.split(['|', '(', '[', ':']).next()?.trim();
        (!name.is_empty()).then(|| name.to_owned())
    })
}

fn file_name(package: &Package) -> String {
    format!("{}_{:.16}.deb", package.name, package.sha256)
}

/// Unpacks packages over each other into `folder`.
pub(crate) fn unpack(files: &[PathBuf], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    for file in files {
        output_of(Command::new("dpkg-deb").arg("-x").arg(file).arg(folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = "\
Package: xl-tool
Version: 4.17.7+13-1
Pre-Depends: libpre
Depends: libc6 (>= 2.35), python3:any, libx1 | libx2, debconf (>= 0.5) | debconf-2.0
Description: one
 Depends: not a field
Size: 1372500
SHA256: abc

Package: broken
Version: 1
";

    #[test]
    fn records_are_parsed_and_incomplete_ones_skipped() {
        let packages = parse_records(RECORDS);
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].version, "4.17.7+13-1");
        assert_eq!(packages[0].size, 1_372_500);
        assert_eq!(
            packages[0].depends,
            ["libpre", "libc6", "python3", "libx1", "debconf"]
        );
    }

    #[test]
    fn the_newest_xen_is_found_by_number_not_by_text() {
        let names = "xen-hypervisor-4.9-amd64\n\
                     xen-hypervisor-4.17-amd64\n\
                     xen-hypervisor-4.20-amd64-dbg\n";
        assert_eq!(newest_xen_of(names).as_deref(), Some("4.17"));
        assert_eq!(newest_xen_of("xen-hypervisor-common"), None);
    }

    #[test]
    fn an_installed_version_that_no_source_offers_gives_way_to_the_newest_that_one_does() {
        // As apt-cache shows it: the installed version first, without a file.
        let records = parse_records(
            "Package: tool\nVersion: 3\nStatus: install ok installed\n\n\
             Package: tool\nVersion: 2\nSize: 1\nSHA256: b\n\n\
             Package: tool\nVersion: 1\nSize: 1\nSHA256: a\n\n\
             Package: other\nVersion: 1\nSize: 1\nSHA256: c\n",
        );
        let found = newest_of_each(records);
        let versions: Vec<_> = found
            .iter()
            .map(|package| (package.name.as_str(), package.version.as_str()))
            .collect();
        assert_eq!(versions, [("tool", "2"), ("other", "1")]);
    }

    fn package(name: &str, depends: &[&str]) -> Package {
        Package {
            name: name.into(),
            version: "1".into(),
            sha256: name.into(),
            size: 1,
            depends: depends.iter().map(|name| (*name).into()).collect(),
        }
    }

    #[test]
    fn the_closure_holds_libraries_of_libraries_and_parts_of_a_kernel_once_and_nothing_else() {
        let all = [
            package("tool", &["liba", "python3"]),
            package("liba", &["libb", "zlib1g"]),
            package("libb", &["liba", "libvirtual"]),
            package("zlib1g", &[]),
            package("python3", &["libpython"]),
            package("linux-image-7", &["linux-base", "linux-modules-7"]),
            package("linux-base", &[]),
            package("linux-modules-7", &["linux-base-7"]),
            package("linux-base-7", &[]),
        ];
        let lookup = |names: &[String]| {
            Ok(all
                .iter()
                .filter(|package| names.contains(&package.name))
                .cloned()
                .collect())
        };
        let names = |root: &str| {
            let found = closure(&[root.to_owned()], lookup).unwrap();
            found.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names("tool"), ["liba", "libb", "tool", "zlib1g"]);
        let kernel = ["linux-base-7", "linux-image-7", "linux-modules-7"];
        assert_eq!(names("linux-image-7"), kernel);
    }
}
