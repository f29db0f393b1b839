//! An archive that XenServer and XCP-ng import (`xe vm-import`): a description of the guest and its
//! disk in blocks of 1 MiB, each followed by its SHA-1. Blocks of zeros are left out, but for the
//! first and the last.
//!
//! Sources: `ocaml/xapi/stream_vdi.ml` and `import.ml` of xapi-project/xen-api.

mod description;

use std::io::{self, Write};

use sha1::{Digest, Sha1};

use super::Content;
use super::archive::Archive;
use super::disk::Disk;

const BLOCK: u64 = 1 << 20;

/// Writes the archive.
pub(super) fn write(content: &Content, disk: &Disk, into: impl Write) -> io::Result<()> {
    let mut archive = Archive::new(into);
    let description = description::text(content, disk);
    archive.file("ova.xml", description.as_bytes())?;
    let count = disk.size() / BLOCK;
    for number in 0..count {
        let block = disk.mebibyte(number);
        let is_needed = number == 0 || number == count - 1 || block.iter().any(|&byte| byte != 0);
        if is_needed {
            let path = format!("{}/{number:08}", description::DISK);
            archive.file(&path, &block)?;
            archive.file(&format!("{path}.checksum"), checksum(&block).as_bytes())?;
        }
    }
    archive.finish()?.flush()
}

fn checksum(block: &[u8]) -> String {
    lab::hexadecimal(&Sha1::digest(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_sha1() {
        // FIPS 180-2, appendix A.1.
        assert_eq!(checksum(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
