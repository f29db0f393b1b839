//! What a guest prints: split into lines, made safe for a terminal, and understood.
//!
//! The lines that mean something to tools are a protocol between the runtime and us:
//! `rekernel: ready <where> after <n> ms`; `rekernel: panic at …`, `rekernel: exception …`
//! or `rekernel: main returned an error: …`, perhaps remarks, then `rekernel: backtrace`
//! with one ` #<n> 0x<address>` per frame; at the very end `rekernel: poweroff` or
//! `rekernel: crash`. A guest built for tests says `rekernel: test <n> …`. One that cannot start at all
//! says `pvh-boot: cannot start: …`. They start at the line's first character, which log lines never do
//! (those start with their time), so an application cannot be mistaken for the runtime.

use std::time::Duration;

/// Cuts a byte stream into lines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
}

/// A line longer than this many bytes is cut: a guest gone wild must not fill the host's memory.
const LONGEST_LINE: usize = 4096;

impl LineSplitter {
    /// Takes the next bytes and hands each line that is now complete to `line`.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for &byte in bytes {
            if byte == b'\n' || self.partial.len() >= LONGEST_LINE {
                line(printable(&self.partial));
                self.partial.clear();
            }
            if byte != b'\n' {
                self.partial.push(byte);
            }
        }
    }

    /// The last line, where the stream ended without a line feed.
    pub fn finish(&mut self) -> Option<String> {
        (!self.partial.is_empty()).then(|| printable(&std::mem::take(&mut self.partial)))
    }
}

/// Text that is safe to print: a guest may repeat what strangers sent it, and escape
/// sequences from there must not reach the user's terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut safe = String::with_capacity(text.len());
    for character in text.trim_end_matches('\r').chars() {
        match character {
            '\t' => safe.push('\t'),
            control if control.is_control() => safe.extend(control.escape_default()),
            other => safe.push(other),
        }
    }
    safe
}

/// What a line of the console says about the guest's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The application serves, at the place it names.
    Ready {
        /// Where, in the application's words; mostly a URL.
        place: String,
        /// Time since the guest's entry, by the guest's own clock.
        after: Option<Duration>,
    },
    /// The guest panicked or met a CPU exception.
    Fault(Fault),
    /// A guest that was built for tests says something of one, by its number.
    Test(usize, TestEvent),
    /// Something else the runtime says, such as the state of the heap in a crash report.
    Remark(String),
    /// One return address of the backtrace.
    Frame(u64),
    /// The guest is about to power itself off.
    PowerOff,
    /// The guest is about to report a crash to its host.
    Crash,
}

/// What a guest says of one of its tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestEvent {
    /// It has this name.
    Named(String),
    /// It runs from here on.
    Begins,
    /// It passed.
    Passed,
    /// It returned this error.
    Failed(String),
}

/// The message of a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether it was a panic or an exception.
    pub kind: FaultKind,
    /// The whole message, from `panic at` or `exception` on.
    pub message: String,
}

/// Why a guest crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Rust code panicked: every frame is a return address.
    Panic,
    /// The CPU raised an exception: the first frame is the faulting instruction itself.
    Exception,
    /// The guest could not start, or the application's main function returned an error.
    Error,
}

/// Understands one line; most lines are the application's own and mean nothing to us.
pub fn understand(line: &str) -> Option<Event> {
    if let Some(frame) = frame(line) {
        return Some(Event::Frame(frame));
    }
    if let Some(text) = line.strip_prefix("pvh-boot: ") {
        // The boot code speaks only to say why it cannot go on.
        return Some(fault(FaultKind::Error, text));
    }
    let text = line.strip_prefix("rekernel: ")?.trim_end();
    Some(match text {
        "poweroff" => Event::PowerOff,
        "crash" => Event::Crash,
        "backtrace" => return None,
        _ if text.starts_with("panic") => fault(FaultKind::Panic, text),
        _ if text.starts_with("exception ") => fault(FaultKind::Exception, text),
        _ if text.starts_with("main returned an error") => fault(FaultKind::Error, text),
        _ => match (text.strip_prefix("ready "), test(text)) {
            (Some(rest), _) => ready(rest),
            (None, Some(event)) => event,
            (None, None) => Event::Remark(text.to_owned()),
        },
    })
}

/// `test 3 begins`, `test 3 failed: why` and so on.
fn test(text: &str) -> Option<Event> {
    let (number, what) = text.strip_prefix("test ")?.split_once(' ')?;
    let event = match what {
        "begins" => TestEvent::Begins,
        "ok" => TestEvent::Passed,
        _ => match (what.strip_prefix("is "), what.strip_prefix("failed: ")) {
            (Some(name), _) => TestEvent::Named(name.to_owned()),
            (None, Some(error)) => TestEvent::Failed(error.to_owned()),
            (None, None) => return None,
        },
    };
    Some(Event::Test(number.parse().ok()?, event))
}

fn fault(kind: FaultKind, text: &str) -> Event {
    let message = text.trim_end().to_owned();
    Event::Fault(Fault { kind, message })
}

/// ` #3 0x10a2b4`, perhaps with more behind it.
fn frame(line: &str) -> Option<u64> {
    let (number, rest) = line.trim_start().strip_prefix('#')?.split_once(' ')?;
    number.parse::<u32>().ok()?;
    let digits = rest.trim_start().strip_prefix("0x")?;
    let end = digits
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], 16).ok()
}

fn ready(text: &str) -> Event {
    let parsed = text.rsplit_once(" after ").and_then(|(place, time)| {
        let milliseconds: f64 = time.strip_suffix(" ms")?.trim().parse().ok()?;
        let after = Duration::try_from_secs_f64(milliseconds / 1000.0).ok()?;
        Some((place, after))
    });
    match parsed {
        Some((place, after)) => Event::Ready {
            place: place.to_owned(),
            after: Some(after),
        },
        None => Event::Ready {
            place: text.to_owned(),
            after: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, |line| lines.push(line));
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn lines_survive_any_split_of_the_stream() {
        assert_eq!(
            lines_of(&[b"on", b"e\r\ntw", b"o\n", b"\nend"]),
            ["one", "two", "", "end"]
        );
    }

    #[test]
    fn an_endless_line_is_cut() {
        let lines = lines_of(&[&[b'x'; 3 * LONGEST_LINE]]);
        assert_eq!(
            lines.iter().map(String::len).collect::<Vec<_>>(),
            [LONGEST_LINE; 3]
        );
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(lines_of(&[b"a\x1b[2Jb\x07\n"]), ["a\\u{1b}[2Jb\\u{7}"]);
        assert_eq!(lines_of(&[b"caf\xc3\xa9 \xff\n"]), ["caf\u{e9} \u{fffd}"]);
    }

    #[test]
    fn the_ready_line_names_place_and_time() {
        let ready = |place: &str, after| {
            Some(Event::Ready {
                place: place.to_owned(),
                after,
            })
        };
        let after = Some(Duration::from_millis(41));
        assert_eq!(
            understand("rekernel: ready http://10.0.2.15:80/ after 41 ms"),
            ready("http://10.0.2.15:80/", after)
        );
        let logged = "[   0.041000] INFO  rekernel: ready day after day after 41 ms";
        assert_eq!(understand(logged), None, "an application logged this");
        assert_eq!(
            understand("rekernel: ready day after day after 41 ms"),
            ready("day after day", after)
        );
        assert_eq!(understand("rekernel: ready soon"), ready("soon", None));
    }

    #[test]
    fn what_is_said_of_tests_is_understood() {
        let test = |text| match understand(text) {
            Some(Event::Test(number, event)) => Some((number, event)),
            _ => None,
        };
        let named = TestEvent::Named("tests::serves".to_owned());
        assert_eq!(test("rekernel: test 0 is tests::serves"), Some((0, named)));
        assert_eq!(
            test("rekernel: test 12 begins"),
            Some((12, TestEvent::Begins))
        );
        assert_eq!(test("rekernel: test 12 ok"), Some((12, TestEvent::Passed)));
        let failed = TestEvent::Failed("no: such luck".to_owned());
        assert_eq!(
            test("rekernel: test 3 failed: no: such luck"),
            Some((3, failed))
        );
        assert_eq!(test("rekernel: test x ok"), None);
        assert_eq!(test("rekernel: test 3 vanished"), None);
        assert_eq!(test("[   0.041000] INFO  rekernel: test 3 ok"), None);
    }

    #[test]
    fn crash_lines_are_understood() {
        let panic = Fault {
            kind: FaultKind::Panic,
            message: "panic at src/main.rs:3:5: boom".to_owned(),
        };
        assert_eq!(
            understand("rekernel: panic at src/main.rs:3:5: boom"),
            Some(Event::Fault(panic))
        );
        let Some(Event::Fault(fault)) =
            understand("rekernel: exception page fault at 0x1000: read of 0x0")
        else {
            panic!("exception not understood");
        };
        assert_eq!(fault.kind, FaultKind::Exception);
        assert_eq!(understand(" #0 0x100a2b"), Some(Event::Frame(0x10_0a2b)));
        assert_eq!(understand(" #12 0xffff_"), Some(Event::Frame(0xffff)));
        assert_eq!(understand(" # 0x1"), None);
        assert_eq!(understand("#1 apples"), None);
        assert_eq!(understand("rekernel: poweroff"), Some(Event::PowerOff));
        assert_eq!(understand("rekernel: crash"), Some(Event::Crash));
        assert_eq!(understand("GET / HTTP/1.1"), None);
        assert_eq!(understand("rekernel: backtrace"), None);
        let refused = understand("pvh-boot: cannot start: memory map absent");
        assert!(matches!(refused, Some(Event::Fault(_))));
        let remark = Event::Remark("heap: 3 KiB free".to_owned());
        assert_eq!(understand("rekernel: heap: 3 KiB free"), Some(remark));
    }
}
