//! Our numbers and layouts against what a C compiler made of Xen's headers.

use core::mem::{offset_of, size_of};

use xen_proto::vectors::{constant, offset, size};

use super::*;

macro_rules! constants {
    ($($ours:expr => $theirs:literal),+ $(,)?) => {
        $(assert_eq!(i64::try_from($ours).unwrap(), constant($theirs), $theirs);)+
    };
}

macro_rules! layouts {
    ($($ours:ident => $theirs:literal { $($field:ident => $name:literal),* $(,)? }),+ $(,)?) => {
        $(
            assert_eq!(size_of::<$ours>(), size($theirs), $theirs);
            $(
                let name = concat!($theirs, ".", $name);
                assert_eq!(offset_of!($ours, $field), offset(name), "{name}");
            )*
        )+
    };
}

#[test]
fn constants_are_those_of_the_headers() {
    constants! {
        CONSOLE_IO => "__HYPERVISOR_console_io",
        EVENT_CHANNEL_OP => "__HYPERVISOR_event_channel_op",
        GRANT_TABLE_OP => "__HYPERVISOR_grant_table_op",
        HVM_OP => "__HYPERVISOR_hvm_op",
        MEMORY_OP => "__HYPERVISOR_memory_op",
        SCHED_OP => "__HYPERVISOR_sched_op",
        VCPU_OP => "__HYPERVISOR_vcpu_op",
        XEN_VERSION => "__HYPERVISOR_xen_version",
        CONSOLEIO_write => "CONSOLEIO_write",
        DOMID_SELF => "DOMID_SELF",
        EVENT_PORTS => "EVTCHN_2L_NR_CHANNELS",
        EVTCHNOP_alloc_unbound => "EVTCHNOP_alloc_unbound",
        EVTCHNOP_bind_virq => "EVTCHNOP_bind_virq",
        EVTCHNOP_close => "EVTCHNOP_close",
        EVTCHNOP_send => "EVTCHNOP_send",
        VIRQ_TIMER => "VIRQ_TIMER",
        SCHEDOP_shutdown => "SCHEDOP_shutdown",
        SCHEDOP_yield => "SCHEDOP_yield",
        SHUTDOWN_poweroff => "SHUTDOWN_poweroff",
        SHUTDOWN_reboot => "SHUTDOWN_reboot",
        SHUTDOWN_suspend => "SHUTDOWN_suspend",
        SHUTDOWN_crash => "SHUTDOWN_crash",
        XENVER_VERSION => "XENVER_version",
        XENVER_EXTRAVERSION => "XENVER_extraversion",
        XENVER_GET_FEATURES => "XENVER_get_features",
        XENMEM_DECREASE_RESERVATION => "XENMEM_decrease_reservation",
        XENMEM_CURRENT_RESERVATION => "XENMEM_current_reservation",
        XENMEM_POPULATE_PHYSMAP => "XENMEM_populate_physmap",
        SCHEDOP_WATCHDOG => "SCHEDOP_watchdog",
        XENMEM_ADD_TO_PHYSMAP => "XENMEM_add_to_physmap",
        XENMAPSPACE_SHARED_INFO => "XENMAPSPACE_shared_info",
        XENMAPSPACE_GRANT_TABLE => "XENMAPSPACE_grant_table",
        HVMOP_SET_PARAM => "HVMOP_set_param",
        HVMOP_GET_PARAM => "HVMOP_get_param",
        HVM_PARAM_CALLBACK_IRQ => "HVM_PARAM_CALLBACK_IRQ",
        HVM_PARAM_STORE_PFN => "HVM_PARAM_STORE_PFN",
        HVM_PARAM_STORE_EVTCHN => "HVM_PARAM_STORE_EVTCHN",
        HVM_PARAM_CONSOLE_PFN => "HVM_PARAM_CONSOLE_PFN",
        HVM_PARAM_CONSOLE_EVTCHN => "HVM_PARAM_CONSOLE_EVTCHN",
        CALLBACK_TYPE_VECTOR >> 56 => "HVM_PARAM_CALLBACK_TYPE_VECTOR",
        VCPUOP_SET_SINGLESHOT_TIMER => "VCPUOP_set_singleshot_timer",
        GNTTABOP_QUERY_SIZE => "GNTTABOP_query_size",
        GNTTABOP_SET_VERSION => "GNTTABOP_set_version",
        GTF_PERMIT_ACCESS => "GTF_permit_access",
        GTF_READONLY => "GTF_readonly",
        GTF_READING => "GTF_reading",
        GTF_WRITING => "GTF_writing",
        GRANT_ENTRIES_RESERVED => "GNTTAB_NR_RESERVED_ENTRIES",
    }
}

#[test]
fn layouts_are_those_of_the_headers() {
    layouts! {
        GrantEntry => "grant_entry_v1" { flags => "flags", domain => "domid", frame => "frame" },
        QuerySize => "gnttab_query_size" {
            domain => "dom", frames => "nr_frames", max_frames => "max_nr_frames",
            status => "status",
        },
        AddToPhysmap => "xen_add_to_physmap" {
            domain => "domid", size => "size", space => "space", index => "idx", frame => "gpfn",
        },
        MemoryReservation => "xen_memory_reservation" {
            extent_start => "extent_start", extents => "nr_extents",
            extent_order => "extent_order", flags => "mem_flags", domain => "domid",
        },
        Watchdog => "sched_watchdog" { id => "id", timeout => "timeout" },
        HvmParam => "xen_hvm_param" { domain => "domid", index => "index", value => "value" },
        SetSingleshotTimer => "vcpu_set_singleshot_timer" {
            deadline => "timeout_abs_ns", flags => "flags",
        },
        FeatureInfo => "xen_feature_info" { index => "submap_idx", features => "submap" },
        evtchn_alloc_unbound => "evtchn_alloc_unbound" {
            dom => "dom", remote_dom => "remote_dom", port => "port",
        },
        evtchn_bind_virq => "evtchn_bind_virq" { virq => "virq", vcpu => "vcpu", port => "port" },
        evtchn_close => "evtchn_close" { port => "port" },
        evtchn_send => "evtchn_send" { port => "port" },
        sched_shutdown => "sched_shutdown" { reason => "reason" },
        shared_info => "shared_info" {
            vcpu_info => "vcpu_info", evtchn_pending => "evtchn_pending",
            evtchn_mask => "evtchn_mask", wc_version => "wc_version", wc_sec => "wc_sec",
            wc_nsec => "wc_nsec", wc_sec_hi => "wc_sec_hi",
        },
        vcpu_info => "vcpu_info" {
            evtchn_upcall_pending => "evtchn_upcall_pending",
            evtchn_pending_sel => "evtchn_pending_sel", time => "time",
        },
        vcpu_time_info => "vcpu_time_info" {
            version => "version", tsc_timestamp => "tsc_timestamp",
            system_time => "system_time", tsc_to_system_mul => "tsc_to_system_mul",
            tsc_shift => "tsc_shift",
        },
    }
}

#[test]
fn feature_bits_are_those_of_the_headers() {
    use crate::Features;
    let bit = |name| 1_u32 << constant(name);
    assert_eq!(
        Features::HVM_CALLBACK_VECTOR.bits(),
        bit("XENFEAT_hvm_callback_vector")
    );
    assert_eq!(
        Features::HVM_SAFE_PVCLOCK.bits(),
        bit("XENFEAT_hvm_safe_pvclock")
    );
    assert_eq!(
        Features::AUTO_TRANSLATED_PHYSMAP.bits(),
        bit("XENFEAT_auto_translated_physmap")
    );
}
