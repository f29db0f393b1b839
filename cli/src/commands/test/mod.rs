//! `cargo rekernel test`: the tests of a guest, run inside it, reported as `cargo test` does.
//!
//! The guest is built with its tests instead of its main function. It is booted once for the names of
//! the tests (`runner`), then to run them; after a test that ended the guest another is booted for
//! the rest. `host` says where guests boot, `report` what is printed.

mod host;
mod qemu;
mod report;
mod runner;
mod selection;
mod xen;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::arguments::{GuestArguments, Host, PlaceArguments};
use crate::build::Guest;
use crate::interrupt;
use crate::package;

use host::Boots;
use report::Report;
use selection::Selection;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo rekernel test                          all tests of the guest in this folder
  cargo rekernel test parses answers           those whose names contain one of the words
  cargo rekernel test -p http --list
  cargo rekernel test --machine microvm --append log=debug --show-output
  cargo rekernel test --on xen                 on a real Xen, booted for the purpose

Tests are functions in the program's crate:

  #[cfg(test)]
  mod tests {
      #[rekernel::test]
      async fn one_and_one_is_two() {
          assert_eq!(1 + 1, 2);
      }
  }

and the [[bin]] in Cargo.toml has `harness = false`. The exit code is 101 when a test failed, as
cargo's is, and 1 when the guest could not be built or booted.";

/// Which tests of which guest, and how.
#[derive(Args, Clone, Debug)]
pub struct TestArguments {
    /// Run the tests whose names contain one of these
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,

    /// Package to test; may be left out where the manifest names just one guest
    #[arg(short, long, value_name = "NAME")]
    pub package: Option<String>,

    /// Path to the Cargo.toml of the package or its workspace
    #[arg(long, value_name = "PATH")]
    pub manifest_path: Option<PathBuf>,

    /// FILTER is the whole name of a test
    #[arg(long)]
    pub exact: bool,

    /// Leave out the tests whose names contain this; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub skip: Vec<String>,

    /// Print the names of the tests and end
    #[arg(long)]
    pub list: bool,

    /// Show the console of tests that pass, too
    #[arg(long)]
    pub show_output: bool,

    /// Seconds that one test may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,

    /// Where to boot it.
    #[command(flatten)]
    pub place: PlaceArguments,

    /// What the guest gets.
    #[command(flatten)]
    pub guest: GuestArguments,

    /// Print events as JSON objects, one on a line, for scripts
    #[arg(long)]
    pub json: bool,
}

/// The exit code of `cargo test` when a test fails.
const TESTS_FAILED: u8 = 101;

/// Runs the tests. The exit code says whether all passed.
///
/// # Errors
/// Where the guest cannot be built or booted, or ends outside of any test.
pub fn command(arguments: &TestArguments) -> Result<ExitCode> {
    arguments.place.check()?;
    interrupt::watch()?;
    let package = package::find(
        arguments.package.as_deref(),
        arguments.manifest_path.as_deref(),
    )?;
    match arguments.place.on {
        Host::Qemu => {
            let (guest, mut host) = qemu::prepare(&package, &arguments.guest)?;
            run(arguments, &guest, &mut host)
        }
        Host::Xen => {
            let (guest, mut host) =
                xen::prepare(&package, &arguments.guest, arguments.place.debian.clone())?;
            run(arguments, &guest, &mut host)
        }
    }
}

fn run(arguments: &TestArguments, guest: &Guest, host: &mut impl Boots) -> Result<ExitCode> {
    let limits = runner::Limits {
        test: Duration::from_secs(arguments.timeout),
        ..runner::Limits::default()
    };
    let names = runner::list(host, &limits)?;
    let selection = Selection::new(names, arguments);
    let mut report = Report::new(arguments.json, arguments.show_output);
    if arguments.list {
        report.list(&selection);
        return Ok(ExitCode::SUCCESS);
    }
    report.begin(&selection);
    runner::run(host, &selection.chosen, &limits, &guest.debug, &mut report)?;
    Ok(match report.end(&selection) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(TESTS_FAILED),
    })
}
