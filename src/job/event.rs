//! The audit trail: one event for each change of state, in the transaction that made it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::{JobId, Number};
use crate::time::Timestamp;

macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident = $word:literal,)*) => {
        /// What an event tells of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum EventKind { $($(#[$meta])* #[serde(rename = $word)] $name,)* }

        impl EventKind {
            /// All kinds.
            pub const ALL: &[EventKind] = &[$(EventKind::$name),*];

            /// The word for it, the same everywhere.
            pub fn as_str(self) -> &'static str {
                match self { $(EventKind::$name => $word,)* }
            }
        }
    };
}

kinds! {
    /// Stored: blocked, scheduled, pending or skipped.
    Enqueued = "enqueued",
    /// blocked → scheduled or pending.
    Unblocked = "unblocked",
    /// pending → running.
    Leased = "leased",
    /// The process of an attempt runs.
    Started = "started",
    /// An attempt ended; `data.state` says where the job went.
    Settled = "settled",
    /// A worker wrote with an old fence; nothing changed.
    RejectedStale = "rejected_stale",
    /// Somebody asked for the end of a running job.
    CancelRequested = "cancel_requested",
    /// blocked, scheduled, pending → cancelled.
    Cancelled = "cancelled",
    /// blocked, scheduled, pending → cancelled by the deadline.
    Expired = "expired",
    /// blocked → skipped.
    Skipped = "skipped",
    /// skipped → blocked, scheduled or pending.
    Revived = "revived",
    /// Somebody took its dead letter away; it stays failed.
    Discarded = "discarded",
    /// blocked, scheduled, pending → failed, because no orx can read it; `data.what` says what of it.
    Quarantined = "quarantined",
    /// failed, cancelled → a new generation.
    Retried = "retried",
    /// A worker registered.
    WorkerStarted = "worker_started",
    /// A worker said that it ends.
    WorkerStopped = "worker_stopped",
    /// A worker's heartbeat ended, or its successor took over.
    WorkerLost = "worker_lost",
    /// Somebody asked a worker to drain.
    DrainRequested = "drain_requested",
    /// A process took over the upkeep; `data.epoch` rises.
    LeaderElected = "leader_elected",
    /// A run was stored; `data.run` is its id.
    RunStarted = "run_started",
    /// What had not ended of a run is being ended: `data.reason` says why.
    RunStopped = "run_stopped",
    /// A run ended; `data.result` says how.
    RunEnded = "run_ended",
    /// A job of a run that had ended is to run again.
    RunReopened = "run_reopened",
    /// An instant of a schedule fired.
    OccurrenceFired = "occurrence_fired",
    /// Instants of a schedule did not fire; `data.reason` says why.
    OccurrenceSkipped = "occurrence_skipped",
    /// A schedule was added, changed, paused, resumed or removed.
    ScheduleChanged = "schedule_changed",
    /// Somebody made a token; `data.token` is its id.
    TokenCreated = "token_created",
    /// Somebody ended a token.
    TokenRevoked = "token_revoked",
    /// A token was refused something.
    CallDenied = "call_denied",
    /// Shown to a reader who may not see what lies here and before, so that it can go on; never stored.
    Hidden = "hidden",
    /// This became another store than the one that `data.from` names: by a backup that was restored, or a copy.
    Restored = "restored",
    /// A queue was paused or resumed, or a limit was changed.
    PolicyChanged = "policy_changed",
    /// Something that a newer orx tells of; `data.unread` has its word. Never stored.
    #[serde(other)]
    Unknown = "unknown",
}

impl EventKind {
    /// The kind of that name; where it is none that is known here, what is to be told of it.
    pub fn read(word: &str) -> (EventKind, Option<String>) {
        match Self::parse(word) {
            Some(kind) => (kind, None),
            None => (EventKind::Unknown, Some(format!("the kind {word:?} is not known here"))),
        }
    }

    /// The kind of that name.
    pub fn parse(word: &str) -> Option<EventKind> {
        Self::ALL.iter().copied().find(|k| k.as_str() == word)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is told of an event beside its columns: `data` as it is stored, and the state that its job has from there on.
/// What of it cannot be read here is told as `unread`.
pub fn told(data: Option<&[u8]>, state: Option<String>, unread: Option<String>) -> Value {
    let (mut all, broken) = match data.map(serde_json::from_slice::<Map<String, Value>>) {
        None => (Map::new(), None),
        Some(Ok(all)) => (all, None),
        Some(Err(e)) => (Map::new(), Some(format!("the data cannot be read: {e}"))),
    };
    if let Some(state) = state {
        all.insert("state".into(), state.into());
    }
    if let Some(unread) = broken.or(unread) {
        all.insert(UNREAD.into(), unread.into());
    }
    Value::Object(all)
}

/// The field of `data` that says what of an event cannot be read here.
pub const UNREAD: &str = "unread";

/// One line of the audit trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its place; rises, with gaps.
    pub seq: i64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The job, if it tells of one.
    pub job_id: Option<JobId>,
    /// The job's number.
    pub number: Option<Number>,
    /// The attempt, if it tells of one.
    pub attempt: Option<u32>,
    /// The worker's name, if one did it.
    pub worker: Option<String>,
    /// Who asked for it: a user of this machine or a token.
    pub actor: Option<String>,
    /// What else is to say.
    pub data: Value,
}
