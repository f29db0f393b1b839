#!/usr/bin/busybox sh
# Process 1 of a Linux guest under `cargo xtask bench`: modules, a static address, nginx and
# bench-peer, and nothing else.
#
# Linux hands `address=10.0.2.70/24` of its command line over as a variable.
busybox=/usr/bin/busybox

$busybox mount -t devtmpfs dev /dev
$busybox mount -t proc proc /proc
while read -r module; do
    $busybox insmod "/lab/modules/$module.ko"
done </lab/modules.list
$busybox ip link set lo up
until $busybox ip link set eth0 up 2>/dev/null; do
    $busybox usleep 10000
done
$busybox ip address add "$address" dev eth0
/usr/bin/nginx -e stderr -c /bench/nginx.conf
/bench/peer &
echo "bench: the services are started"
exec $busybox sleep 1000000000
