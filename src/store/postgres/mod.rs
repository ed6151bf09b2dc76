//! A PostgreSQL store: many machines share one queue.
//!
//! One Op is one transaction (S24), at READ COMMITTED, and the row of a job is the lock on everything about it. Nothing
//! is counted in place where many write, so that leases and settles of different jobs never wait for each other.

mod buffer;
mod conn;
mod copying;
mod edges;
mod fault;
mod fleet;
mod foreseen;
mod history;
mod jobs;
mod keys;
mod lanes;
mod leases;
mod lenient;
mod letters;
pub(super) mod locks;
mod maintain;
mod measures;
mod outputs;
mod password;
mod place;
mod policies;
mod pool;
mod prune;
mod runs;
mod schedules;
mod side;
mod tokens;
mod tx;
mod wake;
mod watch;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::conn::{Conn, LOCK_LIMIT};
pub(super) use self::copying::Copying;
use self::fault::Fault;
use self::foreseen::Habits;
pub use self::place::Place;
pub(super) use self::place::shown;
use self::pool::Pool;
use self::side::Side;
use self::tx::{Mode, PgTx};
use self::watch::Watch;
use super::migrate::{Step, steps};
use super::restore::Counted;
use super::{Claim, Finding, Listening, Ownership, Store, Topics, Work, Writers, Written};
use crate::error::{Error, Result};
use crate::job::{WorkerId, WorkerKey};
use crate::time::Clock;

/// The text of a statement: one file each, so that it can be read, explained and tested by itself.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/postgres/sql/", $name, ".sql"))
    };
}
pub(crate) use sql;

/// How often a transaction is tried that others stood in the way of.
const TRIES: u32 = 12;
/// How often one is tried whose connection was lost before its commit.
const RECONNECTS: u32 = 2;
/// How long the end of a transaction is looked for whose connection was lost at its commit.
const RESOLVE_LIMIT: Duration = Duration::from_secs(20);
/// How many Ops write side by side.
const WRITERS: usize = 4;
/// How many renewals do.
const RENEWALS: usize = 2;
/// How many connections a process has for its other Ops.
const MOST: usize = 8;
/// How long a renewal waits for a lock. It passes over rows that are locked: whole tables are, and the worker must
/// hear of it before its leases run out.
const RENEWAL_LOCK_LIMIT: Duration = Duration::from_millis(250);

/// A PostgreSQL store.
pub struct Postgres {
    place: Place,
    clock: Arc<dyn Clock>,
    pool: Arc<Pool>,
    /// The connections for renewals, so that those never wait for one.
    renewals: Pool,
    side: Arc<Side>,
    own: wake::Own,
    watch: Mutex<Watch>,
    habits: Mutex<Habits>,
}

impl Postgres {
    /// Opens the store at `place`, migrating its schema where needed, and making it where `make` says so.
    ///
    /// # Errors
    /// `Unavailable` when the server cannot be used, `NotFound` when there is no store and none is to be made.
    pub fn open(place: &Place, clock: Arc<dyn Clock>, make: bool) -> Result<Self> {
        // On a thread of its own: the caller may be a task, which must not block on another runtime.
        let opened = std::thread::scope(|scope| scope.spawn(|| Self::connect(place, clock, make)).join());
        opened.unwrap_or_else(|_| Err(Error::failed("opening a store hit a bug in orx")))
    }

    fn connect(place: &Place, clock: Arc<dyn Clock>, make: bool) -> Result<Self> {
        let own = wake::Own::default();
        let pool = Arc::new(Pool::new(place.clone(), Arc::clone(&own), MOST, LOCK_LIMIT));
        let renewals = Pool::new(place.clone(), Arc::clone(&own), RENEWALS, RENEWAL_LOCK_LIMIT);
        let mut conn = pool.take()?;
        maintain::migrate(&mut conn, place, make)?;
        maintain::refuse_unfinished(&mut conn, place)?;
        pool.give(conn);
        let side = Side::new(Arc::clone(&pool));
        let (watch, habits) = (Mutex::default(), Mutex::default());
        Ok(Self { place: place.clone(), clock, side, pool, renewals, own, watch, habits })
    }

    /// The steps of the schema, and which of them it has; makes none.
    ///
    /// # Errors
    /// `Unavailable` when the server cannot be used.
    pub fn steps(place: &Place) -> Result<Vec<Step>> {
        let look = || {
            let mut conn = Conn::open(place, LOCK_LIMIT)?;
            maintain::version(&mut conn, place).map(|(version, _)| steps(&maintain::STEPS, version))
        };
        let looked = std::thread::scope(|scope| scope.spawn(look).join());
        looked.unwrap_or_else(|_| Err(Error::failed("looking at a store hit a bug in orx")))
    }

    /// Runs one work in a transaction of its own, again where that can help and nothing can have been stored.
    fn transact(&self, mode: Mode, work: &mut dyn Work) -> Written {
        let (mut tries, mut reconnects) = (0, 0);
        let pool = if mode == Mode::Renewal { &self.renewals } else { &*self.pool };
        loop {
            let mut conn = match pool.take() {
                Ok(conn) => conn,
                Err(error) => return Written::Nothing(error),
            };
            let (fault, error) = match self.attempt(&mut conn, mode, work) {
                Ok(written) => {
                    pool.give(conn);
                    return written;
                }
                Err(both) => both,
            };
            match fault {
                Fault::Again if tries < TRIES => {
                    tries += 1;
                    pool.give(conn);
                    std::thread::sleep(pause(tries));
                }
                Fault::Gone if reconnects < RECONNECTS => {
                    reconnects += 1;
                    pool.forget(conn);
                    std::thread::sleep(pause(reconnects));
                }
                Fault::Gone | Fault::Pooled => {
                    pool.forget(conn);
                    return Written::Nothing(error);
                }
                // Nothing was stored. Its name may have moved to another server: all connections to this one are of no use.
                Fault::ReadOnly => {
                    pool.forget(conn);
                    [&*self.pool, &self.renewals].into_iter().for_each(Pool::drain);
                    self.side.drop_connection();
                    if reconnects >= RECONNECTS {
                        return Written::Nothing(error);
                    }
                    reconnects += 1;
                    std::thread::sleep(pause(reconnects));
                }
                // A renewal waits for no row: a whole table is locked, and whoever leases or reaps needs it too (S2).
                Fault::Locked if mode == Mode::Renewal => {
                    pool.give(conn);
                    return Written::Nothing(error.for_everyone());
                }
                Fault::Again | Fault::Locked | Fault::Broken => {
                    pool.give(conn);
                    return Written::Nothing(error);
                }
            }
        }
    }

    /// One try. An error: nothing was stored.
    fn attempt(&self, conn: &mut Conn, mode: Mode, work: &mut dyn Work) -> Result<Written, (Fault, Error)> {
        let mut tx = PgTx::new(conn, mode, &*self.clock, &self.watch, &self.habits);
        let ran = work.run(&mut tx);
        // Whatever the work made of a statement that failed, its transaction is no more.
        let ran = match (ran, tx.fault()) {
            (Ok(()), Some(_)) => Err(Error::unavailable("a statement failed")),
            (ran, _) => ran,
        };
        if let Err(error) = ran {
            let (fault, begun) = (tx.fault(), tx.has_begun());
            // What failed first may have been a question that cannot fail: what failed after it does not say why.
            let error = fault.and_then(fault::named).unwrap_or(error);
            let back = if begun || fault.is_some() { conn.simple("ROLLBACK").map(|_| ()) } else { Ok(()) };
            return match (fault, back) {
                (Some(fault), Ok(())) => Err((fault, error)),
                (Some(_), Err(_)) | (None, Err(_)) => Err((Fault::Gone, error)),
                // The Op's own answer.
                (None, Ok(())) => Ok(Written::Refused),
            };
        }
        let ended = tx.commit(|topics| wake::notice(&self.place, topics));
        let (topics, id) = (tx.topics(), tx.id());
        match (ended, id) {
            (Ok(()), _) => Ok(Written::Committed(topics)),
            // It read only: nothing can have been stored.
            (Err(failure), None) => Err((failure.fault, failure.error)),
            // The server says that it did not: then it did not. Silence may mean either.
            (Err(failure), Some(_)) if failure.fault != Fault::Gone => match conn.simple("ROLLBACK") {
                Ok(_) => Err((failure.fault, failure.error)),
                Err(_) => Err((Fault::Gone, failure.error)),
            },
            (Err(failure), Some(id)) => match self.end_of(id, &conn.era) {
                Some(true) => {
                    self.tell(topics);
                    Ok(Written::Committed(topics))
                }
                Some(false) => Err((Fault::Gone, failure.error)),
                None => Ok(Written::Unknown(failure.error)),
            },
        }
    }

    /// Tells others what was touched, where the commit could not.
    fn tell(&self, topics: Topics) {
        // A lost notification costs its listeners one poll.
        if let Err(failure) = self.side.tell(topics) {
            tracing::debug!("others could not be told: {}", failure.error);
        }
    }

    /// Whether a transaction whose connection was lost at its commit was committed; none: it cannot be found out.
    ///
    /// A server that crashed gives the ids of lost transactions to new ones: what it says of an id from another `era` is
    /// of no use.
    fn end_of(&self, id: i64, era: &str) -> Option<bool> {
        let deadline = Instant::now() + RESOLVE_LIMIT;
        let mut tries = 0;
        while Instant::now() < deadline {
            tries += 1;
            let status = self.pool.open().map_err(|_| ()).and_then(|mut conn| {
                let status = match conn.era == era {
                    true => conn.simple(&format!("SELECT txid_status({id})")).map_err(|_| ())?,
                    false => Vec::new(),
                };
                self.pool.close(conn);
                Ok(status.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
            });
            match status.as_ref().map(|s| s.as_deref()) {
                Ok(Some("committed")) => return Some(true),
                Ok(Some("aborted")) => return Some(false),
                Ok(None) => return None, // long ago, before a crash, or another server
                // Its session works on, or the server is away.
                Ok(Some(_)) | Err(()) => std::thread::sleep(pause(tries)),
            }
        }
        None
    }
}

/// Longer with each try, and never the same for two.
fn pause(tries: u32) -> Duration {
    let most = 2u64 << tries.min(6);
    Duration::from_millis(1 + u64::from(uuid::Uuid::new_v4().as_fields().0) % most)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for Postgres {
    fn writers(&self) -> Writers {
        Writers { count: WRITERS, batch: 1, renewals: RENEWALS }
    }

    fn fails_for_everyone(&self) -> bool {
        false
    }

    fn read(&self, work: &mut dyn Work) -> Result<()> {
        match self.transact(Mode::Read, work) {
            Written::Nothing(error) | Written::Unknown(error) => Err(error),
            Written::Committed(_) | Written::Refused => Ok(()),
        }
    }

    fn write(&self, batch: &mut [&mut dyn Work]) -> Written {
        all(batch, |work| self.transact(Mode::Write, work))
    }

    fn write_renewals(&self, batch: &mut [&mut dyn Work]) -> Written {
        all(batch, |work| self.transact(Mode::Renewal, work))
    }

    fn write_output(&self, batch: &mut [&mut dyn Work]) -> Written {
        all(batch, |work| self.transact(Mode::Output, work))
    }

    fn poke(&self, _topics: Topics) {
        // Others were told with the commit.
    }

    fn listen(&self, topics: Topics, sink: Box<dyn Fn(Topics) + Send>) -> Result<Listening> {
        wake::listen(self.place.clone(), topics, Arc::clone(&self.own), sink)
    }

    fn own(&self, name: &str, who: &WorkerKey) -> Result<Option<Ownership>> {
        locks::own(&self.location(), name, who)
    }

    fn succeed(&self, name: &str, dead: WorkerId, who: &WorkerKey) -> Result<Option<Ownership>> {
        locks::succeed(&self.location(), name, dead, who)
    }

    fn claim_lead(&self) -> Result<Claim> {
        self.side.claim()
    }

    fn check(&self) -> Result<Vec<Finding>> {
        let mut conn = self.pool.take()?;
        let findings = maintain::check(&mut conn);
        self.pool.give(conn);
        findings
    }

    fn backup(&self, _to: &Path) -> Result<Vec<Counted>> {
        Err(maintain::no_backup(&self.place))
    }

    fn ballast(&self, _keep: bool) -> Result<bool> {
        Ok(false) // the server's disk is the server's business
    }

    fn durable(&self) -> Result<Option<bool>> {
        Ok(None) // the server's own affair
    }

    fn shrink(&self) -> Result<()> {
        Ok(()) // autovacuum does
    }

    fn location(&self) -> String {
        self.place.to_string()
    }
}

/// Each work in a transaction of its own; the first that is not committed ends it.
fn all(batch: &mut [&mut dyn Work], mut transact: impl FnMut(&mut dyn Work) -> Written) -> Written {
    let mut topics = Topics::NONE;
    for work in batch {
        match transact(*work) {
            Written::Committed(touched) => topics = topics | touched,
            Written::Refused => {}
            other => return other,
        }
    }
    Written::Committed(topics)
}
