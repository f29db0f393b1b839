# What dom0's scripts have in common, and those of driver domains. `fail` is the script's own.

mount_usual() {
    busybox mount -t proc proc /proc
    busybox --install -s /usr/lib/busybox
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
}

# Loads the kernel modules of a list, in its order.
load_modules() {
    while read -r module; do
        insmod "/lab/modules/$module.ko" || fail "loading the kernel module $module"
    done <"$1"
}

# Without a delay of zero a new port learns for 15 seconds before it forwards.
add_bridge() {
    ip link add "$1" type bridge forward_delay 0 stp_state 0 mcast_snooping 0
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
