//! Locks between processes of one machine. The kernel releases them when their owner dies.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Ownership;
use crate::error::{Error, Result};

/// A file beside the store, never the store itself: closing one would drop SQLite's own locks.
fn path_of(store: &Path, name: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push("-");
    path.push(name);
    path.into()
}

fn lock_file(store: &Path, name: &str) -> Result<File> {
    let path = path_of(store, name);
    let cannot = |e: std::io::Error| Error::unavailable(format!("cannot lock {}", path.display())).source(e);
    if let Some(dir) = path.parent().filter(|d| !d.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(cannot)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(cannot)
}

fn try_lock(file: &File) -> Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(Error::unavailable("cannot lock beside the store").source(e)),
    }
}

/// Owns `name` until dropped; `None` when another process does.
pub(super) fn own(store: &Path, name: &str) -> Result<Option<Ownership>> {
    let file = lock_file(store, name)?;
    if !try_lock(&file)? {
        return Ok(None);
    }
    // A byte that only an owner who lives to the end takes away again. Where it cannot be written (the disk is
    // full) the next owner looks for leftovers in vain, or not at all.
    let after_a_death = file.metadata().is_ok_and(|m| m.len() > 0);
    let _ = file.set_len(1);
    Ok(Some(Ownership { after_a_death, lock: Box::new(Held(file)) }))
}

/// A lock that is held.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.set_len(0); // see `own`
    }
}

/// Owns `name`, waiting at most `limit` for its owner.
pub(super) fn wait(store: &Path, name: &str, limit: Duration) -> Result<Ownership> {
    let started = Instant::now();
    loop {
        if let Some(owned) = own(store, name)? {
            return Ok(owned);
        }
        if started.elapsed() > limit {
            return Err(Error::unavailable(format!("another process has held {name} for {limit:?}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
