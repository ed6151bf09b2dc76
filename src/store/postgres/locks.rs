//! Locks between the processes of one machine: the names of workers are per host, so a file of this host is the lock.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::hex::hex;
use crate::job::{WorkerId, WorkerKey};
use crate::private;
use crate::store::{Ownership, locks};

/// Owns `name` as `who` for the store at `location` until dropped; `None` when another process of this machine does.
pub(in crate::store) fn own(location: &str, name: &str, who: &WorkerKey) -> Result<Option<Ownership>> {
    let store = hex(&Sha256::digest(location.as_bytes())[..8]);
    locks::own(&directory()?.join(store), name, Some(who))
}

/// Owns `name` in the place of `dead`, who is shown to be dead.
pub(in crate::store) fn succeed(
    location: &str,
    name: &str,
    dead: WorkerId,
    who: &WorkerKey,
) -> Result<Option<Ownership>> {
    let store = hex(&Sha256::digest(location.as_bytes())[..8]);
    locks::succeed(&directory()?.join(store), name, dead, who)
}

/// A directory for this user only.
fn directory() -> Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
    let dir = runtime.map_or_else(|| std::env::temp_dir().join(format!("orx-{uid}")), |dir| dir.join("orx"));
    let made = private::make_dirs(&dir);
    made.map_err(|e| Error::unavailable(format!("cannot make {}", dir.display())).source(e))?;
    check_is_ours(&dir, uid)?;
    Ok(dir)
}

/// Somebody else may have made it first, in a directory that all may write.
fn check_is_ours(dir: &Path, uid: u32) -> Result<()> {
    let meta = std::fs::symlink_metadata(dir)?;
    match meta.is_dir() && meta.uid() == uid && meta.mode() & 0o022 == 0 {
        true => Ok(()),
        false => Err(Error::unavailable(format!("{} belongs to somebody else", dir.display()))
            .hint("remove it, or set XDG_RUNTIME_DIR")),
    }
}
