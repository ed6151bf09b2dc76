//! The roles of a transaction: small traits of set-oriented, object-safe methods, one file per backend each.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::lease_rows::Holding;
use super::limit_rows::{Limits, NamedLimit, Quota, Tenant};
use super::restore::Floor;
use super::rows::{
    CancelRequest, Change, DeadLetter, Edge, Filter, Kept, KeyHolder, Leader, Lease, Letter, LetterFilter, LetterGroup,
    NewEvent, NewJob, NewNode, Node, QueueTotals, ScheduleFilter,
};
use super::token_rows::TokenRow;
use super::worker_rows::{KnownWorker, NewWorker, Worker, WorkerState};
use crate::error::Result;
use crate::job::lanes::{Lane, OpenLane};
use crate::job::output::{Chunk, Cut};
use crate::job::schedule::Entry;
use crate::job::view::Said;
use crate::job::{
    Attempt, Definition, Event, Fence, JobId, LaneId, Number, Occurrence, OccurrenceId, Outcome, Record, RunId,
    Schedule, ScheduleId, SecretHash, Selector, State, WorkerId, WorkerProof,
};
use crate::time::{Span, Timestamp};

/// Jobs: rows and their lives.
pub trait Jobs {
    /// Stores `jobs`; gives the number of each, or none where that id is stored already.
    fn insert(&mut self, jobs: &[NewJob]) -> Result<Vec<Option<Number>>>;
    /// Those of `ids` under which jobs are stored.
    fn stored(&mut self, ids: &[JobId]) -> Result<Vec<JobId>>;
    /// The jobs of `numbers` that exist, in that order.
    fn load(&mut self, numbers: &[Number]) -> Result<Vec<Record>>;
    /// Locks those jobs of which nobody else has locked anything, and gives the others.
    fn lock_free(&mut self, _numbers: &[Number]) -> Result<Vec<Number>> {
        Ok(Vec::new()) // where one writes at a time
    }
    /// Notes jobs that no orx can read, for the leader.
    fn note_unreadable(&mut self, numbers: &[Number]) -> Result<()>;
    /// Those that were noted, ascending, at most `limit`.
    fn noted_unreadable(&mut self, limit: usize) -> Result<Vec<Number>>;
    /// Takes the notes of these jobs away.
    fn forget_unreadable(&mut self, numbers: &[Number]) -> Result<()>;
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

/// Edges between jobs.
pub trait Edges {
    /// Stores edges, or their new `satisfied`.
    fn put_edges(&mut self, edges: &[Edge]) -> Result<()>;
    /// Edges that wait for any of `needs`.
    fn dependants(&mut self, needs: &[Number]) -> Result<Vec<Edge>>;
    /// The edges of `number`, with the state of what each needs; none when that was pruned.
    fn needs(&mut self, number: Number) -> Result<Vec<(Edge, Option<State>)>>;
}

/// Lanes: what a lease chooses between, and the limits on them.
pub trait Lanes {
    /// The lane of these words, made when absent.
    fn lane(&mut self, queue: &str, tenant: &str, limit_key: Option<&str>, needs: &str) -> Result<LaneId>;
    /// The lane of these words, where there is one.
    fn find_lane(&mut self, queue: &str, tenant: &str, limit_key: Option<&str>, needs: &str) -> Result<Option<LaneId>>;
    /// Lanes with pending jobs and room, not paused, least recently served first, `skip` left out. Pending jobs beyond
    /// `most` need not be counted.
    fn lanes(&mut self, skip: usize, limit: usize, most: u32) -> Result<Vec<Lane>>;
    /// Makes the rooms of `lanes` exact, and keeps others from taking them until the transaction ends.
    fn reserve(&mut self, lanes: &mut [Lane]) -> Result<()>;
    /// Pending jobs of a lane in the order they are handed out, at most `limit`.
    fn pending(&mut self, lane: LaneId, limit: usize) -> Result<Vec<Number>>;
    /// Lanes whose jobs have not all ended, at most `limit`.
    fn open_lanes(&mut self, limit: usize) -> Result<Vec<OpenLane>>;
    /// When the first scheduled job of these lanes is due.
    fn next_due(&mut self, lanes: &[LaneId]) -> Result<Option<Timestamp>>;
    /// Puts `lanes` to the end of the turn.
    fn served(&mut self, lanes: &[LaneId]) -> Result<()>;
    /// Makes the limit of `key` unless it exists; gives the one in force.
    fn limit_key(&mut self, tenant: &str, key: &str, max: u32) -> Result<u32>;
    /// The limits that new jobs of `lane` are under; nobody else uses of them until the transaction ends, if it writes.
    fn quotas(&mut self, lane: LaneId) -> Result<Vec<Quota>>;
    /// Notes one more submission under a quota that counts them.
    fn submitted(&mut self, scope: &'static str, name: &str);
    /// What each queue holds; of one tenant: what it has in each queue that it uses.
    fn totals(&mut self, tenant: Option<&str>) -> Result<Vec<QueueTotals>>;
    /// Whether there is no job that has not ended, where that costs next to nothing to find out; else no.
    fn is_quiet(&mut self) -> Result<bool> {
        Ok(false)
    }
    /// One bounded round of adding up what others left to be counted.
    fn tidy(&mut self) -> Result<()>;
}

/// What queues, tenants and named limits allow.
pub trait Policies {
    /// Stops or resumes handing out the jobs of `queue`.
    fn pause(&mut self, queue: &str, paused: bool) -> Result<()>;
    /// Gives the jobs of `queue` to other nodes too, or keeps them.
    fn share_queue(&mut self, queue: &str, shared: bool) -> Result<()>;
    /// The queues whose jobs no other node gets.
    fn unshared(&mut self) -> Result<Vec<String>>;
    /// Keeps others from limiting queues and tenants until the transaction ends: who changes some limits reads all first.
    fn hold_limits(&mut self) -> Result<()> {
        Ok(())
    }
    /// Records what `queue` allows.
    fn limit_queue(&mut self, queue: &str, limits: &Limits) -> Result<()>;
    /// Every tenant, by name.
    fn tenants(&mut self) -> Result<Vec<Tenant>>;
    /// Records what `tenant` may.
    fn limit_tenant(&mut self, tenant: &str, limits: &Limits) -> Result<()>;
    /// Every named limit, by tenant and key.
    fn named_limits(&mut self) -> Result<Vec<NamedLimit>>;
    /// What the store was told to do otherwise than it would.
    fn setting(&mut self, name: &str) -> Result<Option<String>>;
    /// Records that.
    fn put_setting(&mut self, name: &str, value: &str) -> Result<()>;
    /// Records how many running jobs of `tenant` may share `key`.
    fn set_limit(&mut self, tenant: &str, key: &str, max: u32) -> Result<()>;
}

/// Who may call a coordinator.
pub trait Tokens {
    /// Every token, oldest first.
    fn tokens(&mut self) -> Result<Vec<TokenRow>>;
    /// One token.
    fn token(&mut self, id: Uuid) -> Result<Option<TokenRow>>;
    /// Adds one.
    fn add_token(&mut self, token: &TokenRow) -> Result<()>;
    /// Ends one, for ever.
    fn revoke_token(&mut self, id: Uuid, at: Timestamp) -> Result<()>;
}

/// Leases. Their clock is the store's own and never jumps (S1).
pub trait Leases {
    /// Gives `worker` the right to run `fences` for `ttl`; fails unless it is registered with that secret.
    fn grant(&mut self, worker: &WorkerProof, fences: &[Fence], ttl: Span) -> Result<()>;
    /// The lease of each fence; none where it is not the current one.
    fn held(&mut self, fences: &[Fence]) -> Result<Vec<Option<Lease>>>;
    /// The same for whoever leaves jobs as they are, and at most wants `to_extend` their leases: waits for nobody who
    /// changes them, or has them locked for long.
    fn keep(&mut self, fences: &[Fence], to_extend: bool) -> Result<Vec<Kept>> {
        let _ = to_extend; // where one writes at a time
        Ok(self.held(fences)?.into_iter().map(|lease| lease.map_or(Kept::Gone, Kept::Held)).collect())
    }
    /// Makes them last `ttl` from now.
    fn extend(&mut self, fences: &[Fence], ttl: Span) -> Result<()>;
    /// How long ago the last sign of life was stored: a lease, a renewal or a heartbeat. None: there is none.
    fn last_sign(&mut self) -> Result<Option<Span>>;
    /// Gives every lease and every heartbeat the time back for which holders were `away`, up to its own time from now;
    /// and `patience` at least to those that had not run out before.
    fn forgive(&mut self, away: Span, patience: Span) -> Result<()>;
    /// Ends them.
    fn release(&mut self, fences: &[Fence]) -> Result<()>;
    /// Leases that ran out, at most `limit`.
    fn expired(&mut self, limit: usize) -> Result<Vec<Lease>>;
    /// The leases of `worker`, as they are at this moment.
    fn leases_of(&mut self, worker: WorkerId) -> Result<Vec<Lease>>;
    /// Above what the next attempts of older jobs lie.
    fn floor(&mut self) -> Result<Floor>;
    /// The leases that end soonest, at most `limit`; of `number` only, where one is given. Locks none.
    fn holdings(&mut self, number: Option<Number>, limit: usize) -> Result<Vec<Holding>>;
    /// Leaves a request for the holder of the lease on `number`.
    fn ask_cancel(&mut self, number: Number, request: &CancelRequest) -> Result<()>;
}

/// What happened.
pub trait History {
    /// Records ended attempts.
    fn record(&mut self, attempts: &[(Number, Attempt)]) -> Result<()>;
    /// The attempts of `number`, a running one last.
    fn attempts(&mut self, number: Number) -> Result<Vec<Attempt>>;
    /// How an attempt ended; none: it has not.
    fn outcome(&mut self, fence: Fence) -> Result<Option<Outcome>>;
    /// The current or last attempt of each job, and what it said.
    fn latest(&mut self, numbers: &[Number]) -> Result<Vec<(Option<Attempt>, Said)>>;
    /// Records what an attempt said; what it did not say stays as it was.
    fn say(&mut self, fence: Fence, said: &Said) -> Result<()>;
    /// Appends to the audit trail.
    fn append(&mut self, events: &[NewEvent]) -> Result<()>;
    /// Notes that what was told last was of these jobs, which have ended: it is forgotten with them.
    fn note_told(&mut self, numbers: &[Number]) -> Result<()>;
    /// Events after `after`, oldest first, at most `limit`.
    fn events(&mut self, after: i64, limit: usize) -> Result<Vec<Event>>;
}

/// Schedules. A writing transaction locks those that it reads.
pub trait Schedules {
    /// Stores a new schedule and its first version.
    fn add_schedule(&mut self, schedule: &Schedule) -> Result<()>;
    /// Stores one more version.
    fn add_version(&mut self, schedule: ScheduleId, version: u32, definition: &Definition) -> Result<()>;
    /// Records what changed of schedules; their versions are stored.
    fn save_schedules(&mut self, schedules: &[&Schedule]) -> Result<()>;
    /// The schedule of that id.
    fn schedule(&mut self, id: ScheduleId) -> Result<Option<Schedule>>;
    /// The schedule of that name; where it was removed, the one removed last.
    fn schedule_named(&mut self, tenant: &str, name: &str) -> Result<Option<Schedule>>;
    /// Schedules by tenant and name, at most `limit`. Locks none.
    fn schedules(&mut self, filter: &ScheduleFilter, limit: usize) -> Result<Vec<Schedule>>;
    /// Schedules that are due, the earliest first, at most `limit`; without those that another transaction looks at.
    fn due_schedules(&mut self, limit: usize) -> Result<Vec<Schedule>>;
    /// When the next schedule is due.
    fn next_schedule(&mut self) -> Result<Option<Timestamp>>;
}

/// What became of the instants of schedules.
pub trait Ledger {
    /// Adds rows; says of each whether it is new, or its instant had a row already.
    fn enter(&mut self, rows: &[&Occurrence]) -> Result<Vec<bool>>;
    /// Adds to ranges of skipped instants; entries that grow nothing are left out.
    fn grow(&mut self, entries: &[&Entry]) -> Result<()>;
    /// Takes a row of skipped instants away, for others that say the same or more.
    fn cut(&mut self, schedule: ScheduleId, due_at: Timestamp) -> Result<()>;
    /// The rows with instants in [from, to], newest first, at most `limit`.
    fn occurrences(
        &mut self,
        schedule: ScheduleId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<Occurrence>>;
    /// Of the newest `limit` rows the instants that were made up for, and those that fired together with them.
    fn made_up(&mut self, schedule: ScheduleId, limit: usize) -> Result<Vec<OccurrenceId>>;
    /// What a version says.
    fn definition(&mut self, schedule: ScheduleId, version: u32) -> Result<Option<Definition>>;
    /// Jobs that have not ended and are whole runs of schedules, ascending, at most `most` of each.
    fn unfinished(&mut self, schedules: &[ScheduleId], most: usize) -> Result<Vec<(ScheduleId, Number)>>;
    /// Runs of schedules that have not ended and whether each waits for another, newest first, at most `most` of each.
    fn unfinished_runs(&mut self, schedules: &[ScheduleId], most: usize) -> Result<Vec<(ScheduleId, RunId, bool)>>;
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

/// Names and idempotency keys.
pub trait Keys {
    /// Who holds an idempotency key, if it is kept still.
    fn key_holder(&mut self, tenant: &str, key: &str) -> Result<Option<KeyHolder>>;
    /// Gives the key to `holder`.
    fn keep_key(&mut self, tenant: &str, key: &str, holder: &KeyHolder) -> Result<()>;
    /// Has the keys of `number`, which ended as `state`, kept until `at` (S13).
    fn forget_keys(&mut self, number: Number, state: State, at: Timestamp) -> Result<()>;
    /// Removes keys that are kept no longer, at most `limit`; gives how many.
    fn prune_keys(&mut self, limit: usize) -> Result<usize>;
    /// The unfinished job that owns `name`.
    fn name_holder(&mut self, tenant: &str, name: &str) -> Result<Option<Number>>;
    /// Gives `name` to `number`, whoever had it.
    fn hold_name(&mut self, tenant: &str, name: &str, number: Number) -> Result<()>;
    /// Takes from `number` the name it owns.
    fn drop_name(&mut self, number: Number) -> Result<()>;
}

/// The processes around the store.
pub trait Fleet {
    /// Adds a worker whose heartbeat lasts `ttl`; gives the hash with which its id is registered, be it `secret` or not.
    fn register(&mut self, worker: &NewWorker, secret: &SecretHash, ttl: Span) -> Result<SecretHash>;
    /// A worker, where it is registered; costs the same whatever it and others hold.
    fn registered(&mut self, id: WorkerId) -> Result<Option<KnownWorker>>;
    /// Makes a worker's heartbeat last `ttl` from now, and keeps why it starts no jobs; gives its state and the hash of
    /// its secret, or none when it is not known.
    fn heartbeat(
        &mut self,
        id: WorkerId,
        ttl: Span,
        trouble: Option<&str>,
    ) -> Result<Option<(WorkerState, SecretHash)>>;
    /// Removes a worker.
    fn deregister(&mut self, id: WorkerId) -> Result<()>;
    /// How many workers there are; costs the same whatever they hold.
    fn count_workers(&mut self) -> Result<usize>;
    /// Every worker, by name.
    fn workers(&mut self) -> Result<Vec<Worker>>;
    /// Workers whose heartbeat has run out and that hold no lease any more, by name; none of them says that it lives until
    /// the transaction ends. What a worker holds it holds until its lease runs out: so long its processes may run (S2).
    fn lost_workers(&mut self) -> Result<Vec<Worker>> {
        let lost = |w: &Worker| w.state == WorkerState::Lost && w.running.is_empty();
        Ok(self.workers()?.into_iter().filter(lost).collect())
    }
    /// The shortest lease time of the workers that live and have been there for `settled`.
    fn shortest_lease(&mut self, settled: Span) -> Result<Option<Span>>;
    /// Asks a worker to take no more jobs.
    fn ask_drain(&mut self, id: WorkerId) -> Result<()>;
    /// Who leads.
    fn leader(&mut self) -> Result<Option<Leader>>;
    /// Makes `name` the leader under the next epoch, and gives it.
    fn lead(&mut self, name: &str) -> Result<i64>;
    /// Marks the leader of `epoch` as alive; false when that is no longer the epoch.
    fn still_leads(&mut self, epoch: i64) -> Result<bool>;
    /// Lets go of the lead of `epoch`: anybody may take it at once.
    fn resign(&mut self, epoch: i64) -> Result<()>;
    /// Adds a coordinator, or makes its heartbeat last `ttl` from now; gives whether it is asked to drain.
    fn announce(&mut self, node: &NewNode, ttl: Span) -> Result<bool>;
    /// Every coordinator, by name.
    fn nodes(&mut self) -> Result<Vec<Node>>;
    /// Asks a coordinator to end.
    fn drain_node(&mut self, id: Uuid) -> Result<()>;
    /// Removes a coordinator.
    fn retire(&mut self, id: Uuid) -> Result<()>;
}

/// Forgetting finished jobs.
pub trait Prune {
    /// Jobs above `after` that finished before `before` and may be forgotten, ascending, at most `limit`; those with a
    /// dead letter only if `dead`.
    fn prunable(&mut self, after: Number, before: Timestamp, dead: bool, limit: usize) -> Result<Vec<Number>>;
    /// The next jobs above `after`, ascending, at most `limit`: when each was stored, and whether it finished before
    /// `before` and may be forgotten. Looks at no others.
    fn aged(&mut self, after: Number, before: Timestamp, limit: usize) -> Result<Vec<(Number, Timestamp, bool)>>;
    /// Bytes that are in use, without those that were freed; none where the store cannot tell.
    fn used(&mut self) -> Result<Option<i64>>;
    /// Removes events.
    fn drop_events(&mut self, seqs: &[i64]) -> Result<()>;
    /// Removes jobs with everything that belongs to them, and counts them as pruned.
    fn prune(&mut self, jobs: &[Record]) -> Result<()>;
    /// Removes rows of ledgers whose instants lie before `before` and that nothing follows from, at most `limit`; gives
    /// how many.
    fn prune_ledger(&mut self, before: Timestamp, limit: usize) -> Result<usize>;
    /// Removes what jobs wrote from the output store.
    fn drop_output(&mut self, numbers: &[Number]) -> Result<()>;
}

/// What jobs wrote.
pub trait Outputs {
    /// Stores chunks: beside the outcome in a transaction of the queue, else in the output store.
    fn put_output(&mut self, fence: Fence, chunks: &[Chunk]) -> Result<()>;
    /// Keeps no more what `cut` says, where `put_output` stores.
    fn cut_output(&mut self, fence: Fence, cut: Cut) -> Result<()>;
    /// Chunks of an attempt after `seq`, at most about `max_bytes` (always one, if there is one).
    fn output(&mut self, fence: Fence, after: Option<u32>, max_bytes: usize) -> Result<Vec<Chunk>>;
}

/// What is measured of a store; no reading scans jobs.
pub trait Measures {
    /// How often what happened: ended attempts by outcome, events of some kinds, and [`super::tallies`].
    fn tallies(&mut self) -> Result<BTreeMap<String, i64>>;
    /// How many dead letters there are, counted up to `most`.
    fn count_letters(&mut self, most: i64) -> Result<i64>;
    /// How much room the store takes, in bytes.
    fn size(&mut self) -> Result<i64>;
}
