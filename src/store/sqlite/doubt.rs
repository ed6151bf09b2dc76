//! Commits that failed, and may come true all the same.
//!
//! When the sync of a commit fails, its frames are in the log already. SQLite forgets them, and the next commit of any
//! process takes their place; but if there is none before the log is read anew (the first process after all others have
//! ended does that), they count. So after such a failure nothing may be said before something else has been committed.

use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, ErrorCode};

use super::connect;
use crate::error::{Error, Result};
use crate::store::Written;

/// Whether the last commit of a connection is in doubt. Its users hold the connection's lock.
#[derive(Default)]
pub(super) struct Doubt(AtomicBool);

impl Doubt {
    /// Begins a writing transaction; after a failed commit one that takes its place.
    pub(super) fn begin(&self, conn: &Connection) -> Result<()> {
        connect::begin(conn)?;
        if self.is_open() {
            connect::rewrite_version(conn).inspect_err(|_| roll_back(conn))?;
        }
        Ok(())
    }

    /// Whether something else has to be committed, whatever becomes of it.
    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The commit came back.
    pub(super) fn committed(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// The commit did not: what is known of it.
    pub(super) fn failed(&self, conn: &Connection, error: rusqlite::Error) -> Written {
        roll_back(conn); // so that the next transaction can begin
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull) || connect::is_over_file_limit(&error);
        let error = Error::from(error);
        if full {
            return Written::Nothing(error); // its last frame had no room, and the others are nothing without it
        }
        self.0.store(true, Ordering::Relaxed);
        Written::Unknown(error)
    }
}

/// Ends a transaction that failed.
pub(super) fn roll_back(conn: &Connection) {
    let _ = conn.execute_batch("ROLLBACK"); // SQLite may have done it already
}
