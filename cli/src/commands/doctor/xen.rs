//! Whether there is a Xen below this machine, and what this machine is to it.

use std::fs;

use lab::packages::has_command;

use super::checks::install;
use super::{Finding, Need, State};

/// What Linux says about a Xen below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct XenFiles {
    /// `/sys/hypervisor/type`.
    hypervisor: Option<String>,
    /// `/proc/xen/capabilities`.
    capabilities: Option<String>,
    /// Whether `xl` is there.
    has_xl: bool,
}

impl XenFiles {
    fn read() -> Self {
        let read = |path| fs::read_to_string(path).ok();
        Self {
            hypervisor: read("/sys/hypervisor/type"),
            capabilities: read("/proc/xen/capabilities"),
            has_xl: has_command("xl"),
        }
    }
}

/// Whether this machine is a dom0, a guest of Xen, or neither.
pub(super) fn xen() -> Finding {
    judge(&XenFiles::read())
}

fn judge(files: &XenFiles) -> Finding {
    let (name, need) = ("Xen", Need::Nothing);
    let is_dom0 = files
        .capabilities
        .as_ref()
        .is_some_and(|capabilities| capabilities.contains("control_d"));
    let is_guest = files
        .hypervisor
        .as_ref()
        .is_some_and(|hypervisor| hypervisor.trim() == "xen")
        || files.capabilities.is_some();
    match (is_dom0, is_guest, files.has_xl) {
        (true, _, true) => Finding::good(
            name,
            need,
            "this is a dom0: `xl create` boots guests right here",
        ),
        (true, _, false) => Finding::bad(
            name,
            need,
            State::Limited,
            "this is a dom0 without xl",
            install("xen-system-amd64"),
        ),
        (false, true, _) => Finding::good(
            name,
            need,
            "this machine is a guest of Xen: guests of its own boot under QEMU",
        ),
        (false, false, true) => Finding::good(
            name,
            need,
            "xl is installed, but no Xen runs below this machine (was Xen chosen at boot?)",
        ),
        (false, false, false) => Finding::good(
            name,
            need,
            "none below this machine; --on xen brings its own",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dom0_guest_and_neither_are_told_apart() {
        let found = |hypervisor: Option<&str>, capabilities: Option<&str>, has_xl| {
            judge(&XenFiles {
                hypervisor: hypervisor.map(str::to_owned),
                capabilities: capabilities.map(str::to_owned),
                has_xl,
            })
        };
        let dom0 = found(Some("xen\n"), Some("control_d\n"), true);
        assert!(dom0.found.contains("right here"));
        assert_eq!(
            found(Some("xen\n"), Some("control_d\n"), false).state,
            State::Limited
        );
        assert!(
            found(Some("xen\n"), Some(""), false)
                .found
                .contains("guest of Xen")
        );
        assert!(found(None, None, true).found.contains("chosen at boot"));
        assert!(found(Some("kvm\n"), None, false).found.starts_with("none"));
    }
}
