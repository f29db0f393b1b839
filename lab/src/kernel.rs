//! The kernel inside a bzImage.
//!
//! Xen can start dom0 from a bzImage, but then unpacks it itself: under software
//! emulation that takes four seconds of every boot. Unpacked once on the host, it
//! takes none.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::{command::find, elf::is_elf};

/// The ELF kernel of a bzImage; none if this form of compression is not known
/// here or its program is not installed. The bzImage does then.
pub(crate) fn unpacked(image: &[u8]) -> Option<Vec<u8>> {
    let payload = payload(image)?;
    let arguments = decompressor(payload)?;
    let program = find(arguments[0])?;
    let mut child = Command::new(program)
        .args(&arguments[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut input = child.stdin.take()?;
    let output = std::thread::scope(|scope| {
        // A decompressor stops reading where its stream ends; the payload goes on
        // with the unpacked size, so a broken pipe is no failure.
        scope.spawn(move || input.write_all(payload));
        child.wait_with_output()
    })
    .ok()?;
    is_elf(&output.stdout).then_some(output.stdout)
}

/// The compressed kernel, by the boot protocol's header
/// (the kernel's Documentation/arch/x86/boot.rst: fields from offset 0x1f1 on).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |offset: usize| {
        let bytes = image.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let setup_sectors = match *image.get(0x1f1)? {
        0 => 4,
        count => usize::from(count),
    };
    let start = ((setup_sectors + 1) * 512).checked_add(word(0x248)?)?;
    image.get(start..start.checked_add(word(0x24c)?)?)
}

fn decompressor(payload: &[u8]) -> Option<&'static [&'static str]> {
    let known: [(&[u8], &'static [&'static str]); 4] = [
        (b"\xfd7zXZ\0", &["xz", "-dc", "--single-stream"]),
        (b"\x28\xb5\x2f\xfd", &["zstd", "-dc"]),
        (b"\x1f\x8b", &["gzip", "-dc"]),
        (b"\x02\x21\x4c\x18", &["lz4", "-dc"]),
    ];
    known
        .into_iter()
        .find(|(magic, _)| payload.starts_with(magic))
        .map(|(_, arguments)| arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x600];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&0x10_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.truncate(0x400 + 0x10);
        image.extend_from_slice(payload);
        image.extend_from_slice(b"tail");
        image
    }

    #[test]
    fn the_payload_is_found() {
        assert_eq!(payload(&image(b"abc")), Some(&b"abc"[..]));
    }

    #[test]
    fn what_is_no_bzimage_or_is_cut_short_has_no_payload() {
        assert_eq!(payload(b"MZ"), None);
        assert_eq!(payload(&[0; 4096]), None);
        let whole = image(b"abc");
        assert_eq!(payload(&whole[..whole.len() - 5]), None);
    }

    #[test]
    fn a_gzipped_kernel_with_its_size_behind_it_is_unpacked() {
        let mut child = Command::new("gzip")
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"\x7fELF and so on")
            .unwrap();
        let mut packed = child.wait_with_output().unwrap().stdout;
        packed.extend_from_slice(&14_u32.to_le_bytes());
        assert_eq!(unpacked(&image(&packed)).unwrap(), b"\x7fELF and so on");
        assert_eq!(unpacked(&image(b"\x1f\x8bnonsense")), None);
        assert_eq!(unpacked(&image(b"unknown")), None);
    }
}
