//! `cargo rekernel`: see `cargo rekernel --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use cargo_rekernel::arguments::{self, Command};
use cargo_rekernel::commands::{
    build, completions, doctor, gdb, inspect, new, run, symbolize, test,
};
use cargo_rekernel::{image, progress};

fn main() -> ExitCode {
    let success = |()| ExitCode::SUCCESS;
    let outcome = match arguments::parse() {
        Command::New(arguments) => new::command(&arguments).map(success),
        Command::Build(arguments) => build::command(&arguments).map(success),
        Command::Image(arguments) => image::command(&arguments).map(success),
        Command::Run(arguments) => run::command(&arguments),
        Command::Test(arguments) => test::command(&arguments),
        Command::Gdb(arguments) => gdb::command(&arguments),
        Command::Inspect(arguments) => inspect::command(&arguments),
        Command::Symbolize(arguments) => symbolize::command(&arguments).map(success),
        Command::Doctor(arguments) => doctor::command(&arguments),
        Command::Completions(arguments) => completions::command(&arguments).map(success),
    };
    outcome.unwrap_or_else(|error| {
        progress::error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}
