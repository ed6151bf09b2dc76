//! What goes in and out of a store: plain data, the same for every backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::limit_rows::Limits;
use super::peer_rows::{Home, PeerNode};
use crate::job::many::at_most;
use crate::job::spec::Until;
use crate::job::{
    Captured, EventKind, Fence, JobId, JobSpec, LaneId, Life, Number, Origin, ScheduleId, SecretHash, State, WorkerId,
};
use crate::time::{Span, Timestamp};

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
    /// Where it comes from.
    pub origin: &'a Origin,
    /// The schedule of which it is a whole run: until it has ended, one runs (S22).
    pub is_run_of: Option<ScheduleId>,
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

/// What is about to be asked for.
#[derive(Clone, Debug, Default)]
pub struct Foresight {
    /// The leases that will be looked up and ended.
    pub ending: Vec<Fence>,
    /// The first lanes after that: at most so many, with pending jobs up to so many.
    pub lanes: Option<(usize, u32)>,
    /// Who will lease.
    pub worker: Option<WorkerId>,
}

/// The most states that are named: there are eight.
const MAX_STATES: usize = 64;

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Any of these states; empty: all.
    #[serde(deserialize_with = "at_most::<MAX_STATES, _, _>")]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueueTotals {
    /// The queue.
    pub name: String,
    /// Whether it hands out jobs.
    pub paused: bool,
    /// Whether other nodes of a cluster may run its jobs.
    pub shared: bool,
    /// Limits; none where there is none.
    pub limits: Limits,
    /// Jobs by state, all states present.
    pub counts: BTreeMap<State, i64>,
    /// When the job that waits longest was stored.
    pub oldest_pending_at: Option<Timestamp>,
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

/// A right to run an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The attempt.
    pub fence: Fence,
    /// Who holds it.
    pub worker: WorkerId,
    /// The hash of that worker's secret.
    pub secret_hash: SecretHash,
    /// That worker's name.
    pub worker_name: String,
    /// When it was given.
    pub started_at: Timestamp,
    /// What the holder was asked.
    pub cancel: Option<CancelRequest>,
}

/// What can be said of a lease without waiting.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// It is the current one, and does not end before this transaction.
    Held(Lease),
    /// It is the current one still, but somebody is about to end it.
    Busy,
    /// The fence is old.
    Gone,
}

/// How a running job is to be ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CancelRequest {
    /// The first signal; SIGTERM when absent.
    pub signal: Option<i32>,
    /// The time until SIGKILL; the job's own when absent.
    pub grace: Option<Span>,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// What an idempotency key stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyHolder {
    /// The job's number.
    pub number: Number,
    /// The job's id.
    pub id: JobId,
    /// The hash of what was asked for.
    pub fingerprint: [u8; 32],
    /// As what it ended, if it has.
    pub ended: Option<State>,
}

/// Which schedules to list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Also those that were removed.
    pub removed: bool,
    /// After the one of this tenant, name and id.
    pub after: Option<(String, String, ScheduleId)>,
}

/// The process that does the upkeep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Leader {
    /// Who it is.
    pub name: String,
    /// Rises with each change of leader.
    pub epoch: i64,
    /// When it led last.
    pub seen_at: Timestamp,
    /// How long ago that was, by the store's clock of leases; none: in another boot.
    pub age: Option<Span>,
    /// It ended as planned: anybody may lead at once.
    #[serde(default)]
    pub released: bool,
}

/// A coordinator as it presents itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NewNode {
    /// The id of this life of it.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Where it listens; none: nowhere.
    pub address: Option<String>,
    /// The version of orx.
    pub version: String,
    /// The machine's load over the last minute.
    pub load: f64,
    /// It is about to end.
    pub draining: bool,
    /// The nodes that it gossips with.
    #[serde(default)]
    pub peers: Vec<PeerNode>,
    /// Those of them whose jobs the workers of this store may run.
    #[serde(default)]
    pub homes: Vec<Home>,
}

/// A coordinator as it is stored.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // as in NewNode
pub struct Node {
    pub id: Uuid,
    pub name: String,
    pub host: String,
    pub pid: u32,
    pub address: Option<String>,
    pub version: String,
    pub load: f64,
    pub draining: bool,
    pub peers: Vec<PeerNode>,
    pub homes: Vec<Home>,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    /// Its heartbeat has ended.
    pub lost: bool,
}

/// Something in a store that contradicts what must always hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What must always hold.
    pub check: String,
    /// What was found.
    pub message: String,
}
