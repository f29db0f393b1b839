//! The guest's memory, as the host's operator changes it.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::xen::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT, address};

pub(super) const TESTS: &[Test] = &[
    (
        "memory below maxmem: only that much is touched",
        below_maximum,
    ),
    ("xl mem-set: half and back under load", half_and_back),
    (
        "xl mem-set: what the host has stays its own over xl restore",
        restored,
    ),
    ("xl mem-set: what cannot be is refused in a line", refusals),
    ("an 8 MiB guest flooded with connections answers", flood),
];

/// A guest that fills its heap: with more RAM than memory, Xen would end it without its report.
fn below_maximum(context: &Context) -> Result<()> {
    let maximum = |wish: Wish| Wish {
        memory_mib: 32,
        further: vec!["maxmem = 128".to_owned()],
        ..wish
    };
    let wish = maximum(Wish {
        append: vec!["do=exhaust".to_owned()],
        interfaces: Vec::new(),
        ..Wish::new("misbehave", "below-maximum", 120)
    });
    let guest = Guest::create(context, &wish)?;
    guest.explain(guest.wait_for("the heap had no room", BOOT_LIMIT))?;
    guest.explain(guest.wait_for("rekernel: crash", XL_LIMIT))?;
    guest.destroy()?;

    let guest = Guest::serving(
        context,
        &maximum(Wish::new("http", "below-maximum-http", 120)),
    )?;
    has_memory(&guest, context, 32)?;
    guest.explain(context.sh(&format!("xl mem-set {} 128", guest.name), XL_LIMIT))?;
    has_memory(&guest, context, 128)?;
    answers(&guest, context, 120)
}

/// The data that is echoed meanwhile is compared.
fn half_and_back(context: &Context) -> Result<()> {
    let cycles = context.extent.pick(3, 100);
    let guest = Guest::serving(context, &Wish::new("http", "mem-set", 121))?;
    let load = format!(
        "head -c 1000000 /dev/urandom >/tmp/mem-set.data; rm -f /tmp/mem-set.stop /tmp/mem-set.wrong
         (count=0
          until [ -e /tmp/mem-set.stop ]; do
            curl -sS --max-time 60 --data-binary @/tmp/mem-set.data http://{}/echo >/tmp/mem-set.back 2>/tmp/mem-set.error \
              && cmp -s /tmp/mem-set.data /tmp/mem-set.back || cat /tmp/mem-set.error >>/tmp/mem-set.wrong
            count=$((count + 1))
          done
          echo $count >/tmp/mem-set.count) </dev/null >/dev/null 2>&1 &",
        address(121)
    );
    context.sh(&load, XL_LIMIT)?;
    let outcome: Result<()> = (0..cycles).try_for_each(|_| {
        for memory in [32, 64] {
            guest.explain(context.sh(&format!("xl mem-set {} {memory}", guest.name), XL_LIMIT))?;
            has_memory(&guest, context, memory)?;
        }
        Ok(())
    });
    let stop = "touch /tmp/mem-set.stop
         for try in $(seq 140); do [ -e /tmp/mem-set.count ] && break; sleep 0.5; done
         [ ! -e /tmp/mem-set.wrong ] || { echo wrong:; cat /tmp/mem-set.wrong; exit 1; }
         cat /tmp/mem-set.count; rm -f /tmp/mem-set.*";
    let stopped = guest.explain(context.sh(stop, 2 * XL_LIMIT));
    outcome?;
    let transfers = stopped?;
    context.measurements.note(
        "xl mem-set to half and back under load",
        format!(
            "{cycles} times, {} transfers of 1 MB equal",
            transfers.trim()
        ),
    );
    ensure!(
        transfers.trim().parse().is_ok_and(|count: u32| count > 0),
        "nothing was transferred meanwhile"
    );
    Ok(())
}

fn restored(context: &Context) -> Result<()> {
    let name = "mem-restored";
    let wish = Wish {
        memory_mib: 32,
        ..Wish::new("http", name, 124)
    };
    let guest = Guest::serving(context, &wish)?;
    guest.explain(context.sh(&format!("xl mem-set {name} 24"), XL_LIMIT))?;
    has_memory(&guest, context, 24)?;
    let image = format!("/tmp/{name}.image");
    let script = format!("xl save {name} {image} && xl restore {image} && rm {image}");
    guest.explain(context.sh(&script, 4 * XL_LIMIT))?;
    guest.explain(guest.wait_for("rekernel: restored", XL_LIMIT))?;
    has_memory(&guest, context, 24)?;
    answers(&guest, context, 124)?;
    guest.explain(context.sh(&format!("xl mem-set {name} 32"), XL_LIMIT))?;
    has_memory(&guest, context, 32)?;
    answers(&guest, context, 124)
}

fn refusals(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "mem-refused", 122))?;
    // What the program uses and the reserve stay: an eighth of the heap, a mebibyte at least.
    guest.explain(context.sh(&format!("xl mem-set {} 2", guest.name), XL_LIMIT))?;
    guest.explain(guest.wait_for("memory/target is not reached", XL_LIMIT))?;
    answers(&guest, context, 122)?;
    for (target, answer) in [
        ("0", "0 KiB are too few for any guest"),
        ("garbage", "\"garbage\" is not a number of KiB"),
        (
            "999999",
            "999999 KiB are more than the maximum of 65536 KiB",
        ),
        ("-4096", "\"-4096\" is not a number of KiB"),
    ] {
        let write = format!(
            "xenstore-write -- /local/domain/$(xl domid {})/memory/target {target}",
            guest.name
        );
        guest.explain(context.sh(&write, XL_LIMIT))?;
        guest.explain(guest.wait_for(answer, XL_LIMIT))?;
    }
    guest.explain(context.sh(&format!("xl mem-set {} 64", guest.name), XL_LIMIT))?;
    has_memory(&guest, context, 64)?;
    answers(&guest, context, 122)
}

/// Downloads by the hundred, of which each wants more buffers than its share of 8 MiB.
fn flood(context: &Context) -> Result<()> {
    let seconds = context.extent.pick(8, 60);
    let wish = Wish {
        memory_mib: 8,
        ..Wish::new("http", "http-flooded", 123)
    };
    let guest = Guest::serving(context, &wish)?;
    let script = format!(
        "curl -sS -Z --parallel-immediate --parallel-max 300 --max-time {seconds} -o /dev/null \
           'http://{0}/bytes/100000000?[1-300]' >/dev/null 2>&1 </dev/null &
         flood=$!; answered=0
         while kill -0 $flood 2>/dev/null; do
           curl -sS -o /dev/null --max-time 5 http://{0}/ 2>/dev/null && answered=$((answered + 1))
           sleep 0.2
         done
         echo $answered",
        address(123)
    );
    let limit = Duration::from_secs(seconds) + 3 * XL_LIMIT;
    let answered = guest.explain(context.sh(&script, limit))?;
    context.measurements.note(
        "answers of an 8 MiB guest while 300 downloads flood it",
        format!("{} in {seconds} s", answered.trim()),
    );
    answers(&guest, context, 123)
}

/// Waits until the domain has this many MiB.
fn has_memory(guest: &Guest, context: &Context, mib: u32) -> Result<()> {
    let script = format!(
        "for try in $(seq 60); do
           now=$(xl list {0} | tail -1 | awk '{{print $3}}'); [ \"$now\" = {mib} ] && exit 0; sleep 0.5
         done
         echo \"{0} has $now MiB, not {mib}\"; exit 1",
        guest.name
    );
    guest.explain(context.sh(&script, 2 * XL_LIMIT))?;
    Ok(())
}

fn answers(guest: &Guest, context: &Context, last: u8) -> Result<()> {
    let script = format!(
        "for try in $(seq 10); do
           curl -sS -o /dev/null --max-time 10 http://{}/ && exit 0; sleep 1
         done; exit 1",
        address(last)
    );
    guest.explain(context.sh(&script, 3 * XL_LIMIT))?;
    Ok(())
}
