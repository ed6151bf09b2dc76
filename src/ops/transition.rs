//! What follows when a job changes its state: edges, names, keys, wake-ups. Shared by the Ops.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::job::spec::Until;
use crate::job::{EventKind, JobSpec, LaneId, Life, Number, Record, State};
use crate::store::{Change, NewEvent, Quota, Topics, Tx};
use crate::time::Span;

/// How long an idempotency key is kept after its job ended (S13).
const KEY_KEPT: Span = Span::from_secs(24 * 3600);

/// Who does something, for the audit trail.
#[derive(Clone, Copy, Default)]
pub(super) struct By<'a> {
    pub(super) worker: Option<&'a str>,
    pub(super) actor: Option<&'a str>,
}

/// Records that `job` lives on as `life`, with the event that says so, and all that follows from it.
pub(super) fn change(tx: &mut dyn Tx, job: &Record, life: &Life, kind: EventKind, by: By, data: Value) -> Result<()> {
    tx.append(&[NewEvent {
        kind,
        number: Some(job.number),
        attempt: (life.attempt > 0).then_some(life.attempt),
        worker: by.worker,
        actor: by.actor,
        state: Some(life.state),
        data,
    }])?;
    save(tx, job.number, job.lane, job.life.state, life)?;
    if life.state.is_terminal() && !job.life.state.is_terminal() {
        release(tx, job.number, &job.spec)?;
        resolve_dependants(tx, job.number, life.state)?;
    }
    Ok(())
}

fn save(tx: &mut dyn Tx, number: Number, lane: LaneId, from: State, life: &Life) -> Result<()> {
    tx.save(&[Change { number, lane, from, life }])?;
    let work = matches!(life.state, State::Pending | State::Scheduled) && from != life.state;
    tx.wake(if work { Topics::JOBS | Topics::WORK } else { Topics::JOBS });
    Ok(())
}

/// A job that ended owns its name no longer, and its key for a day.
fn release(tx: &mut dyn Tx, number: Number, spec: &JobSpec) -> Result<()> {
    if spec.name.is_some() {
        tx.drop_name(number)?;
    }
    if spec.idempotency_key.is_some() {
        let at = tx.now().plus(KEY_KEPT);
        tx.forget_keys(number, Some(at))?;
    }
    Ok(())
}

/// Unblocks or skips the jobs that waited for `source`, and those that waited for them (S9).
fn resolve_dependants(tx: &mut dyn Tx, source: Number, state: State) -> Result<()> {
    let mut ended = VecDeque::from([(source, state)]);
    while let Some((source, state)) = ended.pop_front() {
        for mut edge in tx.dependants(source)? {
            if edge.satisfied {
                continue;
            }
            let Some(job) = tx.load(&[edge.number])?.pop() else { continue };
            if job.life.state != State::Blocked {
                continue;
            }
            let now = tx.now();
            let (life, kind, data) = if meets(edge.until, state) {
                edge.satisfied = true;
                tx.put_edges(&[edge])?;
                let life = job.life.clone().satisfy(now)?;
                if life.state == State::Blocked {
                    save(tx, job.number, job.lane, State::Blocked, &life)?;
                    continue;
                }
                (life, EventKind::Unblocked, json!({ "by": source }))
            } else {
                let why = format!("needs job {source}, which is {state}");
                (job.life.clone().skip(why, now)?, EventKind::Skipped, json!({ "because": source }))
            };
            tx.append(&[NewEvent { number: Some(job.number), state: Some(life.state), data, ..NewEvent::of(kind) }])?;
            save(tx, job.number, job.lane, State::Blocked, &life)?;
            if life.state.is_terminal() {
                release(tx, job.number, &job.spec)?;
                ended.push_back((job.number, life.state));
            }
        }
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
    let mut room = Room::of(tx, lane)?;
    room.take()
}

/// How many more jobs of a lane may be queued.
pub(super) struct Room(Vec<Quota>);

impl Room {
    /// What the limits on `lane` leave at this moment.
    pub(super) fn of(tx: &mut dyn Tx, lane: LaneId) -> Result<Self> {
        Ok(Self(tx.quotas(lane)?))
    }

    /// One job more.
    pub(super) fn take(&mut self) -> Result<()> {
        for quota in &mut self.0 {
            if quota.queued >= quota.max {
                let Quota { scope, name, max, queued } = quota;
                return Err(Error::new(
                    Kind::Limit,
                    format!("{scope} {name} may have {max} jobs queued, and has {queued}"),
                )
                .retry_after(std::time::Duration::from_secs(5))
                .hint("some have to end first"));
            }
            quota.queued += 1;
        }
        Ok(())
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
