#!/usr/bin/busybox sh
# Started once by busybox's init: brings dom0 up, then becomes the agent.
#
# Descriptor 3 is the control port, a virtio serial port. The lines written to it
# are "stage <text>", "failed <text>", "ready" and "done <step> <status>".
. /lab/environment
cd /

busybox mount -t proc proc /proc
busybox --install -s /usr/lib/busybox
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts

report() {
    if [ -n "$port" ]; then echo "$@" >&3; fi
    echo "lab: $*" >/dev/console
}

stage() { report stage "$@"; }

fail() {
    report failed "$@"
    busybox sleep 1
    busybox poweroff -f
}

load_modules() {
    while read -r module; do
        insmod "/lab/modules/$module.ko" || fail "loading the kernel module $module"
        [ "$module" = virtio_console ] && open_port
    done </lab/modules.order
}

open_port() {
    local tries=0 name
    while [ $tries -lt 50 ]; do
        for name in /sys/class/virtio-ports/*/name; do
            if [ "$(cat "$name" 2>/dev/null)" = rekernel.lab ]; then
                name=${name%/name}
                exec 3<>"/dev/${name##*/}"
                port=open
                stage "Linux runs in dom0"
                return
            fi
        done
        tries=$((tries + 1))
        busybox usleep 100000
    done
    fail "the control port did not appear"
}

port=
load_modules

stage "mounting the shared folder"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none lab /lab/share ||
    fail "mounting the shared folder"
mount -t xenfs xenfs /proc/xen || fail "mounting xenfs"

stage "bringing up the network"
hostname dom0
ip link set lo up
# Without a delay of zero a new port learns for 15 seconds before it forwards.
ip link add xenbr0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0 &&
    ip link set eth0 master xenbr0 &&
    ip link set eth0 up &&
    ip link set xenbr0 up &&
    ip address add 10.0.2.1/24 dev xenbr0 ||
    fail "setting up the bridge"

stage "starting xenstored"
xenstored --pid-file=/run/xenstored.pid 3>&- || fail "starting xenstored"
xen-init-dom0 3>&- || fail "initialising dom0's entries in xenstore"

stage "starting xenconsoled"
# Straight into the shared folder: consoles can be read although dom0 hangs.
xenconsoled --log=guest --log-dir=/lab/share/consoles --pid-file=/run/xenconsoled.pid 3>&- ||
    fail "starting xenconsoled"

stage "asking the toolstack"
xl list >/dev/null || fail "xl list"
exec /lab/agent
