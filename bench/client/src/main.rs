//! The load that `cargo xtask bench` puts on guests, from dom0.
//!
//! ```text
//! bench-client first-byte      DOMAIN ADDRESS:PORT PATH LIMIT
//! bench-client shutdown        DOMAIN LIMIT
//! bench-client requests        DOMAIN ADDRESS:PORT PATH CONNECTIONS TIME
//! bench-client connections     DOMAIN ADDRESS:PORT PATH TIME
//! bench-client receive         DOMAIN ADDRESS:PORT STREAMS TIME
//! bench-client send            DOMAIN ADDRESS:PORT STREAMS TIME
//! bench-client datagrams       DOMAIN ADDRESS:PORT BYTES WINDOW TIME
//! bench-client idle            DOMAIN ADDRESS:PORT PATH COUNT TIME
//! bench-client run             DOMAIN PROGRAM [ARGUMENT]...
//! ```
//!
//! DOMAIN is the guest's number, or `-` where there is no guest; times are in milliseconds. What
//! was measured is printed as lines of a name and a number: times in nanoseconds, sizes in bytes.
//! `cpu` is the processor time that Xen charged the guest meanwhile.
#![deny(unsafe_code)]

mod boot;
mod bulk;
mod datagrams;
mod http;
mod idle;
mod requests;
#[expect(unsafe_code, reason = "calls Xen's C library")]
mod xen;

use std::error::Error;
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::time::Duration;

use crate::xen::Domain;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match obey(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn obey(words: &[&str]) -> Result<()> {
    match *words {
        ["first-byte", domain, server, path, limit] => boot::first_byte(
            &Domain::named(domain)?,
            value(server)?,
            path,
            milliseconds(limit)?,
        ),
        ["shutdown", domain, limit] => {
            boot::until_shut_down(&Domain::named(domain)?, milliseconds(limit)?)
        }
        ["requests", domain, server, path, connections, time] => charged(domain, || {
            let connections = value(connections)?;
            requests::keep_alive(value(server)?, path, connections, milliseconds(time)?)?.print();
            Ok(())
        }),
        ["connections", domain, server, path, time] => charged(domain, || {
            requests::new_connections(value(server)?, path, milliseconds(time)?)
        }),
        ["receive", domain, server, streams, time] => charged(domain, || {
            bulk::receive(value(server)?, value(streams)?, milliseconds(time)?)
        }),
        ["send", domain, server, streams, time] => charged(domain, || {
            bulk::send(value(server)?, value(streams)?, milliseconds(time)?)
        }),
        ["datagrams", domain, server, bytes, window, time] => charged(domain, || {
            datagrams::echo(
                value(server)?,
                value(bytes)?,
                value(window)?,
                milliseconds(time)?,
            )
        }),
        ["idle", domain, server, path, count, time] => {
            let _ = Domain::named(domain)?;
            idle::compare(value(server)?, path, value(count)?, milliseconds(time)?)
        }
        ["run", domain, program, ref arguments @ ..] => charged(domain, || {
            let status = Command::new(program).args(arguments).status()?;
            if status.success() {
                Ok(())
            } else {
                Err(format!("{program} ended with {status}").into())
            }
        }),
        _ => Err("unknown order; see the beginning of bench/client/src/main.rs".into()),
    }
}

/// Puts a load on the guest and prints what Xen charged it meanwhile.
fn charged(domain: &str, load: impl FnOnce() -> Result<()>) -> Result<()> {
    let domain = Domain::named(domain)?;
    let before = domain.cpu_time()?;
    load()?;
    let after = domain.cpu_time()?;
    if let (Some(before), Some(after)) = (before, after) {
        print("cpu", (after - before).as_nanos());
    }
    Ok(())
}

fn print(name: &str, value: impl std::fmt::Display) {
    println!("{name} {value}");
}

fn value<T: FromStr>(word: &str) -> Result<T> {
    word.parse()
        .map_err(|_| format!("`{word}` is not what is wanted here").into())
}

fn milliseconds(word: &str) -> Result<Duration> {
    Ok(Duration::from_millis(value(word)?))
}
