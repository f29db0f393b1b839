//! Tests in guests under QEMU.

use std::time::Duration;

use anyhow::{Context, Result};

use super::host::{Booted, Boots};
use crate::arguments::GuestArguments;
use crate::build::{self, Guest};
use crate::package::Package;
use crate::qemu::{Accelerator, Configuration, End, Link, Next, Qemu, RunningGuest};

/// QEMU and what each guest gets.
pub(super) struct QemuHost {
    qemu: Qemu,
    configuration: Configuration,
}

/// Builds the guest and looks for an accelerator meanwhile.
///
/// # Errors
/// Where there is no QEMU, or the guest cannot be built.
pub(super) fn prepare(package: &Package, wanted: &GuestArguments) -> Result<(Guest, QemuHost)> {
    let qemu = Qemu::ensure()?;
    let (guest, accelerator) = Accelerator::choose_beside(&qemu, || build::build_tests(package))?;
    let configuration = Configuration {
        machine: wanted.machine,
        memory_mib: wanted.memory,
        append: wanted.append.clone(),
        // Addresses and a name server, but no way in: tests bring their own clients.
        link: Link::User(Vec::new()),
        ..Configuration::new(&guest.elf, accelerator)
    };
    let host = QemuHost {
        qemu,
        configuration,
    };
    Ok((guest, host))
}

impl Boots for QemuHost {
    type Guest = RunningGuest;

    fn boot(&mut self, order: &str) -> Result<RunningGuest> {
        let mut configuration = self.configuration.clone();
        configuration.append.push(order.to_owned());
        RunningGuest::boot(&self.qemu, &configuration)
    }
}

impl Booted for RunningGuest {
    fn next(&mut self, limit: Duration) -> Result<Next> {
        Ok(RunningGuest::next(self, limit))
    }

    fn end(&mut self) -> Result<String> {
        let end = self
            .ended(Duration::from_secs(30))?
            .context("QEMU closed the console but does not end")?;
        Ok(match end {
            End::PowerOff => "the guest powered itself off".to_owned(),
            End::Crash => "the guest reported a crash".to_owned(),
            End::Reset => {
                "the machine was reset without a word, as after a triple fault".to_owned()
            }
            End::Qemu(said) => format!("QEMU failed: {said}"),
        })
    }
}
