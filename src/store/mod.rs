//! Statements: what can be read from and written to a store, by role, whichever database it is.
//!
//! Roles are small, set-oriented, synchronous and object-safe. A store records what it is told and
//! knows no policy: no backoff, no next state. What must not be here: SQL outside the backends.

mod migrate;
pub mod sqlite;

use std::collections::BTreeMap;
use std::ops::BitOr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::job::lanes::Lane;
use crate::job::output::Chunk;
use crate::job::spec::Until;
use crate::job::view::Said;
use crate::job::{
    Attempt, Captured, Event, EventKind, Fence, JobId, JobSpec, LaneId, Life, Number, Record, Selector, State, WorkerId,
};
use crate::time::{Clock, Span, Timestamp};

/// Where a store is, as `--store` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file.
    File(PathBuf),
    /// Nowhere: it ends with the process.
    Memory,
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            _ if text.is_empty() => Err(Error::usage("the store's place is empty")),
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(Error::usage("sqlite: needs a path").hint("as in sqlite:///var/lib/orx/orx.db")),
                path => Ok(Self::File(path.into())),
            },
            Some((scheme @ ("postgres" | "postgresql" | "http" | "https"), _)) => {
                Err(Error::usage(format!("this build of orx has no {scheme} store"))
                    .hint("use a file: --store /path/to/orx.db"))
            }
            Some((scheme, rest)) if rest.starts_with("//") => {
                Err(Error::usage(format!("{scheme} is no kind of store")).hint("use a path or sqlite:///path"))
            }
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// Opens a store, making it where it does not exist.
///
/// # Errors
/// `Unavailable` when it cannot be used, `Corrupt` when it is no store.
pub fn open(location: &Location, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>> {
    Ok(match location {
        Location::File(path) => Arc::new(sqlite::Sqlite::open(path, clock)?),
        Location::Memory => Arc::new(sqlite::Sqlite::memory(clock)?),
    })
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
    /// Everything.
    pub const ALL: Topics = Topics(15);

    /// Whether they have one in common.
    pub fn meets(self, other: Topics) -> bool {
        self.0 & other.0 != 0
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
    /// Nothing was stored: the transaction could not begin, or is gone (disk full, I/O error).
    Nothing(crate::error::Error),
    /// The commit itself failed: it may be stored or not.
    Unknown(crate::error::Error),
}

/// A database with a queue in it.
pub trait Store: Send + Sync {
    /// Runs `work` in a transaction that sees one moment and writes nothing.
    ///
    /// # Errors
    /// What the work says, or `Unavailable`.
    fn read(&self, work: &mut dyn Work) -> Result<()>;

    /// Runs each work of `batch` by itself (one that errs leaves no write), then commits once.
    fn write(&self, batch: &mut [&mut dyn Work]) -> Written;

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
    fn own(&self, name: &str) -> Result<Option<Ownership>>;

    /// Where it is, for messages; without passwords.
    fn location(&self) -> String;
}

/// Ends the listening when dropped.
pub struct Listening(#[allow(dead_code)] pub(crate) Box<dyn Send + Sync>);

/// Ends the ownership when dropped.
pub struct Ownership(#[allow(dead_code)] pub(crate) Box<dyn Send + Sync>);

/// What an Op sees of a store: one transaction.
pub trait Tx: Jobs + Edges + Lanes + Leases + History + Letters + Keys + Fleet + Outputs {
    /// The instant of the transaction.
    fn now(&self) -> Timestamp;

    /// Has other processes told, after the commit.
    fn wake(&mut self, topics: Topics);
}

/// A job to be stored.
pub struct NewJob<'a> {
    /// The id its maker chose.
    pub id: JobId,
    /// Where it stands.
    pub lane: LaneId,
    /// Its state and counters.
    pub life: &'a Life,
    /// What was asked for.
    pub spec: &'a JobSpec,
    /// What surrounds it.
    pub captured: &'a Arc<Captured>,
}

/// A job's life as it is from now on.
pub struct Change<'a> {
    /// The job.
    pub number: Number,
    /// Its lane.
    pub lane: LaneId,
    /// The state that it leaves.
    pub from: State,
    /// Its life.
    pub life: &'a Life,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Any of these states; empty: all.
    pub states: Vec<State>,
    /// In this queue.
    pub queue: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// With this name.
    pub name: Option<String>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Stored at or after this instant.
    pub since: Option<Timestamp>,
}

/// How many jobs of a queue are in which state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueTotals {
    /// The queue.
    pub name: String,
    /// Whether it hands out jobs.
    pub paused: bool,
    /// Limits; none where there is none.
    pub limits: Limits,
    /// Jobs by state, all states present.
    pub counts: BTreeMap<State, i64>,
    /// When the job that waits longest was stored.
    pub oldest_pending_at: Option<Timestamp>,
}

/// Limits of a queue or tenant; none where there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are those of CONTRACT
pub struct Limits {
    pub max_running: Option<u32>,
    pub max_queued: Option<u32>,
    pub per_minute: Option<u32>,
    pub max_payload: Option<u32>,
}

/// Jobs: rows and their lives.
pub trait Jobs {
    /// Stores `jobs`; gives the number of each, or none where that id is stored already.
    fn insert(&mut self, jobs: &[NewJob]) -> Result<Vec<Option<Number>>>;
    /// The jobs of `numbers` that exist, in that order.
    fn load(&mut self, numbers: &[Number]) -> Result<Vec<Record>>;
    /// Records new lives, and counts them.
    fn save(&mut self, changes: &[Change]) -> Result<()>;
    /// The numbers that `selector` names, ascending, at most `limit`.
    fn find(&mut self, selector: &Selector, limit: usize) -> Result<Vec<Number>>;
    /// The numbers that match, newest first, below `before`, at most `limit`.
    fn list(&mut self, filter: &Filter, before: Option<Number>, limit: usize) -> Result<Vec<Number>>;
    /// Scheduled jobs that are due, earliest first, at most `limit`.
    fn due(&mut self, limit: usize) -> Result<Vec<Number>>;
    /// Jobs that have not started by their deadline, at most `limit`.
    fn overdue(&mut self, limit: usize) -> Result<Vec<Number>>;
    /// The next instant at which a scheduled job is due or a deadline passes.
    fn next_timer(&mut self) -> Result<Option<Timestamp>>;
}

/// An edge between two jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The job that waits.
    pub number: Number,
    /// The job that is waited for.
    pub needs: Number,
    /// What is waited for.
    pub until: Until,
    /// Whether it has come true.
    pub satisfied: bool,
}

/// Edges between jobs.
pub trait Edges {
    /// Stores edges, or their new `satisfied`.
    fn put_edges(&mut self, edges: &[Edge]) -> Result<()>;
    /// Edges that wait for `needs`.
    fn dependants(&mut self, needs: Number) -> Result<Vec<Edge>>;
    /// The edges of `number`, with the state of what each needs; none when that was pruned.
    fn needs(&mut self, number: Number) -> Result<Vec<(Edge, Option<State>)>>;
}

/// How much of a limit on queued jobs is left.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// `queue` or `tenant`.
    pub scope: &'static str,
    /// Its name.
    pub name: String,
    /// How many may be queued.
    pub max: u32,
    /// How many are.
    pub queued: u32,
}

/// Lanes: what a lease chooses between, and the limits on them.
pub trait Lanes {
    /// The lane of these words, made when absent.
    fn lane(&mut self, queue: &str, tenant: &str, limit_key: Option<&str>, needs: &str) -> Result<LaneId>;
    /// Lanes with pending jobs and room, not paused, least recently served first, `skip` left out.
    fn lanes(&mut self, skip: usize, limit: usize) -> Result<Vec<Lane>>;
    /// Pending jobs of a lane in the order they are handed out, at most `limit`.
    fn pending(&mut self, lane: LaneId, limit: usize) -> Result<Vec<Number>>;
    /// Puts `lanes` to the end of the turn.
    fn served(&mut self, lanes: &[LaneId]) -> Result<()>;
    /// Makes the limit of `key` unless it exists; gives the one in force.
    fn limit_key(&mut self, tenant: &str, key: &str, max: u32) -> Result<u32>;
    /// The limits on queued jobs that `lane` is under.
    fn quotas(&mut self, lane: LaneId) -> Result<Vec<Quota>>;
    /// What each queue holds.
    fn totals(&mut self) -> Result<Vec<QueueTotals>>;
    /// Stops or resumes handing out the jobs of `queue`.
    fn pause(&mut self, queue: &str, paused: bool) -> Result<()>;
}

/// A right to run an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The attempt.
    pub fence: Fence,
    /// Who holds it.
    pub worker: WorkerId,
    /// That worker's name.
    pub worker_name: String,
    /// When it was given.
    pub started_at: Timestamp,
    /// What the holder was asked.
    pub cancel: Option<CancelRequest>,
}

/// How a running job is to be ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The first signal; SIGTERM when absent.
    pub signal: Option<i32>,
    /// The time until SIGKILL; the job's own when absent.
    pub grace: Option<Span>,
}

/// Leases. Their clock is the store's own and never jumps (S1).
pub trait Leases {
    /// Gives `worker` the right to run `fences` for `ttl`.
    fn grant(&mut self, worker: WorkerId, fences: &[Fence], ttl: Span) -> Result<()>;
    /// The lease of each fence; none where it is not the current one.
    fn held(&mut self, fences: &[Fence]) -> Result<Vec<Option<Lease>>>;
    /// Makes them last `ttl` from now.
    fn extend(&mut self, fences: &[Fence], ttl: Span) -> Result<()>;
    /// Ends them.
    fn release(&mut self, fences: &[Fence]) -> Result<()>;
    /// Leases that ran out, at most `limit`.
    fn expired(&mut self, limit: usize) -> Result<Vec<Lease>>;
    /// The leases of `worker`.
    fn leases_of(&mut self, worker: WorkerId) -> Result<Vec<Lease>>;
    /// Leaves a request for the holder of the lease on `number`.
    fn ask_cancel(&mut self, number: Number, request: &CancelRequest) -> Result<()>;
}

/// An event to be recorded.
pub struct NewEvent<'a> {
    /// What happened.
    pub kind: EventKind,
    /// The job.
    pub number: Option<Number>,
    /// The attempt.
    pub attempt: Option<u32>,
    /// The worker's name.
    pub worker: Option<&'a str>,
    /// Who asked for it.
    pub actor: Option<&'a str>,
    /// The state that the job has from now on.
    pub state: Option<State>,
    /// What else is to say; null for nothing.
    pub data: Value,
}

impl NewEvent<'_> {
    /// An event of `kind` with nothing else said.
    pub fn of(kind: EventKind) -> Self {
        Self { kind, number: None, attempt: None, worker: None, actor: None, state: None, data: Value::Null }
    }
}

/// Why a job is dead.
pub struct DeadLetter<'a> {
    /// The job.
    pub number: Number,
    /// One of [`crate::job::state::reason`].
    pub reason: &'a str,
    /// Errors that are alike have the same.
    pub fingerprint: String,
    /// The last error.
    pub error: Option<&'a str>,
}

/// What happened.
pub trait History {
    /// Records ended attempts.
    fn record(&mut self, attempts: &[(Number, Attempt)]) -> Result<()>;
    /// The attempts of `number`, a running one last.
    fn attempts(&mut self, number: Number) -> Result<Vec<Attempt>>;
    /// The current or last attempt of each job, and what the job said.
    fn latest(&mut self, numbers: &[Number]) -> Result<Vec<(Option<Attempt>, Said)>>;
    /// Appends to the audit trail.
    fn append(&mut self, events: &[NewEvent]) -> Result<()>;
    /// Events after `after`, oldest first, at most `limit`.
    fn events(&mut self, after: i64, limit: usize) -> Result<Vec<Event>>;
}

/// A dead letter as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The job.
    pub number: Number,
    /// Why it is dead.
    pub reason: String,
    /// Errors that are alike have the same.
    pub fingerprint: String,
    /// The last error.
    pub error: Option<String>,
    /// When it died.
    pub died_at: Timestamp,
}

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterFilter {
    /// Of jobs in this queue.
    pub queue: Option<String>,
    /// Of jobs of this tenant.
    pub tenant: Option<String>,
    /// With this reason.
    pub reason: Option<String>,
    /// With this fingerprint.
    pub fingerprint: Option<String>,
    /// Dead at or after this instant.
    pub since: Option<Timestamp>,
}

/// Dead letters that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LetterGroup {
    /// What they have in common.
    pub fingerprint: String,
    /// How many there are.
    pub count: i64,
    /// When the first of them died.
    pub first_at: Timestamp,
    /// When the last of them died.
    pub last_at: Timestamp,
    /// The newest of them.
    pub sample: Number,
}

/// Dead letters.
pub trait Letters {
    /// Adds dead letters.
    fn bury(&mut self, letters: &[DeadLetter]) -> Result<()>;
    /// Takes dead letters away; gives how many there were.
    fn unbury(&mut self, numbers: &[Number]) -> Result<usize>;
    /// Those that match, of the newest jobs first, below `before`, at most `limit`.
    fn letters(&mut self, filter: &LetterFilter, before: Option<Number>, limit: usize) -> Result<Vec<Letter>>;
    /// Those that match, counted by fingerprint, the largest group first, at most `limit`.
    fn letter_groups(&mut self, filter: &LetterFilter, limit: usize) -> Result<Vec<LetterGroup>>;
}

/// What an idempotency key stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyHolder {
    /// The job's number.
    pub number: Number,
    /// The job's id.
    pub id: JobId,
    /// The hash of what was asked for.
    pub fingerprint: [u8; 32],
}

/// Names and idempotency keys.
pub trait Keys {
    /// Who holds an idempotency key, if it is kept still.
    fn key_holder(&mut self, tenant: &str, key: &str) -> Result<Option<KeyHolder>>;
    /// Gives the key to `holder`.
    fn keep_key(&mut self, tenant: &str, key: &str, holder: &KeyHolder) -> Result<()>;
    /// Has the keys of `number` forgotten at `at`, or never (S13).
    fn forget_keys(&mut self, number: Number, at: Option<Timestamp>) -> Result<()>;
    /// The unfinished job that owns `name`.
    fn name_holder(&mut self, tenant: &str, name: &str) -> Result<Option<Number>>;
    /// Gives `name` to `number`, whoever had it.
    fn hold_name(&mut self, tenant: &str, name: &str, number: Number) -> Result<()>;
    /// Takes from `number` the name it owns.
    fn drop_name(&mut self, number: Number) -> Result<()>;
}

/// A worker as it presents itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewWorker {
    /// The id of this life of it.
    pub id: WorkerId,
    /// Its name, unique on its host.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// What it serves.
    pub offer: crate::job::lanes::Offer,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The version of orx.
    pub version: String,
    /// Whether it runs one job of its own only (`orx run`).
    pub solo: bool,
}

/// A worker as users see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are those of CONTRACT
pub struct Worker {
    pub id: WorkerId,
    pub name: String,
    pub host: String,
    pub pid: u32,
    pub state: WorkerState,
    pub queues: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub handlers: Vec<String>,
    pub slots: u32,
    pub running: Vec<Number>,
    pub version: String,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    #[serde(default)]
    pub solo: bool,
}

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Takes jobs.
    Active,
    /// Takes no more.
    Draining,
    /// Its heartbeat has ended.
    Lost,
}

impl WorkerState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerState::Active => "active",
            WorkerState::Draining => "draining",
            WorkerState::Lost => "lost",
        }
    }
}

/// The process that does the upkeep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leader {
    /// Who it is.
    pub name: String,
    /// Rises with each change of leader.
    pub epoch: i64,
    /// When it led last.
    pub seen_at: Timestamp,
    /// How long ago that was, by the store's clock of leases; none: in another boot.
    pub age: Option<Span>,
}

/// The processes around the store.
pub trait Fleet {
    /// Adds a worker whose heartbeat lasts `ttl`.
    fn register(&mut self, worker: &NewWorker, ttl: Span) -> Result<()>;
    /// Makes a worker's heartbeat last `ttl` from now; gives its state, or none when it is not known.
    fn heartbeat(&mut self, id: WorkerId, ttl: Span) -> Result<Option<WorkerState>>;
    /// Removes a worker.
    fn deregister(&mut self, id: WorkerId) -> Result<()>;
    /// Every worker, by name.
    fn workers(&mut self) -> Result<Vec<Worker>>;
    /// Asks a worker to take no more jobs.
    fn ask_drain(&mut self, id: WorkerId) -> Result<()>;
    /// Who leads.
    fn leader(&mut self) -> Result<Option<Leader>>;
    /// Makes `name` the leader under the next epoch, and gives it.
    fn lead(&mut self, name: &str) -> Result<i64>;
    /// Marks the leader of `epoch` as alive; false when that is no longer the epoch.
    fn still_leads(&mut self, epoch: i64) -> Result<bool>;
}

/// What jobs wrote.
pub trait Outputs {
    /// Stores chunks: beside the outcome in a transaction of the queue, else in the output store.
    fn put_output(&mut self, fence: Fence, chunks: &[Chunk]) -> Result<()>;
    /// Chunks of an attempt after `seq`, at most about `max_bytes` (always one, if there is one).
    fn output(&mut self, fence: Fence, after: Option<u32>, max_bytes: usize) -> Result<Vec<Chunk>>;
}
