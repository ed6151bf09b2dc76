//! What follows when a job changes its state: edges, names, keys, wake-ups. Shared by the Ops.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::admission::jobs;
use crate::error::{Error, Kind, Result};
use crate::job::spec::Until;
use crate::job::workflow::ON_COMPLETE;
use crate::job::{EventKind, JobSpec, LaneId, Life, Number, Record, State};
use crate::store::{Change, Edge, NewEvent, Quota, TaskKind, Topics, Tx};
use crate::time::Span;

/// How long an idempotency key is kept after its job ended (S13).
const KEY_KEPT: Span = Span::from_secs(24 * 3600);

/// Who does something, for the audit trail.
#[derive(Clone, Copy, Default)]
pub(super) struct By<'a> {
    pub(super) worker: Option<&'a str>,
    pub(super) actor: Option<&'a str>,
}

/// A job that lives on, and the event that says so.
pub(super) struct Next {
    pub(super) job: Record,
    pub(super) life: Life,
    pub(super) kind: EventKind,
    pub(super) data: Value,
}

/// Records that `job` lives on as `life`, with the event that says so, and all that follows from it.
pub(super) fn change(tx: &mut dyn Tx, job: &Record, life: &Life, kind: EventKind, by: By, data: Value) -> Result<()> {
    let ended = record(tx, job, life, kind, by, data)?;
    resolve_dependants(tx, ended.into_iter().collect())
}

/// The same without what follows for other jobs: gives the job if it ended, for [`resolve_dependants`].
pub(super) fn record(
    tx: &mut dyn Tx,
    job: &Record,
    life: &Life,
    kind: EventKind,
    by: By,
    data: Value,
) -> Result<Option<(Number, State)>> {
    tx.append(&[event(job, life, kind, by, data)])?;
    save(tx, job, life)?;
    let ended = life.state.is_terminal() && !job.life.state.is_terminal();
    Ok(ended.then_some((job.number, life.state)))
}

/// The same for many jobs, as if they had all changed at once.
pub(super) fn change_all(tx: &mut dyn Tx, nexts: &[Next], by: By) -> Result<()> {
    let mut ended = Vec::new();
    for Next { job, life, kind, data } in nexts {
        ended.extend(record(tx, job, life, *kind, by, data.clone())?);
    }
    resolve_dependants(tx, ended)
}

fn event<'a>(job: &Record, life: &Life, kind: EventKind, by: By<'a>, data: Value) -> NewEvent<'a> {
    NewEvent {
        kind,
        number: Some(job.number),
        attempt: (life.attempt > 0).then_some(life.attempt),
        worker: by.worker,
        actor: by.actor,
        state: Some(life.state),
        data,
    }
}

/// Records a new life: its row, its run, its name and key, and who has to hear of it.
fn save(tx: &mut dyn Tx, job: &Record, life: &Life) -> Result<()> {
    let from = job.life.state;
    tx.save(&[Change { number: job.number, lane: job.lane, from, life }])?;
    let work = matches!(life.state, State::Pending | State::Scheduled) && from != life.state;
    tx.wake(if work { Topics::JOBS | Topics::WORK } else { Topics::JOBS });
    if let (Some(run), Some(task)) = (job.origin.run_id, &job.origin.task) {
        tx.note_moved(run, task, from, life.state);
    } else if job.unread.is_some()
        && let Some((run, kind)) = tx.run_of(job.number)?
    {
        // It is not known what its run calls it. That run is to go on all the same.
        let task = if kind == TaskKind::Last { ON_COMPLETE.to_owned() } else { format!("of job {}", job.number) };
        tx.note_moved(run, &task, from, life.state);
    }
    match (life.state.is_terminal() && !from.is_terminal(), &job.unread) {
        (true, None) => release(tx, job.number, life.state, &job.spec),
        // Whether it has a name or a key is not known.
        (true, Some(_)) => {
            tx.drop_name(job.number)?;
            forget_keys(tx, job.number, life.state)
        }
        (false, _) => Ok(()),
    }
}

/// A job that ended owns its name no longer, and its key for a day.
pub(super) fn release(tx: &mut dyn Tx, number: Number, state: State, spec: &JobSpec) -> Result<()> {
    if spec.name.is_some() {
        tx.drop_name(number)?;
    }
    match spec.idempotency_key.is_some() {
        true => forget_keys(tx, number, state),
        false => Ok(()),
    }
}

fn forget_keys(tx: &mut dyn Tx, number: Number, state: State) -> Result<()> {
    let at = tx.now().plus(KEY_KEPT);
    tx.forget_keys(number, state, at)
}

/// Unblocks or skips the jobs that waited for those that `ended`, and those that waited for them (S9).
///
/// Goes level by level, so that a job which thousands wait for costs a database on the network little more than one.
pub(super) fn resolve_dependants(tx: &mut dyn Tx, mut ended: Vec<(Number, State)>) -> Result<()> {
    let mut over: HashSet<Number> = HashSet::new();
    while !ended.is_empty() {
        let states: HashMap<Number, State> = ended.drain(..).collect();
        let mut sources: Vec<Number> = states.keys().copied().collect();
        sources.sort_unstable();
        over.extend(&sources);
        let mut waiting: BTreeMap<Number, Vec<Edge>> = BTreeMap::new();
        for edge in tx.dependants(&sources)? {
            if !edge.satisfied && !over.contains(&edge.number) {
                waiting.entry(edge.number).or_default().push(edge);
            }
        }
        let numbers: Vec<Number> = waiting.keys().copied().collect();
        let mut satisfied = Vec::new();
        for job in tx.load(&numbers)?.into_iter().filter(|job| job.life.state == State::Blocked) {
            let edges = &waiting[&job.number];
            let broken = edges.iter().find(|e| !meets(e.until, states[&e.needs]));
            let now = tx.now();
            let (life, kind, data) = match broken {
                Some(edge) => {
                    let why = format!("needs job {}, which is {}", edge.needs, states[&edge.needs]);
                    (job.life.clone().skip(why, now)?, EventKind::Skipped, json!({ "because": edge.needs }))
                }
                None => {
                    satisfied.extend(edges.iter().map(|edge| Edge { satisfied: true, ..*edge }));
                    let life = edges.iter().try_fold(job.life.clone(), |life, _| life.satisfy(now))?;
                    (life, EventKind::Unblocked, json!({ "by": edges.last().map(|e| e.needs) }))
                }
            };
            if life.state != State::Blocked {
                tx.append(&[event(&job, &life, kind, By::default(), data)])?;
            }
            save(tx, &job, &life)?;
            if life.state.is_terminal() {
                ended.push((job.number, life.state));
            }
        }
        tx.put_edges(&satisfied)?;
    }
    Ok(())
}

/// Whether an edge that waits `until` is satisfied by a source that ended in `state`.
pub(super) fn meets(until: Until, state: State) -> bool {
    match until {
        Until::Done => state == State::Done,
        Until::Ended => state.is_terminal(),
    }
}

/// What the edges of a job say about it now.
pub(super) enum Gate {
    /// So many are not satisfied yet.
    Waiting(u32),
    /// This one never can be.
    Broken(Number, State),
}

/// Looks at edges with the state of what each needs.
pub(super) fn gate(edges: impl IntoIterator<Item = (Number, Until, State)>) -> Gate {
    let mut waiting = 0;
    for (needs, until, state) in edges {
        match state {
            s if meets(until, s) => {}
            s if s.is_terminal() => return Gate::Broken(needs, s),
            _ => waiting += 1,
        }
    }
    Gate::Waiting(waiting)
}

/// Refuses one more queued job where a limit says so (S15).
pub(super) fn admit(tx: &mut dyn Tx, lane: LaneId) -> Result<()> {
    tx.quotas(lane)?.iter().try_for_each(room_in)
}

/// Refuses one more queued job under a limit that is reached.
pub(super) fn room_in(quota: &Quota) -> Result<()> {
    let Quota { scope, name, max_queued: Some(max), queued, .. } = quota else { return Ok(()) };
    match queued < max {
        true => Ok(()),
        false => {
            Err(Error::new(Kind::Limit, format!("{scope} {name} may have {} queued, and has {queued}", jobs(*max)))
                .retry_after(std::time::Duration::from_secs(5))
                .hint("some have to end first"))
        }
    }
}

/// The one job of `number`.
pub(super) fn load_one(tx: &mut dyn Tx, number: Number) -> Result<Record> {
    tx.load(&[number])?.pop().ok_or_else(|| no_job(number))
}

/// What is said about a job that does not exist.
pub(super) fn no_job(name: impl std::fmt::Display) -> Error {
    Error::not_found(format!("no job {name}")).hint("'orx list' shows what there is")
}
