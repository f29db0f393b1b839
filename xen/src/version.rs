//! What hypervisor this is and what it can do.

use core::fmt;

use bitflags::bitflags;

/// Xen's version, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    extra: [u8; 16],
}

impl Version {
    /// From `XENVER_version` and `XENVER_extraversion`.
    pub(crate) fn new(number: u64, extra: [u8; 16]) -> Self {
        Self {
            major: (number >> 16) as u16,
            minor: number as u16,
            extra,
        }
    }

    /// What follows the minor version, such as `.5-pre`; empty if it is not printable ASCII.
    #[must_use]
    pub fn extra(&self) -> &str {
        let text = self.extra.split(|&byte| byte == 0).next();
        text.filter(|text| text.iter().all(u8::is_ascii_graphic))
            .and_then(|text| core::str::from_utf8(text).ok())
            .unwrap_or("")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}{}", self.major, self.minor, self.extra())
    }
}

bitflags! {
    /// What the hypervisor offers this domain (`XENFEAT_*` in `features.h`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u32 {
        /// Page tables are written directly.
        const WRITABLE_PAGE_TABLES = 1 << 0;
        /// Guest frame numbers are translated by the hypervisor.
        const AUTO_TRANSLATED_PHYSMAP = 1 << 2;
        /// Flags for page tables are honoured when mapping grants.
        const GNTTAB_MAP_AVAIL_BITS = 1 << 7;
        /// Events can be announced through an interrupt vector.
        const HVM_CALLBACK_VECTOR = 1 << 8;
        /// The clock of `vcpu_info` may be used by an HVM guest.
        const HVM_SAFE_PVCLOCK = 1 << 9;
        /// Physical interrupts can be routed over event channels.
        const HVM_PIRQS = 1 << 10;
        /// Virtual NUMA nodes in memory operations.
        const MEMORY_OP_VNODE_SUPPORTED = 1 << 13;
        /// Guest frame numbers differ from machine frame numbers.
        const NOT_DIRECT_MAPPED = 1 << 16;
        /// Guest frame numbers equal machine frame numbers.
        const DIRECT_MAPPED = 1 << 17;
        // What this list does not name is kept.
        const _ = !0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_reads_as_xl_prints_it() {
        let version = Version::new(0x0004_0011, *b".5-pre\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(std::format!("{version}"), "4.17.5-pre");
        assert_eq!(
            std::format!("{}", Version::new(0x0004_0014, [0xff; 16])),
            "4.20"
        );
    }
}
