//! The end of attempts.

use std::collections::{BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::lease::Lease;
use super::proof::{check_holder, check_registered};
use super::tenancy::check_jobs;
use super::transition::{By, load_one, record, resolve_dependants};
use super::{Access, Caller, Op, Scopes, bounds, runs};
use crate::error::{Error, Result};
use crate::job::fingerprint::fingerprint;
use crate::job::many::{MAX_MANY, at_most};
use crate::job::output::Chunk;
use crate::job::state::Ending;
use crate::job::{Attempt, EventKind, Fence, Life, Number, Outcome, Record, State, WorkerKey, WorkerProof};
use crate::mutant::{Mutant, planted};
use crate::store::{self, DeadLetter, Kept, KnownWorker, NewEvent, Topics, Tx};
use crate::time::{Span, Timestamp};

/// Reports the ends of attempts; each by itself, so that a stale one hinders no other.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Settle {
    /// The worker that held the leases.
    pub worker: WorkerKey,
    /// The ends.
    #[serde(deserialize_with = "at_most::<MAX_MANY, _, _>")]
    pub reports: Vec<Report>,
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The attempt.
    pub fence: Fence,
    /// What ended it.
    pub ending: Ending,
    /// Its process, unless that was reported before.
    pub started: Option<Started>,
    /// How long it ran.
    pub ran: Span,
    /// How long after its lease it ended, as its worker measured it: the report may be late, and clocks differ.
    pub after: Span,
    /// What it wrote since the last append, up to 64 KiB (S28).
    #[serde(deserialize_with = "at_most::<MAX_MANY, _, _>")]
    pub output: Vec<Chunk>,
    /// Chance in 0..1 for the wait before the next attempt.
    pub jitter: f64,
    /// The job belongs to a run.
    #[serde(default)]
    pub in_run: bool,
}

/// The process of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// Its id.
    pub pid: i32,
    /// When it started.
    pub at: Timestamp,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// It counts; the job is in this state now.
    Accepted(State),
    /// The fence is old; nothing changed, and it was recorded.
    Stale,
    /// Somebody else has the job locked; nothing changed, and it is to be reported again.
    Busy,
}

impl Op for Settle {
    type Reply = Vec<Settled>;
    const NAME: &'static str = "settle";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        Self::reports(caller, tx, &self.worker.proof(), &self.reports, None, false)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Self::Reply>> {
        Self::reread_reports(caller, tx, &self.worker.proof(), &self.reports, false)
    }
}

impl Settle {
    /// Ends the attempts; `next` is what will be leased in the same transaction. Jobs that somebody else has locked are
    /// waited for, or passed over.
    pub(super) fn reports(
        caller: &Caller,
        tx: &mut dyn Tx,
        worker: &WorkerProof,
        reports: &[Report],
        next: Option<&Lease>,
        pass_over: bool,
    ) -> Result<Vec<Settled>> {
        check_jobs(caller, tx, &numbers(reports))?;
        reports.iter().try_for_each(|report| bounds::output(&report.output))?;
        let in_runs: Vec<Number> = reports.iter().filter(|r| r.in_run).map(|r| r.fence.number).collect();
        if !in_runs.is_empty() {
            tx.hold_runs(&in_runs)?; // before the jobs: nobody may wait in a circle
        }
        let busy = if pass_over { tx.lock_free(&numbers(reports))? } else { Vec::new() };
        let is_busy = |report: &Report| busy.contains(&report.fence.number);
        // All are read at once: then many reports cost a database on the network little more than one.
        let fence = |report: &Report| match planted(Mutant::NoFence) {
            true => unfenced(tx, report.fence),
            false => Ok(report.fence),
        };
        let fences: Vec<Fence> = reports.iter().filter(|r| !is_busy(r)).map(fence).collect::<Result<_>>()?;
        if let Some(next) = next {
            next.foresee(tx, &fences)?;
        }
        let leases = tx.held(&fences)?;
        if !planted(Mutant::NoFence) {
            leases.iter().flatten().try_for_each(|lease| check_holder(worker, lease))?;
        }
        let held: Vec<Number> = leases.iter().flatten().map(|lease| lease.fence.number).collect();
        let mut jobs: HashMap<Number, Record> = tx.load(&held)?.into_iter().map(|job| (job.number, job)).collect();
        // The same fence a second time finds no job any more, and is stale.
        let mut job_of = |lease: store::Lease| Some((jobs.remove(&lease.fence.number)?, lease));
        // What waits for them is looked at when all have ended, also all at once.
        let (mut ended, mut stale) = (Vec::new(), Vec::new());
        let mut leases = leases.into_iter();
        let settled = reports.iter().map(|report| match is_busy(report) {
            true => Ok(Settled::Busy),
            false => match leases.next().flatten().and_then(&mut job_of) {
                Some(held) => settle(tx, report, held, &mut ended),
                None => {
                    stale.push(report.fence);
                    Ok(Settled::Stale)
                }
            },
        });
        let settled = settled.collect::<Result<_>>()?;
        reject_stale(tx, &stale, Self::NAME)?;
        resolve_dependants(tx, ended)?;
        runs::follow(tx)?; // before anything else is leased
        Ok(settled)
    }

    /// What became of the reports, if they were stored; where jobs were passed over, some may have been.
    pub(super) fn reread_reports(
        caller: &Caller,
        tx: &mut dyn Tx,
        worker: &WorkerProof,
        reports: &[Report],
        passed_over: bool,
    ) -> Result<Option<Vec<Settled>>> {
        check_jobs(caller, tx, &numbers(reports))?;
        // Its leases are gone, and with them who held them: the attempts have its name.
        let Some(KnownWorker { name, .. }) = check_registered(worker, tx)? else { return Ok(None) };
        let mut settled = Vec::with_capacity(reports.len());
        for report in reports {
            // One that has ended may have been ended by others meanwhile: its lease ran out.
            let attempts = tx.attempts(report.fence.number)?;
            let mine = |a: &&Attempt| a.number == report.fence.attempt && a.worker.as_ref() == Some(&name);
            let has_ended = attempts.iter().filter(mine).any(|a| a.finished_at.is_some());
            settled.push(match has_ended {
                true => Settled::Accepted(load_one(tx, report.fence.number)?.life.state),
                false if passed_over => Settled::Busy,
                false => return Ok(None),
            });
        }
        Ok(Some(settled).filter(|all| all.is_empty() || all.iter().any(|one| *one != Settled::Busy)))
    }
}

fn numbers(reports: &[Report]) -> Vec<Number> {
    reports.iter().map(|report| report.fence.number).collect()
}

fn settle(
    tx: &mut dyn Tx,
    report: &Report,
    (job, lease): (Record, store::Lease),
    ended: &mut Vec<(Number, State)>,
) -> Result<Settled> {
    let fence = report.fence;
    if let Some(started) = report.started {
        record_start(tx, fence, &lease.worker_name, started)?;
    }
    if !report.output.is_empty() {
        tx.put_output(fence, &report.output)?;
        tx.wake(Topics::OUTPUT);
    }
    let end = End {
        ending: &bounds::ending(&report.ending),
        started_at: report.started.map(|s| s.at),
        ran: report.ran,
        at: lease.started_at.plus(report.after).min(tx.now()),
        jitter: report.jitter.clamp(0.0, 1.0),
    };
    let (state, end) = end_attempt(tx, job, &lease, &end)?;
    ended.extend(end);
    Ok(Settled::Accepted(state))
}

/// The attempt that runs now, whichever was meant.
fn unfenced(tx: &mut dyn Tx, fence: Fence) -> Result<Fence> {
    Ok(Fence { attempt: load_one(tx, fence.number)?.life.attempt, ..fence })
}

/// Whether the fence is the current one, until this transaction ends.
///
/// # Errors
/// `Unavailable` while somebody changes that, `Denied` where another worker has it.
pub(super) fn is_kept(tx: &mut dyn Tx, worker: &WorkerProof, fence: Fence) -> Result<bool> {
    match tx.keep(&[fence], false)?.pop() {
        Some(Kept::Held(lease)) => check_holder(worker, &lease).map(|()| true),
        Some(Kept::Busy) => Err(Error::unavailable("the lease is being changed").hint("try again in a moment")),
        Some(Kept::Gone) | None => Ok(false),
    }
}

/// Records that a worker wrote with old fences. Of attempts that never were, or are forgotten, nothing is recorded: who
/// makes some up would fill the trail.
pub(super) fn reject_stale(tx: &mut dyn Tx, fences: &[Fence], what: &str) -> Result<()> {
    if fences.is_empty() {
        return Ok(());
    }
    let fences: BTreeSet<Fence> = fences.iter().copied().collect();
    let numbers: Vec<Number> = fences.iter().map(|f| f.number).collect::<BTreeSet<_>>().into_iter().collect();
    let last = tx.latest(&numbers)?.into_iter().map(|(attempt, _)| attempt.map_or(0, |attempt| attempt.number));
    let last: HashMap<Number, u32> = numbers.into_iter().zip(last).collect();
    let was = |fence: &&Fence| (1..=last[&fence.number]).contains(&fence.attempt);
    let real: Vec<Fence> = fences.iter().filter(was).copied().collect();
    let told = real.iter().map(|fence| NewEvent {
        number: Some(fence.number),
        attempt: Some(fence.attempt),
        data: json!({ "op": what }),
        ..NewEvent::of(EventKind::RejectedStale)
    });
    tx.append(&told.collect::<Vec<_>>())?;
    tx.note_told(&real.iter().map(|fence| fence.number).collect::<Vec<_>>())
}

/// Records that the process of an attempt runs.
pub(super) fn record_start(tx: &mut dyn Tx, fence: Fence, worker: &str, started: Started) -> Result<()> {
    tx.append(&[NewEvent {
        number: Some(fence.number),
        attempt: Some(fence.attempt),
        worker: Some(worker),
        data: json!({ "pid": started.pid, "started_at": started.at }),
        ..NewEvent::of(EventKind::Started)
    }])
}

/// How an attempt ended.
struct End<'a> {
    ending: &'a Ending,
    started_at: Option<Timestamp>,
    ran: Span,
    /// When that was.
    at: Timestamp,
    jitter: f64,
}

/// Ends the attempt of `lease`: its row, the job's next state, the dead letter if it is one. Gives that state, and the job
/// if it ended.
fn end_attempt(
    tx: &mut dyn Tx,
    job: Record,
    lease: &store::Lease,
    end: &End,
) -> Result<(State, Option<(Number, State)>)> {
    let End { ending, started_at, ran, at, jitter } = *end;
    let verdict = job.life.clone().settle(&job.spec, ending, ran, at, tx.now(), jitter)?;
    tx.release(&[lease.fence])?;
    let attempt = Attempt {
        number: lease.fence.attempt,
        worker: Some(lease.worker_name.clone()),
        started_at: Some(started_at.unwrap_or(lease.started_at)),
        finished_at: Some(at),
        outcome: Some(verdict.outcome),
        exit_code: ending.exit_code,
        signal: ending.signal,
        error: ending.error.clone(),
    };
    tx.record(&[(job.number, attempt)])?;
    if verdict.life.state == State::Failed {
        bury(tx, &job, &verdict.life, ending)?;
    }
    let by = By { worker: Some(&lease.worker_name), actor: None };
    let data = told(verdict.outcome, ending, &verdict.life);
    let ended = record(tx, &job, &verdict.life, EventKind::Settled, by, data)?;
    if job.spec.limit.is_some() || job.unread.is_some() {
        tx.wake(Topics::WORK); // a slot of the shared limit is free for every worker
    }
    Ok((verdict.life.state, ended))
}

/// Ends the attempts of `leases` as lost.
pub(super) fn lose(tx: &mut dyn Tx, leases: &[store::Lease], why: &str, jitter: f64) -> Result<Vec<Number>> {
    let numbers: Vec<Number> = leases.iter().map(|lease| lease.fence.number).collect();
    // One job may have become the dependant of another, so each is read as it is now.
    for lease in leases {
        let job = load_one(tx, lease.fence.number)?;
        let (ending, at) = (Ending::lost(why), tx.now()); // nobody knows when it ended
        let end = End { ending: &ending, started_at: None, ran: at.since(lease.started_at), at, jitter };
        let (_, ended) = end_attempt(tx, job, lease, &end)?;
        resolve_dependants(tx, ended.into_iter().collect())?;
    }
    Ok(numbers)
}

fn told(outcome: Outcome, ending: &Ending, life: &Life) -> Value {
    let mut data = Map::new();
    let mut tell = |key: &str, value: Value| {
        if !value.is_null() {
            data.insert(key.into(), value);
        }
    };
    tell("outcome", json!(outcome));
    tell("exit_code", json!(ending.exit_code));
    tell("signal", json!(ending.signal));
    tell("reason", json!(life.reason));
    tell("due_at", json!(life.due_at));
    Value::Object(data)
}

fn bury(tx: &mut dyn Tx, job: &Record, life: &Life, ending: &Ending) -> Result<()> {
    let how = match (ending.exit_code, ending.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => life.reason.clone().unwrap_or_default(),
    };
    let said = ending.error.as_deref().map(fingerprint).unwrap_or_default();
    tx.bury(&[DeadLetter {
        number: job.number,
        reason: life.reason.as_deref().unwrap_or_default(),
        fingerprint: if said.is_empty() { how } else { format!("{how}: {said}") },
        error: ending.error.as_deref(),
    }])
}
