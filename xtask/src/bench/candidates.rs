//! What is compared.

use clap::ValueEnum;
use lab::network;

use super::dom0::GUEST_PROCESSOR;
use super::run::{Plan, TscMode};

/// One of the systems that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Candidate {
    /// A rekernel guest
    Rekernel,
    /// Debian's cloud kernel as a PVH guest
    LinuxPvh,
    /// The same kernel as a PV guest
    LinuxPv,
    /// dom0's own loopback: the load generator's limit
    Loopback,
    /// A guest that ends at once: the toolstack's limit
    Floor,
}

/// What each guest has, whichever system it runs.
const MEMORY_MIB: u32 = 256;

impl Candidate {
    pub(crate) const ALL: [Self; 5] = [
        Self::Rekernel,
        Self::LinuxPvh,
        Self::LinuxPv,
        Self::Loopback,
        Self::Floor,
    ];

    /// The name in reports, which is its domain's name, too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rekernel => "rekernel",
            Self::LinuxPvh => "linux-pvh",
            Self::LinuxPv => "linux-pv",
            Self::Loopback => "loopback",
            Self::Floor => "floor",
        }
    }

    pub(crate) fn is_linux(self) -> bool {
        matches!(self, Self::LinuxPvh | Self::LinuxPv)
    }

    /// Whether it serves: the floor does not.
    pub(crate) fn serves(self) -> bool {
        self != Self::Floor
    }

    /// Whether it is a guest.
    pub(crate) fn is_guest(self) -> bool {
        self != Self::Loopback
    }

    /// Where it serves.
    pub(super) fn address(self) -> String {
        let [a, b, c, _] = network::DOM0.octets();
        match self {
            Self::Loopback => "127.0.0.1".to_owned(),
            _ => format!("{a}.{b}.{c}.{}", self.last_octet()),
        }
    }

    /// The Ethernet address of its interface, in Xen's range.
    pub(super) fn ethernet_address(self) -> String {
        format!("00:16:3e:00:00:{:02x}", self.last_octet())
    }

    fn last_octet(self) -> u8 {
        70 + self as u8
    }

    /// The configuration for `xl create`; `image` is the guest to boot.
    pub(super) fn configuration(
        self,
        image: Image,
        memory_mib: Option<u32>,
        plan: &Plan,
    ) -> String {
        let address = format!("{}/{}", self.address(), network::PREFIX_LENGTH);
        let (kind, boot) = match self {
            Self::LinuxPvh | Self::LinuxPv => (
                if self == Self::LinuxPv { "pv" } else { "pvh" },
                format!(
                    "kernel = \"/bench/linux\"\nramdisk = \"/bench/linux.cpio\"\n\
                     cmdline = \"console=hvc0 quiet address={address}\"\n"
                ),
            ),
            _ => (
                "pvh",
                format!(
                    "kernel = \"/bench/{}\"\ncmdline = \"ip={address} gw={}\"\n",
                    image.package(),
                    network::GATEWAY
                ),
            ),
        };
        let tsc = match plan.tsc {
            TscMode::Native => "tsc_mode = \"native\"\n",
            TscMode::Default => "",
        };
        let memory = memory_mib.unwrap_or(MEMORY_MIB);
        format!(
            "type = \"{kind}\"\nname = \"{}\"\n{boot}memory = {memory}\nvcpus = 1\ncpus = \"{GUEST_PROCESSOR}\"\n\
             vif = [ \"bridge={},mac={}\" ]\n{tsc}\
             on_poweroff = \"preserve\"\non_reboot = \"destroy\"\non_crash = \"preserve\"\n",
            self.name(),
            network::BRIDGE,
            self.ethernet_address(),
        )
    }
}

/// A guest of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// The example, which is what users boot
    Http,
    /// All services that are measured
    Bench,
    /// Ends at once
    Floor,
}

impl Image {
    pub(super) const ALL: [Self; 3] = [Self::Http, Self::Bench, Self::Floor];

    /// The package that it is built from.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Bench => "bench-guest",
            Self::Floor => "bench-floor",
        }
    }
}
