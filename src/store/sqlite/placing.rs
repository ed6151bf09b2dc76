//! A store that was made elsewhere takes its place: all of it at once, and only where nobody has another one open.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, FlockOperation, RenameFlags, fcntl_lock, renameat_with};
use rustix::io::Errno;

use super::backup::{header, is_sealed, kind_of};
use super::{Sqlite, connect, holder, sql};
use crate::error::{Error, Kind, Result};
use crate::private;
use crate::store::{Holder, Ownership, locks};

/// The key of `meta` that a store has which took the place of another: what that one left beside it is not its own.
pub(super) const MARK: &str = "replaced";
/// How many processes are named that have a store open.
const MAX_NAMED: usize = 3;

/// A directory beside a store, on the same file system, in which what takes its place is made.
pub struct Workshop {
    target: PathBuf,
    dir: PathBuf,
    _lock: Ownership,
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir); // the next one takes it away
    }
}

impl Workshop {
    /// The one of the store at `target`, which may be there only where it is to `replace` it.
    ///
    /// # Errors
    /// `Conflict` when a store is there, somebody has it open, or another process restores to it; `Unavailable` when
    /// nothing can be written there.
    pub fn open(target: &Path, replace: bool) -> Result<Self> {
        connect::check_library()?;
        let target = std::path::absolute(target)?;
        // Where a link leads: that is the name its log and its locks go by.
        let target = match target.symlink_metadata() {
            Ok(meta) if meta.is_symlink() => target.canonicalize().map_err(|e| {
                Error::unavailable(format!("{} is a link that leads nowhere", target.display())).source(e)
            })?,
            _ => target,
        };
        let found = left_of(&target).into_iter().find(|path| path.symlink_metadata().is_ok());
        match found {
            Some(path) if !replace => return Err(exists(&path)),
            Some(_) => drop(shut(&target)?),
            None => {}
        }
        let cannot = |e| Error::unavailable(format!("cannot write {}", target.display())).source(e);
        private::make_parent(&target).map_err(cannot)?;
        let owned = locks::own(&target, "restore", None)?;
        let lock = owned
            .ok_or_else(|| Error::conflict(format!("another process is restoring a backup to {}", target.display())))?;
        let dir = with_ending(&target, "-restoring");
        let _ = std::fs::remove_dir_all(&dir); // of one that was killed
        private::make_dir(&dir).map_err(|e| Error::unavailable(format!("cannot write {}", dir.display())).source(e))?;
        Ok(Self { target, dir, _lock: lock })
    }

    /// Where something may be made.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts `part`, a store that nobody has open, in the place of the target.
    ///
    /// # Errors
    /// As [`Workshop::open`].
    pub fn place(self, part: &Path, replace: bool) -> Result<()> {
        let cannot =
            |e: std::io::Error| Error::unavailable(format!("cannot write {}", self.target.display())).source(e);
        if replace {
            mark(part)?;
        }
        if has_log(part) {
            return Err(Error::failed(format!("{} is in use by somebody else", part.display())));
        }
        File::open(part).and_then(|file| file.sync_all()).map_err(cannot)?;
        if !replace {
            if let Some(path) = left_of(&self.target).into_iter().find(|path| path.symlink_metadata().is_ok()) {
                return Err(exists(&path));
            }
            let placed = rename_new(part, &self.target);
            placed.map_err(|e| if e.kind() == ErrorKind::AlreadyExists { exists(&self.target) } else { cannot(e) })?;
            return sync_dir(&self.target).map_err(cannot);
        }
        let shut = shut(&self.target)?;
        // Nobody has it open, and its log is empty: it would be read into whatever lies there.
        for ending in ["-wal", "-shm", "-journal"] {
            remove(&with_ending(&self.target, ending)).map_err(cannot)?;
        }
        private::give_as(part, &self.target).map_err(cannot)?;
        let placed = match shut {
            Some(_) => std::fs::rename(part, &self.target),
            None => rename_new(part, &self.target), // somebody may have made one since
        };
        placed.map_err(|e| if e.kind() == ErrorKind::AlreadyExists { exists(&self.target) } else { cannot(e) })?;
        sync_dir(&self.target).map_err(cannot)?;
        drop(shut);
        drop(connect::open_queue(&self.target)?); // takes away what the other one left
        Ok(())
    }
}

/// The files by which a store is seen to be at `target`.
fn left_of(target: &Path) -> Vec<PathBuf> {
    ["", "-wal", "-journal", "-output", "-output-wal"].iter().map(|ending| with_ending(target, ending)).collect()
}

fn exists(path: &Path) -> Error {
    Error::conflict(format!("{} exists already", path.display()))
        .hint("--replace puts the backup in the place of the store that is there; --store names another place")
}

/// Writes down that what lies beside the place is of another store.
fn mark(part: &Path) -> Result<()> {
    let conn = Connection::open_with_flags(part, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.execute_batch(sql!("replaced_mark"))?;
    Ok(())
}

/// Takes away what the store that was at `path` before left beside it. Whoever opens the new one first does so, if whoever
/// put it there was killed.
pub(super) fn clear(conn: &Connection, path: &Path) -> Result<()> {
    let _lock = locks::wait(path, "migrate", connect::BUSY_LIMIT)?;
    if conn.prepare(sql!("meta_find"))?.exists([MARK])? {
        let output = Sqlite::output_path(path);
        for ending in ["", "-wal", "-shm", "-journal"] {
            remove(&with_ending(&output, ending))?;
        }
        conn.execute_batch(sql!("replaced_unmark"))?;
    }
    Ok(())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn has_log(store: &Path) -> bool {
    std::fs::metadata(with_ending(store, "-wal")).is_ok_and(|meta| meta.len() > 0)
}

/// Writes all that a store has into its file, and keeps everybody from opening it until the value is dropped; none: there
/// is no file.
fn shut(target: &Path) -> Result<Option<File>> {
    let cannot = |e: std::io::Error| Error::unavailable(format!("cannot open {}", target.display())).source(e);
    let meta = match target.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        found => found.map_err(cannot)?,
    };
    if !meta.is_file() {
        return Err(Error::usage(format!("{} is not a file", target.display())));
    }
    if is_sealed(target) {
        return Err(
            Error::conflict(format!("{} is a backup itself", target.display())).hint("name another place with --store")
        );
    }
    // One that is damaged cannot be asked, and nothing of it is to be kept.
    let is_damaged = match empty_log(target) {
        Err(e) if e.kind() == Kind::Corrupt => true,
        emptied => emptied.map(|()| false)?,
    };
    refuse_others(target)?; // what it is may have been in its log
    // Whoever uses a database with a log holds a lock on its file all the while, and can open none that is locked so.
    let file = private::file().read(true).write(true).open(target).map_err(cannot)?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if is_damaged || !has_log(target) => Ok(Some(file)),
        Ok(()) | Err(Errno::AGAIN | Errno::ACCESS) => Err(in_use(target, &meta)),
        Err(e) => Err(cannot(e.into())),
    }
}

/// A file of somebody else is not to be replaced, whatever its name.
fn refuse_others(target: &Path) -> Result<()> {
    let header =
        header(target).map_err(|e| Error::unavailable(format!("cannot read {}", target.display())).source(e))?;
    if header.is_empty() || kind_of(&header).is_some() {
        return Ok(());
    }
    Err(Error::conflict(format!("{} is no store of orx", target.display()))
        .hint("name another place with --store; if it was one and is damaged, move it away"))
}

fn empty_log(target: &Path) -> Result<()> {
    let conn = connect::open_reader(target)?;
    conn.execute_batch("PRAGMA query_only=0")?;
    // Where somebody else has it open this is not done to the end, and what is left shows it.
    Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}

fn in_use(target: &Path, meta: &std::fs::Metadata) -> Error {
    let users = holder::users(meta.ino());
    let named: Vec<String> = users.iter().take(MAX_NAMED).map(|pid| Holder::of(Some(*pid)).to_string()).collect();
    let who = if named.is_empty() { "somebody".to_owned() } else { named.join(", ") };
    Error::conflict(format!("{} is in use: {who} has it open", target.display()))
        .hint("end all workers, coordinators and commands that use it")
}

/// Renames a file, unless there is one of the new name.
pub(super) fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that knows no such thing: a second name is made only where there is none.
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::hard_link(from, to).and_then(|()| std::fs::remove_file(from)),
        renamed => Ok(renamed?),
    }
}

/// Has the names in the directory of `path` survive a power cut.
pub(super) fn sync_dir(path: &Path) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
