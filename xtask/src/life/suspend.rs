//! Saved, restored, migrated; suspended for nothing; and what the application is told.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use cargo_rekernel::progress::status;

use crate::http::hash_of_bytes;
use crate::xen::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT, address};

pub(super) const TESTS: &[Test] = &[
    (
        "life-probe: xl save, xl restore under a hashed stream",
        saved,
    ),
    (
        "life-probe: xl migrate to localhost under a hashed stream",
        migrated,
    ),
    (
        "life-probe: xl save -c under a hashed stream: goes on",
        checkpoints,
    ),
    ("life-probe: xl save that fails: goes on", failed_save),
    (
        "life-probe: two restores of one image: other random numbers, same past",
        restored_twice,
    ),
    (
        "life-probe: xl save before the interface is connected",
        saved_early,
    ),
    (
        "life-probe: xl restore without the interface",
        restored_without,
    ),
    (
        "life-probe: xl restore where the backend offers less",
        restored_with_less,
    ),
    ("life-probe: unknown words are acknowledged", unknown_words),
    (
        "life-probe: before_shutdown is waited for, until its deadline",
        hooks,
    ),
];

/// A guest of this size is saved in a second.
const MEMORY_MIB: u32 = 16;

/// Time for one save, restore or migration: many times what it takes.
const CYCLE_LIMIT: Duration = Duration::from_secs(60);

/// Bytes of the stream per cycle, read at a pace that makes them last longer than one.
const STREAM_PER_CYCLE: u64 = 3 << 20;

/// Bytes of heap by which a guest may differ between two idle moments: connections in TIME-WAIT.
const HEAP_TOLERANCE: i64 = 64 << 10;

fn wish(name: &str, last: u8) -> Wish {
    Wish {
        memory_mib: MEMORY_MIB,
        ..Wish::new("life-probe", name, last)
    }
}

fn saved(context: &Context) -> Result<()> {
    let step = "xl save $name /tmp/$name.image && xl restore /tmp/$name.image";
    let cycles = context.extent.pick(3, 100);
    let guest = Guest::serving(context, &wish("life-saved", 81))?;
    guest.explain(under_a_stream(context, &guest, 81, cycles, step))?;
    expect_calls(context, &guest, 81, cycles)
}

fn migrated(context: &Context) -> Result<()> {
    // With an empty program to reach it by, xl takes the host for the command to run.
    let step = "xl migrate -s '' $name 'exec xl migrate-receive'";
    let cycles = context.extent.pick(2, 50);
    let guest = Guest::serving(context, &wish("life-migrated", 82))?;
    guest.explain(under_a_stream(context, &guest, 82, cycles, step))?;
    expect_calls(context, &guest, 82, cycles)
}

fn checkpoints(context: &Context) -> Result<()> {
    let step = "xl save -c $name /tmp/$name.image";
    let cycles = context.extent.pick(2, 100);
    let guest = Guest::serving(context, &wish("life-checkpoints", 83))?;
    let before = guest.listing()?.map(|listing| listing.id);
    guest.explain(under_a_stream(context, &guest, 83, cycles, step))?;
    let after = guest.listing()?.map(|listing| listing.id);
    ensure!(before == after, "domain {before:?} is now {after:?}");
    ensure!(
        !guest.console().contains("link down"),
        "{} lost its link for a checkpoint",
        guest.name
    );
    expect_calls(context, &guest, 83, cycles)
}

/// dom0 reads a stream from the guest, slowly, while `step` is done so many times; then the rest. The hash
/// must be right, and what the guest holds be the same after the second cycle and the last.
fn under_a_stream(
    context: &Context,
    guest: &Guest,
    last: u8,
    cycles: u32,
    step: &str,
) -> Result<()> {
    let bytes = STREAM_PER_CYCLE * (u64::from(cycles) + 2);
    let (name, peer) = (&guest.name, address(last));
    // The stream is read at a few hundred KiB a second until the last cycle is done.
    // What dom0 sends to a guest that is away would be flooded to QEMU's network, which answers such
    // segments of TCP with a reset.
    let script = format!(
        "name={name}; folder=/tmp/$name.life; rm -rf $folder; mkdir $folder
         bridge link set dev eth0 flood off
         trap 'bridge link set dev eth0 flood on; rm -rf $folder /tmp/$name.image; kill $(jobs -p) 2>/dev/null' EXIT
         resources() {{
           for try in $(seq 20); do
             curl -sS --max-time 10 http://{peer}/resources > $folder/$1 && return; sleep 1
           done; echo \"no resources: $1\"; exit 1
         }}
         (curl -sS -N http://{peer}/stream/{bytes} || echo lost > $folder/lost) | {{
           while [ ! -e $folder/done ]; do dd bs=4096 count=8 2>/dev/null; sleep 0.2; done; cat
         }} | sha256sum > $folder/hash &
         for cycle in $(seq {cycles}); do
           ({step}) > $folder/log 2>&1 || {{ cat $folder/log; echo \"cycle $cycle failed\"; exit 1; }}
           [ $cycle = 2 ] && resources early
           [ ! -s $folder/hash ] || {{ echo \"the stream ended in cycle $cycle\"; exit 1; }}
         done
         resources late
         touch $folder/done; wait %1
         [ ! -e $folder/lost ] || {{ echo 'the connection was lost'; exit 1; }}
         cat $folder/hash; echo early; cat $folder/early; echo late; cat $folder/late"
    );
    let limit = CYCLE_LIMIT * (cycles + 2);
    let printed = context.sh(&script, limit).map_err(|error| {
        anyhow!(
            "{error:#}; the end of Xen's console:\n{}",
            tail(&context.dom0.serial_console())
        )
    })?;
    // The probe streams the same bytes as the example `http`.
    let expected = hash_of_bytes(bytes);
    ensure!(
        printed.starts_with(&expected),
        "{bytes} bytes with hash {expected} became: {printed}"
    );
    let (_, counts) = printed.split_once("early\n").context("no counts")?;
    let (early, late) = counts.split_once("late\n").context("no late counts")?;
    expect_flat(&numbers(early), &numbers(late))?;
    // Consoles are kept by name, and xl migrates to another one.
    let away = times_away(&guest.console());
    status(
        "Lived",
        &format!("{name}: {cycles} cycles, {bytes} bytes equal; away, as far as told, {away:?} ms"),
    );
    Ok(())
}

/// Lines of a name and a number.
fn numbers(text: &str) -> BTreeMap<String, i64> {
    let parse = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(parse).collect()
}

fn expect_flat(early: &BTreeMap<String, i64>, late: &BTreeMap<String, i64>) -> Result<()> {
    ensure!(early.len() >= 4, "the probe told only {early:?}");
    for (name, &before) in early {
        let after = *late.get(name).with_context(|| format!("no {name}"))?;
        let tolerance = match name.as_str() {
            "heap_used" => HEAP_TOLERANCE,
            // The connection grows and shrinks with its load.
            "shared_pages" => 200,
            _ => 0,
        };
        ensure!(
            after - before <= tolerance,
            "{name} was {before} after the second cycle and {after} after the last"
        );
    }
    Ok(())
}

/// Milliseconds for which the guest was away, by its own account.
fn times_away(console: &str) -> Vec<u64> {
    let told = |line: &str| {
        let line = line.trim();
        let rest = line
            .strip_prefix("rekernel: restored after ")
            .or(line.strip_prefix("rekernel: continued after "))?;
        rest.strip_suffix(" ms")?.parse().ok()
    };
    console.lines().filter_map(told).collect()
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// The hooks were called once for each cycle.
fn expect_calls(context: &Context, guest: &Guest, last: u8, cycles: u32) -> Result<()> {
    let told = guest.explain(ask(context, last, "hooks"))?;
    let expected = format!("before_suspend {cycles}\nafter_resume {cycles}\n");
    ensure!(told == expected, "after {cycles} cycles: {told}");
    Ok(())
}

/// A probe's answer, once it is to be reached.
fn ask(context: &Context, last: u8, what: &str) -> Result<String> {
    let peer = address(last);
    let script = format!(
        "for try in $(seq 20); do curl -sS --max-time 10 http://{peer}/{what} && exit; sleep 1; done
         exit 1"
    );
    context.sh(&script, 4 * CYCLE_LIMIT)
}

/// The file system has no room for the image, which xl finds out when the guest is suspended. It goes on
/// where it was.
fn failed_save(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &wish("life-failed", 84))?;
    let before = guest.listing()?.map(|listing| listing.id);
    let save = format!(
        "folder=/tmp/life-small; mkdir -p $folder && mount -t tmpfs -o size=2m none $folder || exit
         trap 'umount $folder' EXIT
         ! xl save {} $folder/image",
        guest.name
    );
    guest.explain(context.sh(&save, CYCLE_LIMIT))?;
    guest.explain(guest.wait_for("life-probe: continued", CYCLE_LIMIT))?;
    guest.explain(ask(context, 84, "clock"))?;
    let after = guest.listing()?.map(|listing| listing.id);
    ensure!(before == after, "domain {before:?} is now {after:?}");
    expect_calls(context, &guest, 84, 1)
}

/// The generator's state is in the image: it must be used by neither. What was before is the same for both.
fn restored_twice(context: &Context) -> Result<()> {
    let name = "life-twice";
    let guest = Guest::serving(context, &wish(name, 85))?;
    let clock = numbers(&guest.explain(ask(context, 85, "clock"))?);
    let image = format!("/tmp/{name}.image");
    guest.explain(context.sh(&format!("xl save {name} {image}"), CYCLE_LIMIT))?;
    let mut drawn = Vec::new();
    for _ in 0..2 {
        // Time away is no time to the guest, and the wall clock has it all the same.
        std::thread::sleep(Duration::from_secs(2));
        let restored = Guest::adopt(context, name);
        context.sh(&format!("xl restore {image}"), CYCLE_LIMIT)?;
        let line = restored.explain(restored.wait_for("life-probe: restored", CYCLE_LIMIT))?;
        let random = line.rsplit(' ').next().unwrap_or_default().to_owned();
        ensure!(random.trim().len() == 64, "no random numbers: {line}");
        drawn.push(random);
        let now = numbers(&restored.explain(ask(context, 85, "clock"))?);
        for key in ["monotonic", "wall"] {
            ensure!(
                now.get(key) > clock.get(key),
                "{key}: {clock:?}, then {now:?}"
            );
        }
        let (wall, monotonic) = (
            now["wall"] - clock["wall"],
            now["monotonic"] - clock["monotonic"],
        );
        ensure!(
            wall > monotonic,
            "the wall clock moved {wall} ms, the other {monotonic}"
        );
        restored.destroy()?;
    }
    context.sh(&format!("rm {image}"), XL_LIMIT)?;
    ensure!(drawn[0] != drawn[1], "both drew {}", drawn[0]);
    Ok(())
}

/// Suspended as soon as it says that it can be, while its interface is still being connected.
fn saved_early(context: &Context) -> Result<()> {
    let name = "life-early";
    let guest = Guest::create_paused(context, &wish(name, 86))?;
    let image = format!("/tmp/{name}.image");
    let script =
        format!("xl unpause {name}; xl save {name} {image} && xl restore {image} && rm {image}");
    guest.explain(context.sh(&script, 2 * CYCLE_LIMIT))?;
    guest.explain(guest.wait_for("rekernel: restored", CYCLE_LIMIT))?;
    guest.explain(guest.wait_for("rekernel: ready", BOOT_LIMIT))?;
    guest.explain(ask(context, 86, "clock")).map(drop)
}

/// Saved with an interface, restored without it, saved again, and restored with it.
fn restored_without(context: &Context) -> Result<()> {
    let name = "life-without";
    let full = wish(name, 87);
    let bare = Wish {
        interfaces: Vec::new(),
        ..full.clone()
    };
    let guest = Guest::serving(context, &full)?;
    let image = format!("/tmp/{name}.image");
    let save = format!("xl save {name} {image}");
    guest.explain(context.sh(&save, CYCLE_LIMIT))?;
    let file = Guest::put_files(context, &bare)?;
    guest.explain(context.sh(&format!("xl restore {file} {image}"), CYCLE_LIMIT))?;
    guest.explain(guest.wait_for("life-probe: restored", CYCLE_LIMIT))?;
    guest.explain(context.sh(&save, CYCLE_LIMIT))?;
    let file = Guest::put_files(context, &full)?;
    let restore = format!("xl restore {file} {image} && rm {image}");
    guest.explain(context.sh(&restore, CYCLE_LIMIT))?;
    guest.explain(ask(context, 87, "hooks"))?;
    expect_calls(context, &guest, 87, 2)
}

/// Saved, and restored where netback offers one event channel for both directions, not one for each.
fn restored_with_less(context: &Context) -> Result<()> {
    let name = "life-less";
    let guest = Guest::serving(context, &wish(name, 83))?;
    guest.explain(guest.wait_for("two event channels", XL_LIMIT))?;
    let image = format!("/tmp/{name}.image");
    let script = format!(
        "offer=/sys/module/xen_netback/parameters/separate_tx_rx_irq
         trap 'echo 1 >$offer' EXIT
         xl save {name} {image} && echo 0 >$offer && xl restore {image} && rm {image}"
    );
    guest.explain(context.sh(&script, 2 * CYCLE_LIMIT))?;
    guest.explain(guest.wait_for("one event channel", CYCLE_LIMIT))?;
    guest.explain(ask(context, 83, "clock"))?;
    expect_calls(context, &guest, 83, 1)
}

fn unknown_words(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &wish("life-words", 88))?;
    let script = format!(
        "node=/local/domain/$(xl domid {})/control/shutdown
         xenstore-write $node dance
         for try in $(seq 50); do [ -z \"$(xenstore-read $node)\" ] && exit; sleep 0.2; done; exit 1",
        guest.name
    );
    guest.explain(context.sh(&script, XL_LIMIT))?;
    guest.explain(guest.wait_for("\"dance\", which this program cannot do", XL_LIMIT))?;
    guest.explain(ask(context, 88, "clock")).map(drop)
}

fn hooks(context: &Context) -> Result<()> {
    for (name, order, append, expected) in [
        (
            "life-linger",
            "xl shutdown",
            "linger=500",
            "life-probe: ends: poweroff",
        ),
        (
            "life-hang",
            "xl shutdown",
            "linger=600000 deadline=300",
            "rekernel: poweroff without waiting: hooks not done after 300 ms: 1",
        ),
    ] {
        let mut wish = wish(name, 89);
        wish.append.push(append.to_owned());
        let guest = Guest::serving(context, &wish)?;
        guest.explain(context.sh(&format!("{order} {name}"), XL_LIMIT))?;
        guest.explain(guest.wait_for(expected, XL_LIMIT))?;
        guest.explain(guest.wait_for("rekernel: poweroff", XL_LIMIT))?;
        guest.wait_until("the end", XL_LIMIT, |listing| listing.is_none())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_among_other_lines() {
        let console = "rekernel: suspend\r\nrekernel: restored after 412 ms\r\n[1] x\r\nrekernel: continued after 7 ms\r\n";
        assert_eq!(times_away(console), [412, 7]);
    }

    #[test]
    fn what_grows_is_told_and_what_shrinks_is_fine() {
        let early = numbers("heap_used 5\nshared_pages 80\nquarantined_grants 0\nevent_ports 5\n");
        let mut late = early.clone();
        assert!(expect_flat(&early, &late).is_ok());
        late.insert("event_ports".to_owned(), 4);
        assert!(expect_flat(&early, &late).is_ok());
        late.insert("event_ports".to_owned(), 6);
        assert!(expect_flat(&early, &late).is_err());
    }
}
