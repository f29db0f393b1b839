#!/usr/bin/bash
# Started by init in a driver domain: dom0's programs and modules, but its own bridge, between
# its own interface and those of the guests it serves.
. /lab/environment
. /lab/common
cd /

fail() {
    echo "driver domain: failed: $*" >/dev/console
    exit 1
}

mount_usual
load_modules /lab/modules.first
load_modules /lab/modules.rest
mount -t xenfs xenfs /proc/xen || fail "mounting xenfs"

# Its backend passes on frames whose pages are the guests' own, which its frontend cannot grant to dom0
# again. Physical cards take such pages; here a pair of virtual ones between two bridges has them copied.
ip link set lo up
for bridge in xenbr0 outside; do
    add_bridge $bridge && ip link set $bridge up ||
        fail "making the bridge $bridge"
done
ip link add inner type veth peer name outer &&
    ip link set inner master xenbr0 up &&
    ip link set outer master outside up || fail "joining the bridges"
within_ten_seconds ip link set eth0 master outside up || fail "its own interface did not appear"

# Runs the hotplug scripts, as the toolstack does in dom0.
xl devd || fail "starting xl devd"
xenstore-write data/serves yes || fail "telling dom0"
echo "driver domain: ready" >/dev/console
