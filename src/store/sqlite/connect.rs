//! Opening files: modes, pragmas, the version of SQLite, creation and migration under a lock.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;

use super::{Sqlite, backup, ballast, identity, placing, sql, wake};
use crate::error::{Error, Kind, Result};
use crate::mutant::{Mutant, planted};
use crate::private::{self, Beside};
use crate::store::migrate::{self, Plan, SCHEMA};
use crate::store::{copy, locks};

/// Older versions lose acknowledged rows when the owning process opens the file itself.
const MIN_SQLITE: i32 = 3_053_002;
/// "orx" in the header of the file, so that another program's database is never touched.
pub(super) const APPLICATION_ID: i32 = 0x006f_7278;
/// How long a writer waits for another process.
pub(super) const BUSY_LIMIT: Duration = Duration::from_secs(30);
/// What is kept of a log that one large transaction made longer, in bytes.
const LOG_LIMIT: u32 = 64 << 20;
/// How many pages of a log nobody else has open are read by each that opens it, before one writes them to the file.
const SHORT_LOG: i64 = 256;
const STATEMENTS: usize = 160;
pub(super) const MIGRATIONS: [(&str, &str); SCHEMA as usize] =
    [("0001_queue", include_str!("migrations/0001_queue.sql"))];
const OUTPUT_SCHEMA: (&str, &str) = ("output_0001", include_str!("migrations/output_0001.sql"));

/// Refuses a SQLite that is known to lose data, and sets it up.
pub(super) fn check_library() -> Result<()> {
    static QUIET: std::sync::Once = std::sync::Once::new();
    QUIET.call_once(|| {
        // SAFETY: called once, before the first connection of the process; the option takes one int. Where SQLite is
        // in use already it refuses, which is fine: without its statistics, allocations take no global lock.
        unsafe { rusqlite::ffi::sqlite3_config(rusqlite::ffi::SQLITE_CONFIG_MEMSTATUS, 0) };
    });
    let version = rusqlite::version_number();
    if version < MIN_SQLITE {
        return Err(Error::failed(format!(
            "SQLite {} is too old: this build needs 3.53.2 or newer",
            rusqlite::version()
        )));
    }
    Ok(())
}

/// Opens the queue's file for writing, making or migrating it where needed.
pub(super) fn open_queue(path: &Path) -> Result<Connection> {
    let conn = match open_unfinished(path) {
        Err(e) if e.kind() == Kind::Unavailable && ballast::lend(path).unwrap_or_default() => open_unfinished(path)?,
        opened => opened?,
    };
    match mark(&conn)?.as_deref() {
        Some(backup::MARK) => return Err(backup::is_backup(path)),
        Some(copy::MARK) => return Err(copy::unfinished(&path.display().to_string())),
        Some(_) => placing::clear(&conn, path)?,
        None => {}
    }
    // A disk that is full, or fails, is told of by whoever writes.
    let _ = shorten_log(&conn, path);
    Ok(conn)
}

/// The first mark that says that a file is no store, or not yet.
fn mark(conn: &Connection) -> Result<Option<String>> {
    Ok(conn.prepare_cached(sql!("meta_marks"))?.query_row([], |r| r.get(0)).optional()?)
}

/// The same of one that may be an unfinished copy.
pub(super) fn open_unfinished(path: &Path) -> Result<Connection> {
    let location = path.display().to_string();
    if !path.exists() {
        private::make_parent(path).map_err(|e| cannot_make(path, e))?;
        make_file(path)?;
    }
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|e| e.context(&location))?;
    let result = prepare(&conn, path, &location);
    result.map_err(|e| e.context(&location))?;
    Ok(conn)
}

/// Opens the file of a store that is in use once more, for renewals.
pub(super) fn open_renewals(path: &Path) -> Result<Connection> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    writer_pragmas(&conn, "FULL")?;
    Ok(conn)
}

fn prepare(conn: &Connection, path: &Path, location: &str) -> Result<()> {
    if version(conn)? != SCHEMA {
        let _lock = locks::wait(path, "migrate", BUSY_LIMIT)?;
        if own_tables(conn)? > 0 && mark(conn)?.as_deref() == Some(backup::MARK) {
            return Err(backup::is_backup(path)); // it stays as it is
        }
        migrate_queue(conn, location)?;
    }
    writer_pragmas(conn, "FULL")
}

/// Empties a long log that commands left which came and went: without anybody who has it open, each of them reads it all.
fn shorten_log(conn: &Connection, path: &Path) -> Result<()> {
    if wake::has_listeners(path) {
        return Ok(()); // who lives for long looks after it, and keeps what it read
    }
    let pages: i64 = conn.query_row("PRAGMA wal_checkpoint(NOOP)", [], |r| r.get(1))?;
    if pages > SHORT_LOG {
        conn.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")?;
    }
    Ok(())
}

fn writer_pragmas(conn: &Connection, synchronous: &str) -> Result<()> {
    // No spilling, and checkpoints that are not too frequent: a transaction of 10,000 jobs would write its pages twice.
    conn.execute_batch(&format!(
        "PRAGMA synchronous={synchronous}; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8000; PRAGMA cache_spill=0; PRAGMA wal_autocheckpoint=4000; PRAGMA journal_size_limit={LOG_LIMIT};"
    ))?;
    Ok(())
}

/// Opens the file for output of a store, which an outcome never waits for.
pub(super) fn open_output(store: &Path) -> Result<Connection> {
    let path = &Sqlite::output_path(store);
    if !path.exists() && make_file(path)? {
        Beside::of(store).give(path);
    }
    let conn = open_beside(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|e| e.context(path.display()))?;
    if version(&conn)? == 0 {
        let _lock = locks::wait(path, "migrate", BUSY_LIMIT)?;
        if version(&conn)? == 0 {
            create(&conn, &[OUTPUT_SCHEMA], 1)?; // no other process was faster
        }
    }
    writer_pragmas(&conn, "NORMAL")?;
    Ok(conn)
}

/// Opens a file for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    read_only(path, open)
}

fn read_only(path: &Path, open: impl Fn(&Path, OpenFlags) -> Result<Connection>) -> Result<Connection> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| open(path, OpenFlags::SQLITE_OPEN_READ_ONLY))
        .map_err(|e| e.context(path.display()))?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.execute_batch("PRAGMA query_only=1")?;
    Ok(conn)
}

/// Opens the file for output for reading; none when another process is only about to make its table.
pub(super) fn open_output_reader(path: &Path) -> Result<Option<Connection>> {
    let conn = read_only(path, open_beside)?;
    Ok((version(&conn)? > 0).then_some(conn))
}

/// A queue and an output store in memory.
pub(super) fn memory() -> Result<(Connection, Connection)> {
    let (queue, output) = (Connection::open_in_memory()?, Connection::open_in_memory()?);
    set_up(&queue)?;
    set_up(&output)?;
    for (_, step) in MIGRATIONS {
        queue.execute_batch(step)?;
    }
    output.execute_batch(OUTPUT_SCHEMA.1)?;
    Ok((queue, output))
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection> {
    identity::refuse_links(path)?;
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    identity::note(path);
    let conn = Connection::open_with_flags(path, flags).map_err(|e| explained(e, path))?;
    set_up(&conn)?;
    Ok(conn)
}

/// The same of a file beside a store, which may be no link: who may write to the directory could mean any file by it.
fn open_beside(path: &Path, access: OpenFlags) -> Result<Connection> {
    // SQLite looks for links on the whole way there.
    let dir = path.parent().and_then(|dir| dir.canonicalize().ok()).unwrap_or_default();
    open(&dir.join(path.file_name().unwrap_or_default()), access | OpenFlags::SQLITE_OPEN_NOFOLLOW)
}

/// Says what is wrong with a file that cannot be opened, where that can be seen.
fn explained(error: rusqlite::Error, path: &Path) -> Error {
    let (error, me) = (Error::from(error), rustix::process::geteuid());
    match path.symlink_metadata() {
        _ if error.kind() != Kind::Unavailable || error.hint_text().is_some() => error,
        Ok(meta) if meta.is_symlink() => error.hint("it is a symbolic link"),
        Ok(meta) if meta.uid() != me.as_raw() && !me.is_root() => {
            error.hint(format!("it belongs to user {}, and its mode is {:03o}", meta.uid(), meta.mode() & 0o777))
        }
        _ => error,
    }
}

fn set_up(conn: &Connection) -> Result<()> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Stable plans: otherwise statements with a range are planned anew for each value that is bound.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Makes an empty file that only its owner can read, unless somebody else was faster; SQLite gives its side files the same
/// mode.
///
/// The file is not opened for it: whoever closes a file drops all locks that SQLite holds on it in this process.
fn make_file(path: &Path) -> Result<bool> {
    match mknodat(CWD, path, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(cannot_make(path, e.into())),
    }
}

fn cannot_make(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot make the store {}", path.display()))
        .source(error)
        .hint("name another place with --store or ORX_STORE")
}

pub(super) fn version(conn: &Connection) -> Result<u32> {
    Ok(conn.query_row("PRAGMA user_version", [], |r| r.get(0))?)
}

/// Writes the first page as it is: what a transaction needs to be more than nothing.
pub(super) fn rewrite_version(conn: &Connection) -> Result<()> {
    let version = version(conn)?;
    Ok(conn.execute_batch(&format!("PRAGMA user_version={version}"))?)
}

/// How many tables there are, all of them made by orx.
fn own_tables(conn: &Connection) -> Result<i64> {
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let application: i32 = conn.query_row("PRAGMA application_id", [], |r| r.get(0))?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(Error::new(Kind::Corrupt, "this is a database of another program")
            .hint("name another place with --store or ORX_STORE"));
    }
    Ok(tables)
}

/// The schema of the store at `path`, which is left as it is; 0 where there is none.
pub(super) fn version_at(path: &Path) -> Result<u32> {
    if !path.exists() {
        return Ok(0);
    }
    let conn = open_reader(path)?;
    let version = own_tables(&conn).and_then(|_| version(&conn));
    version.map_err(|e| e.context(path.display()))
}

fn migrate_queue(conn: &Connection, location: &str) -> Result<()> {
    let version = version(conn)?; // again: another process may have been faster
    let tables = own_tables(conn)?;
    let min_compatible = match tables {
        0 => 0,
        _ => conn.query_row(sql!("meta_find"), ["min_compatible"], |r| {
            Ok(r.get::<_, String>(0)?.parse().unwrap_or(u32::MAX))
        })?,
    };
    match migrate::plan(version, min_compatible, location)? {
        Plan::Use => Ok(()),
        Plan::MigrateFrom(from) => create(conn, &MIGRATIONS[from as usize..], SCHEMA),
    }
}

/// Runs schema steps in one transaction; the caller holds the migration lock.
fn create(conn: &Connection, steps: &[(&str, &str)], version: u32) -> Result<()> {
    conn.busy_timeout(BUSY_LIMIT)?;
    // Both must come before the first table.
    conn.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")?;
    let steps: String = steps.iter().map(|(_, text)| *text).collect();
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE; {steps} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={version}; COMMIT;"
    ))
    .inspect_err(|_| {
        let _ = conn.execute_batch("ROLLBACK"); // nothing of a failed step stays
    })?;
    conn.busy_timeout(Duration::ZERO)?;
    Ok(())
}

/// Begins a writing transaction, waiting for other processes with short jittered pauses.
///
/// SQLite's own busy handler is unfair (waits up to 0.5 s among four processes), and a deferred
/// transaction that turns into a writing one fails at once without asking it.
pub(super) fn begin(conn: &Connection) -> Result<()> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(100);
    let sql = if planted(Mutant::DeferredBegin) { "BEGIN" } else { "BEGIN IMMEDIATE" };
    loop {
        match conn.prepare_cached(sql).and_then(|mut s| s.execute([])) {
            Ok(_) => return Ok(()),
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                if started.elapsed() > BUSY_LIMIT {
                    return Err(Error::unavailable("another process has kept the store locked for 30 s")
                        .hint("'orx doctor' names it")
                        .for_everyone());
                }
                let chance = started.elapsed().subsec_nanos() % 1000;
                std::thread::sleep(pause.mul_f64(0.5 + f64::from(chance) / 1000.0));
                pause = (pause * 2).min(Duration::from_millis(4));
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether a write failed that would have made a file larger than this process may write (EFBIG): it has no more room.
pub(super) fn is_over_file_limit(error: &rusqlite::Error) -> bool {
    let limited = rustix::process::getrlimit(rustix::process::Resource::Fsize).current.is_some();
    let code = error.sqlite_error().map(|error| error.extended_code);
    limited && code == Some(rusqlite::ffi::SQLITE_IOERR_WRITE)
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        let unavailable = |what: &str| Error::unavailable(what.to_owned());
        let it = match code {
            Some(ErrorCode::DiskFull) => {
                unavailable("the disk is full").hint("make room; nothing that was acknowledged is lost").for_everyone()
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                unavailable("the store is busy").for_everyone()
            }
            Some(ErrorCode::ReadOnly) => unavailable("the store cannot be written"),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => unavailable("the store cannot be opened"),
            Some(ErrorCode::SystemIoFailure) if is_over_file_limit(&error) => unavailable("the disk is full")
                .hint("this process may not write larger files: raise `ulimit -f`")
                .for_everyone(),
            Some(ErrorCode::SystemIoFailure) => unavailable("the disk failed to read or write").for_everyone(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::new(Kind::Corrupt, "the store is damaged or is no orx store")
                    .hint("restore a backup, or name another place with --store")
            }
            Some(ErrorCode::ConstraintViolation) => Error::new(Kind::Corrupt, "the store refused an impossible row"),
            _ => Error::failed("a statement failed"),
        };
        it.source(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_first_output_of_several_at_once_makes_the_file_once() {
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("orx.db");
            let start = Barrier::new(4);
            let open = || {
                start.wait();
                open_output(&path).map(drop)
            };
            std::thread::scope(|scope| {
                let all = [(); 4].map(|()| scope.spawn(open));
                all.into_iter().for_each(|one| one.join().unwrap().unwrap());
            });
        }
    }
}
