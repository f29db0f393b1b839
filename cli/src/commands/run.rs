//! `cargo rekernel run`: build, boot, watch, and say how it ended.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::arguments::{Host, RunArguments};
use crate::monitor::door::Door;
use crate::monitor::serial::Socket;
use crate::ports::Forward;
use crate::progress::status;
use crate::qemu::{Accelerator, Configuration, End, Link, Next, Qemu, RunningGuest};
use crate::watcher::Watcher;
use crate::{build, interrupt, package, ports, xen};

/// Runs a guest until it ends or the user ends it. The exit code is a failure where it crashed.
///
/// # Errors
/// Where it could not be built or booted.
pub fn command(arguments: &RunArguments) -> Result<ExitCode> {
    arguments.place.check()?;
    interrupt::watch()?;
    let package = package::find(
        arguments.build.package_name(),
        arguments.build.manifest_path.as_deref(),
    )?;
    // What would fail only after the build is checked before it.
    let forwards = ports::plan(&package.settings.forward, arguments.port)?;
    ports::check(&forwards)?;
    match arguments.place.on {
        Host::Qemu => under_qemu(arguments, &package, forwards),
        Host::Xen => xen::run(arguments, &package, &forwards),
    }
}

fn under_qemu(
    arguments: &RunArguments,
    package: &package::Package,
    forwards: Vec<Forward>,
) -> Result<ExitCode> {
    let qemu = Qemu::ensure()?;
    let (guest, accelerator) = Accelerator::choose_beside(&qemu, || build::build(package))?;
    let socket = Socket::new()?;
    let configuration = Configuration {
        monitor: Some(socket.path()),
        machine: arguments.guest.machine,
        memory_mib: arguments.guest.memory,
        append: arguments.guest.append.clone(),
        link: Link::User(forwards.clone()),
        ..Configuration::new(&guest.elf, accelerator)
    };
    let how = match accelerator {
        Accelerator::Kvm => "with KVM",
        Accelerator::Tcg => "in software emulation",
    };
    let (machine, memory) = (arguments.guest.machine.name(), arguments.guest.memory);
    status(
        "Booting",
        &format!(
            "{} on {machine}, {memory} MiB, QEMU {} {how}",
            package.name, qemu.version
        ),
    );
    let mut running = RunningGuest::boot(&qemu, &configuration)?;
    let _door = let_in(&package.name, socket);
    let mut watcher = Watcher::new(&guest, &forwards, arguments.json);
    loop {
        if interrupt::requested() {
            running.stop()?;
            return Ok(watcher.interrupted(running.elapsed()));
        }
        match running.next(Duration::from_millis(50)) {
            Next::Line(line) => watcher.line(&line.text, line.after),
            Next::Silence => {}
            Next::Closed => break,
        }
    }
    let end = running
        .ended(Duration::from_secs(10))?
        .context("QEMU closed the console but does not end")?;
    match end {
        End::PowerOff => Ok(watcher.powered_off(running.elapsed())),
        End::Crash => Ok(watcher.crashed(&otherwise("it reported a crash", &mut running))),
        End::Reset => {
            let reset = "the machine was reset without a word, as after a triple fault";
            Ok(watcher.crashed(&otherwise(reset, &mut running)))
        }
        End::Qemu(said) => bail!("QEMU failed: {said}"),
    }
}

/// Lets other commands ask the guest.
fn let_in(name: &str, socket: Socket) -> Option<Door> {
    // A QEMU that refuses its arguments never comes, and says why itself.
    let port = socket.accept(Duration::from_secs(5)).ok()?;
    Door::or_warning(Door::open(name, Box::new(port)))
}

/// What to say of a guest that gave no message on its console.
fn otherwise(what: &str, running: &mut RunningGuest) -> String {
    match running.complaints() {
        said if said.is_empty() => what.to_owned(),
        said => format!("{what}; on the debug port it said:\n{said}"),
    }
}
