//! Tests in guests on a real Xen, booted for the purpose.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use lab::{BootOptions, Dom0, Release};

use super::host::{Booted, Boots};
use crate::arguments::GuestArguments;
use crate::build::{self, Guest};
use crate::package::Package;
use crate::qemu::Next;
use crate::xen::{self, End, GuestConfiguration, XenGuest};

/// dom0 and what each guest gets.
pub(super) struct XenHost {
    dom0: Arc<Dom0>,
    configuration: GuestConfiguration,
    /// How many guests there were.
    booted: u32,
}

/// Builds the guest and boots the lab meanwhile.
///
/// # Errors
/// Where the guest cannot be built, or the lab cannot be set up.
pub(super) fn prepare(
    package: &Package,
    wanted: &GuestArguments,
    release: Option<Release>,
) -> Result<(Guest, XenHost)> {
    let (guest, dom0) = xen::beside_a_boot(release, BootOptions::default(), || {
        build::build_tests(package)
    })?;
    let configuration = GuestConfiguration {
        // A test that reboots or crashes its guest has ended it: the next one gets a new guest.
        on_reboot: "destroy",
        on_crash: "destroy",
        ..xen::configuration(&package.name, wanted)
    };
    dom0.copy_in(&guest.elf, &configuration.kernel)?;
    Ok((
        guest,
        XenHost {
            dom0,
            configuration,
            booted: 0,
        },
    ))
}

impl Boots for XenHost {
    type Guest = TestGuest;

    fn boot(&mut self, order: &str) -> Result<TestGuest> {
        let mut configuration = self.configuration.clone();
        configuration.append.push(order.to_owned());
        // xl may still be at the end of the one before.
        self.booted += 1;
        configuration.name = format!("{}-{}", configuration.name, self.booted);
        let mut guest = XenGuest::create_paused(&self.dom0, &configuration)?;
        guest.unpause()?;
        Ok(TestGuest(guest))
    }
}

/// A guest that is destroyed when its tests are over.
pub(super) struct TestGuest(XenGuest);

impl Booted for TestGuest {
    fn next(&mut self, limit: Duration) -> Result<Next> {
        // How long xl then takes to clean up is not the test's time.
        Ok(match self.0.next(limit)? {
            Next::Silence if self.0.has_said_last_word() => Next::Closed,
            next => next,
        })
    }

    fn end(&mut self) -> Result<String> {
        Ok(match self.0.end() {
            End::PowerOff => "the guest powered itself off",
            End::Crash => "the guest reported a crash",
            End::Vanished => "the guest vanished without a word, as after a reset",
        }
        .to_owned())
    }
}

impl Drop for TestGuest {
    fn drop(&mut self) {
        // It is gone already, or ends with the lab.
        let _ = self.0.destroy();
    }
}
