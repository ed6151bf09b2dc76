//! Backups put back, and what of a store must be another one then: whoever worked for the store of before may come back.
//!
//! What a copy of a store knows nothing of is what its original did since. A worker, a coordinator or a leader of that one
//! must find nothing in the copy that goes by the same number, so all numbers to come lie far past those of the original:
//! attempts (the fence), jobs, runs, events, and the epochs of leaders.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::copy::Load;
use super::{Finding, Location, postgres, sqlite};
use crate::error::{Error, Result};
use crate::job::Number;
use crate::time::Timestamp;

/// How far attempts and epochs of a copy lie past those of its original; other numbers so far at least.
pub const LEAP: i64 = 1_000_000;
/// How far they lie past those of the original at most.
pub const MAX_LEAP: i64 = 1_000_000_000_000;
/// The setting that keeps the [`Floor`].
pub(super) const FLOOR: &str = "floor";
/// The key of `meta` that has the id of the store.
pub(super) const ID: &str = "store";

/// Below which no attempt of an older job is leased: its original may have given those numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The attempt.
    pub attempt: u32,
    /// The last of the older jobs.
    pub through: Number,
}

impl Floor {
    /// The one in a setting. One that cannot be read is none: a store must not stand still for it.
    pub(super) fn read(setting: Option<&str>) -> Self {
        setting.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// That of the job `number`.
    pub fn of(self, number: Number) -> u32 {
        if number <= self.through { self.attempt } else { 0 }
    }
}

/// How a store becomes another one.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// Its id from now on.
    pub id: Uuid,
    /// When that is.
    pub at: Timestamp,
    /// By what: `restore`, `copy` or `in_place`.
    pub by: &'static str,
    /// Who asked for it.
    pub actor: String,
}

/// What became of a store, as its audit trail tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// Its id.
    pub store: String,
    /// The id of the store that it was made of.
    pub from: Option<String>,
    /// By what.
    pub by: String,
    /// Attempts of older jobs go on above this.
    pub attempts: u32,
    /// Jobs go on above this.
    pub jobs: i64,
    /// Epochs of leaders go on above this.
    pub epochs: i64,
}

/// A table of a backup, as its manifest tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The table.
    pub table: String,
    /// How many rows it has.
    pub rows: u64,
    /// A sum of their digests.
    pub checksum: String,
}

/// Compares a backup with its manifest, and looks at its rows as at those of a store.
///
/// # Errors
/// `NotFound` where there is none, `Usage` when it is no backup, `Corrupt` when it cannot even be opened.
pub fn check(backup: &Path) -> Result<Vec<Finding>> {
    sqlite::backup::check(backup)
}

/// Makes a store of a backup in `dir`, which nobody else uses, and gives where it is.
///
/// # Errors
/// As [`check`]; `Corrupt` when the backup is not what its manifest says; `Unavailable` when it cannot be written.
pub fn unpack(backup: &Path, dir: &Path) -> Result<PathBuf> {
    sqlite::backup::unpack(backup, dir)
}

/// Makes another store of the one at `location`.
///
/// # Errors
/// `Unavailable` when it cannot be written.
pub fn renew(location: &Location, renewal: &Renewal) -> Result<Renewed> {
    let mut store: Box<dyn Load> = match location {
        Location::File(path) => Box::new(sqlite::Copying::existing(path)?),
        Location::Server(place) => Box::new(postgres::Copying::existing(place)?),
        _ => return Err(nowhere()),
    };
    store.finish(renewal, None)
}

/// The place in which a store is made before it is put at `target`, and the lock that keeps others from doing the same.
pub use sqlite::placing::Workshop;

/// What can be neither restored nor renewed.
pub fn nowhere() -> Error {
    Error::usage("a backup is restored to a file or a PostgreSQL server").hint("--store or ORX_STORE names it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_jobs_have_a_floor() {
        let floor = Floor::read(Some(r#"{"attempt":1000003,"through":7}"#));
        assert_eq!([floor.of(1), floor.of(7), floor.of(8)], [1_000_003, 1_000_003, 0]);
        assert_eq!([Floor::read(None), Floor::read(Some("{"))], [Floor::default(); 2]);
        assert_eq!(Floor::default().of(1), 0);
    }
}
