//! What follows for runs when jobs of theirs have changed, in the same transaction.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::enqueue::told;
use super::super::transition::{By, Next, change_all};
use super::view;
use crate::error::{Error, Result};
use crate::job::lanes::Needs;
use crate::job::run::{Moved, Reach, Step};
use crate::job::spec::{Bytes, KeyLimit};
use crate::job::state::Cancelled;
use crate::job::workflow::{self, ON_COMPLETE};
use crate::job::{EventKind, JobId, JsonText, Life, Number, Origin, Record, State, Unread};
use crate::store::{CancelRequest, Edge, NewEvent, NewJob, Run, TaskKind, Topics, Tx};

/// Looks at every run of which a job has changed. Nothing to do for jobs without a run.
pub(in crate::ops) fn follow(tx: &mut dyn Tx) -> Result<()> {
    while let Some((id, moved)) = tx.next_moved() {
        // A group of jobs that is not stored as a run has nothing that could follow.
        let Some(mut run) = tx.run(id)? else { continue };
        let waited_for = run.life.behind;
        let (reopened, step) = run.life.moved(run.terms, &moved, tx.now());
        tx.save_run(&run)?;
        if reopened {
            check_stopped(tx, &run)?;
            tell(tx, EventKind::RunReopened, json!({ "run": run.id }))?;
        }
        match step {
            Step::Nothing => {}
            Step::Stop => stop(tx, &run, Reach::Tasks, &CancelRequest::default(), By::default())?,
            Step::Complete => {
                if let Some(unread) = complete(tx, &run)? {
                    // It is not known what runs last. The run has ended all the same (S29).
                    let reason = format!("what runs last is not known: {unread}");
                    tell(tx, EventKind::RunStopped, json!({ "run": run.id, "reason": reason }))?;
                    run.life.moved(run.terms, &Moved { completed: true, ..Moved::default() }, tx.now());
                    tx.save_run(&run)?;
                    end(tx, &run, waited_for)?;
                }
            }
            Step::End => end(tx, &run, waited_for)?,
        }
    }
    Ok(())
}

/// Refuses to open a run again that is still being stopped: the end of what was asked to end would stop it anew.
fn check_stopped(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let open = tx.tasks(run.seq, true)?.into_iter().filter(|(_, kind)| *kind != TaskKind::Last);
    let numbers: Vec<Number> = open.map(|(number, _)| number).collect();
    match tx.load(&numbers)?.iter().find(|job| job.life.cancel_requested_at.is_some()) {
        None => Ok(()),
        Some(Record { number, .. }) => {
            Err(Error::conflict(format!("run {} is being stopped, and its job {number} has not ended", run.id))
                .hint(format!("try again when it has: orx wait {number}")))
        }
    }
}

/// Ends what has not ended of runs that take too long.
pub(in crate::ops) fn time_out(tx: &mut dyn Tx, limit: usize) -> Result<()> {
    for id in tx.late_runs(limit)? {
        let Some(mut run) = tx.run(id)? else { continue };
        if run.life.time_out(run.terms, tx.now()) {
            tx.save_run(&run)?;
            stop(tx, &run, Reach::Tasks, &CancelRequest::default(), By::default())?;
        }
    }
    follow(tx)
}

/// Ends what has not ended: what runs is asked to, the rest at once (S19).
pub(super) fn stop(tx: &mut dyn Tx, run: &Run, reach: Reach, how: &CancelRequest, by: By) -> Result<()> {
    let why = run.life.stop.clone().unwrap_or_default();
    let told = NewEvent {
        actor: by.actor,
        data: json!({ "run": run.id, "reason": why }),
        ..NewEvent::of(EventKind::RunStopped)
    };
    tx.append(&[told])?;
    let open = tx.tasks(run.seq, true)?.into_iter();
    let numbers: Vec<Number> =
        open.filter(|(_, kind)| reach == Reach::All || *kind == TaskKind::Task).map(|(n, _)| n).collect();
    let asked = run.life.cancels > 0;
    let mut nexts = Vec::with_capacity(numbers.len());
    for job in tx.load(&numbers)? {
        let (now, state) = (tx.now(), job.life.state);
        let data = json!({ "reason": why });
        // What has not begun was not done because of something else; what has is not going to be finished.
        let life = match (state, asked || job.life.attempt > 0) {
            (State::Blocked | State::Scheduled | State::Pending, false) => job.life.clone().skip(why.clone(), now)?,
            _ => match job.life.clone().cancel(Some(why.clone()), now) {
                Ok(Cancelled::Ended(life)) => life,
                Ok(Cancelled::Requested(life)) => {
                    tx.ask_cancel(job.number, how)?;
                    tx.wake(Topics::CONTROL);
                    life
                }
                Err(_) => continue, // it ended at this moment
            },
        };
        let kind = match life.state {
            State::Skipped => EventKind::Skipped,
            State::Running => EventKind::CancelRequested,
            _ => EventKind::Cancelled,
        };
        nexts.push(Next { job, life, kind, data });
    }
    change_all(tx, &nexts, by)
}

/// Starts what runs when the others have ended, with the report as its input; gives why it cannot.
fn complete(tx: &mut dyn Tx, run: &Run) -> Result<Option<Unread>> {
    let given = tx.run_spec(run.seq)?;
    if given.unread.is_some() {
        return Ok(given.unread);
    }
    let report = view::report(tx, run)?;
    let Some(mut spec) = workflow::read(&given.workflow)?.on_complete else { return Ok(None) };
    let report = JsonText::of(&report)?;
    match spec.handler.is_some() {
        true => spec.payload = Some(report),
        false => spec.stdin = Some(Bytes(report.to_string().into_bytes())),
    }
    if let (None, Some(key)) = (&spec.limit, &run.limit_key) {
        let max = key.rsplit('/').nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
        spec.limit = Some(KeyLimit { key: key.clone(), max });
    }
    // A run that was opened again has one for each of its ends.
    let task = if run.life.ends > 1 { format!("{ON_COMPLETE} {}", run.life.ends) } else { ON_COMPLETE.to_owned() };
    let id = JobId::of_task(run.id, &task);
    let origin = Origin {
        run_id: Some(run.id),
        task: Some(task),
        schedule_id: run.schedule_id,
        occurrence_id: run.occurrence_id,
        scheduled_for: run.scheduled_for,
        ..Origin::default()
    };
    if let Some(limit) = &spec.limit {
        tx.limit_key(&run.tenant, &limit.key, limit.max)?; // it may have been removed since the run was made
    }
    let limit = spec.limit.as_ref().map(|l| l.key.clone());
    let lane = tx.lane(spec.queue(), &run.tenant, limit.as_deref(), &Needs::of(&spec).key())?;
    let life = Life::admit(&spec, tx.now(), 0);
    let captured = Arc::clone(&given.captured);
    let new = NewJob { id, lane, life: &life, spec: &spec, captured: &captured, origin: &origin, is_run_of: None };
    let number = tx.insert(&[new])?.pop().flatten();
    let number = number.ok_or_else(|| Error::conflict(format!("the id {id} is taken")))?;
    tx.add_tasks(run.seq, &[(number, TaskKind::Last)])?;
    let data = told(&spec, &life, &[], &origin)?;
    tx.append(&[NewEvent {
        number: Some(number),
        state: Some(life.state),
        data,
        ..NewEvent::of(EventKind::Enqueued)
    }])?;
    tx.wake(Topics::WORK | Topics::JOBS);
    Ok(None)
}

/// A run has ended: those that wait for it may start, or wait for the one that it waited for itself.
fn end(tx: &mut dyn Tx, run: &Run, waited_for: Option<i64>) -> Result<()> {
    tell(tx, EventKind::RunEnded, json!({ "run": run.id, "name": run.name, "result": run.life.state }))?;
    for id in tx.runs_behind(run.seq)? {
        let Some(mut next) = tx.run(id)? else { continue };
        let before = match waited_for {
            None => running_before(tx, &next)?,
            known => known,
        };
        next.life.behind = before;
        tx.save_run(&next)?;
        if before.is_none() {
            let_go(tx, &next)?;
        }
    }
    tx.wake(Topics::JOBS);
    Ok(())
}

/// How many unfinished runs of a schedule are looked at; more than may wait, those of a recovery included.
pub(in crate::ops) const LOOKED_AT: usize = 1280;

/// The newest older run of the same schedule that runs: it may have been made beside the one that `run` waited for, or
/// was opened again since (S22).
fn running_before(tx: &mut dyn Tx, run: &Run) -> Result<Option<i64>> {
    let Some(schedule) = run.schedule_id else { return Ok(None) };
    let mut before = None;
    for (_, id, waits) in tx.unfinished_runs(&[schedule], LOOKED_AT)? {
        if !waits && let Some(other) = tx.run(id)?.filter(|other| other.seq < run.seq) {
            before = before.max(Some(other.seq));
        }
    }
    Ok(before)
}

/// Lets the first jobs of a run start that waited for another run.
fn let_go(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let open: Vec<Number> = tx.tasks(run.seq, true)?.into_iter().map(|(number, _)| number).collect();
    let held = tx.dependants(&open)?.into_iter().filter(|e| e.number == e.needs && !e.satisfied);
    let held: Vec<Edge> = held.map(|edge| Edge { satisfied: true, ..edge }).collect();
    let numbers: Vec<Number> = held.iter().map(|edge| edge.number).collect();
    let mut nexts = Vec::with_capacity(numbers.len());
    let mut still = Vec::new();
    for job in tx.load(&numbers)?.into_iter().filter(|job| job.life.state == State::Blocked) {
        let life = job.life.clone().satisfy(tx.now())?;
        let next = Next { job, life, kind: EventKind::Unblocked, data: json!({ "by": "the end of the run before" }) };
        if next.life.state == State::Blocked { still.push(next) } else { nexts.push(next) }
    }
    tx.put_edges(&held)?;
    for Next { job, life, .. } in &still {
        let change = crate::store::Change { number: job.number, lane: job.lane, from: State::Blocked, life };
        tx.save(&[change])?; // it waits for other jobs too: nothing to tell
    }
    change_all(tx, &nexts, By::default())
}

fn tell(tx: &mut dyn Tx, kind: EventKind, data: Value) -> Result<()> {
    tx.append(&[NewEvent { data, ..NewEvent::of(kind) }])
}
