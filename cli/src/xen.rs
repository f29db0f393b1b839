//! Running a guest on a real Xen: the lab is booted for the purpose, dom0 creates the
//! guest with `xl`, and the port of this machine leads through dom0's bridge.

use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use lab::{BootOptions, Dom0, HostForward, Lab, Options, Prepared, Release, network};

use crate::arguments::RunArguments;
use crate::build::{self, Guest};
use crate::console::Event;
use crate::interrupt;
use crate::monitor;
use crate::monitor::dom0::{Domain, Shell};
use crate::monitor::door::Door;
use crate::package::{Package, Protocol};
use crate::ports::Forward;
use crate::progress::{Took, status, warning};
use crate::watcher::Watcher;

/// `cargo rekernel run --on xen`.
///
/// # Errors
/// Where the guest cannot be built, the lab cannot be set up, or `xl` refuses the guest.
pub fn run(arguments: &RunArguments, package: &Package, forwards: &[Forward]) -> Result<ExitCode> {
    // Before the build: what is missing and cannot be installed should not be learnt after it.
    ensure_requirements()?;
    let options = BootOptions {
        host_forwards: host_forwards(arguments, forwards),
        cancelled: interrupt::requested,
        ..BootOptions::default()
    };
    let release = arguments.debian.clone();
    let lab = thread::spawn(move || boot_lab(release, &options));
    let guest = build::build(package).map_err(interrupt::or_interrupted)?;
    let dom0 = Arc::new(wait_for(lab)?);
    watch(arguments, &guest, forwards, &dom0)
}

/// Waits for the lab, unless the user does not: the lab ends what it started when this
/// process ends.
fn wait_for(lab: JoinHandle<Result<Dom0>>) -> Result<Dom0> {
    while !lab.is_finished() {
        if interrupt::requested() {
            bail!("interrupted while the lab was set up");
        }
        thread::sleep(Duration::from_millis(50));
    }
    lab.join().map_err(|_| anyhow!("the lab was lost"))?
}

/// The configuration of one guest for `xl create`.
#[derive(Clone, Debug)]
pub struct GuestConfiguration {
    /// The guest's name, unique on its host.
    pub name: String,
    /// Path of the ELF in dom0.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Keys for the guest's command line.
    pub append: Vec<String>,
    /// One entry per network interface, as xl's `vif` takes it.
    pub interfaces: Vec<String>,
    /// What xl does with a crashed guest: `preserve` or `destroy`.
    pub on_crash: &'static str,
    /// Further lines of the file.
    pub further: Vec<String>,
}

impl GuestConfiguration {
    /// The text of the file.
    pub fn text(&self) -> String {
        let interfaces: Vec<_> = self
            .interfaces
            .iter()
            .map(|interface| quoted(interface))
            .collect();
        format!(
            "type = \"pvh\"\nname = {}\nkernel = {}\nmemory = {}\nvcpus = 1\ncmdline = {}\nvif = [ {} ]\n\
             on_poweroff = \"destroy\"\non_reboot = \"restart\"\non_crash = {}\n{}",
            quoted(&self.name),
            quoted(&self.kernel),
            self.memory_mib,
            quoted(&self.append.join(" ")),
            interfaces.join(", "),
            quoted(self.on_crash),
            self.further
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )
    }
}

/// A string as xl's configuration reader takes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
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
    let configuration = GuestConfiguration {
        name: name.clone(),
        kernel: format!("/guests/{name}"),
        memory_mib: arguments.guest.memory,
        append: arguments.guest.append.clone(),
        interfaces: vec![format!("bridge={}", network::BRIDGE)],
        on_crash: "preserve",
        further: Vec::new(),
    };
    dom0.copy_in(&guest.elf, &configuration.kernel)?;
    dom0.write(
        &format!("/guests/{name}.cfg"),
        configuration.text().as_bytes(),
    )?;
    let (sender, lines) = channel();
    let _follower = dom0.follow_guest_console(name, move |line| {
        // Nobody listens any more once the guest has been judged.
        let _ = sender.send((line.to_owned(), Instant::now()));
    });
    status(
        "Creating",
        &format!("{name} with xl, {} MiB", arguments.guest.memory),
    );
    let creating = Instant::now();
    step(
        dom0,
        &format!("xl create -p -q '/guests/{name}.cfg'"),
        Duration::from_secs(60),
    )?;
    let created = creating.elapsed();
    let _door = let_in(name, dom0);
    let started = Instant::now();
    step(
        dom0,
        &format!("xl unpause '{name}'"),
        Duration::from_secs(30),
    )?;
    status(
        "Booting",
        &format!("{name} (xl create took {})", Took(created)),
    );
    let mut watcher = Watcher::new(guest, forwards, arguments.json);
    let mut asked = Instant::now();
    let mut gone = false;
    loop {
        if interrupt::requested() {
            return Ok(watcher.interrupted(started.elapsed()));
        }
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok((line, at)) => watcher.line(&line, at.saturating_duration_since(started)),
            Err(RecvTimeoutError::Disconnected) => bail!("the console of {name} was lost"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let every = if watcher.last_word().is_some() {
            ASK_THE_DYING_EVERY
        } else {
            ASK_EVERY
        };
        if asked.elapsed() < every {
            continue;
        }
        let state = state(dom0, name)?;
        asked = Instant::now();
        // While xl restarts a guest there is none for a moment: gone is who stays gone.
        let was_gone = std::mem::replace(&mut gone, state == State::Gone);
        if state == State::Alive || (state == State::Gone && !was_gone) {
            continue;
        }
        // What it said last is still on its way.
        while let Ok((line, at)) = lines.recv_timeout(Duration::from_millis(300)) {
            watcher.line(&line, at.saturating_duration_since(started));
        }
        return Ok(match (state, watcher.last_word()) {
            (State::Gone, Some((Event::PowerOff, after))) => watcher.powered_off(after),
            (State::Gone, _) => {
                watcher.crashed("it vanished without a word, as after a halt for good")
            }
            _ => watcher.crashed("it reported a crash to Xen, or Xen ended it"),
        });
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

/// How often it is asked after the guest has announced its end.
const ASK_THE_DYING_EVERY: Duration = Duration::from_millis(300);

/// How often xl is asked for the guest's state; each question costs dom0 a moment.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What xl knows about a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive,
    Crashed,
    Gone,
}

fn state(dom0: &Dom0, name: &str) -> Result<State> {
    let output = dom0.run(&format!("xl list '{name}'"), Duration::from_secs(30))?;
    Ok(if output.success() {
        state_of(&output.stdout_text())
    } else {
        State::Gone
    })
}

/// Reads the state column of `xl list`: `r-----` and the like, with `c` for crashed and
/// `s` for shut down.
fn state_of(listing: &str) -> State {
    let columns = listing
        .lines()
        .last()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let flags = columns
        .as_ref()
        .and_then(|columns| columns.iter().rev().nth(1))
        .copied()
        .unwrap_or("");
    if flags.contains('c') {
        State::Crashed
    } else {
        State::Alive
    }
}

/// A command in dom0 that must succeed.
fn step(dom0: &Dom0, command: &str, limit: Duration) -> Result<()> {
    let output = dom0
        .run_merged(command, limit)
        .with_context(|| format!("`{command}` in dom0"))?;
    if !output.success() {
        bail!(
            "`{command}` in dom0 failed with status {}: {}",
            output.status,
            output.stdout_text().trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_what_xl_reads() {
        let configuration = GuestConfiguration {
            name: "http".to_owned(),
            kernel: "/guests/http".to_owned(),
            memory_mib: 16,
            append: vec!["ip=dhcp".to_owned(), "motto=\"a\\b\"".to_owned()],
            interfaces: vec!["bridge=xenbr0".to_owned()],
            on_crash: "preserve",
            further: vec!["maxmem = 32".to_owned()],
        };
        let text = configuration.text();
        assert!(
            text.contains("cmdline = \"ip=dhcp motto=\\\"a\\\\b\\\"\"\n"),
            "{text}"
        );
        assert!(text.contains("vif = [ \"bridge=xenbr0\" ]\n"), "{text}");
        assert!(text.ends_with("\nmaxmem = 32\n"), "{text}");
    }

    #[test]
    fn the_state_column_tells_a_crash() {
        let listing = |flags: &str| {
            format!(
                "Name   ID   Mem VCPUs\tState\tTime(s)\nhttp    3    64     1     {flags}       0.4\n"
            )
        };
        assert_eq!(state_of(&listing("-b----")), State::Alive);
        assert_eq!(state_of(&listing("---sc-")), State::Crashed);
    }
}
