//! dom0 under measurement: guests are created and destroyed, and the client is run.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lab::Dom0;

use super::candidates::{Candidate, Image};
use super::run::Plan;

/// Time for one step of xl: several times what it needs under software emulation.
pub(super) const XL_LIMIT: Duration = Duration::from_secs(90);

pub(super) const HTTP: u16 = 80;

/// The processor of the machine that guests are pinned to. dom0 has the other one.
pub(super) const GUEST_PROCESSOR: u32 = 1;

/// dom0, and what the run is to be.
pub(super) struct Host<'a> {
    pub(super) dom0: &'a Dom0,
    pub(super) plan: &'a Plan,
}

impl Host<'_> {
    /// Runs a script that must succeed; returns what it printed.
    pub(super) fn sh(&self, script: &str, limit: Duration) -> Result<String> {
        let output = self.dom0.run(script, limit)?;
        if !output.success() {
            bail!(
                "`{script}` in dom0 ended with status {}: {} {}",
                output.status,
                output.stdout_text().trim(),
                output.stderr_text().trim()
            );
        }
        Ok(output.stdout_text())
    }

    /// Runs the client.
    pub(super) fn client(&self, arguments: &str, limit: Duration) -> Result<Output> {
        // Thousands of connections are as many open files.
        self.load(
            &format!("ulimit -n 65536; /bench/client {arguments}"),
            limit,
        )
    }

    /// Runs a script that puts a load on the guest.
    pub(super) fn load(&self, script: &str, limit: Duration) -> Result<Output> {
        let before = self.dom0.processor_time(GUEST_PROCESSOR)?;
        let text = self.sh(script, limit + Duration::from_secs(60))?;
        let after = self.dom0.processor_time(GUEST_PROCESSOR)?;
        Ok(Output::parse(text, after.saturating_sub(before)))
    }

    /// `xl create -p`, and a neighbour entry, so that finding the guest's Ethernet address is no
    /// part of what is measured. With an entry in the bridge, too: QEMU's network, behind another
    /// of its ports, would refuse connections to an address that is nobody's yet.
    pub(super) fn create(
        &self,
        candidate: Candidate,
        image: Image,
        memory_mib: Option<u32>,
    ) -> Result<Guest<'_>> {
        let name = candidate.name();
        let file = format!("/bench/{name}.cfg");
        let configuration = candidate.configuration(image, memory_mib, self.plan);
        self.dom0.write(&file, configuration.as_bytes())?;
        let printed = self.sh(
            &format!(
                "set -e; start=$EPOCHREALTIME; xl create -q -p {file}; end=$EPOCHREALTIME
                 domain=$(xl domid {name})
                 ip neighbour replace {address} lladdr {ethernet} dev {bridge} nud permanent
                 bridge fdb replace {ethernet} dev vif$domain.0 master static
                 echo $(( ${{end/./}} - ${{start/./}} )) $domain",
                address = candidate.address(),
                ethernet = candidate.ethernet_address(),
                bridge = lab::network::BRIDGE,
            ),
            XL_LIMIT,
        )?;
        let words: Vec<_> = printed.split_whitespace().collect();
        let [microseconds, domain] = words[..] else {
            bail!("creating {name} printed {printed}");
        };
        Ok(Guest {
            host: self,
            candidate,
            domain: domain.to_owned(),
            creation: Duration::from_micros(microseconds.parse().context("xl create's time")?),
            console_start: self.dom0.guest_console(name).len(),
        })
    }
}

/// What a load printed, and what it cost the guest.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) text: String,
    /// What was printed as a name and a number.
    values: BTreeMap<String, f64>,
    /// Work of the processor on which the guest is alone.
    pub(super) guest: Duration,
}

impl Output {
    fn parse(text: String, guest: Duration) -> Self {
        let pair = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let values = text.lines().filter_map(pair).collect();
        Self {
            text,
            values,
            guest,
        }
    }

    /// A figure, which must be there.
    pub(super) fn get(&self, name: &str) -> Result<f64> {
        self.find(name)
            .ok_or_else(|| anyhow!("the client printed no `{name}`: {}", self.text))
    }

    /// A figure, if it is there.
    pub(super) fn find(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }
}

/// A guest that exists. Dropping it destroys it.
pub(super) struct Guest<'a> {
    host: &'a Host<'a>,
    candidate: Candidate,
    /// Its number.
    pub(super) domain: String,
    /// How long `xl create -p` took.
    pub(super) creation: Duration,
    console_start: usize,
}

impl Guest<'_> {
    /// Waits for a line of its console.
    pub(super) fn wait_for(&self, text: &str) -> Result<String> {
        let name = self.candidate.name();
        let dom0 = self.host.dom0;
        Ok(dom0.wait_for_guest_line(name, text, self.console_start, XL_LIMIT)?)
    }

    /// Adds the last lines of its console to an error.
    pub(super) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let console = self.host.dom0.guest_console(self.candidate.name());
            let own = console.get(self.console_start..).unwrap_or_default();
            let lines: Vec<_> = own.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n    ");
            anyhow!(
                "{error:#}; last lines of {}'s console:\n    {last}",
                self.candidate.name()
            )
        })
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        // The backend may come for the next guest only when this one's is gone.
        let script = format!(
            "xl destroy {0} 2>/dev/null; for try in $(seq 50); do
               [ -e /sys/class/net/vif{0}.0 ] || break; usleep 20000; done",
            self.domain
        );
        let _ = self.host.dom0.run(&script, XL_LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_other_lines() {
        let output = "Running 3s test\nmedian 1500\nlost 12\n".to_owned();
        let output = Output::parse(output, Duration::ZERO);
        assert_eq!(output.get("median").unwrap(), 1500.0);
        assert_eq!(output.find("p99"), None);
        assert!(
            output
                .get("p99")
                .unwrap_err()
                .to_string()
                .contains("median 1500")
        );
    }
}
