//! Reading files and folders, with errors that name them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::file("read", path))
}

/// The names in a folder, sorted; none if it does not exist.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::file("list", folder))?,
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Error::file("list", folder))?;
    names.sort();
    Ok(names)
}

/// All files and links below a folder; none if it does not exist.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for name in names_in(folder)? {
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            files.append(&mut files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
