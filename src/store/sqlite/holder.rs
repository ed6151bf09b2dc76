//! Who holds the lock that a database is written under.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::doubt::roll_back;
use super::identity;
use crate::error::Result;
use crate::store::Holder;

/// The byte of the shared memory that is locked by whoever writes (WAL_WRITE_LOCK of SQLite's wal.c and os_unix.c).
const WRITES: u64 = 120;
/// For so long nobody has written when somebody is said to hold the store. Transactions of orx are shorter by far.
const LONG: Duration = Duration::from_secs(2);
/// How long it is looked at a store that is written all the time.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Looks who keeps others from writing to `path`; none: `conn` can write, or somebody else does.
pub(super) fn find(path: &Path, conn: &Connection) -> Result<Option<Holder>> {
    let (begun, mut since) = (Instant::now(), Instant::now());
    let mut seen = None;
    while begun.elapsed() < LIMIT {
        match conn.execute_batch("BEGIN IMMEDIATE") {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            // Where something else is wrong, whoever writes is told of it.
            _ => {
                roll_back(conn);
                return Ok(None);
            }
        }
        // Changes with each commit of others.
        let version = conn.query_row("PRAGMA data_version", [], |r| r.get::<_, i64>(0))?;
        if seen.replace(version) != Some(version) {
            since = Instant::now();
        }
        if since.elapsed() >= LONG {
            return Ok(Some(Holder::of(locker(path))));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(None)
}

/// The process that has locked the database at `path` for writing, as the kernel tells it. The file is not opened for it:
/// closing it would drop the locks of this process.
fn locker(path: &Path) -> Option<u32> {
    let inode = identity::of(&identity::shared_memory(path))?.inode();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| writer_of(line, inode))
}

/// The processes that hold any lock on the file `inode`, but this one.
pub(super) fn users(inode: u64) -> BTreeSet<u32> {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let user = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "POSIX", _, _, pid, file, ..] = words.as_slice() else { return None };
        (file.rsplit(':').next()?.parse() == Ok(inode)).then(|| pid.parse().ok()).flatten()
    };
    locks.lines().filter_map(user).filter(|pid| ![0, std::process::id()].contains(pid)).collect()
}

/// The process of a line of /proc/locks, if that is the lock for writing of the shared memory `inode`.
fn writer_of(line: &str, inode: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, "POSIX", _, "WRITE", pid, file, first, last] = words.as_slice() else { return None };
    // Not by its device: file systems with subvolumes or layers tell another one here.
    let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
    let range = first.parse().ok()?..=last.parse().unwrap_or(u64::MAX);
    (is_it && range.contains(&WRITES)).then(|| pid.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_for_writing_is_told_from_others() {
        for (line, pid) in [
            ("1: POSIX  ADVISORY  WRITE 11525 fe:00:77 120 120", Some(11525)),
            ("1: POSIX  ADVISORY  WRITE 11525 fe:00:77 120 121", Some(11525)),
            ("1: POSIX  ADVISORY  WRITE 11525 fe:00:77 0 EOF", Some(11525)),
            ("1: POSIX  ADVISORY  WRITE 11525 fe:00:77 121 121", None),
            ("1: POSIX  ADVISORY  READ 11525 fe:00:77 120 120", None),
            ("1: -> POSIX  ADVISORY  WRITE 11525 fe:00:77 120 120", None),
            ("1: POSIX  ADVISORY  WRITE 11525 fe:00:78 120 120", None),
            ("1: OFDLCK ADVISORY  WRITE -1 fe:00:77 120 120", None),
            ("", None),
        ] {
            assert_eq!(writer_of(line, 77), pid, "{line}");
        }
    }

    #[test]
    fn who_holds_a_database_is_known_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orx.db");
        let [one, other] = [(); 2].map(|()| Connection::open(&path).unwrap());
        one.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x)").unwrap();
        assert_eq!(find(&path, &other).unwrap(), None);
        one.execute_batch("BEGIN IMMEDIATE").unwrap();
        let holder = find(&path, &other).unwrap().unwrap();
        assert_eq!((holder.pid, holder.stopped), (Some(std::process::id()), false));
        assert!(!holder.command.is_empty());
        one.execute_batch("COMMIT").unwrap();
        assert_eq!(find(&path, &other).unwrap(), None);
    }
}
