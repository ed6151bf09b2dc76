//! One transaction as an Op sees it, and the small conversions that all roles share.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{CachedStatement, Connection, Params, Row};
use uuid::Uuid;

use crate::error::{Error, Kind, Result};
use crate::job::{Captured, JobId, LaneId, RunId, RunState, WorkerId};
use crate::store::counts::Counts;
use crate::store::{MovedRuns, Topics, Tx};
use crate::time::{BootTime, Clock, Span, Timestamp};

/// What a transaction can get at beside the queue.
pub(super) enum Reach<'c> {
    /// It reads; output too, where there is any.
    Read(Option<&'c Connection>),
    /// It writes the queue.
    Queue,
    /// It writes output, and reads the queue for its fences.
    Output(&'c Connection),
}

/// One transaction.
pub(super) struct SqliteTx<'c> {
    pub(super) queue: &'c Connection,
    pub(super) reach: Reach<'c>,
    pub(super) counts: Counts,
    /// What happened to runs and is to be looked at yet.
    pub(super) moved: MovedRuns,
    /// What surrounded the job stored last, and its text.
    pub(super) captured: Option<(Arc<Captured>, Option<Arc<str>>)>,
    /// How many more jobs run in lanes whose queue or tenant has a limit.
    pub(super) limited: BTreeMap<LaneId, i64>,
    /// The place of the event appended last.
    pub(super) last_seq: i64,
    now: Timestamp,
    boot: BootTime,
    topics: Topics,
    broken: bool,
}

impl<'c> SqliteTx<'c> {
    pub(super) fn new(queue: &'c Connection, reach: Reach<'c>, clock: &dyn Clock) -> Self {
        Self {
            queue,
            reach,
            counts: Counts::default(),
            moved: MovedRuns::default(),
            captured: None,
            limited: BTreeMap::new(),
            last_seq: 0,
            now: clock.now(),
            boot: clock.boot(),
            topics: Topics::NONE,
            broken: false,
        }
    }

    pub(super) fn boot(&self) -> &BootTime {
        &self.boot
    }

    /// When a lease given now for `ttl` runs out, in milliseconds of this boot.
    pub(super) fn expiry(&self, ttl: Span) -> i64 {
        self.boot.ms.saturating_add(ttl.as_millis())
    }

    /// What the work has touched. Where fewer jobs run than before, there may be room for one that another worker waits for.
    pub(super) fn take_topics(&mut self) -> Topics {
        let room = std::mem::take(&mut self.limited).into_values().any(|change| change < 0);
        std::mem::take(&mut self.topics) | if room { Topics::WORK } else { Topics::NONE }
    }

    /// Drops what a failed work left behind.
    pub(super) fn forget(&mut self) {
        self.counts.clear();
        self.moved.clear();
        self.limited.clear();
        self.topics = Topics::NONE;
    }

    /// Whether the database failed in a way that ends the whole transaction.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn note(&mut self, error: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
        self.broken |= matches!(error.sqlite_error_code(), Some(DiskFull | SystemIoFailure));
        error.into()
    }

    pub(super) fn statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'c>> {
        self.queue.prepare_cached(sql)
    }

    /// Runs a statement; gives the number of rows it changed.
    pub(super) fn execute(&mut self, sql: &str, params: impl Params) -> Result<usize> {
        let done = self.statement(sql).and_then(|mut s| s.execute(params));
        done.map_err(|e| self.note(e))
    }

    /// All rows of a statement.
    pub(super) fn all<T>(
        &mut self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = self.statement(sql).and_then(|mut s| s.query_map(params, read)?.collect());
        rows.map_err(|e| self.note(e))
    }

    /// The first row of a statement, if there is one.
    pub(super) fn first<T>(
        &mut self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let row = self.statement(sql).and_then(|mut s| s.query_row(params, read));
        match row {
            Ok(row) => Ok(Some(row)),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(e) => Err(self.note(e)),
        }
    }
}

impl Tx for SqliteTx<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn wake(&mut self, topics: Topics) {
        self.topics = self.topics | topics;
    }
}

/// A column that is an enum's word, an id or a time.
pub(super) struct Column<T>(pub(super) T);

impl FromSql for Column<JobId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        uuid(value).map(|id| Self(JobId(id)))
    }
}

impl FromSql for Column<WorkerId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        uuid(value).map(|id| Self(WorkerId(id)))
    }
}

impl FromSql for Column<RunId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        uuid(value).map(|id| Self(RunId(id)))
    }
}

impl FromSql for Column<RunState> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        word(value, RunState::parse)
    }
}

impl FromSql for Column<Timestamp> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(|ms| Self(Timestamp(ms)))
    }
}

impl FromSql for Column<crate::job::State> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        word(value, crate::job::State::parse)
    }
}

impl FromSql for Column<crate::job::plan::SkipReason> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        word(value, crate::job::plan::SkipReason::parse)
    }
}

/// Text of people and programs, to be shown: what of it is no UTF-8 stands for itself.
pub(super) struct Lossy(pub(super) String);

impl FromSql for Lossy {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_bytes().map(|bytes| Self(String::from_utf8_lossy(bytes).into_owned()))
    }
}

fn uuid(value: ValueRef<'_>) -> FromSqlResult<Uuid> {
    Uuid::from_slice(value.as_blob()?).map_err(|e| FromSqlError::Other(Box::new(e)))
}

fn word<T>(value: ValueRef<'_>, parse: impl Fn(&str) -> Option<T>) -> FromSqlResult<Column<T>> {
    parse(value.as_str()?).map(Column).ok_or(FromSqlError::InvalidType)
}

/// The id in a column.
pub(super) fn uuid_of(row: &Row, index: usize) -> rusqlite::Result<Uuid> {
    row.get::<_, Column<JobId>>(index).map(|c| c.0.0)
}

/// Text to be shown, in a column that may be null.
pub(super) fn text(row: &Row, index: usize) -> rusqlite::Result<Option<String>> {
    Ok(row.get::<_, Option<Lossy>>(index)?.map(|text| text.0))
}

/// The time in a column that may be null.
pub(super) fn time(row: &Row, index: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(Timestamp))
}

/// JSON that this program wrote itself, so anything else is damage.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::new(Kind::Corrupt, "a stored row cannot be read").source(e))
}

/// The text of a value for a column.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::failed("a value cannot be stored").source(e))
}
