//! Watching a guest that `run` booted: its console is shown, and its end is told.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::build::Guest;
use crate::console::{Event, understand};
use crate::crash::CrashReport;
use crate::json;
use crate::ports::Forward;
use crate::progress::{self, Took, status};

/// Shows the console of a running guest and collects what it says about itself.
pub(crate) struct Watcher<'a> {
    guest: &'a Guest,
    forwards: &'a [Forward],
    report: CrashReport,
    last_word: Option<(Event, Duration)>,
    /// Whether a script reads what we print.
    json: bool,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(guest: &'a Guest, forwards: &'a [Forward], json: bool) -> Self {
        Self {
            json,
            guest,
            forwards,
            report: CrashReport::default(),
            last_word: None,
        }
    }

    /// Takes a line of the console, printed `after` the start of the boot.
    pub(crate) fn line(&mut self, text: &str, after: Duration) {
        match self.json {
            true => json::event(
                "console",
                json!({ "line": text, "after_ms": milliseconds(after) }),
            ),
            // Whoever closed our output does not want it; the guest goes on.
            false => drop(writeln!(stdout(), "{text}")),
        }
        let Some(event) = understand(text) else {
            self.report.note_text(text);
            return;
        };
        if let Event::Ready { place, after: own } = &event {
            let own = own
                .map(|own| format!(", {} after its entry", Took(own)))
                .unwrap_or_default();
            let place = reach(place, self.forwards);
            if self.json {
                let ready = json!({ "place": place, "after_ms": milliseconds(after) });
                json::event("ready", ready);
            }
            status(
                "Ready",
                &format!(
                    "{place}, {} after the start{own}; Ctrl-C ends it",
                    Took(after)
                ),
            );
        }
        self.report.note(&event);
        if matches!(event, Event::PowerOff | Event::Crash) {
            self.last_word = Some((event, after));
        }
    }

    /// How the guest said it would end, and when.
    pub(crate) fn last_word(&self) -> Option<(Event, Duration)> {
        self.last_word.clone()
    }

    pub(crate) fn interrupted(&self, after: Duration) -> ExitCode {
        self.tell_end("interrupted");
        status(
            "Ended",
            &format!(
                "{} after {}, as you asked",
                self.guest.package.name,
                Took(after)
            ),
        );
        ExitCode::SUCCESS
    }

    pub(crate) fn powered_off(&self, after: Duration) -> ExitCode {
        self.tell_end("power-off");
        status(
            "Ended",
            &format!(
                "{} powered itself off after {}",
                self.guest.package.name,
                Took(after)
            ),
        );
        ExitCode::SUCCESS
    }

    /// Reports a crash: the guest's message, else `otherwise`, then the backtrace.
    pub(crate) fn crashed(&self, otherwise: &str) -> ExitCode {
        let message = self.report.message();
        let message = message.as_deref().unwrap_or(otherwise);
        progress::error(&format!(
            "guest {} crashed: {message}",
            self.guest.package.name
        ));
        let backtrace = self.report.backtrace(&self.guest.debug);
        if self.json {
            json::event(
                "crash",
                json!({ "message": message, "backtrace": backtrace }),
            );
        }
        self.tell_end("crash");
        if !backtrace.is_empty() {
            eprintln!("backtrace:\n{backtrace}");
        }
        ExitCode::FAILURE
    }

    fn tell_end(&self, how: &str) {
        if self.json {
            json::event("end", json!({ "how": how }));
        }
    }
}

/// A duration as scripts read it.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How this machine reaches what the guest calls `place`: a URL keeps its scheme and path,
/// with the forwarded port for its authority.
fn reach(place: &str, forwards: &[Forward]) -> String {
    let url = place.split_once("://").and_then(|(scheme, rest)| {
        let (authority, path) = rest
            .split_once('/')
            .map_or((rest, String::new()), |(a, p)| (a, format!("/{p}")));
        let port = authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        let guest_port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
        let forward = forwards
            .iter()
            .find(|forward| forward.service.port == guest_port)?;
        Some(format!("{scheme}://127.0.0.1:{}{path}", forward.host_port))
    });
    url.unwrap_or_else(|| {
        let ports = forwards.iter().map(|forward| {
            format!(
                "{} 127.0.0.1:{}",
                forward.service.protocol.name(),
                forward.host_port
            )
        });
        std::iter::once(place.to_owned())
            .chain(ports)
            .collect::<Vec<_>>()
            .join(", ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{Protocol, Service};

    #[test]
    fn a_url_is_given_the_forwarded_port() {
        let service = Service {
            protocol: Protocol::Tcp,
            port: 80,
        };
        let forwards = [Forward {
            host_port: 8080,
            service,
        }];
        assert_eq!(
            reach("http://10.0.2.15:80/", &forwards),
            "http://127.0.0.1:8080/"
        );
        assert_eq!(
            reach("http://[fec0::1]/a/b", &forwards),
            "http://127.0.0.1:8080/a/b"
        );
        assert_eq!(
            reach("http://10.0.2.15:81/", &forwards),
            "http://10.0.2.15:81/, tcp 127.0.0.1:8080"
        );
        assert_eq!(reach("echo", &forwards), "echo, tcp 127.0.0.1:8080");
        assert_eq!(reach("echo", &[]), "echo");
    }
}
