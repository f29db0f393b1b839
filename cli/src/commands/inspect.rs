//! `cargo rekernel inspect`: what a running guest does, holds and waits for.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::monitor::dom0::{Domain, Program};
use crate::monitor::door::Visitor;
use crate::monitor::{self, Channel, Report};
use crate::{interrupt, json};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo rekernel inspect http                       a guest that `cargo rekernel run` has started
  cargo rekernel inspect http --watch               again every 2 seconds, with rates
  cargo rekernel inspect http --dom0 root@xenhost   a domain of a Xen host, by ssh
  cargo rekernel inspect http --dom0 local          the same, in dom0 itself
  cargo rekernel inspect http --log info,net=debug  other levels of its log from now on
  cargo rekernel inspect http --json | jq '.memory[] | select(.subject == \"heap\")'

The guest is asked through a socket of `run` that only you may open, or through its xenstore nodes, for
which dom0's root is needed. It is never asked over the network.";

/// Which guest, how often.
#[derive(Args, Clone, Debug)]
pub struct InspectArguments {
    /// The guest: the package that runs here, or the domain on a Xen host
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The Xen host whose domain it is: `local`, HOST or USER@HOST (by ssh)
    #[arg(long, value_name = "HOST")]
    pub dom0: Option<String>,

    /// Which `cargo rekernel run`, by its process id, where several run a guest of this name
    #[arg(long, value_name = "ID", conflicts_with = "dom0")]
    pub process: Option<u32>,

    /// Ask again every so many seconds until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub watch: Option<u64>,

    /// Levels for the guest's log from now on, as `log=` takes them; asks for nothing else
    #[arg(long, value_name = "LEVELS", conflicts_with = "watch")]
    pub log: Option<String>,

    /// Print a JSON object for each report, for scripts
    #[arg(long)]
    pub json: bool,
}

/// Asks and shows. The exit code is 0 when the guest has answered.
///
/// # Errors
/// Where it cannot be reached or does not answer.
pub fn command(arguments: &InspectArguments) -> Result<ExitCode> {
    let name = &arguments.name;
    let mut channel: Box<dyn Channel> = match &arguments.dom0 {
        Some(host) => Box::new(Domain::new(Program::reaching(host)?, name)?),
        None => Box::new(Visitor::find(name, arguments.process)?),
    };
    let question = match &arguments.log {
        Some(levels) => format!("log {levels}"),
        None => "inspect".to_owned(),
    };
    let Some(seconds) = arguments.watch else {
        let report = Report::parse(&monitor::ask(&mut *channel, &question)?);
        show(arguments, &report, None);
        return Ok(ExitCode::SUCCESS);
    };
    interrupt::watch()?;
    let mut earlier: Option<(Report, Instant)> = None;
    while !interrupt::requested() {
        let report = Report::parse(&monitor::ask(&mut *channel, &question)?);
        let asked = Instant::now();
        let before = earlier.as_ref().map(|(report, then)| {
            let passed = asked.saturating_duration_since(*then);
            (report, passed.as_secs_f64())
        });
        show(arguments, &report, before);
        earlier = Some((report, asked));
        wait(Duration::from_secs(seconds));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever closed our output does not want it.
fn show(arguments: &InspectArguments, report: &Report, earlier: Option<(&Report, f64)>) {
    if arguments.json {
        let mut object = report.json();
        object["name"] = json!(arguments.name);
        json::line(&object);
        return;
    }
    // Home, and nothing below: the next report stands where this one does.
    let clear = match arguments.watch {
        Some(_) => "\x1b[H\x1b[2J",
        None => "",
    };
    let _ = write!(stdout(), "{clear}{}", report.text(earlier));
    let _ = stdout().flush();
}

fn wait(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until && !interrupt::requested() {
        sleep(Duration::from_millis(50));
    }
}
