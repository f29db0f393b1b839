//! A guest under test, created with `xl` and destroyed at the end of its test.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use cargo_rekernel::progress::Took;
use cargo_rekernel::xen::GuestConfiguration;
use lab::network;

use super::{BOOT_LIMIT, Context, XL_LIMIT};

/// What kind of guest is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// The name of the built guest.
    pub(crate) program: &'static str,
    /// The name on this host. Consoles are kept by name, so every test has its own.
    pub(crate) name: String,
    pub(crate) memory_mib: u32,
    pub(crate) append: Vec<String>,
    pub(crate) interfaces: Vec<String>,
    pub(crate) on_crash: &'static str,
    /// Further lines of its configuration.
    pub(crate) further: Vec<String>,
}

impl Wish {
    /// A guest with one interface and a static address that ends in `last`.
    pub(crate) fn new(program: &'static str, name: &str, last: u8) -> Self {
        Self {
            program,
            name: name.to_owned(),
            memory_mib: 64,
            append: vec![
                format!("ip={}/{}", address(last), network::PREFIX_LENGTH),
                format!("gw={}", network::GATEWAY),
            ],
            interfaces: vec![interface(network::BRIDGE)],
            on_crash: "preserve",
            further: Vec::new(),
        }
    }

    fn configuration(&self) -> GuestConfiguration {
        GuestConfiguration {
            name: self.name.clone(),
            kernel: format!("/guests/{}", self.program),
            memory_mib: self.memory_mib,
            append: self.append.clone(),
            interfaces: self.interfaces.clone(),
            on_reboot: "restart",
            on_crash: self.on_crash,
            further: self.further.clone(),
        }
    }
}

/// An interface on this bridge, as xl's `vif` has it, that the lab's own hotplug script joins to it.
pub(crate) fn interface(bridge: &str) -> String {
    format!("bridge={bridge},script={}", network::HOTPLUG_SCRIPT)
}

/// The same as the arguments of `xl network-attach`.
pub(crate) fn attach_arguments(interface: &str) -> String {
    interface.replace(',', " ")
}

/// An address of the lab's network, outside of what its DHCP server gives away.
pub(crate) fn address(last: u8) -> String {
    let [a, b, c, _] = network::DOM0.octets();
    format!("{a}.{b}.{c}.{last}")
}

/// A guest that exists on Xen. Dropping it destroys it.
pub(crate) struct Guest<'a> {
    context: &'a Context<'a>,
    pub(crate) name: String,
    console_start: usize,
}

impl<'a> Guest<'a> {
    /// Puts the program and its configuration into dom0; returns the configuration's path.
    pub(crate) fn put_files(context: &Context, wish: &Wish) -> Result<String> {
        let configuration = wish.configuration();
        let built = context.guests.guest(wish.program)?;
        if !context
            .dom0
            .run(&format!("test -e {}", configuration.kernel), XL_LIMIT)?
            .success()
        {
            context.dom0.copy_in(&built.elf, &configuration.kernel)?;
        }
        let file = format!("/guests/{}.cfg", wish.name);
        context.dom0.write(&file, configuration.text().as_bytes())?;
        Ok(file)
    }

    /// Stands for a guest of this name that a script creates, so that it is destroyed.
    pub(crate) fn adopt(context: &'a Context, name: &str) -> Self {
        let console_start = context.dom0.guest_console(name).len();
        Self {
            context,
            name: name.to_owned(),
            console_start,
        }
    }

    /// `xl create -p`: the guest is there, but does not run yet.
    pub(crate) fn create_paused(context: &'a Context, wish: &Wish) -> Result<Self> {
        let file = Self::put_files(context, wish)?;
        let guest = Self::adopt(context, &wish.name);
        context.sh(&format!("xl create -q -p {file}"), XL_LIMIT)?;
        Ok(guest)
    }

    /// `xl create`, and the guest runs.
    pub(crate) fn create(context: &'a Context, wish: &Wish) -> Result<Self> {
        let guest = Self::create_paused(context, wish)?;
        guest.unpause()?;
        Ok(guest)
    }

    /// A running guest that has said that it serves.
    pub(crate) fn serving(context: &'a Context, wish: &Wish) -> Result<Self> {
        let guest = Self::create(context, wish)?;
        guest.wait_for("rekernel: ready", BOOT_LIMIT)?;
        Ok(guest)
    }

    /// `xl unpause`.
    pub(crate) fn unpause(&self) -> Result<()> {
        self.context
            .sh(&format!("xl unpause {}", self.name), XL_LIMIT)?;
        Ok(())
    }

    /// Waits for a line of its console since its creation.
    pub(crate) fn wait_for(&self, text: &str, limit: Duration) -> Result<String> {
        Ok(self
            .context
            .dom0
            .wait_for_guest_line(&self.name, text, self.console_start, limit)?)
    }

    /// What it said since its creation.
    pub(crate) fn console(&self) -> String {
        let all = self.context.dom0.guest_console(&self.name);
        all.get(self.console_start..).unwrap_or_default().to_owned()
    }

    /// Adds the last lines of its console to an error.
    pub(crate) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let console = self.console();
            let lines: Vec<_> = console.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n    ");
            anyhow!(
                "{error:#}; last lines of {}'s console:\n    {last}",
                self.name
            )
        })
    }

    /// Its line in `xl list`, or `None` where it is gone.
    pub(crate) fn listing(&self) -> Result<Option<Listing>> {
        let output = self
            .context
            .dom0
            .run(&format!("xl list {}", self.name), XL_LIMIT)?;
        if !output.success() {
            return Ok(None);
        }
        let text = output.stdout_text();
        let listing = Listing::parse(&text).with_context(|| format!("xl list printed {text}"))?;
        Ok(Some(listing))
    }

    /// Waits until `xl list` shows what is wanted.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(Option<&Listing>) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            let listing = self.listing()?;
            if wanted(listing.as_ref()) {
                return Ok(());
            }
            if Instant::now() > until {
                return self.explain(Err(anyhow!(
                    "{what} did not happen within {}; xl list: {listing:?}",
                    Took(limit)
                )));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// `xl destroy`, which must succeed.
    pub(crate) fn destroy(self) -> Result<()> {
        let outcome = self
            .context
            .sh(&format!("xl destroy {}", self.name), XL_LIMIT);
        std::mem::forget(self);
        outcome.map(drop)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        // It may be gone already, which is what we want.
        let _ = self
            .context
            .dom0
            .run(&format!("xl destroy {} 2>/dev/null", self.name), XL_LIMIT);
    }
}

/// A line of `xl list`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listing {
    pub(crate) id: u32,
    /// `r-----` and the like.
    pub(crate) state: String,
    /// CPU time in seconds.
    pub(crate) time: f64,
}

impl Listing {
    fn parse(text: &str) -> Result<Self> {
        let columns: Vec<_> = text
            .lines()
            .last()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let [_, id, _memory, _processors, state, time] = columns.as_slice() else {
            bail!("not six columns");
        };
        Ok(Self {
            id: id.parse()?,
            state: (*state).to_owned(),
            time: time.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_parsed() {
        let text =
            "Name   ID   Mem VCPUs\tState\tTime(s)\nhttp    3    64     1     -b----       0.4\n";
        let listing = Listing::parse(text).unwrap();
        assert_eq!(
            listing,
            Listing {
                id: 3,
                state: "-b----".to_owned(),
                time: 0.4
            }
        );
        assert!(Listing::parse("").is_err());
    }
}
