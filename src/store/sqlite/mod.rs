//! The store on one machine: SQLite in WAL mode, every commit synced.

mod ballast;
mod connect;
mod copying;
mod counts;
mod doubt;
mod edges;
mod fleet;
mod history;
mod holder;
mod identity;
mod jobs;
mod keys;
mod lanes;
mod leases;
mod letters;
mod maintain;
mod measures;
mod outputs;
mod policies;
mod prune;
mod runs;
mod schedules;
mod tokens;
mod tx;
mod wake;
mod wide;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use uuid::Uuid;

use self::connect::{check_library, open_output, open_queue};
pub(super) use self::copying::Copying;
use self::doubt::{Doubt, roll_back};
use self::identity::Identity;
pub(super) use self::identity::is_locked_here;
use self::tx::{Reach, SqliteTx};
use super::migrate::{Step, steps};
use super::{Claim, Finding, Holder, Listening, Ownership, Store, Topics, Work, Writers, Written};
use crate::error::{Error, Result};
use crate::time::Clock;

/// The text of a statement: one file each, so that it can be read, explained and tested by itself.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("sql/", $name, ".sql"))
    };
}
pub(crate) use sql;

/// A SQLite store.
pub struct Sqlite {
    path: Option<PathBuf>,
    /// The file that was at that path when it was opened.
    opened: Option<Identity>,
    clock: Arc<dyn Clock>,
    writer: Arc<Mutex<Connection>>,
    doubt: Doubt,
    readers: Mutex<Vec<Connection>>,
    output: Mutex<Option<Connection>>,
    output_doubt: Doubt,
    output_readers: Mutex<Vec<Connection>>,
    listeners: Mutex<wake::Listeners>,
}

/// How many idle read connections are kept.
const IDLE_READERS: usize = 2;

impl Sqlite {
    /// Opens the store at `path`, making or migrating it where needed.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be used, `Corrupt` when it is no store.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        check_library()?;
        let path = std::path::absolute(path)?;
        let writer = open_queue(&path)?;
        // One spelling for all: locks, sockets and marks of processes go by it.
        let path = path.canonicalize()?;
        Ok(Self::new(Some(path), clock, writer, None))
    }

    /// The steps of the schema, and which of them the store at `path` has; makes none.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be read, `Corrupt` when it is no store.
    pub fn steps(path: &Path) -> Result<Vec<Step>> {
        check_library()?;
        Ok(steps(&connect::MIGRATIONS, connect::version_at(path)?))
    }

    /// A store that ends with this value.
    ///
    /// # Errors
    /// `Unavailable` when there is no memory for it.
    pub fn memory(clock: Arc<dyn Clock>) -> Result<Self> {
        check_library()?;
        let (queue, output) = connect::memory()?;
        Ok(Self::new(None, clock, queue, Some(output)))
    }

    fn new(path: Option<PathBuf>, clock: Arc<dyn Clock>, writer: Connection, output: Option<Connection>) -> Self {
        Self {
            opened: path.as_deref().and_then(identity::of),
            path,
            clock,
            writer: Arc::new(Mutex::new(writer)),
            doubt: Doubt::default(),
            readers: Mutex::default(),
            output: Mutex::new(output),
            output_doubt: Doubt::default(),
            output_readers: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    /// Where output goes that does not travel with an outcome.
    fn output_path(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push("-output");
        name.into()
    }

    fn reader(&self, path: &Path) -> Result<Connection> {
        match lock(&self.readers).pop() {
            Some(conn) => Ok(conn),
            None => connect::open_reader(path),
        }
    }

    fn output_reader(&self, path: &Path) -> Result<Option<Connection>> {
        if let Some(conn) = lock(&self.output_readers).pop() {
            return Ok(Some(conn));
        }
        let path = Self::output_path(path);
        match path.exists() {
            true => connect::open_output_reader(&path),
            false => Ok(None),
        }
    }

    fn with_output_writer<T>(&self, f: impl FnOnce(&Connection) -> T) -> Result<T> {
        let mut output = lock(&self.output);
        let conn = match (&mut *output, &self.path) {
            (Some(conn), _) => conn,
            (none, Some(path)) => none.insert(open_output(&Self::output_path(path))?),
            (None, None) => return Err(Error::failed("the store has no place for output")),
        };
        Ok(f(conn))
    }
}

/// A poisoned lock guards a connection that is still whole: SQLite rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(pool: &Mutex<Vec<Connection>>, conn: Connection) {
    let mut pool = lock(pool);
    if pool.len() < IDLE_READERS {
        pool.push(conn);
    }
}

/// The most works that share one commit.
const BATCH: usize = 256;

/// `PRAGMA synchronous` as every store for files has it.
const FULL: i64 = 2;

impl Store for Sqlite {
    fn writers(&self) -> Writers {
        Writers { count: 1, batch: BATCH, renewals: 0 }
    }

    fn fails_for_everyone(&self) -> bool {
        true
    }

    fn read(&self, work: &mut dyn Work) -> Result<()> {
        let Some(path) = &self.path else {
            let queue = lock(&self.writer);
            return self.with_output_writer(|output| read_in(&queue, Reach::Read(Some(output)), &*self.clock, work))?;
        };
        let queue = self.reader(path)?;
        let output = self.output_reader(path)?;
        let result = read_in(&queue, Reach::Read(output.as_ref()), &*self.clock, work);
        keep(&self.readers, queue);
        if let Some(output) = output {
            keep(&self.output_readers, output);
        }
        result
    }

    fn write(&self, batch: &mut [&mut dyn Work]) -> Written {
        let conn = lock(&self.writer);
        if let Err(error) = self.doubt.begin(&conn) {
            return Written::Nothing(error);
        }
        let tx = SqliteTx::new(&conn, Reach::Queue, &*self.clock);
        run_batch(&conn, &self.doubt, tx, batch)
    }

    fn write_output(&self, batch: &mut [&mut dyn Work]) -> Written {
        let reader = match &self.path {
            Some(path) => match self.reader(path) {
                Ok(reader) => Ok(reader),
                Err(error) => return Written::Nothing(error),
            },
            None => Err(lock(&self.writer)),
        };
        let queue: &Connection = match &reader {
            Ok(conn) => conn,
            Err(guard) => guard,
        };
        let written = self.with_output_writer(|output| {
            if let Err(error) = self.output_doubt.begin(output) {
                return Written::Nothing(error);
            }
            let tx = SqliteTx::new(queue, Reach::Output(output), &*self.clock);
            run_batch(output, &self.output_doubt, tx, batch)
        });
        if let Ok(conn) = reader {
            keep(&self.readers, conn);
        }
        written.unwrap_or_else(Written::Nothing)
    }

    fn poke(&self, topics: Topics) {
        if let Some(path) = &self.path {
            lock(&self.listeners).poke(path, topics);
        }
    }

    fn listen(&self, topics: Topics, sink: Box<dyn Fn(Topics) + Send>) -> Result<Listening> {
        match &self.path {
            Some(path) => wake::listen(path, topics, Arc::downgrade(&self.writer), sink),
            None => Ok(Listening(Box::new(()))),
        }
    }

    fn own(&self, name: &str, who: Uuid) -> Result<Option<Ownership>> {
        match &self.path {
            Some(path) => super::locks::own(path, name, who),
            None => Ok(Some(Ownership { predecessors: Vec::new(), lock: Box::new(()) })),
        }
    }

    fn succeed(&self, name: &str, dead: Uuid, who: Uuid) -> Result<Option<Ownership>> {
        match &self.path {
            Some(path) => super::locks::succeed(path, name, dead, who),
            None => Ok(None), // nobody else can have had it
        }
    }

    fn claim_lead(&self) -> Result<Claim> {
        Ok(self.own("leader", Uuid::nil())?.map_or(Claim::Taken, Claim::Lock))
    }

    fn check(&self) -> Result<Vec<Finding>> {
        match &self.path {
            Some(path) => maintain::check(path, &Self::output_path(path)),
            None => Ok(Vec::new()), // it ends with the process
        }
    }

    fn backup(&self, to: &Path) -> Result<()> {
        match &self.path {
            Some(path) => maintain::backup(path, &Self::output_path(path), to),
            None => Err(Error::usage("a store in memory cannot be copied")),
        }
    }

    fn ballast(&self, keep: bool) -> Result<bool> {
        match (&self.path, keep) {
            (Some(path), true) => ballast::keep(path),
            (Some(path), false) => ballast::free(path),
            (None, _) => Ok(false),
        }
    }

    fn durable(&self) -> Result<Option<bool>> {
        let level: i64 = lock(&self.writer).query_row("PRAGMA synchronous", [], |r| r.get(0))?;
        Ok(Some(self.path.is_some() && level >= FULL))
    }

    fn shrink(&self) -> Result<()> {
        if self.path.is_none() {
            return Ok(());
        }
        maintain::shrink(&lock(&self.writer))?;
        self.with_output_writer(maintain::shrink)?
    }

    fn in_place(&self) -> Result<()> {
        match (&self.path, self.opened) {
            (Some(path), Some(opened)) => identity::check(path, opened),
            _ => Ok(()),
        }
    }

    fn holder(&self) -> Result<Option<Holder>> {
        match &self.path {
            Some(path) => holder::find(path, &lock(&self.writer)),
            None => Ok(None),
        }
    }

    fn location(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "memory:".into(),
        }
    }
}

fn read_in(queue: &Connection, reach: Reach, clock: &dyn Clock, work: &mut dyn Work) -> Result<()> {
    queue.prepare_cached("BEGIN")?.execute([])?;
    let result = work.run(&mut SqliteTx::new(queue, reach, clock));
    let ended = queue.prepare_cached("COMMIT").and_then(|mut s| s.execute([]));
    if ended.is_err() {
        roll_back(queue); // it wrote nothing
    }
    result
}

/// Runs each work in a savepoint of its own inside the transaction that `conn` has begun; the only one without.
fn run_batch(conn: &Connection, doubt: &Doubt, mut tx: SqliteTx, batch: &mut [&mut dyn Work]) -> Written {
    let alone = batch.len() == 1 && !doubt.is_open();
    let mut topics = Topics::NONE;
    for work in batch.iter_mut() {
        let ran = if alone { run_alone(conn, &mut tx, *work) } else { savepoint(conn, &mut tx, *work) };
        match ran {
            Ok(touched) => topics = topics | touched,
            Err(ended) => {
                roll_back(conn);
                return match ended {
                    Ended::Gone(error) => Written::Nothing(error),
                    Ended::Refused => Written::Refused,
                };
            }
        }
    }
    match conn.prepare_cached("COMMIT").and_then(|mut s| s.execute([])) {
        Ok(_) => {
            doubt.committed();
            Written::Committed(topics)
        }
        Err(error) => doubt.failed(conn, error),
    }
}

/// Why the transaction ends without a commit.
enum Ended {
    /// It is no more, whatever the work said.
    Gone(Error),
    /// The only work in it failed.
    Refused,
}

/// The transaction ends as the work does: a savepoint would copy each page that it touches.
fn run_alone(conn: &Connection, tx: &mut SqliteTx, work: &mut dyn Work) -> Result<Topics, Ended> {
    match work.run(tx) {
        Ok(()) => flush(tx),
        Err(error) if conn.is_autocommit() || tx.is_broken() => Err(Ended::Gone(error)),
        Err(_) => Err(Ended::Refused),
    }
}

/// Writes what a work left to be written; one that thinks it is done must not be told so where that fails.
fn flush(tx: &mut SqliteTx) -> Result<Topics, Ended> {
    tx.flush().map_err(Ended::Gone)?;
    Ok(tx.take_topics())
}

fn savepoint(conn: &Connection, tx: &mut SqliteTx, work: &mut dyn Work) -> Result<Topics, Ended> {
    let run = |sql| conn.prepare_cached(sql).and_then(|mut s| s.execute([])).map_err(|e| Ended::Gone(e.into()));
    run("SAVEPOINT work")?;
    match work.run(tx) {
        Ok(()) => {
            let topics = flush(tx)?;
            run("RELEASE work")?;
            Ok(topics)
        }
        Err(error) => {
            tx.forget();
            if conn.is_autocommit() || tx.is_broken() {
                return Err(Ended::Gone(error));
            }
            run("ROLLBACK TO work")?;
            run("RELEASE work")?;
            Ok(Topics::NONE)
        }
    }
}
