//! The page about the guest.

use alloc::string::String;
use core::fmt::{self, Write};

use rekernel::net::InterfaceInformation;

/// The page, as of now.
pub(crate) fn render() -> String {
    let mut page = String::with_capacity(2048);
    // Writing to a string cannot fail.
    let _ = write_page(&mut page);
    page
}

fn write_page(page: &mut String) -> fmt::Result {
    let memory = rekernel::memory();
    writeln!(
        page,
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>rekernel</title>"
    )?;
    writeln!(page, "<h1>This guest is one Rust program</h1><table>")?;
    row(page, "platform", rekernel::platform().name)?;
    let uptime = rekernel::uptime();
    let milliseconds = uptime.subsec_millis();
    row(
        page,
        "uptime",
        format_args!("{}.{milliseconds:03} s", uptime.as_secs()),
    )?;
    row(page, "memory", format_args!("{} KiB", memory.total >> 10))?;
    row(page, "heap", memory.heap)?;
    for interface in rekernel::net::interfaces() {
        row(page, &interface.name, Interface(&interface))?;
    }
    writeln!(page, "</table>")
}

fn row(page: &mut String, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(page, "<tr><th align=left>{name}<td>{value}")
}

struct Interface<'a>(&'a InterfaceInformation);

impl fmt::Display for Interface<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(interface) = self;
        for found in &interface.addresses {
            let source = found.source;
            write!(
                formatter,
                "{}/{} ({source}), ",
                found.address, found.prefix_length
            )?;
        }
        let counters = interface.counters;
        write!(
            formatter,
            "{} frames received, {} sent",
            counters.received_frames, counters.sent_frames
        )
    }
}
