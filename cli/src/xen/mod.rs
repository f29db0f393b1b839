//! Running a guest on a real Xen: the lab is booted for the purpose, dom0 creates the
//! guest with `xl`, and the port of this machine leads through dom0's bridge.

mod configuration;
mod guest;

use std::process::ExitCode;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use lab::{BootOptions, Dom0, HostForward, Lab, Options, Prepared, Release, network};

use crate::arguments::{GuestArguments, RunArguments};
use crate::build::{self, Guest};
use crate::interrupt;
use crate::monitor;
use crate::monitor::dom0::{Domain, Shell};
use crate::monitor::door::Door;
use crate::package::{Package, Protocol};
use crate::ports::Forward;
use crate::progress::{Took, status, warning};
use crate::qemu::Next;
use crate::watcher::Watcher;

pub use configuration::GuestConfiguration;
pub(crate) use guest::{End, XenGuest};

/// `cargo rekernel run --on xen`.
///
/// # Errors
/// Where the guest cannot be built, the lab cannot be set up, or `xl` refuses the guest.
pub fn run(arguments: &RunArguments, package: &Package, forwards: &[Forward]) -> Result<ExitCode> {
    let options = BootOptions {
        host_forwards: host_forwards(arguments, forwards),
        ..BootOptions::default()
    };
    let (guest, dom0) = beside_a_boot(arguments.place.debian.clone(), options, || {
        build::build(package)
    })?;
    watch(arguments, &guest, forwards, &dom0)
}

/// Boots the lab while the guest is built.
///
/// # Errors
/// Those of the build, those of the lab, or that the user did not want to wait: the lab ends what it
/// started when this process ends.
pub(crate) fn beside_a_boot(
    release: Option<Release>,
    options: BootOptions,
    build: impl FnOnce() -> Result<Guest>,
) -> Result<(Guest, Arc<Dom0>)> {
    // Before the build: what is missing and cannot be installed should not be learnt after it.
    ensure_requirements()?;
    let options = BootOptions {
        cancelled: interrupt::requested,
        ..options
    };
    let lab = thread::spawn(move || boot_lab(release, &options));
    let guest = build().map_err(interrupt::or_interrupted)?;
    while !lab.is_finished() {
        if interrupt::requested() {
            bail!("interrupted while the lab was set up");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let dom0 = lab.join().map_err(|_| anyhow!("the lab was lost"))??;
    Ok((guest, Arc::new(dom0)))
}

/// Makes all that is needed to boot the lab, or finds it ready, saying each step. Xen and dom0 are
/// those of a release of Debian, or the newest that the machine's apt sources offer.
///
/// # Errors
/// The lab's own: they say what is missing and how to get it.
pub fn ensure_lab(release: Option<Release>) -> Result<Prepared> {
    ensure_requirements()?;
    let options = Options {
        release,
        ..Options::default()
    };
    Ok(Lab::prepare(&options, &progress)?)
}

fn ensure_requirements() -> Result<()> {
    let why = "a real Xen is booted under QEMU, with a dom0 made from the distribution's packages";
    Ok(lab::packages::ensure(&lab::requirements(), why, &progress)?)
}

fn progress(line: &str) {
    status("Lab", line);
}

fn boot_lab(release: Option<Release>, options: &BootOptions) -> Result<Dom0> {
    let prepared = ensure_lab(release)?;
    status(
        "Booting",
        &format!(
            "Xen {} and its dom0 (about a minute)",
            prepared.xen_version()
        ),
    );
    let started = Instant::now();
    let dom0 = prepared.boot(options, &progress)?;
    status(
        "Booted",
        &format!("Xen and dom0 in {}", Took(started.elapsed())),
    );
    Ok(dom0)
}

fn host_forwards(arguments: &RunArguments, forwards: &[Forward]) -> Vec<HostForward> {
    let address = arguments.guest.append.iter().find_map(|key| {
        let address = key.strip_prefix("ip=")?;
        address.split('/').next()?.parse().ok()
    });
    let guest_address = address.unwrap_or(network::FIRST_GUEST);
    let (tcp, udp): (Vec<&Forward>, Vec<&Forward>) = forwards
        .iter()
        .partition(|forward| forward.service.protocol == Protocol::Tcp);
    for forward in udp {
        warning(&format!(
            "udp port {} is not forwarded to a guest on Xen: only TCP is",
            forward.host_port
        ));
    }
    let tcp = tcp.into_iter();
    tcp.map(|forward| HostForward {
        host_port: forward.host_port,
        guest_address,
        guest_port: forward.service.port,
    })
    .collect()
}

/// Creates the guest and shows its console until it or the user ends it.
fn watch(
    arguments: &RunArguments,
    guest: &Guest,
    forwards: &[Forward],
    dom0: &Arc<Dom0>,
) -> Result<ExitCode> {
    let name = &guest.package.name;
    let configuration = configuration(name, &arguments.guest);
    dom0.copy_in(&guest.elf, &configuration.kernel)?;
    status(
        "Creating",
        &format!("{name} with xl, {} MiB", arguments.guest.memory),
    );
    let creating = Instant::now();
    let mut booted = XenGuest::create_paused(dom0, &configuration)?;
    let created = creating.elapsed();
    let _door = let_in(name, dom0);
    booted.unpause()?;
    status(
        "Booting",
        &format!("{name} (xl create took {})", Took(created)),
    );
    let mut watcher = Watcher::new(guest, forwards, arguments.json);
    loop {
        if interrupt::requested() {
            return Ok(watcher.interrupted(booted.age()));
        }
        match booted.next(Duration::from_millis(50))? {
            Next::Line(line) => watcher.line(&line.text, line.after),
            Next::Silence => {}
            Next::Closed => break,
        }
    }
    Ok(match (booted.end(), watcher.last_word()) {
        (End::PowerOff, Some((_, after))) => watcher.powered_off(after),
        (End::Vanished, _) => {
            watcher.crashed("it vanished without a word, as after a halt for good")
        }
        _ => watcher.crashed("it reported a crash to Xen, or Xen ended it"),
    })
}

/// What a guest gets on the lab's Xen.
pub(crate) fn configuration(name: &str, wanted: &GuestArguments) -> GuestConfiguration {
    GuestConfiguration {
        name: name.to_owned(),
        kernel: format!("/guests/{name}"),
        memory_mib: wanted.memory,
        append: wanted.append.clone(),
        interfaces: vec![format!("bridge={}", network::BRIDGE)],
        on_reboot: "restart",
        on_crash: "preserve",
        further: Vec::new(),
    }
}

/// Lets other commands ask the guest.
fn let_in(name: &str, dom0: &Arc<Dom0>) -> Option<Door> {
    let shell = LabShell(Arc::downgrade(dom0));
    Door::or_warning(Domain::new(shell, name).and_then(|domain| Door::open(name, Box::new(domain))))
}

/// Runs scripts in a lab's dom0, for as long as there is one: the lab ends with its owner.
struct LabShell(Weak<Dom0>);

impl Shell for LabShell {
    fn run(&self, script: &str) -> Result<String> {
        let dom0 = self.0.upgrade().context("the lab has ended")?;
        let output = dom0.run(script, 2 * monitor::LIMIT)?;
        if !output.success() {
            bail!("{}", output.stderr_text().trim());
        }
        Ok(output.stdout_text())
    }
}
