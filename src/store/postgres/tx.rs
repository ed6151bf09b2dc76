//! One transaction as an Op sees it: what it writes is gathered and sent in one breath.
//!
//! Writes that answer nothing wait in the [`Buffer`] until the end or until something is read that they could change, so
//! that an Op on a hundred jobs costs as many round trips as an Op on one.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use super::buffer::Buffer;
use super::conn::{Call, Conn, Failure, Param, values};
use super::fault::Fault;
use super::sql;
use super::watch::{Moment, Watch};
use crate::error::{Error, Kind, Result};
use crate::job::{LaneId, Number, Record};
use crate::store::{MovedRuns, Topics, Tx};
use crate::time::{Clock, Span, Timestamp};

/// How often a lane is made active again in vain.
const MAX_TRIES: u32 = 10;

/// What the transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It sees one moment and writes nothing.
    Read,
    /// It locks what it reads.
    Write,
    /// It writes output, which may be lost with the server's last moments (S28).
    Output,
}

/// One transaction.
pub(super) struct PgTx<'c> {
    pub(super) conn: &'c mut Conn,
    pub(super) mode: Mode,
    pub(super) buffer: Buffer,
    /// What happened to runs and is to be looked at yet.
    pub(super) moved: MovedRuns,
    /// Jobs that this transaction has locked and nobody waits for.
    pub(super) unneeded: HashSet<Number>,
    /// Jobs that this transaction has locked and read, and not given away yet.
    pub(super) locked: HashMap<Number, Record>,
    /// Overdue jobs, found together with those that are due.
    pub(super) overdue: Option<Vec<Number>>,
    kept_active: HashSet<LaneId>,
    now: Timestamp,
    moment: Moment,
    /// The server's number for it; none for one that only reads.
    id: Option<i64>,
    topics: Topics,
    fault: Option<Fault>,
}

impl<'c> PgTx<'c> {
    /// Begins it, and reads the clock in the same round trip.
    pub(super) fn begin(
        conn: &'c mut Conn,
        mode: Mode,
        clock: &dyn Clock,
        watch: &Mutex<Watch>,
    ) -> Result<Self, Failure> {
        let begin = match mode {
            Mode::Read => concat!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;", sql!("begin_read")),
            Mode::Write => concat!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;", sql!("begin")),
            Mode::Output => {
                concat!(
                    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit TO off;",
                    sql!("begin")
                )
            }
        };
        let before = clock.boot();
        let rows = conn.simple(begin)?;
        let cell = |i: usize| rows.first().and_then(|row| row.get(i)?.as_ref()?.parse().ok());
        let now = Timestamp(cell(0).unwrap_or_default());
        let moment = watch.lock().unwrap_or_else(PoisonError::into_inner).note(&before, now, clock.boot());
        Ok(Self {
            conn,
            mode,
            buffer: Buffer::default(),
            moved: MovedRuns::default(),
            unneeded: HashSet::new(),
            locked: HashMap::new(),
            overdue: None,
            kept_active: HashSet::new(),
            now,
            moment,
            id: cell(1),
            topics: Topics::NONE,
            fault: None,
        })
    }

    pub(super) fn id(&self) -> Option<i64> {
        self.id
    }

    /// The boot clock's id and reading when it began; no id where the reading was not precise.
    pub(super) fn boot_mark(&self) -> (String, i64) {
        (self.moment.boot.boot.clone(), self.moment.boot.ms)
    }

    /// Whether the server's clock jumped a short while ago.
    pub(super) fn clock_is_in_doubt(&self) -> bool {
        self.moment.doubt
    }

    /// When a lease given now for `ttl` runs out, by the server's clock.
    pub(super) fn expiry(&self, ttl: Span) -> i64 {
        self.now.0.saturating_add(ttl.as_millis())
    }

    pub(super) fn writes(&self) -> bool {
        self.mode != Mode::Read
    }

    /// What the first failure means; none: the database did all it was told.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    pub(super) fn topics(&self) -> Topics {
        self.topics
    }

    fn note(&mut self, failure: Failure) -> Error {
        self.fault.get_or_insert(failure.fault);
        failure.error
    }

    /// Runs statements in one breath; gives the rows of each.
    pub(super) fn run(&mut self, calls: &[Call]) -> Result<Vec<Vec<Row>>> {
        self.conn.run(calls).map_err(|failure| self.note(failure))
    }

    /// The rows of one statement.
    pub(super) fn rows(&mut self, sql: &'static str, params: Vec<Param>) -> Result<Vec<Row>> {
        Ok(self.run(&[Call::new(sql, params)])?.pop().unwrap_or_default())
    }

    /// The rows of a statement made at run time.
    pub(super) fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        self.conn.query(sql, params).map_err(|failure| self.note(failure))
    }

    /// The first column of each row.
    pub(super) fn column<T: FromSqlOwned>(&mut self, sql: &'static str, params: Vec<Param>) -> Result<Vec<T>> {
        self.rows(sql, params)?.iter().map(|row| get(row, 0)).collect()
    }

    /// Sends what was gathered. Whoever reads what it could change calls it first, or reads by [`PgTx::read`].
    pub(super) fn flush(&mut self) -> Result<()> {
        self.read(Vec::new()).map(|_| ())
    }

    /// Sends what was gathered and then `reads`, in one breath; gives the rows of the reads.
    pub(super) fn read(&mut self, reads: Vec<Call>) -> Result<Vec<Vec<Row>>> {
        let mut calls = self.buffer.take(self.now);
        let awake: Vec<LaneId> =
            self.buffer.take_awake().into_iter().filter(|lane| !self.kept_active.contains(lane)).collect();
        if !awake.is_empty() {
            calls.extend(keep_active(&awake));
        }
        let written = calls.len();
        calls.extend(reads);
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = self.run(&calls)?;
        for (call, rows) in calls.iter().zip(&answers) {
            if let Some((meant, kind, complaint)) = call.meant
                && rows.len() != meant
            {
                return Err(Error::new(kind, complaint));
            }
        }
        let read = answers.split_off(written);
        if !awake.is_empty() {
            self.make_sure(&awake, answers.pop().unwrap_or_default())?;
        }
        Ok(read)
    }

    /// The rows of one statement, after what was gathered.
    pub(super) fn read_one(&mut self, sql: &'static str, params: Vec<Param>) -> Result<Vec<Row>> {
        Ok(self.read(vec![Call::new(sql, params)])?.pop().unwrap_or_default())
    }

    /// Somebody may have found a lane idle between making it active and keeping it so.
    fn make_sure(&mut self, lanes: &[LaneId], mut active: Vec<Row>) -> Result<()> {
        let mut tries = 0;
        while !all_true(&active)? {
            tries += 1;
            if tries > MAX_TRIES {
                return Err(Error::unavailable("a lane cannot be kept active"));
            }
            active = self.run(&keep_active(lanes))?.pop().unwrap_or_default();
        }
        self.kept_active.extend(lanes);
        Ok(())
    }

    /// Ends a moment of reading and begins the next.
    pub(super) fn renew_moment(&mut self) -> Result<()> {
        if self.mode == Mode::Read {
            let again = concat!("COMMIT;BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;", sql!("begin_read"));
            self.conn.simple(again).map_err(|failure| self.note(failure))?;
        }
        Ok(())
    }

    /// Waits for whoever asks for the same word at this moment, so that each sees what the other did.
    pub(super) fn one_at_a_time(&mut self, kind: &'static str, tenant: &str, word: &str) -> Result<()> {
        if self.writes() {
            self.rows(sql!("keys_lock"), values![kind, tenant.to_owned(), word.to_owned()])?;
        }
        Ok(())
    }
}

/// Makes lanes active, and keeps others from finding them idle until the transaction ends.
fn keep_active(lanes: &[LaneId]) -> [Call; 2] {
    let call = |sql| Call::new(sql, values![lanes.to_vec()]);
    [call(sql!("lanes_activate")), call(sql!("lanes_share"))]
}

fn all_true(rows: &[Row]) -> Result<bool> {
    let flags: Vec<bool> = rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    Ok(flags.into_iter().all(|flag| flag))
}

impl Tx for PgTx<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn wake(&mut self, topics: Topics) {
        self.topics = self.topics | topics;
    }
}

/// A column.
pub(super) fn get<T: FromSqlOwned>(row: &Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|e| damaged().source(e))
}

/// A count or similar that is never negative.
pub(super) fn natural(row: &Row, index: usize) -> Result<u32> {
    u32::try_from(get::<i32>(row, index)?).map_err(|e| damaged().source(e))
}

/// The same of a column that may be null.
pub(super) fn maybe_natural(row: &Row, index: usize) -> Result<Option<u32>> {
    Ok(get::<Option<i32>>(row, index)?.map(|n| u32::try_from(n).unwrap_or_default()))
}

/// The time in a column that may be null.
pub(super) fn time(row: &Row, index: usize) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, index)?.map(Timestamp))
}

/// An enum's word.
pub(super) fn word<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    parse(text).ok_or_else(damaged)
}

pub(super) fn damaged() -> Error {
    Error::new(Kind::Corrupt, "a stored row cannot be read")
}

/// JSON that this program wrote itself, so anything else is damage.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| damaged().source(e))
}

/// The text of a value for a column.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::failed("a value cannot be stored").source(e))
}

/// Text of a job's or person's own making: PostgreSQL takes no NUL.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A number for a column.
pub(super) fn int(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
