//! The command line that makes QEMU a host for one guest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Accelerator;
use crate::ports::Forward;

/// The machines a guest boots on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Machine {
    /// A PC of the nineties: virtio over PCI
    Pc,
    /// A PC with PCI Express: virtio over PCI
    Q35,
    /// A minimal machine without PCI: virtio over memory-mapped registers
    Microvm,
}

impl Machine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pc, Self::Q35, Self::Microvm];

    /// The name QEMU knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pc => "pc",
            Self::Q35 => "q35",
            Self::Microvm => "microvm",
        }
    }

    fn options(self) -> &'static str {
        match self {
            Self::Pc => "pc",
            Self::Q35 => "q35",
            // Without ACPI, QEMU names the virtio devices on the guest's command line.
            Self::Microvm => "microvm,acpi=off",
        }
    }

    fn network_device(self) -> &'static str {
        match self {
            Self::Pc | Self::Q35 => "virtio-net-pci,netdev=network,romfile=",
            Self::Microvm => "virtio-net-device,netdev=network",
        }
    }
}

/// What the guest's network card is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// No card at all.
    Absent,
    /// A network of QEMU's own with DHCP and DNS, and forwarded ports of this machine.
    User(Vec<Forward>),
    /// A cable with nobody at the other end.
    Silent,
}

/// Which of the guest's two ways to speak is its console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The first serial port, where the runtime speaks.
    Serial,
    /// The debug port, where programs speak that have nothing but the boot code.
    DebugPort,
}

/// Where the guest comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An ELF, which QEMU loads itself.
    Kernel(PathBuf),
    /// A disk with a boot loader; what the guest writes to it is forgotten.
    Disk {
        /// The image.
        image: PathBuf,
        /// QEMU's name for its format.
        format: &'static str,
        /// UEFI firmware; QEMU's BIOS if there is none.
        firmware: Option<PathBuf>,
    },
    /// A CD with a boot loader.
    Cd {
        /// The image.
        image: PathBuf,
        /// UEFI firmware; QEMU's BIOS if there is none.
        firmware: Option<PathBuf>,
    },
}

/// A guest and the machine it gets.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The guest.
    pub source: Source,
    /// The machine.
    pub machine: Machine,
    /// What runs the instructions.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Keys for the guest's command line.
    pub append: Vec<String>,
    /// The network.
    pub link: Link,
    /// What is read as the guest's console.
    pub console: Console,
    /// A socket to which the guest's monitor, on its second serial port, is connected.
    pub monitor: Option<PathBuf>,
    /// Further arguments for QEMU, at the end.
    pub extra: Vec<String>,
}

impl Configuration {
    /// A guest on a `q35` with 64 MiB and no network.
    pub fn new(kernel: &Path, accelerator: Accelerator) -> Self {
        Self {
            source: Source::Kernel(kernel.to_owned()),
            machine: Machine::Q35,
            accelerator,
            memory_mib: 64,
            append: Vec::new(),
            link: Link::Absent,
            console: Console::Serial,
            monitor: None,
            extra: Vec::new(),
        }
    }

    /// QEMU's arguments.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |name: &str, value: &str| {
            arguments.push(name.into());
            if !value.is_empty() {
                arguments.push(value.into());
            }
        };
        add("-machine", self.machine.options());
        add("-accel", self.accelerator.name());
        add("-cpu", self.accelerator.cpu());
        add("-m", &self.memory_mib.to_string());
        add("-nodefaults", "");
        add("-display", "none");
        add("-no-reboot", "");
        add("-chardev", "stdio,id=console,signal=off");
        match self.console {
            Console::Serial => {
                add("-serial", "chardev:console");
                // The last words of a guest that fell while it reported its fall: they join
                // what QEMU itself complains about, which is shown if nothing else was said.
                add("-chardev", "file,id=debug,path=/dev/fd/2");
                add("-device", "isa-debugcon,iobase=0xe9,chardev=debug");
            }
            Console::DebugPort => add("-device", "isa-debugcon,iobase=0xe9,chardev=console"),
        }
        if let Some(socket) = &self.monitor {
            // A path with a comma would need another; ours has none.
            add(
                "-chardev",
                &format!("socket,id=monitor,path={}", socket.display()),
            );
            add("-device", "isa-serial,chardev=monitor,index=1");
        }
        // How the guest tells its end, and whether it was a good one.
        add("-device", "isa-debug-exit,iobase=0xf4,iosize=4");
        match &self.link {
            Link::Absent => {}
            Link::User(forwards) => {
                add("-netdev", &user_network(forwards));
                add("-device", self.machine.network_device());
            }
            Link::Silent => {
                // Frames become datagrams for the discard port of this host, where nobody
                // listens. A hub without a second port would keep them from the device.
                let nowhere = "socket,id=network,udp=127.0.0.1:9,localaddr=127.0.0.1:0";
                add("-netdev", nowhere);
                add("-device", self.machine.network_device());
            }
        }
        if self.machine == Machine::Microvm {
            add("-global", "virtio-mmio.force-legacy=false");
        }
        if !self.append.is_empty() {
            add("-append", &self.append.join(" "));
        }
        let drive = |options: &str, file: &Path| {
            let mut value = OsString::from(options);
            value.push(file);
            [OsString::from("-drive"), value]
        };
        let (source, firmware) = match &self.source {
            Source::Kernel(kernel) => (["-kernel".into(), kernel.into()], &None),
            Source::Disk {
                image,
                format,
                firmware,
            } => {
                let options = format!("if=ide,snapshot=on,format={format},file=");
                (drive(&options, image), firmware)
            }
            Source::Cd { image, firmware } => (
                drive("if=ide,media=cdrom,format=raw,file=", image),
                firmware,
            ),
        };
        arguments.extend(source);
        if let Some(firmware) = firmware {
            arguments.extend(drive("if=pflash,readonly=on,format=raw,file=", firmware));
        }
        arguments.extend(self.extra.iter().map(OsString::from));
        arguments
    }
}

/// QEMU's network for one guest; it gives the guest 10.0.2.15 by DHCP.
fn user_network(forwards: &[Forward]) -> String {
    let mut network = String::from("user,id=network");
    for forward in forwards {
        let protocol = forward.service.protocol.name();
        let (host, guest) = (forward.host_port, forward.service.port);
        network.push_str(&format!(",hostfwd={protocol}:127.0.0.1:{host}-:{guest}"));
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{Protocol, Service};

    fn line(configuration: &Configuration) -> String {
        let words: Vec<_> = configuration
            .arguments()
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }

    #[test]
    fn ports_lead_from_loopback_into_the_guest() {
        let service = Service {
            protocol: Protocol::Udp,
            port: 53,
        };
        let forwards = vec![Forward {
            host_port: 8080,
            service,
        }];
        let guest = Configuration {
            link: Link::User(forwards),
            ..Configuration::new(Path::new("/g"), Accelerator::Tcg)
        };
        let line = line(&guest);
        assert!(
            line.contains("user,id=network,hostfwd=udp:127.0.0.1:8080-:53"),
            "{line}"
        );
        assert!(line.contains("virtio-net-pci"), "{line}");
    }

    #[test]
    fn a_microvm_has_no_pci() {
        let guest = Configuration {
            machine: Machine::Microvm,
            link: Link::Silent,
            append: vec!["ip=dhcp".to_owned(), "log=debug".to_owned()],
            ..Configuration::new(Path::new("/g"), Accelerator::Tcg)
        };
        let line = line(&guest);
        assert!(
            line.contains("virtio-net-device") && !line.contains("pci"),
            "{line}"
        );
        assert!(
            line.contains("-append ip=dhcp log=debug -kernel /g"),
            "{line}"
        );
    }

    #[test]
    fn without_network_there_is_no_card() {
        let line = line(&Configuration::new(Path::new("/g"), Accelerator::Kvm));
        assert!(
            !line.contains("netdev") && line.contains("-cpu host"),
            "{line}"
        );
    }
}
