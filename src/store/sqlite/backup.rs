//! Backups: one file with the queue and its output as of one moment, and a manifest of what is in it.
//!
//! A backup is no store. Whoever worked for its original would be taken for a worker of it: it has to be restored, and is
//! refused for all else.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::connect::{self, APPLICATION_ID, BUSY_LIMIT};
use super::placing::{rename_new, sync_dir};
use super::{identity, maintain, manifest, sql};
use crate::error::{Error, Kind, Result};
use crate::private;
use crate::store::Finding;
use crate::store::migrate;
use crate::store::restore::{Counted, ID};
use crate::time::{Span, Timestamp};

/// The key of `meta` that a backup has.
pub(super) const MARK: &str = "backup";
/// How the directory begins that a backup is made in.
const PART: &str = ".orx-backup-";
/// How old such a directory is when nobody is about to lock it any more.
const STALE: Span = Span::from_secs(60);
/// How many files of a directory are looked at for such ones.
const MAX_LOOKED: usize = 10_000;
/// How much of a file tells what it is, in bytes.
const HEADER: usize = 100;

/// Copies both files into one while others go on writing; the copy is read back before it counts.
pub(super) fn backup(queue: &Path, output: &Path, to: &Path, at: Timestamp) -> Result<Vec<Counted>> {
    if to.symlink_metadata().is_ok() {
        return Err(exists(to));
    }
    let place = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = |e: std::io::Error| Error::unavailable(format!("cannot write {}", to.display())).source(e);
    sweep(place, at);
    // In a directory of our own: nobody else can put a link there under the name that is written.
    let dir = private::temp_dir_in(place, PART).map_err(cannot)?;
    let alive = File::open(dir.path()).map_err(cannot)?;
    flock(&alive, FlockOperation::LockExclusive).map_err(|e| cannot(e.into()))?; // see `sweep`
    let part = dir.path().join("copy");
    vacuum(queue, &part)?;
    private::close(&part).map_err(cannot)?; // VACUUM keeps no mode; a store is for its owner only
    let counted = seal(&part, output, at)?;
    File::open(&part).and_then(|f| f.sync_all()).map_err(cannot)?;
    if let Some(f) = verify(&open_sealed(&part, to)?)?.first() {
        return Err(Error::new(Kind::Corrupt, format!("the copy is damaged: {}: {}", f.check, f.message)));
    }
    rename_new(&part, to).map_err(|e| if e.kind() == ErrorKind::AlreadyExists { exists(to) } else { cannot(e) })?;
    sync_dir(to).map_err(cannot)?;
    Ok(counted)
}

fn exists(path: &Path) -> Error {
    Error::conflict(format!("{} exists already", path.display())).hint("name a new file")
}

/// Takes away what backups left that were killed: whoever makes one has its directory locked.
fn sweep(place: &Path, now: Timestamp) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    let named = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(PART);
    for entry in entries.take(MAX_LOOKED).flatten().filter(named) {
        let Ok(meta) = entry.metadata() else { continue };
        let is_old = Timestamp(meta.mtime().saturating_mul(1000)).plus(STALE) < now;
        if !meta.is_dir() || !is_old || meta.uid() != rustix::process::getuid().as_raw() {
            continue;
        }
        let Ok(dir) = File::open(entry.path()) else { continue };
        if flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path()); // the next backup tries again
        }
    }
}

/// `VACUUM INTO` reads one moment and ends even under a busy writer, which copying page by page does not.
fn vacuum(from: &Path, to: &Path) -> Result<()> {
    let text = to.to_str().ok_or_else(|| Error::usage("the path is not UTF-8"))?;
    let conn = connect::open_reader(from)?;
    conn.execute_batch("PRAGMA query_only=0")?;
    conn.execute("VACUUM INTO ?1", [text])?;
    Ok(())
}

/// Takes in the output that lies in a second file, and writes down what there is.
fn seal(part: &Path, output: &Path, at: Timestamp) -> Result<Vec<Counted>> {
    let conn = Connection::open_with_flags(part, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // What is interrupted here is thrown away. A rollback journal leaves one file.
    conn.busy_timeout(BUSY_LIMIT)?;
    conn.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")?;
    if output.exists() && connect::open_output_reader(output)?.is_some() {
        let output = output.to_str().ok_or_else(|| Error::usage("the path is not UTF-8"))?;
        conn.execute("ATTACH ?1 AS side", [output])?;
        conn.execute(sql!("backup_output"), [])?;
        conn.execute_batch("DETACH side")?;
    }
    let id: Option<String> = conn.query_row(sql!("meta_find"), [ID], |r| r.get(0)).optional()?;
    let mark = json!({ "at": at, "of": id, "orx": env!("CARGO_PKG_VERSION") });
    conn.execute(sql!("backup_mark"), [mark.to_string()])?;
    manifest::write(&conn)
}

/// What of a backup is not as it was made.
fn verify(conn: &Connection) -> Result<Vec<Finding>> {
    let mut findings = maintain::pages(conn, "the backup is whole")?;
    findings.extend(manifest::compare(conn)?);
    Ok(findings)
}

/// Looks at a backup as `orx db check` looks at a store, and whether it is what it was.
pub(in crate::store) fn check(path: &Path) -> Result<Vec<Finding>> {
    connect::check_library()?;
    let conn = open_sealed(path, path)?;
    let findings = verify(&conn).map_err(|e| named(e, path))?;
    if !findings.is_empty() {
        return Ok(findings); // what its rows say is not worth much
    }
    maintain::contradictions(&conn)
}

/// Opens the backup at `path`, which people know as `shown`, for reading; nothing is made beside it.
fn open_sealed(path: &Path, shown: &Path) -> Result<Connection> {
    refuse_others(path, shown)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).map_err(Error::from).and_then(|conn| {
        let mark: Option<String> = conn.query_row(sql!("meta_find"), [MARK], |r| r.get(0)).optional()?;
        let oldest: String = conn.query_row(sql!("meta_find"), ["min_compatible"], |r| r.get(0))?;
        Ok((mark, oldest, connect::version(&conn)?, conn))
    });
    let (mark, oldest, version, conn) = opened.map_err(|e| named(e, shown))?;
    if mark.is_none() {
        return Err(is_store(shown));
    }
    migrate::plan(version, oldest.parse().unwrap_or(u32::MAX), &shown.display().to_string())?;
    Ok(conn)
}

/// Whether a file is a backup.
pub(super) fn is_sealed(path: &Path) -> bool {
    open_sealed(path, path).is_ok()
}

fn named(error: Error, path: &Path) -> Error {
    match error.kind() {
        Kind::Corrupt => damaged(path).source(error.to_string()),
        _ => error.context(path.display()),
    }
}

fn damaged(path: &Path) -> Error {
    Error::new(Kind::Corrupt, format!("{} is damaged, or no backup of orx", path.display()))
        .hint("another backup may be whole: 'orx db check FILE' tells")
}

fn is_store(path: &Path) -> Error {
    Error::usage(format!("{} is a store, not a backup", path.display()))
        .hint("'orx --store FILE db backup NEW' makes a backup of it, and 'orx --store FILE db check' checks it")
}

/// Refuses by its first bytes what is no backup: opening a store would make files beside it.
fn refuse_others(path: &Path, shown: &Path) -> Result<()> {
    let cannot = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => Error::not_found(format!("there is no file {}", shown.display())),
        _ => Error::unavailable(format!("cannot read {}", shown.display())).source(e),
    };
    let meta = std::fs::metadata(path).map_err(cannot)?;
    if !meta.is_file() {
        return Err(Error::usage(format!("{} is not a file", shown.display())));
    }
    if identity::is_locked_here(&meta) {
        return Err(is_store(shown)); // this process has it open as one
    }
    match kind_of(&header(path).map_err(cannot)?) {
        Some(Looks::Plain) => Ok(()),
        Some(Looks::InUse) => Err(is_store(shown)),
        None => Err(damaged(shown)),
    }
}

/// The first bytes of a file, which this process has not opened as a database.
pub(super) fn header(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(HEADER);
    File::open(path)?.take(HEADER as u64).read_to_end(&mut header)?;
    Ok(header)
}

/// What a database of orx looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    /// All is in the file.
    Plain,
    /// It has a log beside it.
    InUse,
}

/// What the first bytes of a file tell of it; none: that orx did not make it.
pub(super) fn kind_of(header: &[u8]) -> Option<Looks> {
    let is_ours = header.get(68..72) == Some(&APPLICATION_ID.to_be_bytes());
    match header.get(18) {
        Some(mode) if is_ours && header.starts_with(b"SQLite format 3\0") => {
            Some(if *mode == 1 { Looks::Plain } else { Looks::InUse })
        }
        _ => None,
    }
}

/// Makes a store of a backup in `dir`.
pub(in crate::store) fn unpack(backup: &Path, dir: &Path) -> Result<PathBuf> {
    connect::check_library()?;
    refuse_others(backup, backup)?;
    let to = dir.join("orx.db");
    let cannot = |e: std::io::Error| Error::unavailable(format!("cannot write {}", to.display())).source(e);
    let mut from =
        File::open(backup).map_err(|e| Error::unavailable(format!("cannot read {}", backup.display())).source(e))?;
    let mut into = private::file().write(true).create_new(true).open(&to).map_err(cannot)?;
    std::io::copy(&mut from, &mut into).map_err(cannot)?;
    drop((from, into));
    // The copy is looked at: whatever becomes of the backup meanwhile, it is what is used.
    let sealed = open_sealed(&to, backup)?;
    let findings = verify(&sealed).map_err(|e| named(e, backup))?;
    drop(sealed);
    if let Some(f) = findings.first() {
        let message = format!("{} is damaged: {}: {}", backup.display(), f.check, f.message);
        return Err(Error::new(Kind::Corrupt, message).hint("another backup may be whole: 'orx db check FILE' tells"));
    }
    let conn = Connection::open_with_flags(&to, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.execute_batch(&format!("BEGIN; {}; COMMIT; PRAGMA journal_mode=WAL", sql!("backup_open")))?;
    Ok(to)
}

/// The refusal to use a backup as a store.
pub(super) fn is_backup(path: &Path) -> Error {
    Error::unavailable(format!("{} is a backup, not a store", path.display()))
        .hint("'orx db restore FILE' makes a store of it, and 'orx db check FILE' checks it")
        .lasting()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_killed_backup_goes_with_the_next_and_what_is_alive_stays() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(format!("{PART}{name}"));
            private::make_dir(&path).unwrap();
            std::fs::write(path.join("copy"), "x").unwrap();
            path
        };
        let (dead, alive, other) = (make("dead"), make("alive"), dir.path().join("orx-backup-mine"));
        private::make_dir(&other).unwrap();
        let lock = File::open(&alive).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let made = Timestamp(std::fs::metadata(&dead).unwrap().mtime() * 1000);
        let left = || [&dead, &alive, &other].map(|path| path.exists());
        sweep(dir.path(), made);
        assert_eq!(left(), [true, true, true], "it may be about to be locked");
        sweep(dir.path(), made.plus(STALE).plus(Span::from_secs(2)));
        assert_eq!(left(), [false, true, true]);
    }
}
