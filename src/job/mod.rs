//! The core: what a job is and what may happen to it. Pure: no clock, no database, no runtime.

pub mod audit;
mod audit_ledger;
mod captured;
mod cron;
mod cron_field;
pub mod event;
pub mod fingerprint;
mod graph;
pub mod ids;
pub mod json_text;
mod kinds;
pub mod lanes;
pub mod many;
pub mod names;
mod origin;
pub mod output;
pub mod plan;
pub mod reading;
pub mod recurrence;
mod repeat;
pub mod results;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod schemas;
mod secrets;
pub mod spec;
pub mod state;
pub mod surroundings;
pub mod target;
pub mod view;
mod words;
mod worker_key;
pub mod workflow;
pub mod workflow_file;
mod zone;

pub use event::{Event, EventKind};
pub use graph::Planned;
pub use ids::{Fence, JobId, Number, OccurrenceId, RunId, ScheduleId, Selector, WorkerId};
pub use json_text::JsonText;
pub use origin::Origin;
pub use reading::Unread;
pub use recurrence::{Recurrence, Rule, RuleKind};
pub use run::{RunLife, RunState};
pub use schedule::{Definition, Occurrence, Schedule};
pub use spec::{Captured, JobSpec, Submission};
pub use state::{Ending, Life, Outcome, State};
pub use target::Target;
pub use view::{Attempt, Job};
pub use worker_key::{SecretHash, WorkerKey, WorkerProof, WorkerSecret};
pub use workflow::Workflow;

use crate::time::Timestamp;

/// The key of a lane in its store.
pub type LaneId = i64;

/// A stored job with everything that decides about it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The store's number.
    pub number: Number,
    /// The id for programs.
    pub id: JobId,
    /// The lane it stands in.
    pub lane: LaneId,
    /// Its queue.
    pub queue: String,
    /// Who it belongs to.
    pub tenant: String,
    /// State, counters and instants.
    pub life: Life,
    /// What was asked for.
    pub spec: JobSpec,
    /// What was taken from the caller's surroundings.
    pub captured: Captured,
    /// Where it comes from.
    pub origin: Origin,
    /// When it was stored.
    pub created_at: Timestamp,
    /// What of it cannot be read here: then the parts above are what is understood of it.
    pub unread: Option<Unread>,
}
