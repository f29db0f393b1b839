//! Finding and installing packages with the distribution's package manager.

use std::{os::unix::fs::MetadataExt, process::Command};

use crate::{
    Error, Result,
    command::{find, last_lines, shown, text_of},
};

/// Those of `packages` (Debian's names) that are not installed.
///
/// A package counts as installed if the command it is wanted for is on the path,
/// wherever that came from.
pub fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect()
}

/// Installs those of `packages` (Debian's names) that are missing, as root or
/// through `sudo -n`, after telling `progress` what and why.
///
/// # Errors
/// [`Error::MissingPackages`] with the exact command if that takes rights this
/// process does not have, [`Error::Command`] if the package manager fails.
pub fn ensure(packages: &[&str], why: &str, progress: &dyn Fn(&str)) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let manager = Manager::detect().ok_or_else(|| Error::Unsupported {
        reason: format!(
            "no package manager was found to install {} ({why})",
            missing.join(" ")
        ),
    })?;
    let names: Vec<String> = missing
        .iter()
        .map(|package| manager.name_of(package).to_owned())
        .collect();
    let install = manager.install(&names);
    let Some(rights) = Rights::available() else {
        return Err(Error::MissingPackages {
            packages: names,
            why: why.into(),
            command: rights_needed(&install),
        });
    };
    progress(&format!(
        "installing {} ({why}): {}",
        names.join(" "),
        install.join(" ")
    ));
    let mut result = text_of(&mut rights.command(&install));
    if result.is_err() && manager == Manager::Apt {
        // The usual reason on a fresh machine: the package lists are empty or old.
        update_lists(progress)?;
        result = text_of(&mut rights.command(&install));
    }
    result?;
    let still = self::missing(&missing);
    if still.is_empty() {
        return Ok(());
    }
    Err(Error::Package {
        name: still.join(" "),
        reason: format!("`{}` succeeded but left it missing", install.join(" ")),
    })
}

/// The command that installs `packages` (Debian's names) on this distribution, as a user types it;
/// `None` where no package manager is known.
pub fn install_command(packages: &[&str]) -> Option<String> {
    let manager = Manager::detect()?;
    let names: Vec<String> = packages
        .iter()
        .map(|package| manager.name_of(package).to_owned())
        .collect();
    Some(rights_needed(&manager.install(&names)))
}

/// Whether a command is on the path, or where tools for administrators are.
pub fn has_command(name: &str) -> bool {
    find(name).is_some()
}

/// Runs `apt-get update`.
///
/// # Errors
/// [`Error::MissingPackages`] with the command if that takes rights this process
/// does not have.
pub fn update_lists(progress: &dyn Fn(&str)) -> Result<()> {
    let update = words(&["apt-get", "update"]);
    let Some(rights) = Rights::available() else {
        return Err(Error::MissingPackages {
            packages: vec!["apt's package lists".into()],
            why: "to know what can be downloaded".into(),
            command: rights_needed(&update),
        });
    };
    progress("updating the package lists: apt-get update");
    text_of(&mut rights.command(&update)).map(drop)
}

/// The command that installs packages on Debian, for a user to type.
pub(crate) fn installation(packages: &[&str]) -> String {
    rights_needed(&Manager::Apt.install(&words(packages)))
}

fn is_installed(package: &str) -> bool {
    if let Some(command) = command_of(package) {
        return find(command).is_some();
    }
    if find("dpkg-query").is_none() {
        return find(package).is_some();
    }
    text_of(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| last_lines(&status, 1) == ["installed"])
}

/// The command a package is wanted for, where the package's name does not say.
fn command_of(package: &str) -> Option<&'static str> {
    Some(match package {
        "qemu-system-x86" => "qemu-system-x86_64",
        "busybox-static" => "busybox",
        "xz-utils" => "xz",
        "curl" => "curl",
        _ => return None,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Apt,
    Dnf,
    Pacman,
    Zypper,
    Apk,
}

impl Manager {
    fn detect() -> Option<Self> {
        [
            ("apt-get", Self::Apt),
            ("dnf", Self::Dnf),
            ("pacman", Self::Pacman),
            ("zypper", Self::Zypper),
            ("apk", Self::Apk),
        ]
        .into_iter()
        .find_map(|(command, manager)| find(command).map(|_| manager))
    }

    fn install(self, packages: &[String]) -> Vec<String> {
        let mut command = words(match self {
            Self::Apt => &["apt-get", "install", "-y", "--no-install-recommends"],
            Self::Dnf => &["dnf", "install", "-y"],
            Self::Pacman => &["pacman", "-S", "--noconfirm", "--needed"],
            Self::Zypper => &["zypper", "--non-interactive", "install"],
            Self::Apk => &["apk", "add"],
        });
        command.extend_from_slice(packages);
        command
    }

    /// What this distribution calls a package of Debian.
    fn name_of(self, package: &str) -> &str {
        match (self, package) {
            (Self::Dnf, "qemu-system-x86") => "qemu-system-x86-core",
            (Self::Zypper, "qemu-system-x86") => "qemu-x86",
            (Self::Apk, "qemu-system-x86") => "qemu-system-x86_64",
            (Self::Dnf | Self::Pacman | Self::Zypper | Self::Apk, "xz-utils") => "xz",
            _ => package,
        }
    }
}

/// How this process may act as root.
#[derive(Debug, Clone, Copy)]
enum Rights {
    Root,
    Sudo,
}

impl Rights {
    fn available() -> Option<Self> {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0);
        if is_root {
            return Some(Self::Root);
        }
        // -n: never ask for a password, this process may have no terminal.
        text_of(Command::new("sudo").args(["-n", "true"]))
            .is_ok()
            .then_some(Self::Sudo)
    }

    fn command(self, words: &[String]) -> Command {
        let mut command = Command::new(match self {
            Self::Root => "env",
            Self::Sudo => "sudo",
        });
        if matches!(self, Self::Sudo) {
            command.args(["-n", "env"]);
        }
        command.arg("DEBIAN_FRONTEND=noninteractive").args(words);
        command
    }
}

/// The command a user has to type.
fn rights_needed(command: &[String]) -> String {
    let mut sudo = Command::new("sudo");
    sudo.args(command);
    shown(&sudo)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_on_the_path_count_as_installed_and_unknown_packages_do_not() {
        assert_eq!(
            missing(&["rekernel-no-such-package"]),
            ["rekernel-no-such-package"]
        );
        assert!(missing(&[]).is_empty());
    }

    #[test]
    fn each_manager_gets_its_own_names() {
        let name = "qemu-system-x86";
        assert_eq!(Manager::Apt.name_of(name), "qemu-system-x86");
        assert_eq!(Manager::Dnf.name_of(name), "qemu-system-x86-core");
        assert_eq!(Manager::Zypper.name_of(name), "qemu-x86");
        assert_eq!(Manager::Apk.name_of("other"), "other");
    }

    #[test]
    fn the_command_to_type_is_complete() {
        assert_eq!(
            installation(&["qemu-system-x86"]),
            "sudo apt-get install -y --no-install-recommends qemu-system-x86"
        );
    }
}
