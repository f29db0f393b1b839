//! tar archives, the same bytes each time.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

/// An archive that is being written. Files have no owner and no time.
pub(super) struct Archive<W: Write>(Builder<W>);

impl<W: Write> Archive<W> {
    pub(super) fn new(into: W) -> Self {
        Self(Builder::new(into))
    }

    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut header = header(EntryType::Regular, content.len() as u64);
        self.0.append_data(&mut header, path, content)
    }

    /// Another name for the file `target` of the archive.
    pub(super) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = header(EntryType::Link, 0);
        self.0.append_link(&mut header, path, target)
    }

    /// Ends the archive; returns what it was written into.
    pub(super) fn finish(self) -> io::Result<W> {
        self.0.into_inner()
    }
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
