//! Why a machine did not do what it should, from what it left behind.

use std::{fs, path::Path};

use crate::{Diagnosis, command::last_lines};

/// What the serial port writes.
pub(crate) const SERIAL: &str = "xen-console.log";
/// What QEMU itself writes.
pub(crate) const QEMU_LOG: &str = "qemu.log";

/// The diagnosis of a machine whose files are in `folder`.
pub(crate) fn of(folder: &Path, last_stage: Option<String>) -> Diagnosis {
    let serial = read_text(&folder.join(SERIAL));
    let qemu = read_text(&folder.join(QEMU_LOG));
    Diagnosis {
        hints: hints(&serial, &qemu),
        last_stage,
        subject: Vec::new(),
        console: last_lines(&serial, 25),
        qemu: last_lines(&qemu, 8),
    }
}

/// A log as text; empty if it cannot be read, because logs serve diagnosis.
pub(crate) fn read_text(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Likely causes, by what their victims write.
fn hints(serial: &str, qemu: &str) -> Vec<String> {
    let known = [
        (
            serial,
            "Kernel panic - not syncing",
            "dom0's kernel panicked",
        ),
        (serial, "Panic on CPU", "Xen panicked"),
        (serial, "Hardware Dom0 crashed", "dom0 crashed"),
        (
            serial,
            "Out of memory: Killed",
            "dom0 ran out of memory: give it more (dom0_memory_mib)",
        ),
        (
            qemu,
            "Could not set up host forwarding",
            "a port forwarded from the host is already in use",
        ),
        (
            qemu,
            "annot set up guest memory",
            "the host has too little free memory for the machine (memory_mib)",
        ),
        (
            qemu,
            "'local' is not",
            "this QEMU was built without shared folders (virtfs)",
        ),
    ];
    known
        .into_iter()
        .filter(|(text, sign, _)| text.contains(sign))
        .map(|(text, sign, cause)| match reason_after(text, sign) {
            Some(reason) => format!("{cause}: {reason}"),
            None => cause.to_owned(),
        })
        .collect()
}

/// What a panic gives as its reason: the rest of the line, or the next line.
fn reason_after<'a>(text: &'a str, sign: &str) -> Option<&'a str> {
    let is_panic = sign.contains("anic");
    let (_, after) = is_panic.then(|| text.split_once(sign)).flatten()?;
    let mut lines = after.lines();
    let same_line = lines.next()?.split_once(": ").map(|(_, reason)| reason);
    same_line
        .or_else(|| lines.next().map(|line| line.trim_start_matches("(XEN)")))
        .map(str::trim)
        .filter(|reason| !reason.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_recognised() {
        assert!(hints("all fine", "").is_empty());
        let found = hints(
            "[1.0] Kernel panic - not syncing",
            "Could not set up host forwarding rule",
        );
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("panicked") && found[1].contains("in use"));
        let panics = "(XEN) Panic on CPU 0:\n(XEN) too small\n\
                      Kernel panic - not syncing: VFS: no root\n";
        assert_eq!(
            hints(panics, ""),
            [
                "dom0's kernel panicked: VFS: no root",
                "Xen panicked: too small"
            ]
        );
    }
}
