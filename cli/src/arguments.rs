//! What the user can type.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use lab::Release;

use crate::commands::completions::CompletionsArguments;
use crate::commands::doctor::DoctorArguments;
use crate::commands::gdb::GdbArguments;
use crate::commands::inspect::InspectArguments;
use crate::commands::new::NewArguments;
use crate::commands::symbolize::SymbolizeArguments;
use crate::commands::test::TestArguments;
use crate::image::ImageArguments;
use crate::qemu::Machine;

/// Parses the command line; ends the process with a help text where it is wrong.
pub fn parse() -> Command {
    let line = words(std::env::args_os());
    let matches = definition()
        .bin_name("cargo rekernel")
        .get_matches_from(line);
    match Rekernel::from_arg_matches(&matches) {
        Ok(Rekernel { command }) => command,
        Err(error) => error.exit(),
    }
}

/// The command line without the word that cargo adds: it calls `cargo-rekernel rekernel …`.
fn words(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = arguments.collect();
    if words.get(1).is_some_and(|word| word == "rekernel") {
        words.remove(1);
    }
    words
}

/// The definition of the command line, from which completions are made.
pub fn definition() -> clap::Command {
    Rekernel::command()
}

/// Builds Rust programs that are their own operating system, and boots them
#[derive(Parser)]
#[command(
    name = "cargo-rekernel",
    version,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
struct Rekernel {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo rekernel new my-guest             a project to begin with
  cargo rekernel doctor                   what this machine can do, and what to install
  cargo rekernel run http                 build and boot under QEMU, http://127.0.0.1:8080/
  cargo rekernel run http --on xen        the same on a real Xen, booted for the purpose
  cargo rekernel inspect http             what the running guest does, from another terminal
  cargo rekernel test                     run the project's tests inside a guest
  cargo rekernel build http               only build: target/rekernel/http";

/// The subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Make a project with a program, tests, a configuration for xl and an example of CI
    #[command(after_help = crate::commands::new::EXAMPLES)]
    New(NewArguments),
    /// Build a guest and boot it, with its console here and its port forwarded
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArguments),
    /// Build a guest: a bootable ELF for `xl create` and `qemu -kernel`
    #[command(after_help = BUILD_EXAMPLES)]
    Build(BuildCommandArguments),
    /// Make a disk image that boots a guest with BIOS or UEFI
    #[command(after_help = IMAGE_EXAMPLES)]
    Image(ImageArguments),
    /// Run the tests of a guest inside it, and report as `cargo test` does
    #[command(after_help = crate::commands::test::EXAMPLES)]
    Test(TestArguments),
    /// Boot a guest and stop it in its main function, in gdb
    #[command(after_help = crate::commands::gdb::EXAMPLES)]
    Gdb(GdbArguments),
    /// Ask a running guest what it does, holds and waits for
    #[command(after_help = crate::commands::inspect::EXAMPLES)]
    Inspect(InspectArguments),
    /// Put functions and lines to the addresses in a guest's console log
    #[command(after_help = crate::commands::symbolize::EXAMPLES)]
    Symbolize(SymbolizeArguments),
    /// Say what this machine can do, what is missing, and how to get it
    #[command(after_help = crate::commands::doctor::EXAMPLES)]
    Doctor(DoctorArguments),
    /// Print a script that completes these commands in a shell
    #[command(after_help = crate::commands::completions::EXAMPLES)]
    Completions(CompletionsArguments),
}

const RUN_EXAMPLES: &str = "\
Examples:
  cargo rekernel run http
  cargo rekernel run http --on xen --memory 16
  cargo rekernel run http --on xen --debian trixie
  cargo rekernel run http --machine microvm --append log=debug
  cargo rekernel run echo --port 7000 --append ip=10.0.2.20/24 --append gw=10.0.2.2
  cargo rekernel run --manifest-path ../mine/Cargo.toml
  cargo rekernel run http --json | jq -r 'select(.event == \"ready\").place'

With --json, standard output has a JSON object on each line. Its `event` is `console` (a line that
the guest printed), `ready` (where it serves), `crash` (message and backtrace) or `end` (how it ended).

Ctrl-C ends the guest. The exit code is 0 when the guest ended well or you ended it,
1 when it crashed or could not be built or booted.";

const BUILD_EXAMPLES: &str = "\
Examples:
  cargo rekernel build http
  cargo rekernel build --manifest-path ../mine/Cargo.toml
  scp \"$(cargo rekernel build http --json | jq -r .elf)\" dom0:

Leaves NAME (stripped, boot this one) and NAME.debug (with symbols, for backtraces and gdb)
in the `rekernel` folder of cargo's target directory.";

const IMAGE_EXAMPLES: &str = "\
Examples:
  cargo rekernel image http
  cargo rekernel image http --format vhd --format qcow2 --append ip=10.0.0.5/24 --append gw=10.0.0.1
  cargo rekernel image --elf target/rekernel/http --output /tmp

The command line can be changed later: it is in grub/grub.cfg of the image's one partition.";

/// What `build` takes.
#[derive(Args, Clone, Debug)]
pub struct BuildCommandArguments {
    /// Which guest.
    #[command(flatten)]
    pub build: BuildArguments,

    /// Say what was built as a JSON object, for scripts
    #[arg(long)]
    pub json: bool,
}

/// Which crate is the guest.
#[derive(Args, Clone, Debug, Default)]
pub struct BuildArguments {
    /// Package to build; may be left out where the manifest names just one guest
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// Another way to give NAME, as cargo spells it
    #[arg(short, long, value_name = "NAME", conflicts_with = "name")]
    pub package: Option<String>,

    /// Path to the Cargo.toml of the package or its workspace
    #[arg(long, value_name = "PATH")]
    pub manifest_path: Option<PathBuf>,
}

impl BuildArguments {
    /// The package asked for, however it was given.
    pub fn package_name(&self) -> Option<&str> {
        self.name.as_deref().or(self.package.as_deref())
    }
}

/// How the guest shall run.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Which guest.
    #[command(flatten)]
    pub build: BuildArguments,

    /// Where to boot it.
    #[command(flatten)]
    pub place: PlaceArguments,

    /// Port of this machine (on 127.0.0.1) that reaches the guest
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// What the guest gets.
    #[command(flatten)]
    pub guest: GuestArguments,

    /// Print events as JSON objects, one on a line, for scripts
    #[arg(long)]
    pub json: bool,
}

/// Where a guest is booted.
#[derive(Args, Clone, Debug)]
pub struct PlaceArguments {
    /// Where to boot it
    #[arg(long, value_enum, default_value_t = Host::Qemu)]
    pub on: Host,

    /// Debian release whose Xen and dom0 are booted (with --on xen), such as trixie; without it
    /// the newest that this machine's apt sources offer
    #[arg(long, value_name = "RELEASE")]
    pub debian: Option<Release>,
}

impl PlaceArguments {
    /// Refuses a release for a host that has none, before anything is built.
    ///
    /// # Errors
    /// What to add.
    pub fn check(&self) -> Result<()> {
        match (self.on, &self.debian) {
            (Host::Qemu, Some(release)) => {
                bail!("--debian {release} says whose Xen to boot: --on xen is missing")
            }
            _ => Ok(()),
        }
    }
}

/// What a guest gets, wherever it is booted.
#[derive(Args, Clone, Debug)]
pub struct GuestArguments {
    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub memory: u32,

    /// Machine that QEMU shows the guest
    #[arg(long, value_enum, default_value_t = Machine::Q35)]
    pub machine: Machine,

    /// A key for the guest's command line, such as ip=10.0.2.15/24 or log=debug; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub append: Vec<String>,
}

/// A kind of host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Host {
    /// QEMU on this machine
    Qemu,
    /// A real Xen hypervisor with a Debian dom0, itself booted under QEMU
    Xen,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        let line = line.split(' ').map(OsString::from);
        Rekernel::try_parse_from(words(line)).unwrap().command
    }

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn a_run_takes_its_defaults_and_repeated_keys() {
        let Command::Run(run) =
            parsed("cargo-rekernel rekernel run http --append log=debug --append x=1")
        else {
            panic!("not parsed as run");
        };
        assert_eq!(run.build.package_name(), Some("http"));
        assert_eq!(
            (run.place.on, run.port, run.guest.memory),
            (Host::Qemu, 8080, 64)
        );
        assert_eq!(run.guest.append, ["log=debug", "x=1"]);
        assert_eq!(run.place.debian, None);
    }

    #[test]
    fn a_release_without_xen_is_refused() {
        let Command::Test(test) = parsed("cargo-rekernel test --debian trixie") else {
            panic!("not parsed as test");
        };
        let error = test.place.check().unwrap_err().to_string();
        assert!(error.contains("--on xen is missing"), "{error}");
        let Command::Test(test) = parsed("cargo-rekernel test --on xen --debian trixie") else {
            panic!("not parsed as test");
        };
        test.place.check().unwrap();
    }

    #[test]
    fn a_release_is_checked_where_it_is_typed() {
        let parsed = |release| {
            let line = ["cargo-rekernel", "run", "http", "--on", "xen", "--debian"];
            Rekernel::try_parse_from(line.into_iter().chain([release]))
        };
        assert!(parsed("trixie").is_ok());
        let error = parsed("4.20").map(drop).unwrap_err().to_string();
        assert!(error.contains("bookworm, trixie, sid"), "{error}");
    }

    /// As cargo calls it, and as a shell's completion does.
    #[test]
    fn the_word_that_cargo_adds_may_be_left_out() {
        let Command::Build(build) = parsed("cargo-rekernel build --package rekernel") else {
            panic!("not parsed as build");
        };
        assert_eq!(build.build.package_name(), Some("rekernel"));
    }

    #[test]
    fn every_command_has_help_with_examples() {
        for command in definition().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let own = format!("  cargo rekernel {}", command.get_name());
            assert!(
                help.contains("Examples:") && help.contains(&own),
                "{own}: {help}"
            );
        }
    }

    #[test]
    fn port_zero_is_refused() {
        let line = ["cargo-rekernel", "run", "http", "--port", "0"];
        assert!(Rekernel::try_parse_from(line).is_err());
    }
}
