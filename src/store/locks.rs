//! Locks between processes of one machine. The kernel releases them when their owner dies.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Ownership;
use crate::error::{Error, Result};
use crate::job::{WorkerId, WorkerKey};
use crate::private::{self, Beside};

/// How many that died one after the other are remembered.
pub const MAX_PREDECESSORS: usize = 16;
/// The most that is read of their keys, in bytes.
const MAX_LINES: u64 = 4096;

/// A file beside the store, never the store itself: closing one would drop SQLite's own locks.
fn path_of(store: &Path, name: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push("-");
    path.push(name);
    path.into()
}

/// The file of that name beside the store, made where there is none.
pub(super) fn file(store: &Path, name: &str) -> Result<File> {
    let beside = Beside::of(store);
    let opened = match name.split_once('/') {
        Some((dir, name)) => {
            let dir = beside.dir(&path_of(store, dir));
            dir.and_then(|dir| beside.open(&private::within(&dir, name)))
        }
        None => beside.open(&path_of(store, name)),
    };
    opened.map_err(|e| Error::unavailable(format!("cannot lock {}", path_of(store, name).display())).source(e))
}

/// The same where it is there; none where it cannot be opened.
fn existing(store: &Path, name: &str) -> Option<File> {
    let beside = Beside::of(store);
    match name.split_once('/') {
        Some((dir, name)) => {
            let dir = private::open_dir(&path_of(store, dir)).ok()?;
            beside.open_existing(&private::within(&dir, name)).ok()
        }
        None => beside.open_existing(&path_of(store, name)).ok(),
    }
}

fn try_lock(file: &File) -> Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(Error::unavailable("cannot lock beside the store").source(e)),
    }
}

/// Owns `name` as `who`, if anybody is to know that, until dropped; `None` when another process does.
pub(super) fn own(store: &Path, name: &str, who: Option<&WorkerKey>) -> Result<Option<Ownership>> {
    let file = file(store, name)?;
    if !try_lock(&file)? {
        return Ok(None);
    }
    Ok(Some(take(file, who)))
}

/// Owns `name` as `who` in the place of `dead`, who owned it before and is dead; `None` where that is not shown: the file is
/// not there, does not name it, or somebody has it locked. Makes no file.
pub(super) fn succeed(store: &Path, name: &str, dead: WorkerId, who: &WorkerKey) -> Result<Option<Ownership>> {
    let Some(mut file) = existing(store, name) else { return Ok(None) };
    // The lock first: whoever has it may be about to settle what its predecessors left.
    if !try_lock(&file)? || !owners(&mut file).iter().any(|key| key.id == dead) {
        return Ok(None);
    }
    Ok(Some(take(file, Some(who))))
}

/// Those who owned it and did not let go.
fn owners(file: &mut File) -> Vec<WorkerKey> {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.by_ref().take(MAX_LINES).read_to_string(&mut text));
    text.lines().filter_map(owner).collect()
}

/// A line with the id of an owner and its secret.
fn owner(line: &str) -> Option<WorkerKey> {
    let (id, secret) = line.split_once(' ')?;
    Some(WorkerKey { id: WorkerId(id.parse().ok()?), secret: secret.parse().ok()? })
}

/// Writes its owner into a file that is locked.
fn take(mut file: File, who: Option<&WorkerKey>) -> Ownership {
    // A line that only an owner who lives to the end takes away again. Where it cannot be written (the disk is full) the
    // next owner looks for leftovers in vain, or not at all.
    let predecessors = owners(&mut file);
    let kept = predecessors.len().saturating_sub(MAX_PREDECESSORS - 1);
    let line = |key: &WorkerKey| format!("{} {}\n", key.id, key.secret.reveal());
    let lines: String = predecessors[kept..].iter().chain(who).map(line).collect();
    // Whoever made the file: what is in it is for its owner alone.
    let written = private::close_file(&file).and_then(|()| file.write_all_at(lines.as_bytes(), 0));
    let _ = written.and_then(|()| file.set_len(lines.len() as u64));
    Ownership { predecessors, lock: Box::new(Held(file)) }
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
        if let Some(owned) = own(store, name, None)? {
            return Ok(owned);
        }
        if started.elapsed() > limit {
            return Err(Error::unavailable(format!("another process has held {name} for {limit:?}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
