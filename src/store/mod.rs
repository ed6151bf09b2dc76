//! Statements: what can be read from and written to a store, by role, whichever database it is.
//!
//! Roles are small, set-oriented, synchronous and object-safe. A store records what it is told and
//! knows no policy: no backoff, no next state. What must not be here: SQL outside the backends.

pub mod copy;
mod copy_tables;
mod counts;
mod holder;
mod lease_rows;
mod limit_rows;
mod location;
mod locks;
mod migrate;
mod owners;
mod peer_rows;
pub mod postgres;
pub mod restore;
mod roles;
mod rows;
mod run_roles;
mod run_rows;
mod sound;
pub mod sqlite;
mod token_rows;
mod worker_rows;

use std::ops::{BitAnd, BitOr};
use std::path::Path;
use std::sync::Arc;

pub use self::counts::tallies;
pub use self::holder::Holder;
pub use self::lease_rows::*;
pub use self::limit_rows::*;
pub use self::location::Location;
pub use self::locks::MAX_PREDECESSORS;
pub use self::migrate::Step;
pub use self::peer_rows::*;
pub use self::roles::{
    Edges, Fleet, History, Jobs, Keys, Lanes, Leases, Ledger, Letters, Measures, Outputs, Policies, Prune, Schedules,
    Tokens,
};
pub use self::rows::*;
pub use self::run_roles::{RunJobs, Runs};
pub use self::run_rows::*;
pub use self::token_rows::*;
pub use self::worker_rows::*;

use crate::error::{Error, Result};
use crate::job::{WorkerId, WorkerKey};
use crate::time::{Clock, Timestamp};

/// Opens a store, making it where it does not exist.
///
/// # Errors
/// `Unavailable` when it cannot be used, `Corrupt` when it is no store.
pub fn open(location: &Location, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>> {
    open_or_make(location, clock, true)
}

/// Opens the store at `location` for somebody who only looks: where there is none, none is made.
///
/// # Errors
/// `NotFound` where there is none, else as [`open`].
pub fn open_existing(location: &Location, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>> {
    open_or_make(location, clock, false)
}

fn open_or_make(location: &Location, clock: Arc<dyn Clock>, make: bool) -> Result<Arc<dyn Store>> {
    Ok(match location {
        Location::File(path) if !make && is_missing(path)? => return Err(missing(&path.display())),
        Location::File(path) => Arc::new(sqlite::Sqlite::open(path, clock)?),
        Location::Memory => Arc::new(sqlite::Sqlite::memory(clock)?),
        Location::Server(place) => Arc::new(postgres::Postgres::open(place, clock, make)?),
        Location::Coordinator(url) => {
            return Err(Error::usage(format!("{url} is a coordinator, not a store"))
                .hint("run this where the store is, with --store and its place"));
        }
    })
}

/// Whether there is certainly no file.
fn is_missing(path: &std::path::Path) -> Result<bool> {
    path.try_exists()
        .map(|exists| !exists)
        .map_err(|e| Error::unavailable(format!("cannot look at {}", path.display())).source(e))
}

/// There is no store at a place.
fn missing(place: &dyn std::fmt::Display) -> Error {
    Error::not_found(format!("there is no store at {place}"))
        .hint("'orx enqueue' and 'orx worker' make one; --store or ORX_STORE names another place")
}

/// Owns `name` among the processes of this machine that use what is at `location`; `None` when another one does.
///
/// # Errors
/// `Unavailable` when locks cannot be had.
pub fn own_here(location: &str, name: &str, who: &WorkerKey) -> Result<Option<Ownership>> {
    postgres::locks::own(location, name, who)
}

/// Tries to own `name` there in the place of `dead`; `None` unless the lock itself shows that this one is dead.
///
/// # Errors
/// `Unavailable` when locks cannot be had.
pub fn succeed_here(location: &str, name: &str, dead: WorkerId, who: &WorkerKey) -> Result<Option<Ownership>> {
    postgres::locks::succeed(location, name, dead, who)
}

/// Whether a file belongs to a store that this process has open, and must not be opened by anything else.
pub fn is_locked_here(file: &std::fs::Metadata) -> bool {
    sqlite::is_locked_here(file)
}

/// The steps of the schema at `location`, and which of them it has; makes and changes nothing.
///
/// # Errors
/// `Usage` for a store that keeps nothing, `Unavailable` when it cannot be read, `Corrupt` when it is no store.
pub fn steps(location: &Location) -> Result<Vec<Step>> {
    match location {
        Location::File(path) => sqlite::Sqlite::steps(path),
        Location::Server(place) => postgres::Postgres::steps(place),
        _ => Err(Error::usage("only a file or a PostgreSQL server has a schema that is kept")),
    }
}

/// What `--store` says, as it may be shown: without a password.
pub fn shown(text: &str) -> String {
    match text.starts_with("postgres:") || text.starts_with("postgresql:") {
        true => postgres::shown(text),
        false => text.to_owned(),
    }
}

/// What a change may be of interest to; processes wake each other by these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topics(pub u8);

impl Topics {
    /// Nothing.
    pub const NONE: Topics = Topics(0);
    /// A job may be leased.
    pub const WORK: Topics = Topics(1);
    /// A job changed its state.
    pub const JOBS: Topics = Topics(2);
    /// A job wrote output.
    pub const OUTPUT: Topics = Topics(4);
    /// A worker should look at what is asked of it.
    pub const CONTROL: Topics = Topics(8);
    /// The next instant of a schedule may be another.
    pub const SCHEDULES: Topics = Topics(16);
    /// Everything.
    pub const ALL: Topics = Topics(31);

    /// Whether they have one in common.
    pub fn meets(self, other: Topics) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitAnd for Topics {
    type Output = Topics;
    fn bitand(self, other: Topics) -> Topics {
        Topics(self.0 & other.0)
    }
}

impl BitOr for Topics {
    type Output = Topics;
    fn bitor(self, other: Topics) -> Topics {
        Topics(self.0 | other.0)
    }
}

/// One piece of work inside a transaction. It may be run again, so it has no effect outside `tx`.
pub trait Work: Send {
    /// Does the work.
    ///
    /// # Errors
    /// An error leaves no write of this work.
    fn run(&mut self, tx: &mut dyn Tx) -> Result<()>;
}

/// How a batch of writes ended.
#[derive(Debug)]
pub enum Written {
    /// All is durable; these topics were touched.
    Committed(Topics),
    /// The work itself erred, so there is nothing to store; the next may be run.
    Refused,
    /// Nothing was stored: the transaction could not begin, or is gone (disk full, I/O error).
    Nothing(crate::error::Error),
    /// The commit itself failed: it may be stored or not. The next `Committed` settles it: what is not there then never
    /// will be.
    Unknown(crate::error::Error),
}

/// How a store wants to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writers {
    /// How many transactions may run side by side.
    pub count: usize,
    /// How many works may share one.
    pub batch: usize,
    /// How many renewals may run side by side, apart from all else; none: they are written as all else is.
    pub renewals: usize,
}

/// What a process has that would be the leader.
pub enum Claim {
    /// The lock that says it may.
    Lock(Ownership),
    /// Another process has the lock.
    Taken,
}

/// A database with a queue in it.
pub trait Store: Send + Sync {
    /// How it wants to be written.
    fn writers(&self) -> Writers;

    /// Whether a failure to write here is always one for everybody: it is a file of this machine (S2).
    fn fails_for_everyone(&self) -> bool;

    /// Runs `work` in a transaction that sees one moment and writes nothing.
    ///
    /// # Errors
    /// What the work says, or `Unavailable`.
    fn read(&self, work: &mut dyn Work) -> Result<()>;

    /// Runs each work of `batch` by itself (one that errs leaves no write), then commits once.
    fn write(&self, batch: &mut [&mut dyn Work]) -> Written;

    /// The same for renewals of leases, where they run apart.
    fn write_renewals(&self, batch: &mut [&mut dyn Work]) -> Written {
        self.write(batch)
    }

    /// Runs `work` in a transaction of the output store, which never delays the queue (S28).
    fn write_output(&self, batch: &mut [&mut dyn Work]) -> Written;

    /// Tells other processes that `topics` were touched. Never blocks, never fails.
    fn poke(&self, topics: Topics);

    /// Calls `sink` from a thread of its own whenever another process touched one of `topics`.
    ///
    /// # Errors
    /// `Unavailable` when it cannot listen.
    fn listen(&self, topics: Topics, sink: Box<dyn Fn(Topics) + Send>) -> Result<Listening>;

    /// Tries to own `name` on this machine until the value is dropped or the process ends.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had here; `None` when another live process owns it.
    fn own(&self, name: &str, who: &WorkerKey) -> Result<Option<Ownership>>;

    /// Tries to own `name` in the place of `dead`; `None` unless the lock itself shows that this one owned it and is dead.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had here.
    fn succeed(&self, name: &str, dead: WorkerId, who: &WorkerKey) -> Result<Option<Ownership>>;

    /// What this process has that would be the leader (S30). May block; so may giving it back.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had here.
    fn claim_lead(&self) -> Result<Claim>;

    /// Looks whether what is stored contradicts itself.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    fn check(&self) -> Result<Vec<Finding>>;

    /// Copies it to a new file while others go on writing, checks the copy, and gives what is in it.
    ///
    /// # Errors
    /// `Conflict` when the file exists, `Unavailable` when it cannot be written.
    fn backup(&self, to: &Path) -> Result<Vec<restore::Counted>>;

    /// Keeps some room for a time when there is none, or gives it away; says whether it is kept, or was.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written.
    fn ballast(&self, keep: bool) -> Result<bool>;

    /// Whether each commit reaches the disk before it is acknowledged; none where only a server knows.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    fn durable(&self) -> Result<Option<bool>>;

    /// Who keeps everybody else from writing; takes some seconds to say so.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    fn holder(&self) -> Result<Option<Holder>> {
        Ok(None)
    }

    /// Gives free space back to the file system.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written.
    fn shrink(&self) -> Result<()>;

    /// Looks whether what others open under its name is still what this process has open.
    ///
    /// # Errors
    /// `Unavailable`; lasting where it is not, so that what is written here is for nobody.
    fn in_place(&self) -> Result<()> {
        Ok(())
    }

    /// Where it is, for messages; without passwords.
    fn location(&self) -> String;
}

/// Ends the listening when dropped.
pub struct Listening(#[allow(dead_code)] pub(crate) Box<dyn Send + Sync>);

/// Ends the ownership when dropped.
pub struct Ownership {
    /// Those who owned it before and died without letting go, since the last one who did.
    pub predecessors: Vec<WorkerKey>,
    #[allow(dead_code)] // it is there to be dropped
    pub(crate) lock: Box<dyn Send + Sync>,
}

impl Ownership {
    /// Keeps it until the process ends, as if that died: whoever owns the name next hears of the predecessors once more.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

/// What an Op sees of a store: one transaction.
pub trait Tx:
    Jobs
    + Edges
    + Lanes
    + Leases
    + History
    + Letters
    + Keys
    + Fleet
    + Outputs
    + Policies
    + Tokens
    + Measures
    + Prune
    + Runs
    + RunJobs
    + Schedules
    + Ledger
{
    /// The instant of the transaction.
    fn now(&self) -> Timestamp;

    /// Has other processes told, after the commit.
    fn wake(&mut self, topics: Topics);

    /// Hears what will be asked for next, so that a database on the network can be asked for all of it at once.
    fn foresee(&mut self, _next: &Foresight) -> Result<()> {
        Ok(())
    }
}
