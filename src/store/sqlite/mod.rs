//! The store on one machine: SQLite in WAL mode, every commit synced.

pub(super) mod backup;
mod ballast;
mod batch;
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
mod line;
mod maintain;
mod manifest;
mod measures;
mod outputs;
pub(super) mod placing;
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

use self::batch::{read_in, run_batch};
use self::connect::{check_library, open_output, open_queue};
pub(super) use self::copying::Copying;
use self::doubt::Doubt;
use self::identity::Identity;
pub(super) use self::identity::is_locked_here;
use self::line::Lines;
use self::tx::{Reach, SqliteTx};
use super::migrate::{Step, steps};
use super::restore::Counted;
use super::{Claim, Finding, Holder, Listening, Ownership, Store, Topics, Work, Writers, Written};
use crate::error::{Error, Result};
use crate::job::{WorkerId, WorkerKey};
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
    /// Where the writer stands; used by whoever has its lock.
    lines: Lines,
    /// Renewals do not wait for what this process has to write. Opened by the first.
    renewals: Mutex<Option<Connection>>,
    renewals_doubt: Doubt,
    renewals_lines: Lines,
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
        let before = identity::of(&path);
        let writer = open_queue(&path)?;
        // One spelling for all: locks, sockets and marks of processes go by it.
        let path = path.canonicalize()?;
        if before.is_some() && before != identity::of(&path) {
            return Err(Error::unavailable(format!("{} was replaced just now", path.display())).hint("try again"));
        }
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
            lines: path.as_deref().map(Lines::of_writers).unwrap_or_default(),
            renewals_lines: path.as_deref().map(Lines::of_renewals).unwrap_or_default(),
            path,
            clock,
            writer: Arc::new(Mutex::new(writer)),
            doubt: Doubt::default(),
            renewals: Mutex::default(),
            renewals_doubt: Doubt::default(),
            readers: Mutex::default(),
            output: Mutex::new(output),
            output_doubt: Doubt::default(),
            output_readers: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    /// Tries to own `name`; in memory nobody else can have it.
    fn lock(&self, name: &str, who: Option<&WorkerKey>) -> Result<Option<Ownership>> {
        match &self.path {
            Some(path) => super::locks::own(path, name, who),
            None => Ok(Some(Ownership { predecessors: Vec::new(), lock: Box::new(()) })),
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
            // Another file may be there by now: what it says is not of this store.
            None => connect::open_reader(path).and_then(|conn| self.in_place().map(|()| conn)),
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

    fn write_queue(&self, conn: &Connection, doubt: &Doubt, lines: &Lines, batch: &mut [&mut dyn Work]) -> Written {
        let _turn = lines.turn(&*self.clock);
        if let Err(error) = doubt.begin(conn) {
            return Written::Nothing(error);
        }
        let tx = SqliteTx::new(conn, Reach::Queue, &*self.clock);
        run_batch(conn, doubt, tx, batch)
    }

    fn with_output_writer<T>(&self, f: impl FnOnce(&Connection) -> T) -> Result<T> {
        let mut output = lock(&self.output);
        let conn = match (&mut *output, &self.path) {
            (Some(conn), _) => conn,
            (none, Some(path)) => none.insert(open_output(path)?),
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
        Writers { count: 1, batch: BATCH, renewals: usize::from(self.path.is_some()) }
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
        self.write_queue(&lock(&self.writer), &self.doubt, &self.lines, batch)
    }

    fn write_renewals(&self, batch: &mut [&mut dyn Work]) -> Written {
        let mut renewals = lock(&self.renewals);
        let opened = match (&mut *renewals, &self.path) {
            (Some(conn), _) => Some(conn),
            // Where it cannot be opened (no descriptors are left, say), or another file is there by now, they wait for the writer.
            (none, Some(path)) => {
                let opened = connect::open_renewals(path).and_then(|conn| self.in_place().map(|()| conn));
                opened.ok().map(|conn| none.insert(conn))
            }
            (None, None) => None,
        };
        match opened {
            Some(conn) => self.write_queue(conn, &self.renewals_doubt, &self.renewals_lines, batch),
            None => self.write(batch),
        }
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

    fn own(&self, name: &str, who: &WorkerKey) -> Result<Option<Ownership>> {
        self.lock(name, Some(who))
    }

    fn succeed(&self, name: &str, dead: WorkerId, who: &WorkerKey) -> Result<Option<Ownership>> {
        match &self.path {
            Some(path) => super::locks::succeed(path, name, dead, who),
            None => Ok(None), // nobody else can have had it
        }
    }

    fn claim_lead(&self) -> Result<Claim> {
        Ok(self.lock("leader", None)?.map_or(Claim::Taken, Claim::Lock))
    }

    fn check(&self) -> Result<Vec<Finding>> {
        match &self.path {
            Some(path) => maintain::check(path, &Self::output_path(path)),
            None => Ok(Vec::new()), // it ends with the process
        }
    }

    fn backup(&self, to: &Path) -> Result<Vec<Counted>> {
        match &self.path {
            Some(path) => backup::backup(path, &Self::output_path(path), to, self.clock.now()),
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
        maintain::shrink(&lock(&self.writer), || self.lines.turn(&*self.clock))?;
        self.with_output_writer(|output| maintain::shrink(output, || ()))?
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
