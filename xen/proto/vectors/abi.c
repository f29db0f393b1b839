/*
 * Prints what Xen's own headers say about everything that rekernel shares with Xen and its
 * peers: constants, sizes, offsets, and the bytes and notify decisions that their ring macros
 * produce. The output is committed as abi.txt, and host tests hold our code against it.
 *
 *     apt-get install gcc libxen-dev
 *     gcc -Wall -Wextra -Werror -o /tmp/abi abi.c && /tmp/abi > abi.txt
 *
 * Lines: "constant NAME VALUE", "size TYPE BYTES", "offset TYPE.FIELD BYTES",
 * "bytes NAME HEX", "row TABLE VALUE...".
 */
#define __XEN_INTERFACE_VERSION__ 0x00040e00

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <xen/xen.h>
#include <xen/elfnote.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/io/console.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>

/* ring.h leaves the barriers to its user; nothing here runs in parallel. */
#define xen_mb()  __sync_synchronize()
#define xen_rmb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()
#include <xen/io/netif.h>

#define CONSTANT(name) \
    printf("constant %s %" PRIi64 "\n", #name, (int64_t)(name))
#define SIZE(type) printf("size %s %zu\n", without_keyword(#type), sizeof(type))
#define OFFSET(type, field) \
    printf("offset %s.%s %zu\n", without_keyword(#type), #field, offsetof(type, field))

/* "struct page" is named "page". */
static const char *without_keyword(const char *type)
{
    const char *space = strchr(type, ' ');

    return space ? space + 1 : type;
}

static void bytes(const char *name, const void *data, size_t length)
{
    const uint8_t *at = data;

    printf("bytes %s ", name);
    for (size_t i = 0; i < length; i++)
        printf("%02x", at[i]);
    printf("\n");
}

static void hypercalls(void)
{
    CONSTANT(__HYPERVISOR_memory_op);
    CONSTANT(__HYPERVISOR_set_timer_op);
    CONSTANT(__HYPERVISOR_xen_version);
    CONSTANT(__HYPERVISOR_console_io);
    CONSTANT(__HYPERVISOR_grant_table_op);
    CONSTANT(__HYPERVISOR_vcpu_op);
    CONSTANT(__HYPERVISOR_sched_op);
    CONSTANT(__HYPERVISOR_event_channel_op);
    CONSTANT(__HYPERVISOR_hvm_op);

    CONSTANT(XEN_CPUID_FIRST_LEAF);
    CONSTANT(XEN_CPUID_SIGNATURE_EBX);
    CONSTANT(XEN_CPUID_SIGNATURE_ECX);
    CONSTANT(XEN_CPUID_SIGNATURE_EDX);
    CONSTANT(XEN_HVM_CPUID_VCPU_ID_PRESENT);
    CONSTANT(XEN_HVM_CPUID_DOMID_PRESENT);

    CONSTANT(DOMID_SELF);
    CONSTANT(DOMID_FIRST_RESERVED);
    CONSTANT(DOMID_INVALID);
    CONSTANT(CONSOLEIO_write);
    CONSTANT(CONSOLEIO_read);

    CONSTANT(XENVER_version);
    CONSTANT(XENVER_extraversion);
    CONSTANT(XENVER_capabilities);
    CONSTANT(XENVER_get_features);
    CONSTANT(XEN_EXTRAVERSION_LEN);
    SIZE(struct xen_feature_info);
    OFFSET(struct xen_feature_info, submap_idx);
    OFFSET(struct xen_feature_info, submap);
    CONSTANT(XENFEAT_writable_page_tables);
    CONSTANT(XENFEAT_auto_translated_physmap);
    CONSTANT(XENFEAT_supervisor_mode_kernel);
    CONSTANT(XENFEAT_hvm_callback_vector);
    CONSTANT(XENFEAT_hvm_safe_pvclock);
    CONSTANT(XENFEAT_hvm_pirqs);
    CONSTANT(XENFEAT_dom0);
    CONSTANT(XENFEAT_NR_SUBMAPS);

    CONSTANT(XEN_EPERM);
    CONSTANT(XEN_ENOENT);
    CONSTANT(XEN_EAGAIN);
    CONSTANT(XEN_ENOMEM);
    CONSTANT(XEN_EACCES);
    CONSTANT(XEN_EFAULT);
    CONSTANT(XEN_EBUSY);
    CONSTANT(XEN_EEXIST);
    CONSTANT(XEN_EINVAL);
    CONSTANT(XEN_ENOSPC);
    CONSTANT(XEN_ENOSYS);
    CONSTANT(XEN_EOPNOTSUPP);
    CONSTANT(XEN_ETIME);
}

static void boot(void)
{
    CONSTANT(XEN_ELFNOTE_PHYS32_ENTRY);
    CONSTANT(XEN_HVM_START_MAGIC_VALUE);
    CONSTANT(XEN_HVM_MEMMAP_TYPE_RAM);
    CONSTANT(XEN_HVM_MEMMAP_TYPE_RESERVED);
    CONSTANT(XEN_HVM_MEMMAP_TYPE_ACPI);
    CONSTANT(XEN_HVM_MEMMAP_TYPE_NVS);
    CONSTANT(XEN_HVM_MEMMAP_TYPE_UNUSABLE);
    CONSTANT(XEN_HVM_MEMMAP_TYPE_DISABLED);
    CONSTANT(XEN_HVM_MEMMAP_TYPE_PMEM);
    SIZE(struct hvm_start_info);
    OFFSET(struct hvm_start_info, magic);
    OFFSET(struct hvm_start_info, version);
    OFFSET(struct hvm_start_info, flags);
    OFFSET(struct hvm_start_info, nr_modules);
    OFFSET(struct hvm_start_info, modlist_paddr);
    OFFSET(struct hvm_start_info, cmdline_paddr);
    OFFSET(struct hvm_start_info, rsdp_paddr);
    OFFSET(struct hvm_start_info, memmap_paddr);
    OFFSET(struct hvm_start_info, memmap_entries);
    OFFSET(struct hvm_start_info, reserved);
    SIZE(struct hvm_modlist_entry);
    OFFSET(struct hvm_modlist_entry, paddr);
    OFFSET(struct hvm_modlist_entry, size);
    OFFSET(struct hvm_modlist_entry, cmdline_paddr);
    SIZE(struct hvm_memmap_table_entry);
    OFFSET(struct hvm_memmap_table_entry, addr);
    OFFSET(struct hvm_memmap_table_entry, size);
    OFFSET(struct hvm_memmap_table_entry, type);
}

static void parameters_and_memory(void)
{
    CONSTANT(HVMOP_set_param);
    CONSTANT(HVMOP_get_param);
    CONSTANT(HVMOP_set_evtchn_upcall_vector);
    SIZE(struct xen_hvm_evtchn_upcall_vector);
    OFFSET(struct xen_hvm_evtchn_upcall_vector, vcpu);
    OFFSET(struct xen_hvm_evtchn_upcall_vector, vector);
    SIZE(struct xen_hvm_param);
    OFFSET(struct xen_hvm_param, domid);
    OFFSET(struct xen_hvm_param, index);
    OFFSET(struct xen_hvm_param, value);
    CONSTANT(HVM_PARAM_CALLBACK_IRQ);
    CONSTANT(HVM_PARAM_CALLBACK_TYPE_VECTOR);
    CONSTANT(HVM_PARAM_STORE_PFN);
    CONSTANT(HVM_PARAM_STORE_EVTCHN);
    CONSTANT(HVM_PARAM_CONSOLE_PFN);
    CONSTANT(HVM_PARAM_CONSOLE_EVTCHN);
    CONSTANT(HVM_PARAM_TRIPLE_FAULT_REASON);

    CONSTANT(XENMEM_decrease_reservation);
    CONSTANT(XENMEM_populate_physmap);
    CONSTANT(XENMEM_current_reservation);
    SIZE(struct xen_memory_reservation);
    OFFSET(struct xen_memory_reservation, extent_start);
    OFFSET(struct xen_memory_reservation, nr_extents);
    OFFSET(struct xen_memory_reservation, extent_order);
    OFFSET(struct xen_memory_reservation, mem_flags);
    OFFSET(struct xen_memory_reservation, domid);
    CONSTANT(XENMEM_add_to_physmap);
    CONSTANT(XENMEM_remove_from_physmap);
    CONSTANT(XENMEM_memory_map);
    CONSTANT(XENMAPSPACE_shared_info);
    CONSTANT(XENMAPSPACE_grant_table);
    SIZE(struct xen_add_to_physmap);
    OFFSET(struct xen_add_to_physmap, domid);
    OFFSET(struct xen_add_to_physmap, size);
    OFFSET(struct xen_add_to_physmap, space);
    OFFSET(struct xen_add_to_physmap, idx);
    OFFSET(struct xen_add_to_physmap, gpfn);
    SIZE(struct xen_remove_from_physmap);
    OFFSET(struct xen_remove_from_physmap, domid);
    OFFSET(struct xen_remove_from_physmap, gpfn);
    SIZE(struct xen_memory_map);
    OFFSET(struct xen_memory_map, nr_entries);
    OFFSET(struct xen_memory_map, buffer);
}

static void shared_information(void)
{
    SIZE(struct shared_info);
    OFFSET(struct shared_info, vcpu_info);
    OFFSET(struct shared_info, evtchn_pending);
    OFFSET(struct shared_info, evtchn_mask);
    OFFSET(struct shared_info, wc_version);
    OFFSET(struct shared_info, wc_sec);
    OFFSET(struct shared_info, wc_nsec);
    OFFSET(struct shared_info, wc_sec_hi);
    OFFSET(struct shared_info, arch);
    SIZE(struct vcpu_info);
    OFFSET(struct vcpu_info, evtchn_upcall_pending);
    OFFSET(struct vcpu_info, evtchn_upcall_mask);
    OFFSET(struct vcpu_info, evtchn_pending_sel);
    OFFSET(struct vcpu_info, arch);
    OFFSET(struct vcpu_info, time);
    SIZE(struct vcpu_time_info);
    OFFSET(struct vcpu_time_info, version);
    OFFSET(struct vcpu_time_info, tsc_timestamp);
    OFFSET(struct vcpu_time_info, system_time);
    OFFSET(struct vcpu_time_info, tsc_to_system_mul);
    OFFSET(struct vcpu_time_info, tsc_shift);
    OFFSET(struct vcpu_time_info, flags);
    CONSTANT(XEN_PVCLOCK_TSC_STABLE_BIT);
    CONSTANT(XEN_LEGACY_MAX_VCPUS);
}

static void event_channels(void)
{
    CONSTANT(EVTCHNOP_bind_interdomain);
    CONSTANT(EVTCHNOP_bind_virq);
    CONSTANT(EVTCHNOP_close);
    CONSTANT(EVTCHNOP_send);
    CONSTANT(EVTCHNOP_status);
    CONSTANT(EVTCHNOP_alloc_unbound);
    CONSTANT(EVTCHNOP_bind_ipi);
    CONSTANT(EVTCHNOP_bind_vcpu);
    CONSTANT(EVTCHNOP_unmask);
    CONSTANT(EVTCHNOP_reset);
    CONSTANT(EVTCHN_2L_NR_CHANNELS);
    CONSTANT(VIRQ_TIMER);
    SIZE(struct evtchn_alloc_unbound);
    OFFSET(struct evtchn_alloc_unbound, dom);
    OFFSET(struct evtchn_alloc_unbound, remote_dom);
    OFFSET(struct evtchn_alloc_unbound, port);
    SIZE(struct evtchn_bind_interdomain);
    OFFSET(struct evtchn_bind_interdomain, remote_dom);
    OFFSET(struct evtchn_bind_interdomain, remote_port);
    OFFSET(struct evtchn_bind_interdomain, local_port);
    SIZE(struct evtchn_bind_virq);
    OFFSET(struct evtchn_bind_virq, virq);
    OFFSET(struct evtchn_bind_virq, vcpu);
    OFFSET(struct evtchn_bind_virq, port);
    SIZE(struct evtchn_bind_ipi);
    SIZE(struct evtchn_bind_vcpu);
    OFFSET(struct evtchn_bind_vcpu, port);
    OFFSET(struct evtchn_bind_vcpu, vcpu);
    SIZE(struct evtchn_close);
    OFFSET(struct evtchn_close, port);
    SIZE(struct evtchn_send);
    OFFSET(struct evtchn_send, port);
    SIZE(struct evtchn_unmask);
    OFFSET(struct evtchn_unmask, port);
    SIZE(struct evtchn_status);
    OFFSET(struct evtchn_status, dom);
    OFFSET(struct evtchn_status, port);
    OFFSET(struct evtchn_status, status);
    OFFSET(struct evtchn_status, vcpu);
    CONSTANT(EVTCHNSTAT_closed);
    CONSTANT(EVTCHNSTAT_unbound);
    CONSTANT(EVTCHNSTAT_interdomain);
}

static void grants(void)
{
    CONSTANT(GNTTABOP_setup_table);
    CONSTANT(GNTTABOP_query_size);
    CONSTANT(GNTTABOP_set_version);
    CONSTANT(GNTTABOP_get_version);
    CONSTANT(GNTTAB_NR_RESERVED_ENTRIES);
    CONSTANT(GNTTAB_RESERVED_CONSOLE);
    CONSTANT(GNTTAB_RESERVED_XENSTORE);
    CONSTANT(GTF_invalid);
    CONSTANT(GTF_permit_access);
    CONSTANT(GTF_type_mask);
    CONSTANT(GTF_readonly);
    CONSTANT(GTF_reading);
    CONSTANT(GTF_writing);
    CONSTANT(GNTST_okay);
    SIZE(grant_ref_t);
    SIZE(struct grant_entry_v1);
    OFFSET(struct grant_entry_v1, flags);
    OFFSET(struct grant_entry_v1, domid);
    OFFSET(struct grant_entry_v1, frame);
    SIZE(struct gnttab_query_size);
    OFFSET(struct gnttab_query_size, dom);
    OFFSET(struct gnttab_query_size, nr_frames);
    OFFSET(struct gnttab_query_size, max_nr_frames);
    OFFSET(struct gnttab_query_size, status);
    SIZE(struct gnttab_set_version);
    OFFSET(struct gnttab_set_version, version);
}

static void scheduling(void)
{
    CONSTANT(SCHEDOP_yield);
    CONSTANT(SCHEDOP_block);
    CONSTANT(SCHEDOP_shutdown);
    CONSTANT(SCHEDOP_poll);
    CONSTANT(SCHEDOP_watchdog);
    CONSTANT(SHUTDOWN_poweroff);
    CONSTANT(SHUTDOWN_reboot);
    CONSTANT(SHUTDOWN_suspend);
    CONSTANT(SHUTDOWN_crash);
    CONSTANT(SHUTDOWN_watchdog);
    CONSTANT(SHUTDOWN_soft_reset);
    SIZE(struct sched_shutdown);
    OFFSET(struct sched_shutdown, reason);
    SIZE(struct sched_watchdog);
    OFFSET(struct sched_watchdog, id);
    OFFSET(struct sched_watchdog, timeout);
    CONSTANT(VCPUOP_set_periodic_timer);
    CONSTANT(VCPUOP_stop_periodic_timer);
    CONSTANT(VCPUOP_set_singleshot_timer);
    CONSTANT(VCPUOP_stop_singleshot_timer);
    CONSTANT(VCPUOP_register_vcpu_info);
    CONSTANT(VCPU_SSHOTTMR_future);
    SIZE(struct vcpu_set_singleshot_timer);
    OFFSET(struct vcpu_set_singleshot_timer, timeout_abs_ns);
    OFFSET(struct vcpu_set_singleshot_timer, flags);
    SIZE(struct vcpu_register_vcpu_info);
    OFFSET(struct vcpu_register_vcpu_info, mfn);
    OFFSET(struct vcpu_register_vcpu_info, offset);
}

static void console(void)
{
    struct xencons_interface *interface = NULL;

    SIZE(struct xencons_interface);
    OFFSET(struct xencons_interface, in);
    OFFSET(struct xencons_interface, out);
    OFFSET(struct xencons_interface, in_cons);
    OFFSET(struct xencons_interface, in_prod);
    OFFSET(struct xencons_interface, out_cons);
    OFFSET(struct xencons_interface, out_prod);
    printf("size xencons_interface.in %zu\n", sizeof(interface->in));
    printf("size xencons_interface.out %zu\n", sizeof(interface->out));
}

static void xenstore(void)
{
    static const char payload[] = "device/vif/0/state\0" "4";
    struct xsd_sockmsg message = {
        .type = XS_WRITE,
        .req_id = 0xffffff00,
        .tx_id = 0x01020304,
        .len = sizeof(payload) - 1,
    };

    SIZE(struct xenstore_domain_interface);
    OFFSET(struct xenstore_domain_interface, req);
    OFFSET(struct xenstore_domain_interface, rsp);
    OFFSET(struct xenstore_domain_interface, req_cons);
    OFFSET(struct xenstore_domain_interface, req_prod);
    OFFSET(struct xenstore_domain_interface, rsp_cons);
    OFFSET(struct xenstore_domain_interface, rsp_prod);
    OFFSET(struct xenstore_domain_interface, server_features);
    OFFSET(struct xenstore_domain_interface, connection);
    OFFSET(struct xenstore_domain_interface, error);
    CONSTANT(XENSTORE_RING_SIZE);
    CONSTANT(XENSTORE_PAYLOAD_MAX);
    CONSTANT(XENSTORE_ABS_PATH_MAX);
    CONSTANT(XENSTORE_REL_PATH_MAX);
    CONSTANT(XENSTORE_CONNECTED);
    CONSTANT(XENSTORE_RECONNECT);
    SIZE(struct xsd_sockmsg);
    OFFSET(struct xsd_sockmsg, type);
    OFFSET(struct xsd_sockmsg, req_id);
    OFFSET(struct xsd_sockmsg, tx_id);
    OFFSET(struct xsd_sockmsg, len);
    CONSTANT(XS_CONTROL);
    CONSTANT(XS_DIRECTORY);
    CONSTANT(XS_READ);
    CONSTANT(XS_GET_PERMS);
    CONSTANT(XS_WATCH);
    CONSTANT(XS_UNWATCH);
    CONSTANT(XS_TRANSACTION_START);
    CONSTANT(XS_TRANSACTION_END);
    CONSTANT(XS_INTRODUCE);
    CONSTANT(XS_RELEASE);
    CONSTANT(XS_GET_DOMAIN_PATH);
    CONSTANT(XS_WRITE);
    CONSTANT(XS_MKDIR);
    CONSTANT(XS_RM);
    CONSTANT(XS_SET_PERMS);
    CONSTANT(XS_WATCH_EVENT);
    CONSTANT(XS_ERROR);
    CONSTANT(XS_IS_DOMAIN_INTRODUCED);
    CONSTANT(XS_RESUME);
    CONSTANT(XS_SET_TARGET);
    CONSTANT(XS_RESET_WATCHES);
    CONSTANT(XS_DIRECTORY_PART);
    for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
        printf("constant xsd_errors.%s %zu\n", xsd_errors[i].errstring, i);
    bytes("xsd_sockmsg", &message, sizeof(message));
    bytes("xsd_payload", payload, sizeof(payload) - 1);

    CONSTANT(XenbusStateUnknown);
    CONSTANT(XenbusStateInitialising);
    CONSTANT(XenbusStateInitWait);
    CONSTANT(XenbusStateInitialised);
    CONSTANT(XenbusStateConnected);
    CONSTANT(XenbusStateClosing);
    CONSTANT(XenbusStateClosed);
    CONSTANT(XenbusStateReconfiguring);
    CONSTANT(XenbusStateReconfigured);
}

static void network(void)
{
    struct netif_tx_request tx = {
        .gref = 0x11223344, .offset = 0x5566, .flags = NETTXF_csum_blank | NETTXF_more_data,
        .id = 0x7788, .size = 0x99aa,
    };
    struct netif_tx_response tx_answer = { .id = 0x7788, .status = NETIF_RSP_ERROR };
    struct netif_rx_request rx = { .id = 0x1122, .gref = 0x33445566 };
    struct netif_rx_response rx_answer = {
        .id = 0x1122, .offset = 0x3344, .flags = NETRXF_data_validated | NETRXF_extra_info,
        .status = -2,
    };
    struct netif_extra_info extra = {
        .type = XEN_NETIF_EXTRA_TYPE_GSO, .flags = XEN_NETIF_EXTRA_FLAG_MORE,
        .u.gso = { .size = 1448, .type = XEN_NETIF_GSO_TYPE_TCPV4, .features = 0 },
    };
    struct netif_extra_info extra_ipv6 = {
        .type = XEN_NETIF_EXTRA_TYPE_GSO,
        .u.gso = { .size = 1220, .type = XEN_NETIF_GSO_TYPE_TCPV6, .features = 0 },
    };
    struct netif_extra_info extra_hash = {
        .type = XEN_NETIF_EXTRA_TYPE_HASH,
        .u.hash = {
            .type = 1, .algorithm = XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
            .value = { 0x11, 0x22, 0x33, 0x44 },
        },
    };

    OFFSET(struct netif_tx_sring, req_prod);
    OFFSET(struct netif_tx_sring, req_event);
    OFFSET(struct netif_tx_sring, rsp_prod);
    OFFSET(struct netif_tx_sring, rsp_event);
    OFFSET(struct netif_tx_sring, ring);
    SIZE(union netif_tx_sring_entry);
    SIZE(union netif_rx_sring_entry);
    printf("constant NET_TX_RING_SIZE %u\n", (unsigned)__CONST_RING_SIZE(netif_tx, 4096));
    printf("constant NET_RX_RING_SIZE %u\n", (unsigned)__CONST_RING_SIZE(netif_rx, 4096));
    SIZE(struct netif_tx_request);
    OFFSET(struct netif_tx_request, gref);
    OFFSET(struct netif_tx_request, offset);
    OFFSET(struct netif_tx_request, flags);
    OFFSET(struct netif_tx_request, id);
    OFFSET(struct netif_tx_request, size);
    SIZE(struct netif_tx_response);
    OFFSET(struct netif_tx_response, id);
    OFFSET(struct netif_tx_response, status);
    SIZE(struct netif_rx_request);
    OFFSET(struct netif_rx_request, id);
    OFFSET(struct netif_rx_request, gref);
    SIZE(struct netif_rx_response);
    OFFSET(struct netif_rx_response, id);
    OFFSET(struct netif_rx_response, offset);
    OFFSET(struct netif_rx_response, flags);
    OFFSET(struct netif_rx_response, status);
    SIZE(struct netif_extra_info);
    OFFSET(struct netif_extra_info, type);
    OFFSET(struct netif_extra_info, flags);
    OFFSET(struct netif_extra_info, u.gso.size);
    OFFSET(struct netif_extra_info, u.gso.type);
    OFFSET(struct netif_extra_info, u.gso.features);
    OFFSET(struct netif_extra_info, u.mcast.addr);
    CONSTANT(NETTXF_csum_blank);
    CONSTANT(NETTXF_data_validated);
    CONSTANT(NETTXF_more_data);
    CONSTANT(NETTXF_extra_info);
    CONSTANT(NETRXF_data_validated);
    CONSTANT(NETRXF_csum_blank);
    CONSTANT(NETRXF_more_data);
    CONSTANT(NETRXF_extra_info);
    CONSTANT(NETRXF_gso_prefix);
    CONSTANT(XEN_NETIF_EXTRA_TYPE_GSO);
    CONSTANT(XEN_NETIF_EXTRA_TYPE_MCAST_ADD);
    CONSTANT(XEN_NETIF_EXTRA_TYPE_MCAST_DEL);
    CONSTANT(XEN_NETIF_EXTRA_TYPE_HASH);
    CONSTANT(XEN_NETIF_EXTRA_TYPE_MAX);
    CONSTANT(XEN_NETIF_EXTRA_FLAG_MORE);
    CONSTANT(XEN_NETIF_GSO_TYPE_TCPV4);
    CONSTANT(XEN_NETIF_GSO_TYPE_TCPV6);
    CONSTANT(XEN_NETIF_NR_SLOTS_MIN);
    CONSTANT(XEN_NETIF_MAX_TX_SIZE);
    CONSTANT(NETIF_RSP_DROPPED);
    CONSTANT(NETIF_RSP_ERROR);
    CONSTANT(NETIF_RSP_OKAY);
    CONSTANT(NETIF_RSP_NULL);
    bytes("netif_tx_request", &tx, sizeof(tx));
    bytes("netif_tx_response", &tx_answer, sizeof(tx_answer));
    bytes("netif_rx_request", &rx, sizeof(rx));
    bytes("netif_rx_response", &rx_answer, sizeof(rx_answer));
    bytes("netif_extra_info", &extra, sizeof(extra));
    bytes("netif_extra_info_ipv6", &extra_ipv6, sizeof(extra_ipv6));
    bytes("netif_extra_info_hash", &extra_hash, sizeof(extra_hash));
}

/* A page that the ring macros work on. */
static union {
    struct netif_rx_sring ring;
    uint8_t page[4096];
} shared;

/*
 * Both ends of a ring through the headers' macros, starting at "start": what the page holds and
 * what the macros decide at each step. The names of steps are those in the host test.
 */
static void ring_steps(const char *name, RING_IDX start)
{
    struct netif_rx_front_ring front;
    struct netif_rx_back_ring back;
    char label[64];
    int notify, work;

#define STEP(step, value) do { \
        snprintf(label, sizeof(label), "ring.%s.%s", name, step); \
        printf("constant %s %d\n", label, value); \
        snprintf(label, sizeof(label), "ring.%s.%s.words", name, step); \
        bytes(label, &shared, 16); \
    } while (0)

    memset(&shared, 0, sizeof(shared));
    SHARED_RING_INIT(&shared.ring);
    shared.ring.req_prod = shared.ring.rsp_prod = start;
    shared.ring.req_event = shared.ring.rsp_event = start + 1;
    FRONT_RING_ATTACH(&front, &shared.ring, start, 4096);
    BACK_RING_ATTACH(&back, &shared.ring, start, 4096);
    STEP("new", (int)RING_FREE_REQUESTS(&front));

    for (unsigned i = 0; i < 3; i++) {
        struct netif_rx_request *request = RING_GET_REQUEST(&front, front.req_prod_pvt);

        request->id = i;
        request->gref = 100 + i;
        front.req_prod_pvt++;
    }
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front, notify);
    STEP("publish_three", notify);
    front.req_prod_pvt++;
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front, notify);
    STEP("publish_one_more", notify);

    back.req_cons += 4;
    RING_FINAL_CHECK_FOR_REQUESTS(&back, work);
    STEP("back_final_check", work);

    for (unsigned i = 0; i < 2; i++) {
        struct netif_rx_response *response = RING_GET_RESPONSE(&back, back.rsp_prod_pvt);

        response->id = i;
        response->offset = 0;
        response->flags = 0;
        response->status = 60 + i;
        back.rsp_prod_pvt++;
    }
    RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&back, notify);
    STEP("respond_two", notify);
    RING_FINAL_CHECK_FOR_RESPONSES(&front, work);
    STEP("front_final_check_with_work", work);
    front.rsp_cons += 2;
    RING_FINAL_CHECK_FOR_RESPONSES(&front, work);
    STEP("front_final_check", work);
    front.req_prod_pvt++;
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front, notify);
    STEP("publish_after_final_check", notify);
    STEP("end", (int)RING_FREE_REQUESTS(&front));
    snprintf(label, sizeof(label), "ring.%s.page", name);
    bytes(label, shared.page, sizeof(shared.page));
}

/* The notify rule over indices around the wrap: published before, published now, event word. */
static void notify_rule(void)
{
    static const RING_IDX starts[] = { 0, 1000, 0x7ffffffe, 0xffffff00, 0xfffffffd };

    for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++)
        for (RING_IDX count = 0; count <= 6; count += 2)
            for (int ahead = -2; ahead <= 8; ahead++) {
                struct netif_rx_front_ring front;
                int notify;

                SHARED_RING_INIT(&shared.ring);
                shared.ring.req_prod = starts[s];
                shared.ring.req_event = starts[s] + ahead;
                FRONT_RING_ATTACH(&front, &shared.ring, starts[s], 4096);
                front.req_prod_pvt += count;
                RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front, notify);
                printf("row notify %u %u %u %d\n", starts[s], starts[s] + count,
                       starts[s] + ahead, notify);
            }
}

int main(void)
{
    printf("# Printed by abi.c from Xen's public headers (libxen-dev). Do not edit.\n");
    hypercalls();
    boot();
    parameters_and_memory();
    shared_information();
    event_channels();
    grants();
    scheduling();
    console();
    xenstore();
    network();
    ring_steps("zero", 0);
    ring_steps("wrap", 0xfffffffe);
    notify_rule();
    return 0;
}
