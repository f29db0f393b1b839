/* The other side of xen-probe's `peer`: maps the page that the guest granted, answers each of its
 * events, and lets go of the page only when a file appears.
 *
 *   gcc -O2 -static -o peer peer.c                          (headers: Debian's libxen-dev)
 *   peer DOMAIN REFERENCE PORT FILE                         (in dom0)
 *
 * With REFERENCE 0 it maps nothing and sends events without a pause until the file appears, for
 * xen-probe's `storm`.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/xen.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/gntdev.h>

enum { ROUNDS = 1000 };

static int checked(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static int storm(int events, struct ioctl_evtchn_notify *notify, const char *file)
{
    unsigned long sent = 0;
    while (sent % 1024 != 0 || access(file, F_OK) != 0) {
        checked(ioctl(events, IOCTL_EVTCHN_NOTIFY, notify), "notify");
        sent++;
    }
    printf("peer: %lu events sent\n", sent);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    struct ioctl_gntdev_map_grant_ref map = {
        .count = 1,
        .refs[0] = { .domid = atoi(argv[1]), .ref = atoi(argv[2]) },
    };
    struct ioctl_evtchn_bind_interdomain bind = {
        .remote_domain = atoi(argv[1]),
        .remote_port = atoi(argv[3]),
    };
    int events = checked(open("/dev/xen/evtchn", O_RDWR), "evtchn");
    uint32_t port = checked(ioctl(events, IOCTL_EVTCHN_BIND_INTERDOMAIN, &bind), "bind");
    struct ioctl_evtchn_notify notify = { .port = port };
    if (map.refs[0].ref == 0)
        return storm(events, &notify, argv[4]);

    int grants = checked(open("/dev/xen/gntdev", O_RDWR), "gntdev");
    checked(ioctl(grants, IOCTL_GNTDEV_MAP_GRANT_REF, &map), "map");
    volatile uint32_t *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, grants, map.index);
    if (page == MAP_FAILED)
        checked(-1, "mmap");

    uint32_t round = 0;
    while (round < ROUNDS) {
        uint32_t ready;
        if (read(events, &ready, sizeof ready) != sizeof ready)
            checked(-1, "read");
        if (write(events, &ready, sizeof ready) != sizeof ready)
            checked(-1, "unmask");
        if (page[0] == round)
            continue;
        round = page[0];
        page[1] = round;
        checked(ioctl(events, IOCTL_EVTCHN_NOTIFY, &notify), "notify");
    }
    while (access(argv[4], F_OK) != 0)
        usleep(100000);
    checked(munmap((void *)page, 4096), "munmap");
    puts("peer: let go");
    return 0;
}
