//! What maintainers run: `cargo xtask test` and `cargo xtask bench`.
//!
//! Four tiers, each a module: [`host`] checks the source and runs the tests of the crates
//! on this machine; [`qemu`] boots guests under QEMU; [`xen`] boots a real Xen and creates
//! guests on it; [`life`] does to them what a host's operator does. [`mod@test`] shares the boots out
//! between two threads. Every check is a function with a name; [`summary`] collects the verdicts and
//! [`measure`] what was measured on the way.

#![forbid(unsafe_code)]

mod bench;
mod book;
mod command;
mod guests;
mod host;
mod http;
mod life;
mod measure;
mod namespace;
mod qemu;
mod summary;
mod test;
mod unsafe_code;
mod xen;

use std::process::ExitCode;

use cargo_rekernel::progress;
use clap::{Parser, Subcommand};

/// What maintainers of rekernel run
#[derive(Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test: on this machine, under QEMU and on a real Xen
    Test(test::Arguments),
    /// What the tests of offloads run in a network of their own
    #[command(hide = true)]
    Transfer(qemu::transfer::Arguments),
    /// Measure a rekernel guest against Linux guests on the same Xen
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test(arguments) => test::command(&arguments),
        Command::Transfer(arguments) => qemu::transfer::command(&arguments),
        Command::Bench(arguments) => bench::command(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        progress::error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
