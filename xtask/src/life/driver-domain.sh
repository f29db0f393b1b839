#!/usr/bin/bash
# Started by init in a driver domain: dom0's programs and modules, but its own bridge, between
# its own interface and those of the guests it serves.
. /lab/environment
cd /

busybox mount -t proc proc /proc
busybox --install -s /usr/lib/busybox
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
fail() {
    echo "driver domain: failed: $*" >/dev/console
    exit 1
}

cat /lab/modules.first /lab/modules.rest | while read -r module; do
    insmod "/lab/modules/$module.ko" || echo "driver domain: no $module" >/dev/console
done
mount -t xenfs xenfs /proc/xen || fail "mounting xenfs"

# Its backend passes on frames whose pages are the guests' own, which its frontend cannot grant to dom0
# again. Physical cards take such pages; here a pair of virtual ones between two bridges has them copied.
ip link set lo up
for bridge in xenbr0 outside; do
    ip link add $bridge type bridge forward_delay 0 stp_state 0 mcast_snooping 0 && ip link set $bridge up ||
        fail "making the bridge $bridge"
done
ip link add inner type veth peer name outer &&
    ip link set inner master xenbr0 up &&
    ip link set outer master outside up || fail "joining the bridges"
tries=0
until ip link set eth0 master outside up 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail "its own interface did not appear"
    usleep 100000
done

# Runs the hotplug scripts, as the toolstack does in dom0.
xl devd || fail "starting xl devd"
xenstore-write data/serves yes || fail "telling dom0"
echo "driver domain: ready" >/dev/console
