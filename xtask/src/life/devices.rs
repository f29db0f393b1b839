//! Network devices that are plugged and unplugged, and backends that die and return.

use anyhow::{Context as _, Result, ensure};
use lab::network;

use crate::xen::{
    BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT, address, attach_arguments, interface,
};

pub(super) const TESTS: &[Test] = &[
    ("a guest without vif gets one later", first_interface),
    (
        "a vif is attached and detached, half of the times under traffic",
        attach_and_detach,
    ),
    (
        "a vif is detached whatever its backend says, and another attached",
        detached_in_each_state,
    ),
    (
        "a vif whose backend dies at any moment serves again",
        backend_deaths,
    ),
    (
        "a vif with senseless values leaves the other at work",
        senseless_values,
    ),
    ("a rate-limited vif goes on without stalls", rate_limited),
];

/// Shell functions that the scripts of these tests have in common, for a guest's
/// interface at `$peer`.
pub(super) fn functions(guest: &Guest, peer: &str) -> String {
    format!(
        "name={name}; peer={peer}; id=$(xl domid $name)
         fail() {{ echo \"$*\" >&2; exit 1; }}
         # The page within so many seconds, or never.
         serves() {{
           until=$(($(date +%s) + $1))
           until curl -sS -o /dev/null --max-time 2 http://$peer/ 2>/dev/null; do
             [ $(date +%s) -lt $until ] || return 1
             sleep 0.2
           done
         }}
         # Heap in use, in KiB, as the guest's own page says.
         heap() {{
           for try in 1 2 3; do
             said=$(curl -sS --max-time 10 http://{first}/ | sed -n 's/.*<th align=left>heap<td>//p')
             [ -z \"$said\" ] || {{ echo \"$said\"; return; }}
           done
           return 1
         }}
         # One connection that is kept, and a request over it.
         dial() {{ exec 3<>/dev/tcp/$peer/80; }}
         ask() {{
           printf 'HEAD / HTTP/1.1\\r\\nHost: guest\\r\\n\\r\\n' >&3
           read -t 30 -r line <&3 || return 1
           case $line in *' 200 '*) ;; *) return 1 ;; esac
           while read -t 10 -r line <&3; do [ ${{#line}} -gt 1 ] || return 0; done
           return 1
         }}
         trap 'kill $(jobs -p) 2>/dev/null' EXIT
         ",
        name = guest.name,
        first = address(FIRST),
    )
}

/// The last number of the first interface's address, and of the second's.
const FIRST: u8 = 85;
const SECOND: u8 = 86;

/// The bridge that every interface joins.
const BRIDGE: &str = network::BRIDGE;

/// What `xl network-attach` is told of an interface that joins the bridge by the lab's own hotplug script.
fn quickly() -> String {
    attach_arguments(&interface(BRIDGE))
}

fn first_interface(context: &Context) -> Result<()> {
    let wish = Wish {
        interfaces: Vec::new(),
        ..Wish::new("http", "life-no-vif", 84)
    };
    let guest = Guest::create(context, &wish)?;
    guest.wait_for("no network device", BOOT_LIMIT)?;
    let attach = format!("xl network-attach {} bridge={BRIDGE}", guest.name);
    guest.explain(context.sh(&attach, XL_LIMIT))?;
    guest.explain(guest.wait_for("rekernel: ready", XL_LIMIT))?;
    let script = functions(&guest, &address(84)) + "serves 10 || fail 'no answer'";
    guest.explain(context.sh(&script, XL_LIMIT))?;
    Ok(())
}

/// A guest that keeps its first interface, and is to get and lose a second one.
fn with_room_for_a_second<'a>(context: &'a Context, name: &str) -> Result<Guest<'a>> {
    let mut wish = Wish::new("http", name, FIRST);
    let (second, length) = (address(SECOND), network::PREFIX_LENGTH);
    wish.append.push(format!("net1.ip={second}/{length}"));
    Guest::serving(context, &wish)
}

/// Each time with another Ethernet address, so that nobody reaches the guest who did not hear
/// it announced. The first times with Xen's own hotplug script.
fn attach_and_detach(context: &Context) -> Result<()> {
    let cycles = context.extent.pick(50, 1000);
    let quickly = quickly();
    let guest = with_room_for_a_second(context, "life-attach")?;
    let script = functions(&guest, &address(SECOND))
        + &format!(
            "for cycle in $(seq {cycles}); do
               mac=$(printf '00:16:3e:77:%02x:%02x' $((cycle / 256)) $((cycle % 256)))
               interface='{quickly}'; [ $cycle -gt 2 ] || interface=bridge={BRIDGE}
               xl network-attach $name $interface mac=$mac || fail \"attach $cycle\"
               serves 20 || fail \"no answer in cycle $cycle\"
               if [ $((cycle % 2)) = 0 ]; then
                 curl -s -o /dev/null --max-time 30 http://$peer/bytes/400000000 &
                 sleep 0.5
               fi
               xl network-detach $name 1 || fail \"detach $cycle\"
               for try in $(seq 50); do
                 [ -e /sys/class/net/vif$id.1 ] || break; sleep 0.2
               done
               [ ! -e /sys/class/net/vif$id.1 ] || fail \"cycle $cycle: vif$id.1 is still there\"
               kill $(jobs -p) 2>/dev/null; wait 2>/dev/null
               case $cycle in 2 | {cycles})
                 said=$(heap) || fail \"no word of the heap after cycle $cycle\"; echo \"after $cycle: $said\" ;;
               esac
             done
             xenstore-read /local/domain/$id/device/vif/1/mac 2>/dev/null && fail 'nodes are left'
             # Without a pause, the first half of it.
             for cycle in 1 2 3; do
               xl network-attach $name {quickly}; xl network-detach $name 1
             done
             xl network-attach $name {quickly} && serves 20 || fail 'no answer at the end'
             # A connection goes on over the next device of the same handle.
             dial; ask || fail 'no answer over a new connection'
             xl network-detach $name 1; xl network-attach $name {quickly}
             serves 20 || fail 'no answer after the last attach'
             ask || fail 'the connection is lost'",
        );
    let printed = guest.explain(context.sh(&script, (cycles + 8) * XL_LIMIT))?;
    let lines: Vec<_> = printed.lines().collect();
    context.measurements.note(
        &format!("heap over {cycles} cycles of attach and detach"),
        lines.join("; "),
    );
    let console = guest.console();
    let said = console.matches("vif1: taken away").count();
    ensure!(
        said >= cycles as usize,
        "vif1 was said to be taken away {said} times in {cycles} cycles"
    );
    Ok(())
}

/// A backend that the guest waits for, parts from, or never heard of is to go; what comes next has another
/// address from the host.
fn detached_in_each_state(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "life-detach", FIRST))?;
    let quickly = quickly();
    let states = context.extent.pick("2 6", "1 2 3 4 5 6 7 8");
    let script = functions(&guest, &address(SECOND))
        + &format!(
            "set -- {} {}
             for state in {states}; do
               peer=$1; set -- $2 $1
               xl network-attach $name {quickly} ip=$peer || fail \"attach $state\"
               serves 20 || fail \"no answer at $peer before state $state\"
               xenstore-write /local/domain/0/backend/vif/$id/1/state $state
               xl network-detach $name 1 || fail \"detach in state $state\"
               for try in $(seq 50); do
                 xenstore-exists /local/domain/$id/device/vif/1 || break; sleep 0.2
               done
               xenstore-exists /local/domain/$id/device/vif/1 && fail \"state $state: nodes are left\"
               [ ! -e /sys/class/net/vif$id.1 ] || fail \"state $state: vif$id.1 is still there\"
             done",
            address(SECOND),
            address(SECOND + 1),
        );
    guest.explain(context.sh(&script, 12 * XL_LIMIT))?;
    Ok(())
}

/// Linux's netback is taken from its device and given it back, which removes and makes anew all
/// that it had, as when a driver domain dies. The interface then joins the bridge by hand, as no
/// hotplug script runs.
fn backend_deaths(context: &Context) -> Result<()> {
    let deaths = context.extent.pick(4, 200);
    let guest = Guest::serving(context, &Wish::new("http", "life-deaths", FIRST))?;
    let script = functions(&guest, &address(FIRST))
        + &format!(
            "device=vif-$id-0; node=/local/domain/0/backend/vif/$id/0
             driver=/sys/bus/xen-backend/drivers/vif
             slowest=0
             for death in $(seq {deaths}); do
               curl -s -o /dev/null --max-time 60 http://$peer/bytes/400000000 &
               dial; ask || fail \"no answer before death $death\"
               sleep 0.$((RANDOM % 10))
               echo $device > $driver/unbind || fail \"unbind $death\"
               kill $(jobs -p) 2>/dev/null; wait 2>/dev/null
               sleep 0.$((RANDOM % 10))
               echo $device > $driver/bind || fail \"bind $death\"
               for try in $(seq 50); do [ -e /sys/class/net/vif$id.0 ] && break; sleep 0.1; done
               ip link set vif$id.0 master {BRIDGE} up || fail \"bridge $death\"
               xenstore-write $node/hotplug-status connected
               back=${{EPOCHREALTIME/./}}
               serves 20 || fail \"no answer after death $death: $(xenstore-ls $node)\"
               took=$(((${{EPOCHREALTIME/./}} - back) / 1000))
               [ $took -gt $slowest ] && slowest=$took
               ask || fail \"the connection is lost after death $death\"
             done
             echo $slowest"
        );
    let printed = guest.explain(context.sh(&script, (deaths + 2) * XL_LIMIT))?;
    let slowest: u64 = printed.trim().parse().context(printed)?;
    context.measurements.note(
        &format!("slowest return of service in {deaths} deaths of a backend"),
        format!("{slowest} ms"),
    );
    Ok(())
}

/// Written with `xenstore-write`, as `xl` refuses most of it.
fn senseless_values(context: &Context) -> Result<()> {
    const MAC: &str = "00:16:3e:77:00:01";
    let guest = with_room_for_a_second(context, "life-senseless")?;
    let quickly = quickly();
    let attach = functions(&guest, &address(SECOND))
        + &format!("xl network-attach $name {quickly} mac={MAC} && serves 20 || fail 'no answer'");
    guest.explain(context.sh(&attach, 2 * XL_LIMIT))?;
    let again = |nodes: &str| {
        // A backend that closes is connected again, with what the nodes say then.
        let script = functions(&guest, &address(SECOND))
            + &format!(
                "own=/local/domain/$id/device/vif/1; node=/local/domain/0/backend/vif/$id/1
                 {nodes}
                 echo vif-$id-1 > /sys/bus/xen-backend/drivers/vif/unbind
                 echo vif-$id-1 > /sys/bus/xen-backend/drivers/vif/bind
                 for try in $(seq 50); do [ -e /sys/class/net/vif$id.1 ] && break; sleep 0.1; done
                 ip link set vif$id.1 master {BRIDGE} up
                 xenstore-write $node/hotplug-status connected"
            );
        guest.explain(context.sh(&script, XL_LIMIT))
    };
    for mtu in ["0", "65536"] {
        again(&format!("xenstore-write $own/mtu {mtu}"))?;
        guest.explain(guest.wait_for(&format!("mtu = \"{mtu}\""), XL_LIMIT))?;
        let serves = functions(&guest, &address(SECOND)) + "serves 20 || fail 'no answer'";
        guest.explain(context.sh(&serves, XL_LIMIT))?;
    }
    again("xenstore-write $own/mac 00:16:3e:zz:00:01")?;
    guest.explain(guest.wait_for("mac = \"00:16:3e:zz:00:01\"", XL_LIMIT))?;
    // The other interface does not notice, and states that are none are survived.
    let script = functions(&guest, &address(FIRST))
        + "node=/local/domain/0/backend/vif/$id/1
           serves 10 || fail 'the other interface is gone'
           for state in '' -1 7 999; do xenstore-write -- $node/state \"$state\"; sleep 0.2; done
           serves 10 || fail 'the other interface is gone'";
    guest.explain(context.sh(&script, XL_LIMIT))?;
    again(&format!("xenstore-write $own/mac {MAC}"))?;
    let serves = functions(&guest, &address(SECOND)) + "serves 90 || fail 'no answer at last'";
    guest.explain(context.sh(&serves, 2 * XL_LIMIT))?;
    Ok(())
}

/// Linux's netback stops taking frames when the credit is used up; the guest has to wait for the
/// event that tells of new credit, again and again.
fn rate_limited(context: &Context) -> Result<()> {
    const BYTES: u32 = 2_000_000;
    let wish = Wish {
        interfaces: vec![format!("{},rate=4Mb/s", interface(BRIDGE))],
        ..Wish::new("http", "life-rate", FIRST)
    };
    let guest = Guest::serving(context, &wish)?;
    let script = functions(&guest, &address(FIRST))
        + &format!(
            "curl -sS -o /tmp/rate --max-time 60 -w '%{{time_total}}' http://$peer/bytes/{BYTES}
             [ $(stat -c %s /tmp/rate) = {BYTES} ] || fail 'not all of it'; rm /tmp/rate"
        );
    let printed = guest.explain(context.sh(&script, 2 * XL_LIMIT))?;
    let seconds: f64 = printed.trim().parse().context(printed)?;
    let megabits = f64::from(BYTES) * 8.0 / 1e6 / seconds;
    context.measurements.note(
        "download over a vif limited to 4 Mb/s",
        format!("{megabits:.1} Mb/s"),
    );
    // It is the limit that is tested, not something slower.
    ensure!(megabits < 8.0, "{BYTES} bytes took only {seconds} s");
    Ok(())
}
