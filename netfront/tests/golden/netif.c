/*
 * Prints the golden bytes that src/wire.rs is tested against, from Xen's own header:
 *
 *     cc -o /tmp/netif netfront/tests/golden/netif.c && /tmp/netif
 *
 * Needs Debian's libxen-dev.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define xen_mb()
#define xen_rmb()
#define xen_wmb()
#include <xen/xen.h>
#include <xen/io/netif.h>

static void dump(const char *name, const void *bytes, size_t size)
{
    printf("%-12s", name);
    for (size_t i = 0; i < size; i++)
        printf(" %02x", ((const uint8_t *)bytes)[i]);
    putchar('\n');
}

int main(void)
{
    union netif_tx_sring_entry tx;
    union netif_rx_sring_entry rx;
    netif_extra_info_t extra;

    memset(&tx, 0, sizeof(tx));
    tx.req.gref = 0x01020304;
    tx.req.offset = 0x0506;
    tx.req.flags = NETTXF_csum_blank | NETTXF_data_validated | NETTXF_more_data;
    tx.req.id = 0x0708;
    tx.req.size = 0x090a;
    dump("tx request", &tx, sizeof(tx));

    memset(&tx, 0, sizeof(tx));
    tx.rsp.id = 0x0102;
    tx.rsp.status = NETIF_RSP_DROPPED;
    dump("tx response", &tx, sizeof(tx));

    memset(&rx, 0, sizeof(rx));
    rx.req.id = 0x0102;
    rx.req.gref = 0x03040506;
    dump("rx request", &rx, sizeof(rx));

    memset(&rx, 0, sizeof(rx));
    rx.rsp.id = 0x0102;
    rx.rsp.offset = 0x0304;
    rx.rsp.flags = NETRXF_csum_blank | NETRXF_more_data | NETRXF_gso_prefix;
    rx.rsp.status = -14;
    dump("rx response", &rx, sizeof(rx));

    memset(&extra, 0, sizeof(extra));
    extra.type = XEN_NETIF_EXTRA_TYPE_GSO;
    extra.flags = XEN_NETIF_EXTRA_FLAG_MORE;
    extra.u.gso.size = 0x05b4;
    extra.u.gso.type = XEN_NETIF_GSO_TYPE_TCPV6;
    dump("extra gso", &extra, sizeof(extra));

    memset(&extra, 0, sizeof(extra));
    extra.type = XEN_NETIF_EXTRA_TYPE_HASH;
    extra.u.hash.type = 1;
    extra.u.hash.algorithm = XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ;
    memcpy(extra.u.hash.value, "\x11\x22\x33\x44", 4);
    dump("extra hash", &extra, sizeof(extra));

    printf("slots a ring %u %u, slots a packet %u\n",
           (unsigned)__CONST_RING_SIZE(netif_tx, 4096),
           (unsigned)__CONST_RING_SIZE(netif_rx, 4096), XEN_NETIF_NR_SLOTS_MIN);
    return 0;
}
