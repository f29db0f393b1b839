//! The folder that keeps what was prepared: where it is, who may write to it,
//! and whether its content is still what was put there.

use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The folder to use: the caller's, else the environment's, else the user's.
pub(crate) fn folder(chosen: Option<&Path>) -> Result<PathBuf> {
    let from_environment = |name, inside: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(|value| Path::new(&value).join(inside))
    };
    let folder = chosen
        .map(Path::to_owned)
        .or_else(|| from_environment("REKERNEL_LAB_CACHE", ""))
        .or_else(|| from_environment("XDG_CACHE_HOME", "rekernel/lab"))
        .or_else(|| from_environment("HOME", ".cache/rekernel/lab"))
        .unwrap_or_else(|| "target/lab".into());
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    folder
        .canonicalize()
        .map_err(Error::file("resolve", &folder))
}

/// The folder for what a preparation leaves only when it fails; the next one empties it.
pub(crate) fn work_folder(cache: &Path) -> PathBuf {
    cache.join("work")
}

/// The right to write to a folder, held until dropped. The kernel takes it back
/// from a process that dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for whoever holds the lock, telling `progress` that it does.
    pub(crate) fn acquire(folder: &Path, progress: &dyn Fn(&str)) -> Result<Self> {
        let path = folder.join("lock");
        let file = File::create(&path).map_err(Error::file("create", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress("waiting for another preparation of the lab to finish");
                file.lock().map_err(Error::file("lock", &path))?;
            }
            Err(TryLockError::Error(error)) => return Err(Error::file("lock", &path)(error)),
        }
        Ok(Self { _file: file })
    }
}

/// SHA-256 of a file in hexadecimal.
pub(crate) fn hash_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::file("open", path))?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut HashWriter(&mut hasher)).map_err(Error::file("read", path))?;
    Ok(hexadecimal(&hasher.finalize()))
}

/// SHA-256 of several pieces, each with its length so that they cannot run into
/// each other, in hexadecimal.
pub(crate) fn hash_of_pieces<'a>(pieces: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update((piece.len() as u64).to_le_bytes());
        hasher.update(piece);
    }
    hexadecimal(&hasher.finalize())
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes as a hash is usually written: two lower-case digits each.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes a folder with all it holds, if it is there.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// What a prepared folder holds: facts, and files with their hashes.
///
/// Kept as lines `fact <name> <value>` and `file <sha256> <name>`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    facts: Vec<(String, String)>,
    files: Vec<(String, String)>,
}

impl Manifest {
    const NAME: &str = "manifest";

    pub(crate) fn add_fact(&mut self, name: &str, value: &str) {
        self.facts.push((name.into(), value.into()));
    }

    /// Records the file `name` of `folder` as it is now.
    pub(crate) fn add_file(&mut self, folder: &Path, name: &str) -> Result<()> {
        self.files.push((hash_of(&folder.join(name))?, name.into()));
        Ok(())
    }

    pub(crate) fn fact<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.facts(name).next()
    }

    /// All facts of this name.
    pub(crate) fn facts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.facts
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join(Self::NAME);
        fs::write(&path, self.to_text()).map_err(Error::file("write", &path))
    }

    /// The manifest of a folder, if there is one and every file is as recorded.
    pub(crate) fn load_checked(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join(Self::NAME)).ok()?;
        let manifest = Self::parse(&text)?;
        manifest
            .files
            .iter()
            .all(|(hash, name)| hash_of(&folder.join(name)).is_ok_and(|found| found == *hash))
            .then_some(manifest)
    }

    fn to_text(&self) -> String {
        let facts = self
            .facts
            .iter()
            .map(|(name, value)| format!("fact {name} {value}\n"));
        let files = self
            .files
            .iter()
            .map(|(hash, name)| format!("file {hash} {name}\n"));
        facts.chain(files).collect()
    }

    /// None unless every line is understood and at least one file is named.
    fn parse(text: &str) -> Option<Self> {
        let mut manifest = Self::default();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ')?;
            let (first, second) = rest.split_once(' ')?;
            let entry = (first.to_owned(), second.to_owned());
            match kind {
                "fact" => manifest.facts.push(entry),
                "file" => manifest.files.push(entry),
                _ => return None,
            }
        }
        (!manifest.files.is_empty()).then_some(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn hashes_are_sha256() {
        let scratch = Scratch::new("hash").unwrap();
        let file = scratch.path().join("abc");
        fs::write(&file, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            hash_of(&file).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_ne!(hash_of_pieces(["ab", "c"]), hash_of_pieces(["a", "bc"]));
    }

    #[test]
    fn a_changed_file_or_a_damaged_manifest_is_noticed() {
        let scratch = Scratch::new("manifest").unwrap();
        let folder = scratch.path();
        fs::write(folder.join("xen"), "image").unwrap();
        let mut manifest = Manifest::default();
        manifest.add_fact("xen", "4.17");
        manifest.add_file(folder, "xen").unwrap();
        assert_eq!(Manifest::load_checked(folder), None, "before it is saved");
        manifest.save(folder).unwrap();
        let loaded = Manifest::load_checked(folder).unwrap();
        assert_eq!(loaded, manifest);
        assert_eq!(loaded.fact("xen"), Some("4.17"));

        fs::write(folder.join("xen"), "imagE").unwrap();
        assert_eq!(Manifest::load_checked(folder), None);
        fs::write(folder.join("xen"), "image").unwrap();
        fs::write(folder.join("manifest"), "nonsense").unwrap();
        assert_eq!(Manifest::load_checked(folder), None);
        fs::write(folder.join("manifest"), "").unwrap();
        assert_eq!(Manifest::load_checked(folder), None);
    }

    #[test]
    fn a_second_preparation_waits_for_the_first() {
        use std::{sync::mpsc, thread, time::Duration};
        let scratch = Scratch::new("lock").unwrap();
        let first = Lock::acquire(scratch.path(), &|_| panic!("nobody holds it")).unwrap();
        let (sender, events) = mpsc::channel();
        let folder = scratch.path().to_owned();
        let second = thread::spawn(move || {
            let lock = Lock::acquire(&folder, &|_| sender.send("waiting").unwrap());
            sender.send("acquired").unwrap();
            lock.map(drop)
        });
        assert_eq!(events.recv(), Ok("waiting"));
        assert!(events.recv_timeout(Duration::from_millis(50)).is_err());
        drop(first);
        assert_eq!(events.recv(), Ok("acquired"));
        second.join().unwrap().unwrap();
    }
}
