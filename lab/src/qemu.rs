//! Which QEMU runs the lab, and with which arguments.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    BootOptions, Error, HostForward, Result,
    apt::{self, Apt},
    cache::{Manifest, remove_folder},
    command::{find, text_of},
    prepare::{KERNEL, ROOT, XEN},
};

/// The version whose emulation of nested virtualisation is right in all we use.
///
/// QEMU 10.0 checks CR0's read intercept for every control register, so that
/// `mov %cr2` reads 0 in a guest of Xen and page faults seem to happen at
/// address 0.
const PREFERRED: &str = "7.2.";

/// A QEMU and where it finds its firmware.
#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    program: PathBuf,
    version: String,
    data_folders: Vec<PathBuf>,
}

impl Qemu {
    /// The installed QEMU, or one of the preferred version unpacked beside it if
    /// the machine's sources have one.
    pub(crate) fn choose(cache: &Path, progress: &dyn Fn(&str)) -> Result<Self> {
        let program = find("qemu-system-x86_64").ok_or_else(|| Error::Unsupported {
            reason: "qemu-system-x86_64 is not on the path".into(),
        })?;
        let installed = Self::installed(program)?;
        if installed.version.starts_with(PREFERRED) {
            return Ok(installed);
        }
        let other = Self::unpacked(cache, progress);
        other.or_else(|error| {
            progress(&format!(
                "using QEMU {}; page faults of guests may show address 0 ({error})",
                installed.version
            ));
            Ok(installed)
        })
    }

    pub(crate) fn installed(program: PathBuf) -> Result<Self> {
        let text = text_of(Command::new(&program).arg("--version"))?;
        Ok(Self {
            version: version_in(&text).unwrap_or("unknown").into(),
            program,
            data_folders: Vec::new(),
        })
    }

    fn unpacked(cache: &Path, progress: &dyn Fn(&str)) -> Result<Self> {
        let folder = cache.join(format!("qemu-{PREFERRED}x"));
        if Manifest::load_checked(&folder).is_none() {
            let apt = Apt::new(cache, None, progress)?;
            let packages = preferred_packages(&apt)?;
            progress(&format!(
                "unpacking QEMU {} beside the installed one, which misreports page faults",
                packages[0].version
            ));
            let files = apt.fetch(&packages, progress)?;
            remove_folder(&folder)?;
            apt::unpack(&files, &folder)?;
            let mut manifest = Manifest::default();
            manifest.add_file(&folder, PROGRAM)?;
            manifest.save(&folder)?;
        }
        let mut qemu = Self::installed(folder.join(PROGRAM))?;
        qemu.data_folders = vec![
            folder.join("usr/share/qemu"),
            folder.join("usr/share/seabios"),
            "/usr/share/seabios".into(),
            "/usr/share/qemu".into(),
        ];
        Ok(qemu)
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The command for a machine whose files are in `run`. It must be started in
    /// the folder of the prepared files: QEMU takes the modules' names apart at
    /// spaces and commas, so they are given without a folder.
    pub(crate) fn command(&self, options: &BootOptions, run: &RunFiles) -> Vec<String> {
        let mut words = vec![self.program.to_string_lossy().into_owned()];
        for folder in &self.data_folders {
            words.extend(["-L".into(), folder.to_string_lossy().into_owned()]);
        }
        words.extend(arguments(options, run));
        words
    }
}

const PROGRAM: &str = "usr/bin/qemu-system-x86_64";

fn preferred_packages(apt: &Apt) -> Result<Vec<apt::Package>> {
    let names = [
        "qemu-system-x86",
        "qemu-system-common",
        "qemu-system-data",
        "seabios",
    ];
    let mut chosen = Vec::new();
    for name in names {
        let wanted = format!("1:{PREFERRED}").trim_end_matches('.').to_owned();
        let found = apt
            .versions(name)?
            .into_iter()
            .find(|package| name == "seabios" || package.version.starts_with(&wanted));
        chosen.push(found.ok_or_else(|| Error::Package {
            name: name.into(),
            reason: format!("apt's sources offer no version {PREFERRED}x"),
        })?);
    }
    Ok(chosen)
}

/// `QEMU emulator version 7.2.22 (Debian ...)`.
fn version_in(text: &str) -> Option<&str> {
    text.split_once("version ")?.1.split_whitespace().next()
}

/// The files of one running machine.
#[derive(Debug)]
pub(crate) struct RunFiles {
    /// The Unix socket of the control port.
    pub(crate) control: PathBuf,
    /// The folder shared with dom0.
    pub(crate) share: PathBuf,
    /// What the serial port writes.
    pub(crate) serial: PathBuf,
}

fn arguments(options: &BootOptions, run: &RunFiles) -> Vec<String> {
    let xen = format!(
        "com1=115200,8n1 console=com1 dom0_mem={dom0}M,max:{dom0}M dom0_max_vcpus=1 \
         loglvl=warning guest_loglvl=all sched=credit smap=hvm bootscrub=off {extra}",
        dom0 = options.dom0_memory_mib,
        extra = options.xen_arguments,
    );
    let memory = options.memory_mib.to_string();
    let processors = options.processors.to_string();
    let modules = format!("{KERNEL} console=hvc0 quiet panic=1 net.ifnames=0,{ROOT}");
    let forward = |forward: &HostForward| {
        format!(
            ",hostfwd=tcp:127.0.0.1:{}-{}:{}",
            forward.host_port, forward.guest_address, forward.guest_port
        )
    };
    let forwards: String = options.host_forwards.iter().map(forward).collect();
    let network = format!("user,id=net,restrict=on,net=10.0.2.0/24{forwards}");
    let control = format!("socket,id=control,path={}", escaped(&run.control));
    let share = format!(
        "local,id=share,path={},security_model=none,multidevs=remap",
        escaped(&run.share)
    );
    let serial = format!("file:{}", run.serial.display());
    let words: &[&str] = &[
        // Threads are found by their names.
        "-name",
        "lab,debug-threads=on",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max,+svm,+npt",
        "-smp",
        &processors,
        "-m",
        &memory,
        "-kernel",
        XEN,
        "-append",
        xen.trim(),
        "-initrd",
        &modules,
        "-serial",
        &serial,
        "-netdev",
        &network,
        "-device",
        "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,romfile=",
        "-chardev",
        &control,
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=control,name=rekernel.lab",
        "-fsdev",
        &share,
        "-device",
        "virtio-9p-pci,fsdev=share,mount_tag=lab",
    ];
    let extra = options.qemu_arguments.iter().cloned();
    words
        .iter()
        .map(|word| (*word).to_owned())
        .chain(extra)
        .collect()
}

/// A path inside a QEMU option, where a comma ends the value unless doubled.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_qemu_says() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright";
        assert_eq!(version_in(debian), Some("7.2.22"));
        assert_eq!(version_in("something else"), None);
    }

    #[test]
    fn forwards_memory_and_extras_reach_the_command_line() {
        let options = BootOptions {
            memory_mib: 1234,
            dom0_memory_mib: 321,
            host_forwards: vec![HostForward {
                host_port: 8080,
                guest_address: crate::network::FIRST_GUEST,
                guest_port: 80,
            }],
            xen_arguments: "loglvl=all".into(),
            qemu_arguments: vec!["-S".into()],
            ..BootOptions::default()
        };
        let run = RunFiles {
            control: "/tmp/a,b/control".into(),
            share: "/tmp/a,b/share".into(),
            serial: "/tmp/a,b/serial".into(),
        };
        let words = arguments(&options, &run);
        let after = |name: &str| {
            let place = words.iter().position(|word| word == name).unwrap();
            words[place + 1].clone()
        };
        assert_eq!(after("-m"), "1234");
        assert!(after("-append").contains("dom0_mem=321M,max:321M"));
        assert!(after("-append").ends_with("loglvl=all"));
        let network = after("-netdev");
        assert!(network.contains("restrict=on"), "{network}");
        assert!(
            network.ends_with(",hostfwd=tcp:127.0.0.1:8080-10.0.2.15:80"),
            "{network}"
        );
        assert!(after("-chardev").ends_with("path=/tmp/a,,b/control"));
        assert_eq!(after("-serial"), "file:/tmp/a,b/serial");
        assert_eq!(words.last().unwrap(), "-S");
    }
}
