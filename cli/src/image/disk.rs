//! The disk: boot sector, boot loader, one partition.
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 511 | GRUB's boot sector with the partition table (the layout of an IBM PC's master boot record) |
//! | from 512 | what it loads, below the first MiB |
//! | from 1 MiB | the partition, an EFI system partition (type 0xef) with a FAT file system |

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail};

use super::bootloader::{Bootloader, CONFIGURATION, EFI, GUEST};
use super::{fat, identity};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
const PARTITION_START: u64 = MIB;
/// A file system with 16-bit entries has at least 4085 clusters, here of 2 KiB.
const SMALLEST_PARTITION: u64 = 16 * MIB;

const SIGNATURE_OFFSET: usize = 440;
const TABLE_OFFSET: usize = 446;
const EFI_SYSTEM_PARTITION: u8 = 0xef;

/// A disk, in memory.
pub(super) struct Disk {
    start: Vec<u8>,
    partition: Vec<u8>,
    identity: u32,
}

impl Disk {
    pub(super) fn new(guest: &[u8], bootloader: &Bootloader) -> Result<Self> {
        let files = [
            (EFI, &bootloader.efi[..]),
            (CONFIGURATION, bootloader.configuration.as_bytes()),
            (GUEST, guest),
        ];
        let identity = identity::of(&files);
        let content: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        // An eighth more than what is in it, for the file system's own.
        let size = (content + content / 8)
            .next_multiple_of(MIB)
            .max(SMALLEST_PARTITION);
        Ok(Self {
            start: start(bootloader, size, identity)?,
            partition: fat::partition(size, identity, &files)
                .context("the file system of the image cannot be made")?,
            identity,
        })
    }

    /// Its size in bytes: whole MiB, as cloud importers want it.
    pub(super) fn size(&self) -> u64 {
        PARTITION_START + self.partition.len() as u64
    }

    /// A number that differs between disks with different content.
    pub(super) fn identity(&self) -> u32 {
        self.identity
    }

    /// The MiB from `number` MiB on; what is beyond the end is zero.
    pub(super) fn mebibyte(&self, number: u64) -> Vec<u8> {
        let source = match number {
            0 => &self.start[..],
            _ => {
                let start = ((number * MIB - PARTITION_START) as usize).min(self.partition.len());
                &self.partition[start..]
            }
        };
        let mut bytes = source[..source.len().min(MIB as usize)].to_vec();
        bytes.resize(MIB as usize, 0);
        bytes
    }

    /// Writes it into an empty file, leaving holes where it is zero.
    pub(super) fn write(&self, file: &mut File) -> std::io::Result<()> {
        const BLOCK: usize = 64 << 10;
        file.set_len(self.size())?;
        for (start, bytes) in [(0, &self.start), (PARTITION_START, &self.partition)] {
            for (block, offset) in bytes.chunks(BLOCK).zip((start..).step_by(BLOCK)) {
                if block.iter().any(|&byte| byte != 0) {
                    file.seek(SeekFrom::Start(offset))?;
                    file.write_all(block)?;
                }
            }
        }
        file.seek(SeekFrom::End(0))?;
        Ok(())
    }
}

/// Everything before the partition.
fn start(bootloader: &Bootloader, partition_size: u64, identity: u32) -> Result<Vec<u8>> {
    let Bootloader {
        boot_sector, core, ..
    } = bootloader;
    if boot_sector.len() as u64 != SECTOR {
        bail!(
            "GRUB's boot sector has {} bytes instead of 512",
            boot_sector.len()
        );
    }
    let room = PARTITION_START - SECTOR;
    if core.len() as u64 > room {
        bail!(
            "GRUB has {} bytes, and {room} fit before the partition",
            core.len()
        );
    }
    let mut start = [&boot_sector[..], core].concat();
    start[SIGNATURE_OFFSET..SIGNATURE_OFFSET + 4].copy_from_slice(&identity.to_le_bytes());
    start[SIGNATURE_OFFSET + 4..TABLE_OFFSET].fill(0);
    start[TABLE_OFFSET..TABLE_OFFSET + 64].fill(0);
    start[TABLE_OFFSET..TABLE_OFFSET + 16]
        .copy_from_slice(&table_entry(PARTITION_START, partition_size)?);
    Ok(start)
}

/// One entry of a partition table, active. Places in cylinders, heads and sectors are "too far": the
/// numbers of sectors count.
fn table_entry(start: u64, size: u64) -> Result<[u8; 16]> {
    const TOO_FAR: [u8; 3] = [0xfe, 0xff, 0xff];
    let sectors = |bytes: u64| u32::try_from(bytes / SECTOR).context("the guest is too large");
    let mut entry = [0; 16];
    entry[0] = 0x80;
    entry[1..4].copy_from_slice(&TOO_FAR);
    entry[4] = EFI_SYSTEM_PARTITION;
    entry[5..8].copy_from_slice(&TOO_FAR);
    entry[8..12].copy_from_slice(&sectors(start)?.to_le_bytes());
    entry[12..16].copy_from_slice(&sectors(size)?.to_le_bytes());
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootloader() -> Bootloader {
        Bootloader {
            boot_sector: vec![0x90; 512],
            core: vec![0xcc; 40_000],
            efi: vec![0xef; 100_000],
            configuration: "multiboot2 /guest\n".to_owned(),
        }
    }

    fn file(disk: &Disk) -> Vec<u8> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        disk.write(file.as_file_mut()).unwrap();
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn the_table_names_the_partition() {
        let bytes = file(&Disk::new(b"guest", &bootloader()).unwrap());
        assert_eq!(bytes.len(), 17 << 20);
        let entry = &bytes[446..462];
        assert_eq!((entry[0], entry[4]), (0x80, 0xef));
        assert_eq!(entry[8..12], 2048_u32.to_le_bytes());
        assert_eq!(entry[12..16], (16_u32 << 11).to_le_bytes());
        assert!(bytes[462..510].iter().all(|&byte| byte == 0));
        assert!(bytes[512..40_512].iter().all(|&byte| byte == 0xcc));
        // A FAT boot sector, where the table says.
        assert_eq!(bytes[(1 << 20) + 510..][..2], [0x55, 0xaa]);
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_and_another_another_number() {
        let disk = |guest: &[u8]| Disk::new(guest, &bootloader()).unwrap();
        assert_eq!(file(&disk(b"guest")), file(&disk(b"guest")));
        assert_ne!(disk(b"guest").identity(), disk(b"other").identity());
    }

    #[test]
    fn read_in_pieces_it_is_the_same() {
        let disk = Disk::new(b"guest", &bootloader()).unwrap();
        let pieces: Vec<_> = (0..17).flat_map(|number| disk.mebibyte(number)).collect();
        assert!(pieces == file(&disk));
        assert!(disk.mebibyte(17).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_large_guest_gets_a_large_partition() {
        let disk = Disk::new(&vec![7; 30 << 20], &bootloader()).unwrap();
        assert_eq!(disk.size(), 35 << 20);
    }

    #[test]
    fn a_boot_loader_that_does_not_fit_is_an_error() {
        let large = Bootloader {
            core: vec![0; 1 << 20],
            ..bootloader()
        };
        assert!(Disk::new(b"guest", &large).is_err());
        let short = Bootloader {
            boot_sector: vec![0; 440],
            ..bootloader()
        };
        assert!(Disk::new(b"guest", &short).is_err());
    }
}
