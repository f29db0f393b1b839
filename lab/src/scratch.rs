//! Temporary folders that do not outlive the process, however it ends.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{Error, Result, cache::remove_folder};

const PREFIX: &str = "rekernel-lab-";
const LOCK: &str = "owner.lock";

/// A temporary folder, removed when dropped.
///
/// Its owner holds a lock on a file in it. If the process is killed, the next
/// one that makes a scratch folder finds the lock free and removes the remains.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    pub(crate) fn new(purpose: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = env::temp_dir();
        remove_abandoned(&parent);
        let path = parent.join(format!(
            "{PREFIX}{purpose}-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        // What a killed process with the same id left.
        remove_folder(&path)?;
        create_private(&path)?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(Error::file("create", &lock_path))?;
        lock.lock().map_err(Error::file("lock", &lock_path))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing sensible can be done about a failure here; the next scratch
        // folder's maker tries again.
        let _ = remove_folder(&self.path);
    }
}

/// The folder will hold guests' files and a control socket: nobody else's business.
fn create_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(Error::file("create", path))
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(PREFIX) || !is_settled(&entry) {
            continue;
        }
        let lock = File::open(entry.path().join(LOCK));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = remove_folder(&entry.path());
        }
    }
}

/// Whether a folder is old enough for its owner to have locked it.
fn is_settled(entry: &fs::DirEntry) -> bool {
    entry
        .metadata()
        .and_then(|data| data.modified())
        .is_ok_and(|time| {
            time.elapsed()
                .is_ok_and(|age| age > Duration::from_secs(60))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_is_private_and_goes_with_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new("test").unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn only_old_folders_without_an_owner_are_removed() {
        let parent = Scratch::new("parent").unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        let make = |name: &str| {
            let folder = parent.path().join(format!("{PREFIX}{name}"));
            fs::create_dir(&folder).unwrap();
            let lock = File::create(folder.join(LOCK)).unwrap();
            (folder, lock)
        };
        let (abandoned, _unlocked) = make("abandoned");
        let (owned, lock) = make("owned");
        lock.lock().unwrap();
        let (fresh, _unlocked) = make("fresh");
        for folder in [&abandoned, &owned] {
            File::open(folder).unwrap().set_modified(old).unwrap();
        }
        remove_abandoned(parent.path());
        assert!(!abandoned.exists());
        assert!(owned.exists() && fresh.exists());
    }
}
