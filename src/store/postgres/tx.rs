//! One transaction as an Op sees it: what it writes is gathered and sent in one breath.
//!
//! Writes that answer nothing wait in the [`Buffer`] until the end or until something is read that they could change, so
//! that an Op on a hundred jobs costs as many round trips as an Op on one.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use super::buffer::Buffer;
use super::conn::{Call, Conn, Failure, Param, values};
use super::fault::Fault;
use super::foreseen::{Foreseen, Habits};
use super::sql;
use super::watch::{Moment, Watch};
use crate::error::{Error, Kind, Result};
use crate::job::{LaneId, Number, Record};
use crate::store::{Foresight, Lease, MovedRuns, Topics, Tx};
use crate::time::{Clock, Span, Timestamp};

/// What the transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It sees one moment and writes nothing.
    Read,
    /// It locks what it reads.
    Write,
    /// It renews leases.
    Renewal,
    /// It writes output, which may be lost with the server's last moments (S28).
    Output,
}

/// One transaction.
pub(super) struct PgTx<'c> {
    conn: RefCell<&'c mut Conn>,
    pub(super) mode: Mode,
    clock: &'c dyn Clock,
    watch: &'c Mutex<Watch>,
    pub(super) habits: &'c Mutex<Habits>,
    pub(super) buffer: Buffer,
    /// What happened to runs and is to be looked at yet.
    pub(super) moved: MovedRuns,
    /// Jobs that this transaction has locked and nobody waits for.
    pub(super) unneeded: HashSet<Number>,
    /// Jobs that this transaction has locked and read, and not given away yet.
    pub(super) locked: HashMap<Number, Record>,
    /// The leases of jobs that it has locked, where nothing was done to them since.
    pub(super) leases: HashMap<Number, Option<Lease>>,
    /// Overdue jobs, found together with those that are due.
    pub(super) overdue: Option<Vec<Number>>,
    /// A lane that was found without a limit on queued jobs a moment ago.
    pub(super) unlimited: Option<LaneId>,
    /// What was read before it was asked for.
    pub(super) foreseen: Foreseen,
    kept_active: HashSet<LaneId>,
    begun: OnceCell<Begun>,
    topics: Topics,
    fault: Cell<Option<Fault>>,
}

/// What is known of a transaction since it began.
struct Begun {
    now: Timestamp,
    moment: Moment,
    /// The server's number for it; none for one that only reads.
    id: Option<i64>,
}

impl<'c> PgTx<'c> {
    /// A transaction that begins with its first statement, in the same breath.
    pub(super) fn new(
        conn: &'c mut Conn,
        mode: Mode,
        clock: &'c dyn Clock,
        watch: &'c Mutex<Watch>,
        habits: &'c Mutex<Habits>,
    ) -> Self {
        Self {
            conn: RefCell::new(conn),
            mode,
            clock,
            watch,
            habits,
            buffer: Buffer::default(),
            moved: MovedRuns::default(),
            unneeded: HashSet::new(),
            locked: HashMap::new(),
            leases: HashMap::new(),
            overdue: None,
            unlimited: None,
            foreseen: Foreseen::default(),
            kept_active: HashSet::new(),
            begun: OnceCell::new(),
            topics: Topics::NONE,
            fault: Cell::new(None),
        }
    }

    /// Ends it: sends what was gathered, commits, and tells others by `notice` what was touched, all in one breath.
    ///
    /// # Errors
    /// As [`Conn::commit`]; of one that has an id, [`Fault::Gone`] leaves open whether it was committed.
    pub(super) fn commit(&mut self, notice: impl FnOnce(Topics) -> String) -> Result<(), Failure> {
        self.confess();
        let gathered = self.gather();
        if self.begun.get().is_none() && gathered.is_empty() {
            return Ok(());
        }
        // The end of a transaction could not be looked up without its number.
        self.begin()?;
        let notice = (self.topics != Topics::NONE).then(|| notice(self.topics));
        self.conn.get_mut().commit(&gathered, notice.as_deref())
    }

    /// The number of the transaction; none while it has not begun, and for one that only reads.
    pub(super) fn id(&self) -> Option<i64> {
        self.begun.get()?.id
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// When it began. Where it cannot begin it has a fault, and nothing that it is told will be done.
    fn begun(&self) -> &Begun {
        let _ = self.begin(); // noted
        self.begun.get_or_init(|| {
            let boot = self.clock.boot();
            Begun { now: Timestamp(0), moment: Moment { boot, doubt: true }, id: None }
        })
    }

    /// The boot clock's id and reading when it began; no id where the reading was not precise.
    pub(super) fn boot_mark(&self) -> (String, i64) {
        let boot = &self.begun().moment.boot;
        (boot.boot.clone(), boot.ms)
    }

    /// Whether the server's clock jumped a short while ago.
    pub(super) fn clock_is_in_doubt(&self) -> bool {
        self.begun().moment.doubt
    }

    /// When a lease given now for `ttl` runs out, by the server's clock.
    pub(super) fn expiry(&self, ttl: Span) -> i64 {
        self.now().0.saturating_add(ttl.as_millis())
    }

    pub(super) fn writes(&self) -> bool {
        self.mode != Mode::Read
    }

    /// What the first failure means; none: the database did all it was told.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    pub(super) fn topics(&self) -> Topics {
        self.topics
    }

    fn note(&self, failure: Failure) -> Error {
        if self.fault.get().is_none() {
            self.fault.set(Some(failure.fault));
        }
        failure.error
    }

    /// Has the transaction begin anew, because of what it has read.
    pub(super) fn again(&self, why: &'static str) -> Error {
        self.note(Failure { fault: Fault::Again, error: Error::unavailable(why) })
    }

    /// Begins it, if nothing was said yet.
    fn begin(&self) -> Result<(), Failure> {
        match (self.fault.get(), self.begun.get()) {
            (Some(fault), _) => Err(Failure { fault, error: Error::unavailable("a statement failed before") }),
            (None, Some(_)) => Ok(()),
            (None, None) => self.begin_with(&[]).map(|_| ()).inspect_err(|failure| self.fault.set(Some(failure.fault))),
        }
    }

    /// Runs statements in one breath; reads begin the transaction in the same breath.
    ///
    /// Nothing else does: if it could not begin, a write after that would be a transaction of its own.
    fn speak(&self, calls: &[Call]) -> Result<Vec<Vec<Row>>, Failure> {
        let is_new = self.fault.get().is_none() && self.begun.get().is_none();
        if is_new && (!self.writes() || calls.iter().all(Call::reads)) {
            return self.begin_with(calls);
        }
        self.begin()?;
        self.conn.borrow_mut().run(calls)
    }

    fn begin_with(&self, calls: &[Call]) -> Result<Vec<Vec<Row>>, Failure> {
        let mut conn = self.conn.borrow_mut();
        let (begin, first) = match self.mode {
            Mode::Read => ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", sql!("begin_read")),
            Mode::Write | Mode::Renewal => ("BEGIN ISOLATION LEVEL READ COMMITTED", sql!("begin")),
            Mode::Output => {
                ("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit TO off", sql!("begin"))
            }
        };
        let first = Call::opening(first, values![]);
        let opens = calls.first().is_some_and(|call| call.opens);
        let before = self.clock.boot();
        let own = (!opens).then_some(&first);
        let mut answers = conn.begin(begin, &Vec::from_iter(own.into_iter().chain(calls)))?;
        let row = answers.first().and_then(|rows| rows.first());
        let row = row.ok_or_else(|| Failure { fault: Fault::Broken, error: damaged() })?;
        let cell = |i: usize| row.try_get::<_, i64>(i).ok();
        let now = Timestamp(cell(0).unwrap_or_default());
        let moment = self.watch.lock().unwrap_or_else(PoisonError::into_inner).note(&before, now, self.clock.boot());
        let id = self.writes().then(|| cell(1)).flatten();
        let _ = self.begun.set(Begun { now, moment, id }); // it was not set
        Ok(answers.split_off(usize::from(!opens)))
    }

    /// Runs statements in one breath; gives the rows of each.
    pub(super) fn run(&mut self, calls: &[Call]) -> Result<Vec<Vec<Row>>> {
        self.speak(calls).map_err(|failure| self.note(failure))
    }

    /// The rows of one statement.
    pub(super) fn rows(&mut self, sql: &'static str, params: Vec<Param>) -> Result<Vec<Row>> {
        Ok(self.run(&[Call::new(sql, params)])?.pop().unwrap_or_default())
    }

    /// The rows of a statement made at run time.
    pub(super) fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        self.begin().and_then(|()| self.conn.borrow_mut().query(sql, params)).map_err(|failure| self.note(failure))
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
        let mut calls = self.gather();
        let written = calls.len();
        calls.extend(reads);
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.run(&calls)?.split_off(written))
    }

    /// The statements that write what was gathered.
    fn gather(&mut self) -> Vec<Call> {
        let now = if self.buffer.is_empty() { Timestamp(0) } else { self.now() };
        let mut calls = self.buffer.take(now);
        let awake = self.buffer.take_awake().into_iter();
        let awake: Vec<LaneId> = awake.filter(|lane| self.kept_active.insert(*lane)).collect();
        if !awake.is_empty() {
            // Makes lanes active, and keeps others from finding them idle until the transaction ends. Somebody may
            // have done so between the two: then the transaction is tried again.
            calls.extend(
                [sql!("lanes_activate"), sql!("lanes_share")].map(|sql| Call::new(sql, values![awake.clone()])),
            );
        }
        calls
    }

    /// The rows of one statement, after what was gathered.
    pub(super) fn read_one(&mut self, sql: &'static str, params: Vec<Param>) -> Result<Vec<Row>> {
        Ok(self.read(vec![Call::new(sql, params)])?.pop().unwrap_or_default())
    }

    /// Ends a moment of reading and begins the next.
    pub(super) fn renew_moment(&mut self) -> Result<()> {
        if self.mode == Mode::Read {
            let again = "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            let renewed = self.begin().and_then(|()| self.conn.borrow_mut().enter(again));
            renewed.map_err(|failure| self.note(failure))?;
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

impl Tx for PgTx<'_> {
    fn now(&self) -> Timestamp {
        self.begun().now
    }

    fn foresee(&mut self, next: &Foresight) -> Result<()> {
        self.look_ahead(next)
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
