//! The QEMU tier: guests booted under QEMU on this machine.

mod attacks;
mod basics;
mod boot;
mod cli;
mod configuration;
mod console;
mod crashes;
mod echo;
mod image;
mod instructions;
mod interfaces;
mod memory;
mod offload;
mod project;
mod tools;
pub(crate) mod transfer;
mod web;

use std::time::Duration;

use anyhow::Result;
use cargo_rekernel::package::{Protocol, Service};
use cargo_rekernel::ports::Forward;
use cargo_rekernel::qemu::{Accelerator, Configuration, Link, Qemu};

use boot::Boot;
pub(crate) use tools::check_verdicts;

use crate::book;
use crate::command::free_port;
use crate::guests::Guests;
use crate::measure::Measurements;
use crate::summary::{Summary, Tier};

/// What every test of the tier can use.
pub(crate) struct Context<'a> {
    qemu: Qemu,
    accelerator: Accelerator,
    guests: &'a Guests,
    measurements: &'a Measurements,
}

/// One test: its name in the table, and what it does.
type Test = (&'static str, fn(&Context) -> Result<()>);

/// Time for a guest to boot and say something: many times what it needs in software
/// emulation on a busy machine, so that only a guest that hangs exceeds it.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Runs the tests whose name contains `name`.
pub(crate) fn run(guests: &Guests, name: &str, summary: &mut Summary, measurements: &Measurements) {
    let mut tools = None;
    let ready = summary.check(Tier::Qemu, "QEMU is there and an accelerator works", || {
        let qemu = Qemu::ensure()?;
        let accelerator = Accelerator::choose(&qemu)?;
        tools = Some((qemu, accelerator));
        Ok(())
    });
    let Some((qemu, accelerator)) = tools.filter(|_| ready) else {
        summary.skip(Tier::Qemu, "all boots", "QEMU does not work here");
        return;
    };
    let context = Context {
        qemu,
        accelerator,
        guests,
        measurements,
    };
    let subjects = [
        basics::TESTS,
        attacks::TESTS,
        web::TESTS,
        echo::TESTS,
        configuration::TESTS,
        console::TESTS,
        crashes::TESTS,
        memory::TESTS,
        cli::TESTS,
        image::TESTS,
        project::TESTS,
        tools::TESTS,
        instructions::TESTS,
        interfaces::TESTS,
    ];
    for (test, body) in subjects.concat() {
        if test.contains(name) {
            summary.check(Tier::Qemu, test, || body(&context));
        }
    }
    try_book(name, summary);
    let mut offload = offload::TESTS.to_vec();
    offload.retain(|(test, _)| test.contains(name));
    let obstacle = match offload.is_empty() {
        true => None,
        false => offload::obstacle(),
    };
    for (test, body) in offload {
        match &obstacle {
            Some(reason) => summary.skip(Tier::Qemu, test, reason),
            None => {
                summary.check(Tier::Qemu, test, || body(&context));
            }
        }
    }
}

/// Runs the commands of the book that are for this machine, a test for each chapter, and tells which are for
/// none that we have.
fn try_book(name: &str, summary: &mut Summary) {
    let chapters = match book::chapters() {
        Ok(chapters) => chapters,
        Err(error) => {
            summary.check(Tier::Qemu, "book: it is read", || Err(error));
            return;
        }
    };
    for chapter in &chapters {
        let test = format!("book: {}", chapter.name);
        if !test.contains(name) {
            continue;
        }
        if chapter.is_for_host() {
            summary.check(Tier::Qemu, &test, || chapter.run_on_host());
        }
        for (block, reason) in chapter.not_run() {
            summary.skip(Tier::Qemu, &block, reason);
        }
    }
}

impl Context<'_> {
    /// A configuration for the guest of this name: 64 MiB, no network.
    fn configuration(&self, guest: &str) -> Result<Configuration> {
        Ok(Configuration::new(
            &self.guests.guest(guest)?.elf,
            self.accelerator,
        ))
    }

    /// Boots the guest.
    fn boot(&self, configuration: &Configuration) -> Result<Boot> {
        Boot::start(&self.qemu, configuration)
    }

    /// Boots the guest of this name with a network and one TCP port of its own behind a
    /// free port of this machine, which is returned.
    fn boot_with_port(
        &self,
        guest: &str,
        port: u16,
        change: impl FnOnce(&mut Configuration),
    ) -> Result<(Boot, u16)> {
        let host_port = free_port()?;
        let service = Service {
            protocol: Protocol::Tcp,
            port,
        };
        let link = Link::User(vec![Forward { host_port, service }]);
        let mut configuration = Configuration {
            link,
            ..self.configuration(guest)?
        };
        change(&mut configuration);
        Ok((self.boot(&configuration)?, host_port))
    }
}
