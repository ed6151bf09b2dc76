//! Which file the store is. SQLite finds the log of a database by its name: under two names it has two logs, and what was
//! acknowledged by way of one is not seen, and at last overwritten, by way of the other.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn inode(self) -> u64 {
        self.inode
    }
}

impl From<&Metadata> for Identity {
    fn from(meta: &Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino() }
    }
}

/// The file at `path`; none where there is none, or it cannot be looked at.
pub(super) fn of(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().as_ref().map(Identity::from)
}

/// The databases that this process has opened.
static OPENED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// From now on the database at `path` is opened by SQLite and nobody else.
pub(super) fn note(path: &Path) {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if !opened.contains(path) {
        opened.insert(path.into());
    }
}

/// Whether a file is one on which SQLite holds locks in this process: the kernel drops them all when any descriptor of it
/// is closed, and another process may then take the log away that this one writes.
pub(in crate::store) fn is_locked_here(file: &Metadata) -> bool {
    let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.iter().any(|path| [path, &shared_memory(path)].into_iter().any(|path| of(path) == Some(file.into())))
}

/// The file by which the processes that have a database open share its index of the log, and lock it for writing.
pub(super) fn shared_memory(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-shm");
    name.into()
}

/// Refuses a file that has a second name.
pub(super) fn refuse_links(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.nlink() > 1 => Err(linked(meta.nlink())),
        _ => Ok(()), // whoever opens it says why it cannot be opened
    }
}

/// Looks whether `path` is still the file that was opened. An error that lasts: it is not; another one: it has a second
/// name by now, which nobody can open it by.
pub(super) fn check(path: &Path, opened: Identity) -> Result<()> {
    let gone = |what: &str| {
        Error::unavailable(format!("the store {} {what} while it was in use", path.display()))
            .hint("who starts now uses what is there now; put the file back, or start anew")
            .lasting()
    };
    match std::fs::metadata(path) {
        Ok(meta) if Identity::from(&meta) != opened => Err(gone("was replaced")),
        Ok(meta) if meta.nlink() > 1 => Err(linked(meta.nlink()).context(path.display())),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(gone("was removed")),
        Err(_) => Ok(()), // nobody knows: a directory that cannot be read now
    }
}

fn linked(names: u64) -> Error {
    Error::unavailable(format!("the file has {names} names (hard links)")).hint(
        "each name has a log of its own, and jobs get lost between them; `find DIR -samefile FILE` finds the others",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_again_and_what_replaces_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("orx.db"), dir.path().join("other.db"));
        assert!(of(&path).is_none());
        std::fs::write(&path, "").unwrap();
        let opened = of(&path).unwrap();
        check(&path, opened).unwrap();
        std::fs::hard_link(&path, &other).unwrap();
        for refused in [refuse_links(&path), refuse_links(&other), check(&path, opened)] {
            assert!(refused.unwrap_err().to_string().contains("2 names"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(check(&path, opened).unwrap_err().to_string().contains("removed"));
        std::fs::write(&path, "").unwrap();
        assert!(check(&path, opened).unwrap_err().to_string().contains("replaced"));
        refuse_links(&path).unwrap();
    }
}
