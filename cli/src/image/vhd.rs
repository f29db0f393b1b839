//! The end of a virtual hard disk of fixed size.
//!
//! Source: Microsoft's Virtual Hard Disk Image Format Specification, version 1.0, "Hard Disk Footer
//! Format". Such a file is the disk's bytes and then this footer. Fields are big-endian.

/// Bytes of a footer.
pub(super) const SIZE: usize = 512;

const CHECKSUM: usize = 64;

/// The footer of a disk of `size` bytes.
pub(super) fn footer(size: u64, identity: u32) -> [u8; SIZE] {
    let mut footer = [0; SIZE];
    let mut put = |offset: usize, bytes: &[u8]| {
        footer[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"conectix");
    put(8, &2_u32.to_be_bytes()); // features: the bit that is always set
    put(12, &0x0001_0000_u32.to_be_bytes()); // version of the format
    put(16, &u64::MAX.to_be_bytes()); // no further header
    // Bytes 24 to 27 are the time of creation: none, so that the same input gives the same bytes.
    put(28, b"rekl"); // creator
    put(32, &0x0001_0000_u32.to_be_bytes()); // and its version
    put(36, b"Wi2k"); // the creator's system: of the two there are, the one importers know
    put(40, &size.to_be_bytes()); // original size
    put(48, &size.to_be_bytes()); // current size
    put(56, &geometry(size));
    put(60, &2_u32.to_be_bytes()); // fixed
    put(68, b"rekernel-dsk");
    put(80, &identity.to_be_bytes()); // the rest of the unique number
    let sum = footer
        .iter()
        .fold(0_u32, |sum, &byte| sum.wrapping_add(u32::from(byte)));
    footer[CHECKSUM..CHECKSUM + 4].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

/// Cylinders (two bytes), heads, sectors per track, by the specification's appendix.
fn geometry(size: u64) -> [u8; 4] {
    const MOST: u64 = 65535 * 16 * 255;
    let sectors = (size / 512).min(MOST);
    let (heads, per_track) = if sectors >= 65535 * 16 * 63 {
        (16, 255)
    } else {
        // The first that leaves fewer than 1024 cylinders, and the last in any case.
        let heads = (sectors / 17).div_ceil(1024).max(4);
        [(heads, 17), (16, 31)]
            .into_iter()
            .find(|&(heads, per_track)| heads <= 16 && sectors / per_track < heads * 1024)
            .unwrap_or((16, 63))
    };
    let cylinders = sectors / per_track / heads;
    let [high, low] = u16::try_from(cylinders).unwrap_or(u16::MAX).to_be_bytes();
    [high, low, heads as u8, per_track as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_covers_all_other_bytes() {
        let footer = footer(17 << 20, 0x1234_5678);
        let sum: u32 = footer
            .iter()
            .enumerate()
            .filter(|(offset, _)| !(CHECKSUM..CHECKSUM + 4).contains(offset))
            .map(|(_, &byte)| u32::from(byte))
            .sum();
        assert_eq!(footer[CHECKSUM..CHECKSUM + 4], (!sum).to_be_bytes());
    }

    /// What qemu-img gives disks of these sizes, where it does not round them up.
    #[test]
    fn geometries_are_those_of_the_specification() {
        assert_eq!(geometry(17 << 20), [0x02, 0x00, 4, 17]);
        assert_eq!(geometry(300 << 20), [0x02, 0x61, 16, 63]);
        assert_eq!(geometry(1 << 30), [0x08, 0x20, 16, 63]);
        assert_eq!(geometry(u64::MAX), [0xff, 0xff, 16, 255]);
    }
}
