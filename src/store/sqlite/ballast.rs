//! Room that is kept for a full disk: there even forgetting jobs needs a little of it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use crate::error::{Error, Result};
use crate::private::Beside;

/// How much is kept, in bytes: enough to forget some thousand jobs.
const SIZE: u64 = 8 << 20;
/// Less is kept where less than so many times its size is free.
const SPARE: u64 = 16;
/// None is kept where it would be less than this: it would not be enough to forget some jobs.
const LEAST: u64 = 1 << 20;
/// What is given to whoever opens the store on a full disk, in bytes.
const LOAN: u64 = 64 << 10;

fn path_of(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push("-ballast");
    name.into()
}

fn open(store: &Path) -> Result<File> {
    let path = path_of(store);
    Beside::of(store).open(&path).map_err(|e| Error::unavailable(format!("cannot write {}", path.display())).source(e))
}

/// Keeps the room, where it is not kept yet and there is plenty. Gives whether it is kept.
pub(super) fn keep(store: &Path) -> Result<bool> {
    let file = open(store)?;
    let room = fstatvfs(&file).map_err(std::io::Error::from)?;
    let kept = file.metadata()?.len();
    let size = (room.f_bavail.saturating_mul(room.f_frsize) / SPARE).min(SIZE);
    if kept >= size.max(LEAST) {
        return Ok(true);
    }
    if size < LEAST {
        return Ok(false);
    }
    // Where the file system cannot promise room, there is none to keep.
    Ok(fallocate(&file, FallocateFlags::empty(), 0, size).is_ok())
}

/// Gives the room to whoever needs it now. Gives whether there was any.
pub(super) fn free(store: &Path) -> Result<bool> {
    if !path_of(store).exists() {
        return Ok(false);
    }
    let file = open(store)?;
    let kept = file.metadata()?.len() > 0;
    file.set_len(0)?;
    Ok(kept)
}

/// Gives a little of the room where the disk is full: even who only reads needs an index of the log. Gives whether it did.
pub(super) fn lend(store: &Path) -> Result<bool> {
    if !path_of(store).exists() {
        return Ok(false);
    }
    let file = open(store)?;
    let kept = file.metadata()?.len();
    let room = fstatvfs(&file).map_err(std::io::Error::from)?;
    if kept == 0 || room.f_bavail.saturating_mul(room.f_frsize) >= LOAN {
        return Ok(false);
    }
    file.set_len(kept.saturating_sub(LOAN))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_can_be_freed_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("orx.db");
        assert!(!free(&store).unwrap());
        if !keep(&store).unwrap() {
            println!("skipped: this file system has too little room, or cannot promise any");
            return;
        }
        assert_eq!(std::fs::metadata(path_of(&store)).unwrap().len(), SIZE);
        assert!(free(&store).unwrap() && !free(&store).unwrap());
        assert!(keep(&store).unwrap());
    }
}
