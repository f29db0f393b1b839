//! The archive Linux unpacks as its first root: cpio in "newc" form
//! (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Written here rather than by cpio(1) so that no package, no temporary tree and
//! no root are needed for device nodes and ownership, and so that the same input
//! gives the same bytes.

use std::collections::BTreeMap;

/// A tree of files to be archived; parents come before children because paths
/// are sorted.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    Folder,
    File { executable: bool, content: Vec<u8> },
    Link { target: String },
    CharacterDevice { major: u32, minor: u32 },
}

impl Tree {
    pub(crate) fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return;
        }
        self.parents(path);
        self.entries.entry(path.into()).or_insert(Entry::Folder);
    }

    pub(crate) fn file(&mut self, path: &str, executable: bool, content: Vec<u8>) {
        self.insert(
            path,
            Entry::File {
                executable,
                content,
            },
        );
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.insert(
            path,
            Entry::Link {
                target: target.into(),
            },
        );
    }

    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.insert(path, Entry::CharacterDevice { major, minor });
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_matches('/'))
    }

    /// The archive, all owned by root.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        for (inode, (path, entry)) in (1..).zip(&self.entries) {
            entry.append(&mut archive, inode, path);
        }
        let trailer = Header::default();
        trailer.append(&mut archive, "TRAILER!!!", &[]);
        archive
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        self.parents(path);
        self.entries.insert(path.into(), entry);
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
    }
}

impl Entry {
    fn append(&self, archive: &mut Vec<u8>, inode: u32, path: &str) {
        let header = |mode| Header {
            inode,
            mode,
            links: 1,
            ..Header::default()
        };
        // Types as in stat(2).
        match self {
            Self::Folder => header(0o040_755).append(archive, path, &[]),
            Self::File {
                executable,
                content,
            } => header(if *executable { 0o100_755 } else { 0o100_644 })
                .append(archive, path, content),
            Self::Link { target } => header(0o120_777).append(archive, path, target.as_bytes()),
            Self::CharacterDevice { major, minor } => Header {
                device: (*major, *minor),
                ..header(0o020_600)
            }
            .append(archive, path, &[]),
        }
    }
}

#[derive(Default)]
struct Header {
    inode: u32,
    mode: u32,
    links: u32,
    device: (u32, u32),
}

impl Header {
    /// Panics if the content exceeds 4 GiB, which this format cannot hold.
    fn append(&self, archive: &mut Vec<u8>, path: &str, content: &[u8]) {
        let size = u32::try_from(content.len()).expect("a file of 4 GiB or more in the archive");
        let name_size = u32::try_from(path.len() + 1).expect("a path of 4 GiB");
        let (user, group, modified) = (0, 0, 0);
        archive.extend_from_slice(b"070701");
        for field in [
            self.inode,
            self.mode,
            user,
            group,
            self.links,
            modified,
            size,
            0, // the device the file is on: unused
            0,
            self.device.0,
            self.device.1,
            name_size,
            0, // checksum: unused in this form
        ] {
            archive.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        archive.extend_from_slice(path.as_bytes());
        archive.push(0);
        pad(archive);
        archive.extend_from_slice(content);
        pad(archive);
    }
}

/// Names and contents end on multiples of four bytes.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_laid_out_as_the_format_says() {
        let mut tree = Tree::default();
        tree.file("a", true, b"hello".to_vec());
        let archive = tree.archive();
        let expected = concat!(
            "070701",
            "00000001",
            "000081ED",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000005",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000002",
            "00000000",
            "a\0",
            "hello\0\0\0",
            "070701",
        );
        assert_eq!(
            String::from_utf8_lossy(&archive[..expected.len()]),
            expected
        );
        assert!(archive.len().is_multiple_of(4));
    }

    #[test]
    fn parents_are_made_and_come_first() {
        let mut tree = Tree::default();
        tree.file("/x/y/z", false, vec![]);
        tree.folder("/x");
        tree.link("x/l", "y/z");
        tree.character_device("dev/console", 5, 1);
        let paths: Vec<&str> = tree.entries.keys().map(String::as_str).collect();
        assert_eq!(paths, ["dev", "dev/console", "x", "x/l", "x/y", "x/y/z"]);
        assert!(tree.contains("/x/y"));
    }

    /// cpio(1), where installed, is the authority.
    #[test]
    fn cpio_reads_it_back() {
        use std::{io::Write, process::*};
        if crate::command::find("cpio").is_none() {
            eprintln!("skipped: cpio is not installed");
            return;
        }
        let mut tree = Tree::default();
        tree.file("d/one", true, vec![7; 1001]);
        tree.link("d/two", "one");
        let mut child = Command::new("cpio")
            .args(["-tv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&tree.archive()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        let lines: Vec<&str> = listing.lines().collect();
        assert_eq!(lines.len(), 3, "{listing}");
        assert!(lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with(" d"));
        assert!(lines[1].starts_with("-rwxr-xr-x") && lines[1].contains(" 1001 "));
        assert!(lines[2].ends_with("d/two -> one"));
    }
}
