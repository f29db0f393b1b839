//! `cargo rekernel symbolize`: a console log in, the same with functions and lines out.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::console::{Event, FaultKind, LineSplitter, understand};
use crate::package;
use crate::progress::warning;
use crate::symbolize::Symbolizer;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo rekernel symbolize < console.log
  cargo rekernel symbolize -p http console.log
  ssh dom0 xl dmesg | cargo rekernel symbolize
  ssh dom0 cat /var/log/xen/console/guest-http.log | cargo rekernel symbolize http.debug -

Names come from the guest's twin with symbols, NAME.debug, of the very build that crashed. What stands
in front of the guest's lines, such as `(XEN) [time] (d3)`, does no harm.";

/// Which guest, which log.
#[derive(Args, Clone, Debug)]
pub struct SymbolizeArguments {
    /// The log, or `-` for standard input (the default); an ELF among the files gives the symbols
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Package whose twin gives the symbols; may be left out where the manifest names just one guest
    #[arg(short, long, value_name = "NAME")]
    pub package: Option<String>,

    /// Path to the Cargo.toml of the package or its workspace
    #[arg(long, value_name = "PATH")]
    pub manifest_path: Option<PathBuf>,
}

/// Prints the logs with a function below each address.
///
/// # Errors
/// Where a file cannot be read, or there are no symbols.
pub fn command(arguments: &SymbolizeArguments) -> Result<()> {
    let (mut elves, mut logs) = (Vec::new(), Vec::new());
    for file in &arguments.files {
        match file != Path::new("-") && is_elf(file)? {
            true => elves.push(file.clone()),
            false => logs.push(file.clone()),
        }
    }
    let elf = match elves.as_slice() {
        [] => twin_of_package(arguments)?,
        [elf] => elf.clone(),
        [first, second, ..] => bail!(
            "{} and {} are both ELF files: name the one that crashed",
            first.display(),
            second.display()
        ),
    };
    let debug = with_symbols(&elf);
    let mut annotator = Annotator::new(Symbolizer::open(&debug)?);
    if logs.is_empty() {
        logs.push(PathBuf::from("-"));
    }
    for log in logs {
        let opened: Box<dyn Read> = match log == Path::new("-") {
            true => Box::new(stdin().lock()),
            false => Box::new(File::open(&log).with_context(|| unreadable(&log))?),
        };
        annotate(BufReader::new(opened), &mut annotator).with_context(|| unreadable(&log))?;
    }
    annotator.complain(&debug);
    Ok(())
}

fn unreadable(file: &Path) -> String {
    format!("{} cannot be read", file.display())
}

fn is_elf(file: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let opened = File::open(file).with_context(|| unreadable(file))?;
    opened
        .take(4)
        .read_to_end(&mut start)
        .with_context(|| unreadable(file))?;
    Ok(start == b"\x7fELF")
}

/// The twin that `cargo rekernel build` has left.
fn twin_of_package(arguments: &SymbolizeArguments) -> Result<PathBuf> {
    let package = package::find(
        arguments.package.as_deref(),
        arguments.manifest_path.as_deref(),
    )
    .context("no ELF is named, and no package is found to take it from")?;
    let elf = package
        .target_directory
        .join("rekernel")
        .join(&package.name);
    let debug = with_symbols(&elf);
    ensure!(
        debug.is_file(),
        "`{}` has not been built: there is no {}. Another build than the one that crashed would name wrong \
         functions: name the twin of that one",
        package.name,
        debug.display()
    );
    Ok(debug)
}

/// The twin of a stripped guest where it lies beside it, else the file itself.
fn with_symbols(elf: &Path) -> PathBuf {
    let mut name = elf.as_os_str().to_owned();
    name.push(".debug");
    let twin = PathBuf::from(name);
    if twin.is_file() { twin } else { elf.to_owned() }
}

fn annotate(mut log: impl BufRead, annotator: &mut Annotator) -> Result<()> {
    let mut output = stdout().lock();
    let mut splitter = LineSplitter::default();
    let mut lines = Vec::new();
    loop {
        let bytes = log.fill_buf()?;
        let count = bytes.len();
        splitter.push(bytes, |line| lines.push(line));
        log.consume(count);
        if count == 0 {
            lines.extend(splitter.finish());
        }
        for line in lines.drain(..) {
            let mut text = line.clone();
            for more in annotator.line(&line) {
                text = text + "\n" + &more;
            }
            // Whoever closed our output, as `head` does, has seen enough.
            if writeln!(output, "{text}").is_err() {
                return Ok(());
            }
        }
        if count == 0 {
            return Ok(());
        }
    }
}

/// Follows a log and knows what to add to each line.
struct Annotator {
    symbolizer: Symbolizer,
    kind: FaultKind,
    /// Number of the next frame in the backtrace.
    frame: usize,
    frames: usize,
    named: usize,
}

impl Annotator {
    fn new(symbolizer: Symbolizer) -> Self {
        Self {
            symbolizer,
            kind: FaultKind::Panic,
            frame: 0,
            frames: 0,
            named: 0,
        }
    }

    /// Takes a line and returns those that belong below it.
    fn line(&mut self, line: &str) -> Vec<String> {
        let own = own_words(line);
        match understand(own) {
            Some(Event::Fault(fault)) => {
                self.kind = fault.kind;
                self.frame = 0;
                Vec::new()
            }
            Some(Event::Frame(address)) => {
                let indent = " ".repeat(line.len() - own.len() + 4);
                let locations = self.symbolizer.frame(self.kind, self.frame, address);
                self.frame += 1;
                self.frames += 1;
                self.named += usize::from(!locations.is_empty());
                let text = |location: crate::symbolize::Location| match location.source {
                    Some(source) => format!("{indent}{} at {source}", location.function),
                    None => format!("{indent}{}", location.function),
                };
                locations.into_iter().map(text).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Says what a reader of a log without names should know.
    fn complain(&self, debug: &Path) {
        if self.frames == 0 {
            warning("the log has no backtrace: no line with ` #0 0x…`");
        } else if self.named == 0 {
            warning(&format!(
                "{} has no name for any of the {} addresses: is it the unstripped twin of the guest that crashed?",
                debug.display(),
                self.frames
            ));
        }
    }
}

/// A line from where the guest's own words begin, without what Xen, `xl` or a journal put in front.
fn own_words(line: &str) -> &str {
    let begins = |start: &&str| {
        ["rekernel: ", "pvh-boot: "]
            .iter()
            .any(|word| start.starts_with(word))
            || matches!(understand(start), Some(Event::Frame(_)))
    };
    let after_blanks = line.match_indices(' ').map(|(place, _)| &line[place + 1..]);
    std::iter::once(line)
        .chain(after_blanks)
        .find(begins)
        .unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_xen_and_journals_are_passed_over() {
        for (line, own) in [
            (
                "rekernel: panic at a.rs:1:1: x",
                "rekernel: panic at a.rs:1:1: x",
            ),
            (
                "(XEN) [2026-01-02 03:04:05] (d3) rekernel: crash",
                "rekernel: crash",
            ),
            (
                "(d12) pvh-boot: cannot start: x",
                "pvh-boot: cannot start: x",
            ),
            ("(XEN) (d3)  #0 0x1000", " #0 0x1000"),
            (" #12 0xab", " #12 0xab"),
            ("Jan 02 host xl[7]:  #1 0x1000", " #1 0x1000"),
            ("issue #7 is open", "issue #7 is open"),
            ("", ""),
        ] {
            assert_eq!(own_words(line), own);
        }
    }

    /// The test program is an ELF with symbols; its entry serves as an address of a crash.
    #[test]
    fn names_stand_below_the_addresses() {
        let own = std::env::current_exe().unwrap();
        let file = std::fs::read(&own).unwrap();
        let entry = u64::from_le_bytes(file[0x18..0x20].try_into().unwrap());
        let mut annotator = Annotator::new(Symbolizer::open(&own).unwrap());
        assert!(
            annotator
                .line("(d1) rekernel: exception page fault at 0x0: read")
                .is_empty()
        );
        let names = annotator.line(&format!("(d1)  #0 {entry:#x}"));
        assert!(names[0].trim_start().starts_with("_start"), "{names:?}");
        // The second of an exception is a return address: what lies before the entry is another.
        let names = annotator.line(&format!("(d1)  #1 {entry:#x}"));
        assert!(
            names.iter().all(|name| !name.contains("_start")),
            "{names:?}"
        );
        assert!(annotator.line("(d1)  #2 0xffffffffffffffff").is_empty());
        assert_eq!((annotator.frames, annotator.frame), (3, 3));
        annotator.line("rekernel: panic at a.rs:1:1: x");
        assert_eq!(annotator.frame, 0);
    }

    #[test]
    fn an_elf_is_told_from_a_log() {
        assert!(is_elf(&std::env::current_exe().unwrap()).unwrap());
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(!is_elf(&manifest).unwrap());
        assert!(is_elf(Path::new("/nonexistent")).is_err());
        assert_eq!(with_symbols(&manifest), manifest);
    }
}
