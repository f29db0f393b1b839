//! An operator who looks into a guest: keys, typed lines, and a watchdog for one that stands still.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::monitor::dom0::{Domain, Shell};
use cargo_rekernel::monitor::{self, Report};

use crate::book::chapters;
use crate::guests::workspace;
use crate::xen::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT};

pub(super) const TESTS: &[Test] = &[
    ("xl sysrq: reports on the console", sysrq),
    (
        "cargo rekernel inspect: asks a domain through xenstore",
        inspect,
    ),
    ("xl console: what is typed reaches the program", typed),
    ("book: commands of dom0", book),
    (
        "watchdog: ends a guest that stands still, only that",
        watchdog,
    ),
    (
        "watchdog: ends a guest that stands still after xl restore",
        watchdog_restored,
    ),
    ("the reason of each end is what xl acts on", reasons),
];

fn sysrq(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "sysrq", 125))?;
    for (key, lines) in [
        ("t", &["tasks: tasks: ", "tasks: work: "][..]),
        (
            "m",
            &["memory: ram: total_kib=65536", "memory: heap: used_kib="],
        ),
        (
            "n",
            &[
                "network: vif0: link=up",
                "network: vif0: address=",
                ":80: state=listens",
            ],
        ),
        (
            "r",
            &["frontend=Connected backend=Connected", "shared pages: "],
        ),
        ("x", &["connection: state=works"]),
        ("q", &["known keys are t (tasks), m (memory)"]),
    ] {
        let before = guest.console().len();
        guest.explain(context.sh(&format!("xl sysrq {} {key}", guest.name), XL_LIMIT))?;
        let last = match key {
            "q" => "known keys are".to_owned(),
            key => format!("sysrq {key}: end"),
        };
        guest.explain(guest.wait_for(&last, XL_LIMIT))?;
        let console = guest.console();
        let report = console.get(before..).unwrap_or_default();
        for line in lines {
            guest.explain(match report.contains(line) {
                true => Ok(()),
                false => Err(anyhow::anyhow!("the report `{key}` lacks `{line}`")),
            })?;
        }
        // Acknowledged.
        let node = format!(
            "xenstore-read /local/domain/$(xl domid {})/control/sysrq",
            guest.name
        );
        let left = context.sh(&node, XL_LIMIT)?;
        ensure!(left.trim().is_empty(), "control/sysrq is still {left:?}");
    }
    Ok(())
}

/// What `cargo rekernel inspect --dom0` does; the shell is that of the lab's dom0.
fn inspect(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "inspect", 125))?;
    let mut domain = Domain::new(InDom0(context), &guest.name)?;
    let report = guest.explain(monitor::ask(&mut domain, "inspect"))?;
    let report = Report::parse(&report);
    for (section, subject, name, value) in [
        ("memory", "ram", "total_kib", "65536"),
        ("network", "vif0", "link", "up"),
        ("rings", "vif0", "backend", "Connected"),
        ("rings", "shared pages", "quarantined", "0"),
        ("xenstore", "connection", "state", "works"),
        ("guest", "log", "levels", "info"),
    ] {
        let found = report.field(section, subject, name);
        ensure!(
            found == Some(value),
            "{section} {subject}: {name} is {found:?}, not {value}"
        );
    }
    // Levels of the log, changed while it runs.
    let levels = monitor::ask(&mut domain, "log info,net=debug")?;
    let levels = Report::parse(&levels);
    let levels = levels.field("guest", "log", "levels");
    ensure!(
        levels == Some("info,net=debug"),
        "the levels are {levels:?}"
    );
    let refused = monitor::ask(&mut domain, "log loud").map_err(|error| error.to_string());
    ensure!(
        refused.as_ref().is_err_and(|error| error.contains("loud")),
        "log loud was not refused but {refused:?}"
    );
    Ok(())
}

/// Runs scripts in the lab's dom0.
pub(super) struct InDom0<'a>(pub(super) &'a Context<'a>);

impl Shell for InDom0<'_> {
    fn run(&self, script: &str) -> Result<String> {
        self.0.sh(script, XL_LIMIT)
    }
}

/// What the book says to type in dom0, in a folder with what it says to put there.
fn book(context: &Context) -> Result<()> {
    Guest::put_files(context, &Wish::new("http", "book", 0))?;
    let shipped = workspace().join("examples/http/rekernel.cfg");
    let shipped = std::fs::read_to_string(shipped)?;
    let text = shipped.replace("\"target/rekernel/http\"", "\"/guests/http\"");
    context.dom0.write("/book/rekernel.cfg", text.as_bytes())?;
    let guest = Guest::adopt(context, "http");
    for chapter in chapters()? {
        for (place, script) in chapter.for_dom0() {
            let outcome = context.sh(&format!("set -e; cd /book\n{script}"), 3 * XL_LIMIT);
            guest.explain(outcome).with_context(|| place.clone())?;
        }
    }
    Ok(())
}

/// The terminal that `xl console` would open; a flood waits in it and in the ring.
fn typed(context: &Context) -> Result<()> {
    let guest = Guest::create(context, &probe("lines", "typed"))?;
    guest.explain(guest.wait_for("READS", BOOT_LIMIT))?;
    let terminal = format!(
        "tty=$(xenstore-read /local/domain/$(xl domid {})/console/tty)",
        guest.name
    );
    let text = "printf 'one\\ntwo words\\r' >$tty";
    guest.explain(context.sh(&format!("{terminal}; {text}"), XL_LIMIT))?;
    guest.explain(guest.wait_for("TYPED 3 \"one\"", XL_LIMIT))?;
    guest.explain(guest.wait_for("TYPED 9 \"two words\"", XL_LIMIT))?;
    let flood = "head -c 100000 /dev/zero | tr '\\0' x >$tty; printf '\\nquit\\n' >$tty";
    guest.explain(context.sh(&format!("{terminal}; {flood}"), 2 * XL_LIMIT))?;
    guest.explain(guest.wait_for("TYPED 1024 \"xxx", XL_LIMIT))?;
    guest.wait_until("the end after quit", XL_LIMIT, |listing| listing.is_none())
}

fn watchdog(context: &Context) -> Result<()> {
    let wish = |word: &str, name: &str| {
        let mut wish = probe(word, name);
        wish.append.push("watchdog=4".to_owned());
        wish.further.push("on_watchdog = \"preserve\"".to_owned());
        wish
    };
    let idle = Guest::create(context, &wish("idle", "watchdog-idle"))?;
    idle.explain(idle.wait_for("IDLES", BOOT_LIMIT))?;
    let hung = Guest::create(context, &wish("hang", "watchdog-hung"))?;
    hung.explain(hung.wait_for("HANGS", BOOT_LIMIT))?;
    hung.wait_until("the watchdog", XL_LIMIT, |listing| {
        listing.is_some_and(|listing| listing.state.contains('s'))
    })?;
    told_reason(context, &hung, 4)?;
    // It was there before, was left alone, and still is.
    let state = idle.listing()?.map(|listing| listing.state);
    ensure!(
        state.as_ref().is_some_and(|state| !state.contains('s')),
        "the idle guest is {state:?}"
    );
    Ok(())
}

/// Xen's watchdog went with the domain that was saved, so the restored guest has to start another.
fn watchdog_restored(context: &Context) -> Result<()> {
    let name = "watchdog-restored";
    let mut wish = probe("hang-restored", name);
    wish.memory_mib = 16;
    wish.append.push("watchdog=4".to_owned());
    wish.further.push("on_watchdog = \"preserve\"".to_owned());
    let guest = Guest::create(context, &wish)?;
    guest.explain(guest.wait_for("IDLES", BOOT_LIMIT))?;
    let image = format!("/tmp/{name}.image");
    let script = format!("xl save {name} {image} && xl restore {image} && rm {image}");
    guest.explain(context.sh(&script, 4 * XL_LIMIT))?;
    guest.explain(guest.wait_for("HANGS", XL_LIMIT))?;
    guest.wait_until("the watchdog", XL_LIMIT, |listing| {
        listing.is_none_or(|listing| listing.state.contains('s'))
    })?;
    told_reason(context, &guest, 4)
}

fn reasons(context: &Context) -> Result<()> {
    // xen/include/public/sched.h
    for (how, reason) in [("return", 0), ("panic", 3), ("fault", 3), ("error", 3)] {
        let wish = Wish {
            append: vec![format!("do={how}")],
            interfaces: Vec::new(),
            further: vec!["on_poweroff = \"preserve\"".to_owned()],
            ..Wish::new("misbehave", &format!("reason-{how}"), 0)
        };
        let guest = Guest::create(context, &wish)?;
        guest.wait_until("the end", XL_LIMIT, |listing| {
            listing.is_some_and(|listing| listing.state.contains('s'))
        })?;
        told_reason(context, &guest, reason)?;
    }
    Ok(())
}

/// What xl's own process for this domain wrote down.
fn told_reason(context: &Context, guest: &Guest, reason: u32) -> Result<()> {
    let script = format!(
        "for try in $(seq 20); do
           grep -q 'reason code {reason} ' /var/log/xen/xl-{0}.log && exit 0; sleep 0.5
         done; cat /var/log/xen/xl-{0}.log; exit 1",
        guest.name
    );
    guest.explain(context.sh(&script, XL_LIMIT + Duration::from_secs(20)))?;
    Ok(())
}

fn probe(word: &str, name: &str) -> Wish {
    Wish {
        append: vec![format!("do={word}")],
        interfaces: Vec::new(),
        ..Wish::new("operator-probe", name, 0)
    }
}
