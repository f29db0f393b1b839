#!/usr/bin/busybox sh
# Takes orders from descriptor 3: "run <step>", "kill <step>", "off".
#
# A step is a folder in the shared folder with a file `script`; it receives
# `stdout` and `stderr`. If the other end goes away, so does this machine: the
# process that asked for it has died.

steps=/lab/share/steps

run() {
    cd /root || exit
    # A session of its own, so that all of it can be killed at once.
    setsid bash "$steps/$1/script" </dev/null >"$steps/$1/stdout" 2>"$steps/$1/stderr" 3>&- &
    echo $! >"/run/lab/$1"
    wait $!
    status=$?
    rm -f "/run/lab/$1"
    echo "done $1 $status" >&3
}

while read -r order step <&3; do
    case $order in
    # Twice in the background: init then collects what ends.
    run) (run "$step" &) ;;
    kill) [ -f "/run/lab/$step" ] && kill -KILL -- "-$(cat "/run/lab/$step")" ;;
    off) break ;;
    esac
done
sync
poweroff -f
