//! `cargo rekernel`: see `cargo rekernel --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use cargo_rekernel::arguments::{self, Command};
use cargo_rekernel::commands::{build, run};
use cargo_rekernel::{image, progress};

fn main() -> ExitCode {
    let outcome = match arguments::parse() {
        Command::Build(arguments) => build::command(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Image(arguments) => image::command(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Run(arguments) => run::command(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        progress::error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}
