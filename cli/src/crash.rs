//! The report of a crashed guest, collected while its console is read.

use std::path::Path;

use crate::console::{Event, Fault, FaultKind};
use crate::symbolize::Symbolizer;

/// What the console said about a crash so far.
#[derive(Clone, Debug, Default)]
pub struct CrashReport {
    fault: Option<Fault>,
    remarks: Vec<String>,
    frames: Vec<u64>,
}

/// More frames than this are of no use to a reader (a stack overflow has thousands).
const MOST_FRAMES: usize = 64;

/// What the runtime adds to a crash report is a handful of lines.
const MOST_REMARKS: usize = 16;

impl CrashReport {
    /// Takes note of a line's event.
    pub fn note(&mut self, event: &Event) {
        match event {
            // The first fault is the cause; what follows may be its consequence.
            Event::Fault(fault) if self.fault.is_none() => self.fault = Some(fault.clone()),
            Event::Frame(address) if self.fault.is_some() && self.frames.len() < MOST_FRAMES => {
                self.frames.push(*address);
            }
            Event::Remark(text) if self.fault.is_some() && self.remarks.len() < MOST_REMARKS => {
                self.remarks.push(text.clone());
            }
            _ => {}
        }
    }

    /// Takes note of a line that is no event: between the fault and its backtrace it is one more line of
    /// the message, as of `assert_eq!`.
    pub fn note_text(&mut self, line: &str) {
        let in_message = self.fault.is_some() && self.frames.is_empty();
        if in_message && !line.starts_with("rekernel: ") && self.remarks.len() < MOST_REMARKS {
            self.remarks.push(line.to_owned());
        }
    }

    /// The guest's own message and what it added to it, where it gave one.
    pub fn message(&self) -> Option<String> {
        let fault = self.fault.as_ref()?;
        let lines = std::iter::once(&fault.message).chain(&self.remarks);
        Some(lines.map(String::as_str).collect::<Vec<_>>().join("\n"))
    }

    /// The backtrace with functions and lines from the unstripped ELF, or with bare
    /// addresses and the reason where there are no symbols. Empty without frames.
    pub fn backtrace(&self, debug: &Path) -> String {
        if self.frames.is_empty() {
            return String::new();
        }
        let kind = self
            .fault
            .as_ref()
            .map_or(FaultKind::Panic, |fault| fault.kind);
        match Symbolizer::open(debug) {
            Ok(symbolizer) => symbolizer.backtrace(kind, &self.frames).join("\n"),
            Err(error) => {
                let addresses = self
                    .frames
                    .iter()
                    .enumerate()
                    .map(|(n, address)| format!("{n:>4}: {address:#x}"));
                format!("({error:#})\n{}", addresses.collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::understand;

    #[test]
    fn the_first_fault_and_its_frames_make_the_report() {
        let mut report = CrashReport::default();
        let console = [
            " #0 0xdead",
            "rekernel: version 0.1.0",
            "rekernel: panic at src/main.rs:3:5: boom",
            "  left: 3",
            "rekernel: heap: 3 KiB free",
            "rekernel: backtrace",
            " #0 0x100010",
            " #1 0x100020",
            "rekernel: panic at elsewhere:1:1: second",
            "rekernel: crash",
        ];
        for line in console {
            match understand(line) {
                Some(event) => report.note(&event),
                None => report.note_text(line),
            }
        }
        let message = "panic at src/main.rs:3:5: boom\n  left: 3\nheap: 3 KiB free";
        assert_eq!(report.message().as_deref(), Some(message));
        assert_eq!(report.frames, [0x10_0010, 0x10_0020]);
        let trace = report.backtrace(Path::new("/nonexistent.debug"));
        assert!(
            trace.contains("/nonexistent.debug") && trace.contains("   1: 0x100020"),
            "{trace}"
        );
    }

    #[test]
    fn no_crash_no_report() {
        let report = CrashReport::default();
        assert_eq!(report.message(), None);
        assert_eq!(report.backtrace(Path::new("/nonexistent.debug")), "");
    }
}
