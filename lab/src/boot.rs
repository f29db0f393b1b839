//! How a prepared lab is booted.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use crate::{Dom0, Error, Prepared, Result, machine::Machine, qemu::Qemu};

/// The machine to boot, and how long it may take.
#[derive(Debug, Clone)]
pub struct BootOptions {
    /// RAM of the whole machine in MiB; what dom0 and Xen leave is for guests.
    pub memory_mib: u32,
    /// RAM of dom0 in MiB.
    pub dom0_memory_mib: u32,
    /// Processors of the whole machine. dom0 has one virtual processor.
    pub processors: u32,
    /// TCP ports of 127.0.0.1 that reach guests.
    pub host_forwards: Vec<HostForward>,
    /// The QEMU to use instead of the one the lab chooses.
    pub qemu: Option<PathBuf>,
    /// More words for Xen's command line.
    pub xen_arguments: String,
    /// More arguments for QEMU.
    pub qemu_arguments: Vec<String>,
    /// A folder that receives the logs (Xen's console, QEMU's output and every
    /// guest's console) when the machine ends.
    pub keep_logs: Option<PathBuf>,
    /// How long the boot may take.
    pub time_limit: Duration,
    /// Asked several times a second during the boot, which is given up with
    /// [`Error::Cancelled`] once this is true.
    pub cancelled: fn() -> bool,
}

impl Default for BootOptions {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            dom0_memory_mib: 512,
            processors: 2,
            host_forwards: Vec::new(),
            qemu: None,
            xen_arguments: String::new(),
            qemu_arguments: Vec::new(),
            keep_logs: None,
            time_limit: Duration::from_secs(300),
            cancelled: || false,
        }
    }
}

/// A TCP port of 127.0.0.1 that reaches a guest through dom0's bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostForward {
    /// The port on 127.0.0.1.
    pub host_port: u16,
    /// The guest's address; [`network::FIRST_GUEST`](crate::network::FIRST_GUEST)
    /// for the first guest that asked DHCP.
    pub guest_address: Ipv4Addr,
    /// The port the guest listens on.
    pub guest_port: u16,
}

/// Boots, and returns when dom0 takes steps.
pub(crate) fn boot(
    prepared: &Prepared,
    options: &BootOptions,
    progress: &dyn Fn(&str),
) -> Result<Dom0> {
    for forward in &options.host_forwards {
        check_free(forward.host_port)?;
    }
    let qemu = match &options.qemu {
        Some(program) => Qemu::installed(program.clone())?,
        None => prepared.qemu.clone(),
    };
    progress(&format!(
        "booting Xen {} with Linux {} under QEMU {} (software emulation)",
        prepared.xen_version(),
        prepared.kernel_version(),
        qemu.version()
    ));
    let machine = Machine::start(&qemu, &prepared.folder, options)?;
    machine.wait_until_ready(options, progress)?;
    Ok(Dom0::new(machine))
}

/// QEMU would find out too, but say it less clearly.
fn check_free(port: u16) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Error::PortInUse { port }),
        Err(error) => Err(Error::file(
            "listen on",
            format!("port {port} of 127.0.0.1"),
        )(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_free(port).unwrap_err();
        assert!(error.to_string().contains(&format!("port {port} ")));
        drop(taken);
        check_free(port).unwrap();
    }
}
