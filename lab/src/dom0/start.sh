#!/usr/bin/busybox sh
# Started once by busybox's init: opens the control port, has the rest brought up
# in the background, and becomes the agent.
#
# Descriptor 3 is the control port, a virtio serial port. dom0 writes the lines
# "stage <text>", "failed <text>", "ready" and "done <step> <status>" to it.
. /lab/environment
cd /

busybox mount -t proc proc /proc
busybox --install -s /usr/lib/busybox
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts

fail() {
    echo "lab: failed: $*" >/dev/console
    sleep 1
    poweroff -f
}

# The port's name arrives a little later than the port.
find_port() {
    for name in /sys/class/virtio-ports/*/name; do
        if [ "$(cat "$name" 2>/dev/null)" = rekernel.lab ]; then
            name=${name%/name}
            port=/dev/${name##*/}
            return 0
        fi
    done
    return 1
}

# Calls a command until it succeeds, for ten seconds at most.
within_ten_seconds() {
    local tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || return 1
        usleep 100000
    done
}

# Reading gives nothing as long as nobody has the other end; writing would wait
# for ever. So the other end speaks first.
greeted() { read -r greeting <&3; }

while read -r module; do
    insmod "/lab/modules/$module.ko" || fail "loading the kernel module $module"
done </lab/modules.first
within_ten_seconds find_port || fail "the control port did not appear"
exec 3<>"$port"
within_ten_seconds greeted || fail "nobody has the other end of the control port"

/lab/bring-up &
exec /lab/agent
