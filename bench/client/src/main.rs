//! The load that `cargo xtask bench` puts on guests, from dom0.
//!
//! ```text
//! bench-client first-byte   DOMAIN ADDRESS:PORT PATH LIMIT
//! bench-client shutdown     DOMAIN LIMIT
//! bench-client requests     ADDRESS:PORT PATH CONNECTIONS TIME
//! bench-client connections  ADDRESS:PORT PATH TIME
//! bench-client receive      ADDRESS:PORT STREAMS TIME
//! bench-client send         ADDRESS:PORT STREAMS TIME
//! bench-client datagrams    ADDRESS:PORT BYTES WINDOW TIME
//! bench-client idle         ADDRESS:PORT PATH IDLE-PORT COUNT TIME
//! ```
//!
//! DOMAIN is a guest's number; times are in milliseconds. What was measured is printed as lines
//! of a name and a number: times in nanoseconds, sizes in bytes.
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
use std::process::ExitCode;
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
        ["first-byte", domain, server, path, limit] => {
            let domain = Domain::numbered(value(domain)?)?;
            boot::first_byte(&domain, value(server)?, path, milliseconds(limit)?)
        }
        ["shutdown", domain, limit] => {
            let domain = Domain::numbered(value(domain)?)?;
            boot::until_shut_down(&domain, milliseconds(limit)?)
        }
        ["requests", server, path, connections, time] => {
            let connections = value(connections)?;
            requests::keep_alive(value(server)?, path, connections, milliseconds(time)?)?.print();
            Ok(())
        }
        ["connections", server, path, time] => {
            requests::new_connections(value(server)?, path, milliseconds(time)?)
        }
        ["receive", server, streams, time] => {
            bulk::receive(value(server)?, value(streams)?, milliseconds(time)?)
        }
        ["send", server, streams, time] => {
            bulk::send(value(server)?, value(streams)?, milliseconds(time)?)
        }
        ["datagrams", server, bytes, window, time] => datagrams::echo(
            value(server)?,
            value(bytes)?,
            value(window)?,
            milliseconds(time)?,
        ),
        ["idle", server, path, port, count, time] => idle::compare(
            value(server)?,
            path,
            value(port)?,
            value(count)?,
            milliseconds(time)?,
        ),
        _ => Err("unknown order; see the beginning of bench/client/src/main.rs".into()),
    }
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
