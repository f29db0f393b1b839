#!/usr/bin/busybox sh
# Brings dom0 up while the agent already watches the control port.
. /lab/environment
. /lab/common
cd /

report() {
    echo "$@" >&3
    echo "lab: $*" >/dev/console
}

stage() { report stage "$@"; }

fail() {
    report failed "$@"
    exit 1
}

stage "Linux runs in dom0"
load_modules /lab/modules.rest

stage "mounting the shared folder"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none lab /lab/share ||
    fail "mounting the shared folder"
mount -t xenfs xenfs /proc/xen || fail "mounting xenfs"

stage "bringing up the network"
hostname dom0
ip link set lo up
add_bridge xenbr0 &&
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
report ready
