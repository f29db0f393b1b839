//! The checks: each looks at one thing and changes nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use lab::packages::{has_command, install_command};

use super::xen::xen;
use super::{Finding, Need, State};
use crate::build::rust_objcopy;
use crate::progress::Bytes;
use crate::qemu::{Accelerator, Qemu, accelerator};

/// All of them, in the order to read them.
pub(super) fn all() -> Vec<Finding> {
    let qemu = Qemu::find();
    let mut findings = vec![
        architecture(),
        rust(),
        linker(),
        strip_tool(),
        qemu_found(qemu.as_ref()),
    ];
    findings.extend(qemu.as_ref().map(kvm));
    findings.extend([packages(), memory(), disk(), gdb(), tap(), namespaces()]);
    findings.push(xen());
    findings
}

/// What to type to install a package of Debian's.
pub(super) fn install(package: &str) -> String {
    install_command(&[package]).unwrap_or_else(|| format!("install {package}"))
}

fn architecture() -> Finding {
    let name = "architecture";
    let here = std::env::consts::ARCH;
    match here {
        "x86_64" => Finding::good(name, Need::Run, here),
        _ => Finding::bad(
            name,
            Need::Run,
            State::Missing,
            format!("{here}, but guests are built with the Rust of an x86-64 Linux"),
            "use an x86-64 machine",
        ),
    }
}

/// The version in the workspace's manifest, which this crate shares.
const NEEDED_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

fn rust() -> Finding {
    let name = "Rust";
    let text = output(Command::new(rustc()).arg("--version")).unwrap_or_default();
    match text.split_whitespace().nth(1) {
        Some(version) if at_least(version, NEEDED_RUST) => Finding::good(name, Need::Run, version),
        Some(version) => Finding::bad(
            name,
            Need::Run,
            State::Missing,
            format!("{version}, but {NEEDED_RUST} is needed"),
            "rustup update stable",
        ),
        None => Finding::bad(
            name,
            Need::Run,
            State::Missing,
            "rustc does not run",
            "install Rust from https://rustup.rs",
        ),
    }
}

/// Whether a version such as `1.95.0-nightly` is at least one such as `1.95`.
fn at_least(version: &str, needed: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let plain = text.split('-').next().unwrap_or_default();
        plain
            .split('.')
            .map_while(|part| part.parse().ok())
            .collect()
    };
    numbers(version) >= numbers(needed)
}

fn linker() -> Finding {
    let name = "rust-lld";
    let found = output(Command::new(rustc()).args(["--print", "sysroot"])).is_some_and(|sysroot| {
        let tool = "lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld";
        Path::new(sysroot.trim()).join(tool).exists()
    });
    match found || has_command("rust-lld") {
        true => Finding::good(name, Need::Run, "found, links guests"),
        false => Finding::bad(
            name,
            Need::Run,
            State::Missing,
            "not in the folder of this Rust, and not on the path",
            "use the Rust of https://rustup.rs, which brings it",
        ),
    }
}

fn strip_tool() -> Finding {
    let name = "objcopy";
    if rust_objcopy().is_some() {
        Finding::good(name, Need::Run, "rust-objcopy of this Rust")
    } else if has_command("objcopy") {
        Finding::good(name, Need::Run, "of binutils")
    } else {
        Finding::bad(
            name,
            Need::Run,
            State::Missing,
            "neither Rust's nor binutils', so that guests cannot be stripped",
            install("binutils"),
        )
    }
}

fn qemu_found(qemu: Option<&Qemu>) -> Finding {
    let name = "QEMU";
    match qemu {
        Some(qemu) if at_least(&qemu.version, "7.2") => {
            Finding::good(name, Need::Run, &qemu.version)
        }
        Some(qemu) => Finding::bad(
            name,
            Need::Run,
            State::Limited,
            format!("{}, older than what is tested (7.2)", qemu.version),
            install("qemu-system-x86"),
        ),
        None => Finding::bad(
            name,
            Need::Run,
            State::Missing,
            "qemu-system-x86_64 does not run",
            install("qemu-system-x86"),
        ),
    }
}

fn kvm(qemu: &Qemu) -> Finding {
    let name = "accelerator";
    let limited =
        |found: String, advice: &str| Finding::bad(name, Need::Run, State::Limited, found, advice);
    if !Path::new("/dev/kvm").exists() {
        return limited(
            "software emulation: there is no /dev/kvm".to_owned(),
            "it works, only slowly; for KVM, switch virtualisation on in the firmware, or nested virtualisation in the host",
        );
    }
    match accelerator::try_boot(qemu, Accelerator::Kvm) {
        Ok(Ok(())) => Finding::good(name, Need::Run, "KVM, a test guest ran with it"),
        Ok(Err(reason)) => limited(
            format!("software emulation: a test guest does not run with KVM ({reason})"),
            "it works, only slowly; where KVM should work, see whether your user is in the group `kvm`",
        ),
        Err(error) => limited(
            format!("software emulation: KVM could not be tried ({error:#})"),
            "see the reason",
        ),
    }
}

fn packages() -> Finding {
    let name = "packages";
    let missing: Vec<_> = ["apt-get", "dpkg-deb"]
        .into_iter()
        .filter(|command| !has_command(command))
        .collect();
    match missing.as_slice() {
        [] => Finding::good(
            name,
            Need::Lab,
            "apt, from which Xen and dom0 are downloaded",
        ),
        _ => Finding::bad(
            name,
            Need::Lab,
            State::Missing,
            format!("no {}", missing.join(" and ")),
            "the lab needs Debian or a distribution made from it; a Xen host of your own does as well",
        ),
    }
}

/// What BUILD.md asks for.
const LAB_MEMORY: u64 = 4 << 30;
const LAB_DISK: u64 = 3 << 30;

fn memory() -> Finding {
    let name = "memory";
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    room(
        name,
        available_memory(&text),
        LAB_MEMORY,
        "close what takes memory",
    )
}

/// Bytes that programs can still have, by Linux's estimate.
fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn disk() -> Finding {
    let home = std::env::var_os("REKERNEL_LAB_CACHE").or_else(|| std::env::var_os("HOME"));
    let folder = home.map_or_else(std::env::temp_dir, Into::into);
    let asked = ["-B1", "--output=avail"];
    let text = output(Command::new("df").args(asked).arg(&folder));
    let free = text.and_then(|text| text.lines().last()?.trim().parse().ok());
    room(
        "disk",
        free,
        LAB_DISK,
        "name another folder in REKERNEL_LAB_CACHE",
    )
}

/// Judges an amount of bytes.
fn room(name: &'static str, free: Option<u64>, needed: u64, advice: &str) -> Finding {
    match free {
        Some(bytes) if bytes >= needed => {
            Finding::good(name, Need::Lab, format!("{} available", Bytes(bytes)))
        }
        Some(bytes) => Finding::bad(
            name,
            Need::Lab,
            State::Missing,
            format!("{} available, {} are needed", Bytes(bytes), Bytes(needed)),
            advice,
        ),
        None => Finding::bad(
            name,
            Need::Lab,
            State::Limited,
            "unknown",
            format!("see that {} are available", Bytes(needed)),
        ),
    }
}

fn gdb() -> Finding {
    let text = output(Command::new("gdb").arg("--version"));
    match text.as_ref().and_then(|text| text.lines().next()) {
        Some(version) => Finding::good("gdb", Need::Gdb, version),
        None => Finding::bad(
            "gdb",
            Need::Gdb,
            State::Missing,
            "not found",
            install("gdb"),
        ),
    }
}

fn tap() -> Finding {
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    match opened {
        Ok(_) => Finding::good("tap devices", Need::Tests, "/dev/net/tun opens"),
        Err(error) => Finding::bad(
            "tap devices",
            Need::Tests,
            State::Missing,
            format!("/dev/net/tun: {error}"),
            "modprobe tun as root; in a container, pass the device in",
        ),
    }
}

fn namespaces() -> Finding {
    let (name, need) = ("namespaces", Need::Tests);
    if !has_command("ip") {
        let found = "`ip` is not found";
        return Finding::bad(name, need, State::Missing, found, install("iproute2"));
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "true"]);
    match command.output() {
        Ok(output) if output.status.success() => {
            Finding::good(name, need, "of users and networks can be made")
        }
        Ok(output) => Finding::bad(
            name,
            need,
            State::Missing,
            String::from_utf8_lossy(&output.stderr).trim(),
            "allow them: sysctl kernel.unprivileged_userns_clone=1, or run the tests as root",
        ),
        Err(error) => Finding::bad(
            name,
            need,
            State::Missing,
            format!("unshare: {error}"),
            install("util-linux"),
        ),
    }
}

fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// What a command printed, where it could be run and did well.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(at_least("1.95.0", "1.95") && at_least("1.100.0-nightly", "1.95"));
        assert!(!at_least("1.94.1", "1.95") && !at_least("of unknown version", "7.2"));
        assert!(at_least("10.0.2", "7.2") && !at_least("6.2.0", "7.2"));
    }

    #[test]
    fn memory_is_what_linux_estimates() {
        let text = "MemTotal:  24000000 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available_memory(text), Some(2 << 20));
        assert_eq!(available_memory("MemAvailable: much\n"), None);
        assert_eq!(room("memory", Some(5), 6, "close").state, State::Missing);
        assert_eq!(room("memory", Some(6), 6, "close").state, State::Good);
        assert_eq!(room("memory", None, 6, "close").state, State::Limited);
    }
}
