//! Numbers and layouts shared with Xen.
//!
//! Constants and types come from `xen-sys` (made by bindgen from Xen's public headers) where it
//! has them. It lacks grant table, HVM parameter and memory operations; those are written here
//! from the headers named, their layout asserted at compile time and, in tests, against values
//! that a C compiler printed from the headers.

use core::mem::{offset_of, size_of};

pub(crate) use xen_sys::{
    __HYPERVISOR_console_io as CONSOLE_IO, __HYPERVISOR_event_channel_op as EVENT_CHANNEL_OP,
    __HYPERVISOR_grant_table_op as GRANT_TABLE_OP, __HYPERVISOR_hvm_op as HVM_OP,
    __HYPERVISOR_memory_op as MEMORY_OP, __HYPERVISOR_sched_op as SCHED_OP,
    __HYPERVISOR_vcpu_op as VCPU_OP, __HYPERVISOR_xen_version as XEN_VERSION, CONSOLEIO_write,
    EVTCHNOP_alloc_unbound, EVTCHNOP_bind_virq, EVTCHNOP_close, EVTCHNOP_send, SCHEDOP_shutdown,
    SCHEDOP_yield, SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot, SHUTDOWN_suspend,
    VIRQ_TIMER, XEN_HVM_DEBUGCONS_IOPORT, evtchn_alloc_unbound, evtchn_bind_virq, evtchn_close,
    evtchn_send, sched_shutdown, shared_info, vcpu_info, vcpu_time_info,
};

/// `DOMID_SELF` (`xen.h`): the domain that makes the hypercall.
pub(crate) const DOMID_SELF: u16 = 0x7ff0;

/// Ports of the 2-level event channel interface (`EVTCHN_2L_NR_CHANNELS`, `event_channel.h`).
pub(crate) const EVENT_PORTS: u32 = 4096;

// version.h
pub(crate) const XENVER_VERSION: u64 = 0;
pub(crate) const XENVER_EXTRAVERSION: u64 = 1;
pub(crate) const XENVER_GET_FEATURES: u64 = 6;

// memory.h
pub(crate) const XENMEM_DECREASE_RESERVATION: u64 = 1;
pub(crate) const XENMEM_CURRENT_RESERVATION: u64 = 3;
pub(crate) const XENMEM_POPULATE_PHYSMAP: u64 = 6;
pub(crate) const XENMEM_ADD_TO_PHYSMAP: u64 = 7;
pub(crate) const XENMAPSPACE_SHARED_INFO: u32 = 0;
pub(crate) const XENMAPSPACE_GRANT_TABLE: u32 = 1;

// hvm/hvm_op.h and hvm/params.h
pub(crate) const HVMOP_SET_PARAM: u64 = 0;
pub(crate) const HVMOP_GET_PARAM: u64 = 1;
pub(crate) const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
pub(crate) const HVM_PARAM_STORE_PFN: u32 = 1;
pub(crate) const HVM_PARAM_STORE_EVTCHN: u32 = 2;
pub(crate) const HVM_PARAM_CONSOLE_PFN: u32 = 17;
pub(crate) const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;
/// `HVM_PARAM_CALLBACK_TYPE_VECTOR`, in the top byte of `HVM_PARAM_CALLBACK_IRQ`.
pub(crate) const CALLBACK_TYPE_VECTOR: u64 = 2 << 56;

// sched.h
pub(crate) const SCHEDOP_WATCHDOG: u64 = 6;

// vcpu.h
pub(crate) const VCPUOP_SET_SINGLESHOT_TIMER: u64 = 8;

// grant_table.h
pub(crate) const GNTTABOP_QUERY_SIZE: u64 = 6;
pub(crate) const GNTTABOP_SET_VERSION: u64 = 8;
pub(crate) const GTF_PERMIT_ACCESS: u16 = 1;
pub(crate) const GTF_READONLY: u16 = 1 << 2;
pub(crate) const GTF_READING: u16 = 1 << 3;
pub(crate) const GTF_WRITING: u16 = 1 << 4;
/// `GNTTAB_NR_RESERVED_ENTRIES`: filled in by the toolstack (console, xenstore), not ours.
pub(crate) const GRANT_ENTRIES_RESERVED: u32 = 8;
/// Version 1 entries in a page of the grant table.
pub(crate) const GRANT_ENTRIES_PER_FRAME: u32 = (4096 / size_of::<GrantEntry>()) as u32;

/// `struct grant_entry_v1` (`grant_table.h`). Only its layout is used: entries are shared with
/// Xen, so they are accessed field by field, atomically.
#[repr(C)]
pub(crate) struct GrantEntry {
    /// `GTF_*`.
    pub(crate) flags: u16,
    /// Who may use the entry.
    pub(crate) domain: u16,
    /// Guest frame number that is granted.
    pub(crate) frame: u32,
}

/// `struct gnttab_query_size` (`grant_table.h`).
#[repr(C)]
#[derive(Default)]
pub(crate) struct QuerySize {
    pub(crate) domain: u16,
    pub(crate) padding: u16,
    pub(crate) frames: u32,
    pub(crate) max_frames: u32,
    pub(crate) status: i16,
    pub(crate) padding_end: u16,
}

/// `struct xen_add_to_physmap` (`memory.h`).
#[repr(C)]
pub(crate) struct AddToPhysmap {
    pub(crate) domain: u16,
    /// Pages, for ranges only.
    pub(crate) size: u16,
    /// `XENMAPSPACE_*`.
    pub(crate) space: u32,
    /// Which page of that space.
    pub(crate) index: u64,
    /// Guest frame number where it shall appear.
    pub(crate) frame: u64,
}

/// `struct xen_memory_reservation` (`memory.h`).
#[repr(C)]
pub(crate) struct MemoryReservation {
    /// Address of the extents' first guest frame numbers, 8 bytes each.
    pub(crate) extent_start: u64,
    pub(crate) extents: u64,
    /// An extent has 1 << this many pages.
    pub(crate) extent_order: u32,
    pub(crate) flags: u32,
    pub(crate) domain: u16,
    pub(crate) padding: [u16; 3],
}

/// `struct sched_watchdog` (`sched.h`).
#[repr(C)]
pub(crate) struct Watchdog {
    /// 0 for a new one.
    pub(crate) id: u32,
    /// Seconds until it fires; 0 for never.
    pub(crate) timeout: u32,
}

/// `struct xen_hvm_param` (`hvm/hvm_op.h`).
#[repr(C)]
pub(crate) struct HvmParam {
    pub(crate) domain: u16,
    pub(crate) padding: u16,
    pub(crate) index: u32,
    pub(crate) value: u64,
}

/// `struct vcpu_set_singleshot_timer` (`vcpu.h`).
#[repr(C)]
pub(crate) struct SetSingleshotTimer {
    /// System time in nanoseconds.
    pub(crate) deadline: u64,
    pub(crate) flags: u32,
    pub(crate) padding: u32,
}

/// `struct xen_feature_info` (`version.h`).
#[repr(C)]
pub(crate) struct FeatureInfo {
    /// Which word of 32 features is asked for.
    pub(crate) index: u32,
    pub(crate) features: u32,
}

// Layouts, as the headers of Xen 4.17 give them on x86-64.
const _: () = {
    assert!(size_of::<GrantEntry>() == 8);
    assert!(offset_of!(GrantEntry, flags) == 0);
    assert!(offset_of!(GrantEntry, domain) == 2);
    assert!(offset_of!(GrantEntry, frame) == 4);
    assert!(size_of::<QuerySize>() == 16);
    assert!(offset_of!(QuerySize, frames) == 4);
    assert!(offset_of!(QuerySize, max_frames) == 8);
    assert!(offset_of!(QuerySize, status) == 12);
    assert!(size_of::<AddToPhysmap>() == 24);
    assert!(offset_of!(AddToPhysmap, space) == 4);
    assert!(offset_of!(AddToPhysmap, index) == 8);
    assert!(offset_of!(AddToPhysmap, frame) == 16);
    assert!(size_of::<MemoryReservation>() == 32);
    assert!(offset_of!(MemoryReservation, domain) == 24);
    assert!(size_of::<Watchdog>() == 8);
    assert!(size_of::<HvmParam>() == 16);
    assert!(offset_of!(HvmParam, index) == 4);
    assert!(offset_of!(HvmParam, value) == 8);
    assert!(size_of::<SetSingleshotTimer>() == 16);
    assert!(offset_of!(SetSingleshotTimer, flags) == 8);
    assert!(size_of::<FeatureInfo>() == 8);
    // What xen-sys gives is checked as well: its last release is years old.
    assert!(size_of::<shared_info>() == 3136);
    assert!(offset_of!(shared_info, evtchn_pending) == 2048);
    assert!(offset_of!(shared_info, evtchn_mask) == 2560);
    assert!(offset_of!(shared_info, wc_version) == 3072);
    assert!(offset_of!(shared_info, wc_sec_hi) == 3084);
    assert!(size_of::<vcpu_info>() == 64);
    assert!(offset_of!(vcpu_info, evtchn_pending_sel) == 8);
    assert!(offset_of!(vcpu_info, time) == 32);
    assert!(size_of::<vcpu_time_info>() == 32);
    assert!(offset_of!(vcpu_time_info, tsc_timestamp) == 8);
    assert!(offset_of!(vcpu_time_info, system_time) == 16);
    assert!(offset_of!(vcpu_time_info, tsc_to_system_mul) == 24);
    assert!(offset_of!(vcpu_time_info, tsc_shift) == 28);
    assert!(size_of::<evtchn_alloc_unbound>() == 8);
    assert!(offset_of!(evtchn_alloc_unbound, port) == 4);
    assert!(size_of::<evtchn_bind_virq>() == 12);
    assert!(offset_of!(evtchn_bind_virq, port) == 8);
};

#[cfg(test)]
mod tests;
