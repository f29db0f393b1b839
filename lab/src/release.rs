//! Debian's releases: which one Xen and dom0 come from, and an apt that looks at that one
//! alone, with a state of its own. The machine's apt is asked for its mirrors and left as it is.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use crate::{
    Error, Result,
    command::text_of,
    packages::{installation, update_lists},
};

/// A release of Debian, by the name of its suite: `bookworm`, `trixie`, `sid`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Release(String);

impl Release {
    /// The name of its suite.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// An error about this release.
    pub(crate) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Release {
            release: self.0.clone(),
            reason: reason.into(),
        }
    }

    /// Whether everything that changes comes into the suite itself, so that there are none beside
    /// it with updates.
    fn is_rolling(&self) -> bool {
        ["sid", "unstable", "experimental"].contains(&self.name())
    }

    /// The suite of this release that stands beside `codename`'s, as in `trixie-security` for
    /// `bookworm-security`; none for backports, and where this release has no such suite.
    fn suite_beside(&self, codename: &str) -> Option<String> {
        match codename.split_once('-') {
            None => Some(self.0.clone()),
            Some((_, kind @ ("updates" | "security"))) if !self.is_rolling() => {
                Some(format!("{self}-{kind}"))
            }
            Some(_) => None,
        }
    }
}

impl FromStr for Release {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let release = Self(name.to_owned());
        // It becomes the name of a folder and a word in apt's sources.
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        match !name.is_empty() && name.bytes().all(is_plain) {
            true => Ok(release),
            false => Err(release
                .error("the name of a suite has small letters and digits only, as in bookworm, trixie, sid")),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes the configuration file for an apt that knows this release alone, keeping everything below
/// `folder`, and has it fetch the release's lists. Returns the file.
pub(crate) fn private_apt(
    folder: &Path,
    release: &Release,
    progress: &dyn Fn(&str),
) -> Result<PathBuf> {
    let sources = sources(release, progress)?;
    for inside in ["state/lists/partial", "cache/archives/partial"] {
        let path = folder.join(inside);
        fs::create_dir_all(&path).map_err(Error::file("create", path))?;
    }
    let configuration = folder.join("apt.conf");
    for (file, text) in [
        (folder.join(SOURCES), sources),
        // Nothing is installed, as far as this apt knows.
        (folder.join(STATUS), String::new()),
        (configuration.clone(), configuration_in(folder)),
    ] {
        fs::write(&file, text).map_err(Error::file("write", file))?;
    }
    progress(&format!("fetching the package lists of Debian's {release}"));
    let mut update = Command::new("apt-get");
    update.env("LC_ALL", "C").arg("-c").arg(&configuration);
    // The first because apt otherwise reports success without the lists, the second for names
    // such as `stable`, whose meaning changes.
    update.args(["update", "--error-on=any", "--allow-releaseinfo-change"]);
    text_of(&mut update).map_err(|error| explained(release, error))?;
    Ok(configuration)
}

const SOURCES: &str = "debian.sources";
const STATUS: &str = "status";

/// Read after the machine's own configuration, which may name proxies: those stay. So do not its
/// preferences, and what it has done after updates, which is for the machine's own lists.
fn configuration_in(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "#clear APT::Update;\n\
         #clear APT::Default-Release;\n\
         Acquire::Languages \"none\";\n\
         Dir::State \"{folder}/state/\";\n\
         Dir::State::lists \"lists/\";\n\
         Dir::State::status \"{folder}/{STATUS}\";\n\
         Dir::Cache \"{folder}/cache/\";\n\
         Dir::Cache::pkgcache \"pkgcache.bin\";\n\
         Dir::Cache::srcpkgcache \"srcpkgcache.bin\";\n\
         Dir::Etc::SourceList \"{folder}/{SOURCES}\";\n\
         Dir::Etc::SourceParts \"/dev/null\";\n\
         Dir::Etc::Preferences \"/dev/null\";\n\
         Dir::Etc::PreferencesParts \"/dev/null\";\n"
    )
}

/// apt's sources for a release: the machine's own, with the name of the release exchanged.
fn sources(release: &Release, progress: &dyn Fn(&str)) -> Result<String> {
    let keyring = keyring()?;
    let mut found = derived(&machine_targets()?, release);
    if found.is_empty() {
        // What a source holds is known once its lists are there.
        update_lists(progress)?;
        found = derived(&machine_targets()?, release);
    }
    if found.is_empty() {
        return Err(release.error(
            "no mirror to take it from: none of this machine's apt sources is Debian's; \
             without a release the lab uses what they offer",
        ));
    }
    let stanza = |(uri, suite): &(String, String)| {
        format!(
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\n\
             Targets: Packages\nSigned-By: {}\n\n",
            keyring.display()
        )
    };
    Ok(found.iter().map(stanza).collect())
}

/// What the machine's apt knows about its sources, a line each as in [`TARGET`].
fn machine_targets() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", TARGET, "Created-By: Packages"]);
    text_of(&mut targets)
}

/// The origin comes last: it may hold spaces.
const TARGET: &str = "$(COMPONENT) $(CODENAME) $(REPO_URI) $(ORIGIN)";

/// Addresses and suites for a release, from the machine's own sources.
fn derived(targets: &str, release: &Release) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for target in targets.lines() {
        let mut words = target.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (component, codename, uri, origin) = (word(), word(), word(), word());
        if component != "main" || origin != "Debian" {
            continue;
        }
        if let Some(suite) = release.suite_beside(codename) {
            let source = (uri.to_owned(), suite);
            if !found.contains(&source) {
                found.push(source);
            }
        }
    }
    found
}

/// The keys that Debian signs with, which a later release calls `.pgp`.
fn keyring() -> Result<PathBuf> {
    let known = ["pgp", "gpg"]
        .map(|kind| PathBuf::from(format!("/usr/share/keyrings/debian-archive-keyring.{kind}")));
    let found = known.into_iter().find(|file| file.exists());
    found.ok_or_else(|| Error::MissingPackages {
        packages: vec![KEYRING.into()],
        why: "to check Debian's signatures".into(),
        command: installation(&[KEYRING]),
    })
}

const KEYRING: &str = "debian-archive-keyring";

/// What is behind apt's refusal of a release, where that is known.
fn explained(release: &Release, error: Error) -> Error {
    let Error::Command { reason, .. } = &error else {
        return error;
    };
    // Warnings about other things may come first.
    let line_with = |sign: &str| {
        let line = reason.split(" / ").find(|line| line.contains(sign))?;
        Some(line.trim_start_matches("exit status: 100: "))
    };
    if let Some(line) = line_with("does not have a Release file") {
        return release.error(format!(
            "this machine's Debian mirror has no such suite; bookworm, trixie and sid are some \
             that hold a Xen ({line})"
        ));
    }
    // gpg's word and that of apt 3's sqv.
    if let Some(line) = line_with("NO_PUBKEY").or_else(|| line_with("Missing key")) {
        return release.error(format!(
            "it is signed with a key that this machine does not have; get the newest with: {} \
             ({line})",
            installation(&[KEYRING])
        ));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(name: &str) -> Release {
        name.parse().unwrap()
    }

    #[test]
    fn only_names_of_suites_are_names() {
        assert_eq!(release("trixie").to_string(), "trixie");
        for wrong in ["", "../etc", "trixie main", "Trixie", "trixie-security"] {
            let error = Release::from_str(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
            assert!(error.contains("small letters"), "{error}");
        }
    }

    const MACHINE: &str = "\
main bookworm http://mirror/debian/ Debian
contrib bookworm http://mirror/debian/ Debian
main bookworm-updates http://mirror/debian/ Debian
main bookworm-backports http://mirror/debian/ Debian Backports
main bookworm-backports http://mirror/debian/ Debian
main bookworm-security http://mirror/debian-security/ Debian
main trixie http://mirror/debian/ Debian
main stable http://elsewhere/ Some Firm
main $(CODENAME) http://not/yet/there/ $(ORIGIN)
nonsense
";

    #[test]
    fn sources_are_the_machines_with_the_release_exchanged() {
        let pairs = |name: &str| {
            derived(MACHINE, &release(name))
                .into_iter()
                .map(|(uri, suite)| format!("{uri} {suite}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            pairs("forky"),
            [
                "http://mirror/debian/ forky",
                "http://mirror/debian/ forky-updates",
                "http://mirror/debian-security/ forky-security",
            ]
        );
        assert_eq!(pairs("sid"), ["http://mirror/debian/ sid"]);
        assert!(derived("", &release("sid")).is_empty());
    }

    fn refused(reason: &str) -> String {
        let error = Error::Command {
            command: "apt-get update".into(),
            reason: reason.into(),
        };
        explained(&release("nosuch"), error).to_string()
    }

    #[test]
    fn what_apt_refuses_is_explained() {
        let missing = refused(
            "status: 100: W: Unsandboxed / E: The repository 'x nosuch Release' does not have a \
             Release file. / E: y",
        );
        assert!(missing.contains("`nosuch`"), "{missing}");
        assert!(missing.contains("has no such suite"), "{missing}");
        assert!(
            missing
                .ends_with("(E: The repository 'x nosuch Release' does not have a Release file.)"),
            "{missing}"
        );
        for said in ["NO_PUBKEY 6ED0E7B82643E131", "Missing key 4D64390375060AA4"] {
            let unknown = refused(&format!("E: is not signed / {said}"));
            assert!(unknown.contains("debian-archive-keyring"), "{unknown}");
        }
        let other = refused("E: Could not resolve 'mirror'");
        assert!(other.starts_with("`apt-get update` failed"), "{other}");
    }

    #[test]
    fn nothing_of_the_machines_state_is_in_the_private_configuration() {
        let text = configuration_in(Path::new("/home/user/apt"));
        let paths = text.lines().filter_map(|line| line.split('"').nth(1));
        for path in paths.filter(|path| path.starts_with('/')) {
            let is_ours = path.starts_with("/home/user/apt/") || path == "/dev/null";
            assert!(is_ours, "{path}");
        }
        assert!(text.contains("Dir::State::status \"/home/user/apt/status\""));
    }
}
