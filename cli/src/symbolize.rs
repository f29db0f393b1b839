//! From addresses to functions and lines, with the ELF that kept its symbols.

use std::path::Path;

use addr2line::Loader;
use anyhow::{Result, anyhow};

use crate::console::FaultKind;

/// A function in a backtrace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Demangled name of the function.
    pub function: String,
    /// File, line and column, as far as known.
    pub source: Option<String>,
}

/// Finds names for addresses of one guest.
pub struct Symbolizer {
    loader: Loader,
}

impl Symbolizer {
    /// Opens the unstripped ELF of a guest.
    ///
    /// # Errors
    /// Where the file cannot be read or has no usable debug information.
    pub fn open(debug: &Path) -> Result<Self> {
        let loader = Loader::new(debug)
            .map_err(|error| anyhow!("no symbols from {}: {error}", debug.display()))?;
        Ok(Self { loader })
    }

    /// The functions at an address, innermost first: more than one where calls were inlined.
    /// Empty where the address belongs to no known code.
    pub fn locations(&self, address: u64) -> Vec<Location> {
        let mut found = Vec::new();
        // No code ends at the very last address, and addr2line overflows there; a crashed
        // guest may well print it.
        if address == u64::MAX {
            return found;
        }
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let function = frame
                    .function
                    .as_ref()
                    .and_then(|name| Some(name.demangle().ok()?.into_owned()));
                let source = frame.location.and_then(|location| {
                    let (file, line) = (location.file?, location.line?);
                    let column = location.column.unwrap_or(1);
                    Some(format!("{}:{line}:{column}", shortened(file)))
                });
                let Some(function) = function.or_else(|| self.symbol(address)) else {
                    continue;
                };
                found.push(Location {
                    function: without_hash(&function),
                    source,
                });
            }
        }
        if found.is_empty() {
            let function = self.symbol(address).map(|name| without_hash(&name));
            found.extend(function.map(|function| Location {
                function,
                source: None,
            }));
        }
        found
    }

    fn symbol(&self, address: u64) -> Option<String> {
        let name = self.loader.find_symbol(address)?;
        Some(addr2line::demangle_auto(name.into(), None).into_owned())
    }

    /// The functions of a frame, of which `number` is the place in the backtrace of a fault.
    pub fn frame(&self, kind: FaultKind, number: usize, address: u64) -> Vec<Location> {
        self.locations(probe(kind, number, address))
    }

    /// The backtrace as text, in the order given: one entry per frame, but a recursion's
    /// equal frames are told once.
    pub fn backtrace(&self, kind: FaultKind, addresses: &[u64]) -> Vec<String> {
        let mut entries = Vec::new();
        let mut number = 0;
        for run in addresses.chunk_by(|one, next| one == next) {
            let address = run[0];
            let locations = self.frame(kind, number, address);
            entries.push(frame_text(number, address, &locations));
            if run.len() > 1 {
                entries.push(format!("      and {} times more", run.len() - 1));
            }
            number += run.len();
        }
        entries
    }
}

/// Where to look for a frame: a return address lies behind its call, possibly in another
/// line or even another function; only the first frame of an exception is the spot itself.
fn probe(kind: FaultKind, number: usize, address: u64) -> u64 {
    match (kind, number) {
        (FaultKind::Exception, 0) => address,
        _ => address.saturating_sub(1),
    }
}

fn frame_text(number: usize, address: u64, locations: &[Location]) -> String {
    let mut text = format!("{number:>4}: ");
    if locations.is_empty() {
        text.push_str(&format!("{address:#x} (no symbol)"));
    }
    for (depth, location) in locations.iter().enumerate() {
        if depth > 0 {
            text.push_str("\n      ");
        }
        text.push_str(&location.function);
        if let Some(source) = &location.source {
            text.push_str(&format!("\n             at {source}"));
        }
    }
    text
}

/// A file of this folder without the folder's path, one of Rust itself without the hash
/// of its commit.
fn shortened(file: &str) -> String {
    if let Some((_, library)) = file
        .strip_prefix("/rustc/")
        .and_then(|rest| rest.split_once('/'))
    {
        return format!("rust/{library}");
    }
    let folder = std::env::current_dir().unwrap_or_default();
    let relative = Path::new(file).strip_prefix(&folder);
    relative.map_or_else(|_| file.to_owned(), |path| path.display().to_string())
}

/// Names of the old mangling end in a hash, which tells people nothing: `f::h0123456789abcdef`.
fn without_hash(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((path, hash))
            if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            path.to_owned()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_dropped_and_names_kept() {
        assert_eq!(without_hash("http::main::h0123456789abcdef"), "http::main");
        assert_eq!(without_hash("http::html"), "http::html");
        assert_eq!(without_hash("a::h0123"), "a::h0123");
    }

    #[test]
    fn a_return_address_is_looked_up_before_itself() {
        assert_eq!(probe(FaultKind::Panic, 0, 0x1000), 0xfff);
        assert_eq!(probe(FaultKind::Exception, 0, 0x1000), 0x1000);
        assert_eq!(probe(FaultKind::Exception, 1, 0x1000), 0xfff);
    }

    #[test]
    fn paths_are_as_short_as_they_can_be() {
        let folder = std::env::current_dir().unwrap();
        assert_eq!(
            shortened(&folder.join("src/a.rs").to_string_lossy()),
            "src/a.rs"
        );
        assert_eq!(
            shortened("/rustc/0123abc/library/core/src/panicking.rs"),
            "rust/library/core/src/panicking.rs"
        );
        assert_eq!(shortened("/elsewhere/a.rs"), "/elsewhere/a.rs");
    }

    #[test]
    fn inlined_calls_share_a_frame() {
        let location = |function: &str, source: Option<&str>| Location {
            function: function.to_owned(),
            source: source.map(str::to_owned),
        };
        let text = frame_text(
            3,
            0x1000,
            &[location("inner", Some("a.rs:1:2")), location("outer", None)],
        );
        assert_eq!(text, "   3: inner\n             at a.rs:1:2\n      outer");
        assert_eq!(frame_text(0, 0x10, &[]), "   0: 0x10 (no symbol)");
    }

    /// The test program itself is an ELF with symbols.
    #[test]
    fn a_real_program_is_symbolised() {
        let own = std::env::current_exe().unwrap();
        let symbolizer = Symbolizer::open(&own).unwrap();
        let file = std::fs::read(&own).unwrap();
        let entry = u64::from_le_bytes(file[0x18..0x20].try_into().unwrap());
        assert_eq!(symbolizer.locations(entry)[0].function, "_start");
        assert!(symbolizer.locations(u64::MAX).is_empty());
        let recursion = symbolizer.backtrace(FaultKind::Exception, &[entry, entry, entry]);
        assert_eq!(recursion.len(), 2, "{recursion:?}");
        assert!(recursion[1].contains("2 times more"), "{recursion:?}");
    }
}
