//! `cargo rekernel gdb`: a guest under QEMU, stopped in its main function, in gdb.

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use lab::packages::{has_command, install_command};

use crate::arguments::{BuildArguments, GuestArguments};
use crate::build::Guest;
use crate::progress::{status, warning};
use crate::qemu::{Accelerator, Configuration, Link, Next, Qemu, RunningGuest};
use crate::{build, interrupt, package};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo rekernel gdb http
  cargo rekernel gdb http --machine microvm --append log=debug
  cargo rekernel gdb hello -- -ex 'break panic_impl' -ex continue
  cargo rekernel gdb hello -- -batch -ex backtrace

The guest stops in the first lines of its main function; words after `--` go to gdb. Leaving gdb ends the
guest. Guests are built optimised: functions may be inlined and variables unknown, lines are right.";

/// Which guest, and what gdb shall do besides.
#[derive(Args, Clone, Debug)]
pub struct GdbArguments {
    /// Which guest.
    #[command(flatten)]
    pub build: BuildArguments,

    /// What the guest gets.
    #[command(flatten)]
    pub guest: GuestArguments,

    /// Further arguments for gdb
    #[arg(last = true, value_name = "GDB ARGUMENTS")]
    pub gdb: Vec<OsString>,
}

/// Builds and boots a guest and runs gdb on it. The exit code is gdb's success.
///
/// # Errors
/// Where gdb is missing, or the guest cannot be built or booted.
pub fn command(arguments: &GdbArguments) -> Result<ExitCode> {
    if !has_command("gdb") {
        let install = install_command(&["gdb"]).unwrap_or_else(|| "install gdb".to_owned());
        bail!("gdb is not installed: {install}");
    }
    // gdb stops the guest on Ctrl-C; it must not stop us.
    interrupt::watch()?;
    let package = package::find(
        arguments.build.package_name(),
        arguments.build.manifest_path.as_deref(),
    )?;
    let qemu = Qemu::ensure()?;
    let guest = build::build(&package).map_err(interrupt::or_interrupted)?;
    let socket = Socket::new()?;
    // Software emulation on purpose: a breakpoint holds from the first instruction on, whatever mode
    // the processor is in and wherever the program is not yet loaded.
    let configuration = Configuration {
        machine: arguments.guest.machine,
        memory_mib: arguments.guest.memory,
        append: arguments.guest.append.clone(),
        link: Link::User(Vec::new()),
        extra: stub(&socket.path),
        ..Configuration::new(&guest.elf, Accelerator::Tcg)
    };
    status(
        "Booting",
        &format!(
            "{} on {}, stopped",
            package.name,
            configuration.machine.name()
        ),
    );
    let running = RunningGuest::boot(&qemu, &configuration)?;
    debug(arguments, &guest, &socket, running)
}

/// QEMU's arguments for a guest that waits for gdb at this socket.
fn stub(socket: &Path) -> Vec<String> {
    let listener = format!("socket,id=gdb,path={},server=on,wait=off", socket.display());
    ["-S", "-chardev", &listener, "-gdb", "chardev:gdb"]
        .map(str::to_owned)
        .to_vec()
}

/// Runs gdb until the user leaves it, with the guest's console in between.
fn debug(
    arguments: &GdbArguments,
    guest: &Guest,
    socket: &Socket,
    mut running: RunningGuest,
) -> Result<ExitCode> {
    socket.wait(&mut running)?;
    let mut gdb = Command::new("gdb");
    gdb.args(["-q", "-ex", "set confirm off", "-ex", "set pagination off"])
        // A message after each continue that the symbols of a shared library were not loaded.
        .args(["-ex", "set auto-solib-add off"])
        .arg("-ex")
        .arg(format!("target remote {}", socket.path.display()));
    for place in breakpoints(&guest.package.source) {
        gdb.arg("-ex").arg(format!("break {place}"));
    }
    // Main begins once: behind that the breakpoints would only be in the way.
    gdb.args(["-ex", "continue", "-ex", "delete"])
        .args(&arguments.gdb)
        .arg(&guest.debug);
    let mut child = gdb.spawn().context("gdb could not be started")?;
    let ended = loop {
        if let Some(ended) = child.try_wait().context("gdb was lost")? {
            break ended;
        }
        match running.next(Duration::from_millis(50)) {
            Next::Line(line) => println!("{}", line.text),
            Next::Silence => {}
            // The guest has ended; gdb has been told and stays until the user leaves it.
            Next::Closed => thread::sleep(Duration::from_millis(50)),
        }
    };
    Ok(match ended.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Where to stop: the first lines of the main function, whichever comes first. The optimiser has put
/// their code somewhere else, and the line of the function itself may belong to what is done when it goes
/// on after a pause. Where the source does not tell, the symbol at which the boot code hands over.
fn breakpoints(source: &Path) -> Vec<String> {
    let text = fs::read_to_string(source).unwrap_or_default();
    let lines = main_lines(&text);
    if lines.is_empty() {
        warning(&format!(
            "{} has no #[rekernel::main]: stopping where the boot code hands over",
            source.display()
        ));
        return vec!["pvh_boot_main".to_owned()];
    }
    lines
        .map(|line| format!("{}:{line}", source.display()))
        .collect()
}

/// The numbers, from 1, of the first lines of the function below the attribute.
fn main_lines(source: &str) -> Range<usize> {
    let mut lines = source.lines().enumerate();
    let attribute = lines.find(|(_, line)| line.trim_start().starts_with("#[rekernel::main"));
    let function = lines.find(|(_, line)| {
        let line = line.trim_start();
        !line.starts_with("//") && line.contains("fn ")
    });
    let (Some(_), Some((first, _))) = (attribute, function) else {
        return 0..0;
    };
    let end = lines.find(|(_, line)| line.starts_with('}'));
    let end = end.map_or(first + 1, |(end, _)| end);
    first + 1..(end + 1).min(first + 1 + MOST_LINES)
}

/// A first statement is not longer than this many lines.
const MOST_LINES: usize = 8;

/// A socket that only this user can connect to, in a folder that is removed at the end.
struct Socket {
    folder: PathBuf,
    path: PathBuf,
}

impl Socket {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("rekernel-gdb-{}", std::process::id()));
        let mut builder = fs::DirBuilder::new();
        builder
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        let path = folder.join("stub");
        // QEMU's and gdb's arguments are words split at these.
        let words = path.to_str().filter(|path| !path.contains([' ', ',']));
        ensure!(
            words.is_some(),
            "{} has blanks or commas: set TMPDIR to another folder",
            folder.display()
        );
        Ok(Self { folder, path })
    }

    /// Waits until QEMU listens.
    fn wait(&self, running: &mut RunningGuest) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        while !self.path.exists() {
            let ended = running.ended(Duration::from_millis(10))?;
            if ended.is_some() || Instant::now() > until {
                running.stop()?;
                return Err(anyhow!(
                    "QEMU does not wait for gdb: {}",
                    running.complaints()
                ));
            }
        }
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Left behind it would be an empty folder in one that is cleared anyway.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_function_is_found_below_its_attribute() {
        let source = "//! fn x\nfn before() {}\n\n#[rekernel::main(keys = [\"a\"])]\n// fn\nasync fn main() {\n";
        assert_eq!(main_lines(source), 6..7);
        let body = "    a();\n".repeat(3);
        assert_eq!(main_lines(&format!("{source}{body}}}\n")), 6..10);
        let body = "    a();\n".repeat(30);
        assert_eq!(
            main_lines(&format!("{source}{body}}}\n")),
            6..6 + MOST_LINES
        );
        assert!(main_lines("#[rekernel::main]\n").is_empty());
        assert!(main_lines("fn main() {}\n").is_empty());
        assert_eq!(breakpoints(Path::new("/nonexistent")), ["pvh_boot_main"]);
    }

    #[test]
    fn the_stub_listens_where_only_we_can_reach_it() {
        use std::os::unix::fs::PermissionsExt;
        let socket = Socket::new().unwrap();
        let mode = fs::metadata(&socket.folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let words = stub(&socket.path).join(" ");
        assert!(
            words.contains("-gdb chardev:gdb") && words.contains("wait=off"),
            "{words}"
        );
        let folder = socket.folder.clone();
        drop(socket);
        assert!(!folder.exists());
    }
}
