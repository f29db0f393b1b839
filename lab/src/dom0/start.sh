#!/usr/bin/busybox sh
# Started once by busybox's init: opens the control port, has the rest brought up
# in the background, and becomes the agent.
#
# Descriptor 3 is the control port, a virtio serial port. dom0 writes the lines
# "stage <text>", "failed <text>", "ready" and "done <step> <status>" to it.
. /lab/environment
. /lab/common
cd /

mount_usual
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

# Reading gives nothing as long as nobody has the other end; writing would wait
# for ever. So the other end speaks first.
greeted() { read -r greeting <&3; }

load_modules /lab/modules.first
within_ten_seconds find_port || fail "the control port did not appear"
exec 3<>"$port"
within_ten_seconds greeted || fail "nobody has the other end of the control port"

/lab/bring-up &
exec /lab/agent
