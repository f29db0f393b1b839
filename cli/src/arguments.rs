//! What the user can type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lab::Release;

use crate::image::ImageArguments;
use crate::qemu::Machine;

/// Parses the command line; ends the process with a help text where it is wrong.
pub fn parse() -> Command {
    let CargoSubcommand::Rekernel(Rekernel { command }) = CargoSubcommand::parse();
    command
}

/// Cargo calls `cargo-rekernel rekernel …`: the name of the subcommand comes first.
#[derive(Parser)]
#[command(name = "cargo", bin_name = "cargo")]
enum CargoSubcommand {
    Rekernel(Rekernel),
}

/// Builds Rust programs that are their own operating system, and boots them
#[derive(Args)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Rekernel {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo rekernel run http                 build and boot under QEMU, http://127.0.0.1:8080/
  cargo rekernel run http --on xen        the same on a real Xen, booted for the purpose
  cargo rekernel run http --port 9000     another port of this machine
  cargo rekernel build http               only build: target/rekernel/http";

/// The subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Build a guest and boot it, with its console here and its port forwarded
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArguments),
    /// Build a guest: a bootable ELF for `xl create` and `qemu -kernel`
    #[command(after_help = BUILD_EXAMPLES)]
    Build(BuildArguments),
    /// Make a disk image that boots a guest with BIOS or UEFI
    #[command(after_help = IMAGE_EXAMPLES)]
    Image(ImageArguments),
}

const RUN_EXAMPLES: &str = "\
Examples:
  cargo rekernel run http
  cargo rekernel run http --on xen --memory 16
  cargo rekernel run http --on xen --debian trixie
  cargo rekernel run http --machine microvm --append log=debug
  cargo rekernel run echo --port 7000 --append ip=10.0.2.20/24 --append gw=10.0.2.2
  cargo rekernel run --manifest-path ../mine/Cargo.toml

Ctrl-C ends the guest. The exit code is 0 when the guest ended well or you ended it,
1 when it crashed or could not be built or booted.";

const BUILD_EXAMPLES: &str = "\
Examples:
  cargo rekernel build http
  cargo rekernel build --manifest-path ../mine/Cargo.toml

Leaves NAME (stripped, boot this one) and NAME.debug (with symbols, for backtraces and gdb)
in the `rekernel` folder of cargo's target directory.";

const IMAGE_EXAMPLES: &str = "\
Examples:
  cargo rekernel image http
  cargo rekernel image http --format vhd --format qcow2 --append ip=10.0.0.5/24 --append gw=10.0.0.1
  cargo rekernel image --elf target/rekernel/http --output /tmp

The command line can be changed later: it is in grub/grub.cfg of the image's one partition.";

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

    /// Where to boot it
    #[arg(long, value_enum, default_value_t = Host::Qemu)]
    pub on: Host,

    /// Debian release whose Xen and dom0 are booted (with --on xen), such as trixie; without it
    /// the newest that this machine's apt sources offer
    #[arg(long, value_name = "RELEASE")]
    pub debian: Option<Release>,

    /// Port of this machine (on 127.0.0.1) that reaches the guest
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub memory: u32,

    /// Machine that QEMU shows the guest (with --on qemu)
    #[arg(long, value_enum, default_value_t = Machine::Q35)]
    pub machine: Machine,

    /// A key for the guest's command line, such as ip=10.0.2.15/24 or log=debug; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub append: Vec<String>,
}

/// Where a guest is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Host {
    /// QEMU on this machine
    Qemu,
    /// A real Xen hypervisor with a Debian dom0, itself booted under QEMU
    Xen,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        CargoSubcommand::command().debug_assert();
    }

    #[test]
    fn a_run_takes_its_defaults_and_repeated_keys() {
        let CargoSubcommand::Rekernel(Rekernel { command }) = CargoSubcommand::parse_from([
            "cargo",
            "rekernel",
            "run",
            "http",
            "--append",
            "log=debug",
            "--append",
            "x=1",
        ]);
        let Command::Run(run) = command else {
            panic!("not parsed as run");
        };
        assert_eq!(run.build.package_name(), Some("http"));
        assert_eq!((run.on, run.port, run.memory), (Host::Qemu, 8080, 64));
        assert_eq!(run.append, ["log=debug", "x=1"]);
        assert_eq!(run.debian, None);
    }

    #[test]
    fn a_release_is_checked_where_it_is_typed() {
        let parsed = |release| {
            let words = [
                "cargo", "rekernel", "run", "http", "--on", "xen", "--debian",
            ];
            CargoSubcommand::try_parse_from(words.into_iter().chain([release]))
        };
        assert!(parsed("trixie").is_ok());
        let error = parsed("4.20").map(drop).unwrap_err().to_string();
        assert!(error.contains("bookworm, trixie, sid"), "{error}");
    }

    #[test]
    fn port_zero_is_refused() {
        let parsed =
            CargoSubcommand::try_parse_from(["cargo", "rekernel", "run", "http", "--port", "0"]);
        assert!(parsed.is_err());
    }
}
