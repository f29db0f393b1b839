//! A FAT file system with a few files, the same bytes each time.

use std::io::{self, Cursor, Write};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

/// A partition of `size` bytes with these files (path, content), folders included.
///
/// # Errors
/// Where they do not fit.
pub(super) fn partition(size: u64, identity: u32, files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    let format = FormatVolumeOptions::new()
        .volume_id(identity)
        .volume_label(*b"REKERNEL   ");
    fatfs::format_volume(Cursor::new(&mut bytes[..]), format)?;
    let volume = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new())?;
    for &(path, content) in files {
        let root = volume.root_dir();
        for (separator, _) in path.match_indices('/') {
            root.create_dir(&path[..separator])?;
        }
        let mut file = root.create_file(path)?;
        file.write_all(content)?;
        file.flush()?;
    }
    volume.unmount()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn files_are_read_back() {
        let content = vec![0xa5; 100_000];
        let files = [
            ("EFI/BOOT/BOOTX64.EFI", &b"loader"[..]),
            ("grub/grub.cfg", b""),
            ("guest", &content),
        ];
        let bytes = partition(16 << 20, 7, &files).unwrap();
        let volume = FileSystem::new(Cursor::new(bytes), FsOptions::new()).unwrap();
        assert_eq!(volume.volume_id(), 7);
        for (path, expected) in files {
            let mut read = Vec::new();
            let mut file = volume.root_dir().open_file(path).unwrap();
            file.read_to_end(&mut read).unwrap();
            assert_eq!(read, expected, "{path}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(partition(1 << 20, 0, &[("guest", &[0; 2 << 20])]).is_err());
    }
}
