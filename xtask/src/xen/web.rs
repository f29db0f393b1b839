//! The `http` example on Xen, asked by curl in dom0.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::progress::Took;
use lab::network;

use super::guest::address;
use super::{Context, Guest, Test, Wish, XL_LIMIT};

pub(super) const TESTS: &[Test] = &[
    ("http: xl create, DHCP, curl from dom0", by_dhcp),
    ("http: first reply after xl unpause", first_reply),
    ("http: 1,000 sequential requests", sequential),
    ("http: 24 MiB each way, equal SHA-256", bulk),
    ("http: 8 connections in parallel", parallel),
    ("ping", ping),
    ("two guests at once", two_guests),
];

fn by_dhcp(context: &Context) -> Result<()> {
    let wish = Wish {
        append: Vec::new(),
        // With Xen's own hotplug script.
        interfaces: vec![format!("bridge={}", network::BRIDGE)],
        ..Wish::new("http", "http-dhcp", 0)
    };
    let guest = Guest::serving(context, &wish)?;
    let page = context.sh(
        &format!("curl -sS --max-time 20 http://{}/", network::FIRST_GUEST),
        XL_LIMIT,
    );
    let page = guest.explain(page)?.to_lowercase();
    for word in ["uptime", "xen", &network::FIRST_GUEST.to_string(), "memory"] {
        ensure!(
            page.contains(word),
            "the page does not mention `{word}`: {page}"
        );
    }
    Ok(())
}

/// `xl create` belongs to the toolstack, what comes after `xl unpause` to the guest: they
/// are measured apart. Medians of several rounds.
fn first_reply(context: &Context) -> Result<()> {
    const ROUNDS: usize = 3;
    let (mut creations, mut replies, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let wish = Wish::new("http", &format!("http-first-{round}"), 40);
        Guest::put_files(context, &wish)?;
        let guest = Guest::adopt(context, &wish.name);
        let times =
            guest.explain(context.sh(&timed_script(&wish.name, &address(40)), 2 * XL_LIMIT))?;
        let times: Vec<f64> = times
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context("times")?;
        let [creation, reply] = times[..] else {
            anyhow::bail!("the script printed {times:?}");
        };
        creations.push(creation);
        replies.push(reply);
        let line = guest.wait_for("rekernel: ready", XL_LIMIT)?;
        own.extend(
            line.rsplit(' ')
                .nth(1)
                .and_then(|milliseconds| milliseconds.parse::<f64>().ok()),
        );
        guest.destroy()?;
    }
    let took = |times: &mut Vec<f64>| median(times).map(|time| Took(Duration::from_secs_f64(time)));
    let note = |what: &str, figure: Option<Took>| {
        let figure = figure.map_or("not measured".to_owned(), |took| took.to_string());
        context
            .measurements
            .note(&format!("{what} (http on Xen, median of {ROUNDS})"), figure);
    };
    note("xl create -p", took(&mut creations));
    note("xl unpause to first HTTP reply in dom0", took(&mut replies));
    own.iter_mut()
        .for_each(|milliseconds| *milliseconds /= 1000.0);
    note("guest's entry to serving, by its own clock", took(&mut own));
    Ok(())
}

/// Prints the seconds `xl create -p` took, and those from `xl unpause` to the first reply.
/// A short connect timeout makes curl try again at once, where TCP would wait a second.
fn timed_script(name: &str, address: &str) -> String {
    format!(
        "set -e
         since() {{ local now=$EPOCHREALTIME; echo $(( ${{now/./}} - ${{1/./}} )); }}
         start=$EPOCHREALTIME; xl create -q -p /guests/{name}.cfg; created=$(since $start)
         start=$EPOCHREALTIME; xl unpause {name}
         for try in $(seq 600); do
           curl -s -o /dev/null --connect-timeout 0.1 --max-time 10 http://{address}/ && break
         done
         replied=$(since $start)
         curl -sS -o /dev/null --max-time 10 http://{address}/
         printf '%d.%06d %d.%06d\\n' $((created / 1000000)) $((created % 1000000)) $((replied / 1000000)) $((replied % 1000000))"
    )
}

fn median(times: &mut [f64]) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

fn sequential(context: &Context) -> Result<()> {
    const REQUESTS: u32 = 1000;
    let guest = Guest::serving(context, &Wish::new("http", "http-sequential", 41))?;
    let url = format!("http://{}/bytes/[1-{REQUESTS}]", address(41));
    let script = format!("curl -sS -o /dev/null -w '%{{http_code}} %{{size_download}}\\n' '{url}'");
    let answers = guest.explain(context.sh(&script, Duration::from_secs(300)))?;
    let mut count = 0;
    for (expected, line) in (1u32..).zip(answers.lines()) {
        ensure!(
            line == format!("200 {expected}"),
            "request {expected} was answered with `{line}`"
        );
        count += 1;
    }
    ensure!(
        count == REQUESTS,
        "{count} of {REQUESTS} requests were answered"
    );
    Ok(())
}

const BULK_BYTES: u64 = 24 << 20;

/// Up and down through `POST /echo`, and down alone through `GET /bytes/N`.
fn bulk(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "http-bulk", 42))?;
    let url = address(42);
    let script = format!(
        "set -e; cd /tmp; trap 'rm -f sent received' EXIT
         head -c {BULK_BYTES} /dev/urandom > sent
         curl -sS --max-time 280 -H 'Expect:' -X POST -T sent -o received http://{url}/echo
         sha256sum < sent; sha256sum < received
         curl -sS --max-time 280 http://{url}/bytes/{BULK_BYTES} > received
         sha256sum < received; stat -c %s received"
    );
    let printed = guest.explain(context.sh(&script, Duration::from_secs(600)))?;
    let words: Vec<_> = printed
        .split_whitespace()
        .filter(|word| *word != "-")
        .collect();
    let [sent, echoed, bytes, length] = words[..] else {
        anyhow::bail!("the script printed {printed}");
    };
    ensure!(
        sent == echoed,
        "SHA-256 of what was sent {sent}, of what came back {echoed}"
    );
    ensure!(
        length == BULK_BYTES.to_string(),
        "GET /bytes/{BULK_BYTES} gave {length} bytes"
    );
    let expected = crate::http::hash_of_bytes(BULK_BYTES);
    ensure!(
        bytes == expected,
        "SHA-256 of GET /bytes is {bytes}, expected {expected}"
    );
    Ok(())
}

fn parallel(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "http-parallel", 43))?;
    let url = address(43);
    let script = format!(
        "for client in $(seq 8); do
           curl -sS -o /dev/null --max-time 100 -w '%{{http_code}} %{{size_download}}\\n' 'http://{url}/bytes/100000?[1-10]' &
         done; wait"
    );
    let answers = guest.explain(context.sh(&script, Duration::from_secs(120)))?;
    let good = answers.lines().filter(|line| *line == "200 100000").count();
    guest.explain(if good == 80 {
        Ok(())
    } else {
        Err(anyhow::anyhow!("{good} of 80 answers are right: {answers}"))
    })
}

fn ping(context: &Context) -> Result<()> {
    let guest = Guest::serving(context, &Wish::new("http", "http-ping", 44))?;
    let answer = context.sh(&format!("ping -c 5 -W 5 {}", address(44)), XL_LIMIT);
    let answer = guest.explain(answer)?;
    ensure!(
        answer.contains("5 packets received") || answer.contains("5 received"),
        "{answer}"
    );
    Ok(())
}

fn two_guests(context: &Context) -> Result<()> {
    let first = Guest::serving(context, &Wish::new("http", "http-one", 45))?;
    let second = Guest::serving(context, &Wish::new("http", "http-two", 46))?;
    for (guest, last) in [(&first, 45), (&second, 46), (&first, 45)] {
        let page = context.sh(
            &format!("curl -sS --max-time 20 http://{}/", address(last)),
            XL_LIMIT,
        );
        let page = guest.explain(page)?;
        ensure!(
            page.contains(&address(last)),
            "{} answered: {page}",
            guest.name
        );
    }
    Ok(())
}
