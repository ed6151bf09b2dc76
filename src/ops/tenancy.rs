//! What a caller that is bound to a tenant may see and touch: what is of others does not exist for it.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use uuid::Uuid;

use super::transition::{load_one, no_job};
use super::{Caller, Op, Scopes};
use crate::error::{Error, Kind, Result};
use crate::job::{Event, EventKind, Number, Record, RunId, ScheduleId, WorkerId};
use crate::store::{Tx, Worker};
use crate::time::Timestamp;

impl Caller {
    /// Whether what belongs to `tenant` exists for it.
    pub(super) fn sees(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|mine| mine == tenant)
    }

    /// Whether it may look at jobs.
    pub(super) fn may_look(&self) -> bool {
        self.scopes.cover(Scopes::READ)
    }
}

/// Refuses Ops on what all tenants share to callers that are bound to one.
pub(super) fn check_shared<O: Op>(caller: &Caller) -> Result<()> {
    match &caller.tenant {
        Some(tenant) if O::SHARED => {
            let what = O::NAME.replace('_', " ");
            Err(Error::new(Kind::Denied, format!("what belongs to tenant {tenant} may not {what}: it concerns all"))
                .hint("a token for all tenants is needed"))
        }
        _ => Ok(()),
    }
}

/// The job of `number`, if it exists for the caller.
pub(super) fn load_mine(caller: &Caller, tx: &mut dyn Tx, number: Number) -> Result<Record> {
    let job = load_one(tx, number)?;
    if caller.sees(&job.tenant) { Ok(job) } else { Err(no_job(number)) }
}

/// Refuses what is meant for jobs of others; jobs that do not exist at all are left to the Op.
pub(super) fn check_jobs(caller: &Caller, tx: &mut dyn Tx, numbers: &[Number]) -> Result<()> {
    if caller.tenant.is_none() || numbers.is_empty() {
        return Ok(());
    }
    tx.hold_runs(numbers)?; // whoever changes a run has it first and its jobs then
    match tx.load(numbers)?.into_iter().find(|job| !caller.sees(&job.tenant)) {
        Some(other) => Err(no_job(other.number)),
        None => Ok(()),
    }
}

/// Refuses what is meant for a worker that does not serve the caller's tenant only.
pub(super) fn check_worker(caller: &Caller, tx: &mut dyn Tx, id: WorkerId) -> Result<()> {
    if caller.tenant.is_some() && tx.registered(id)?.is_some_and(|known| known.tenant != caller.tenant) {
        return Err(Error::not_found(format!("no worker {id}")));
    }
    Ok(())
}

/// The workers that may serve the caller, with those of its jobs that they run.
pub(super) fn workers(caller: &Caller, tx: &mut dyn Tx) -> Result<Vec<Worker>> {
    let mut workers = tx.workers()?;
    if caller.tenant.is_some() {
        workers.retain(|w| w.tenant.is_none() || w.tenant == caller.tenant);
        for worker in workers.iter_mut().filter(|w| !w.running.is_empty()) {
            let mine = tx.load(&worker.running)?.into_iter().filter(|job| caller.sees(&job.tenant));
            worker.running = mine.map(|job| job.number).collect();
        }
    }
    Ok(workers)
}

/// How many pages are looked at for a caller that may see few of them.
const MAX_PAGES: usize = 16;
/// The least events of a page: who asks for few must not find out where those of others lie.
const MIN_PAGE: usize = 256;

/// Events after `after` that the caller may see, at most `limit`, and the place up to which it has seen all; that is `after`
/// only at the end of the trail.
pub(super) fn events(caller: &Caller, tx: &mut dyn Tx, after: i64, limit: usize) -> Result<(Vec<Event>, i64)> {
    if caller.tenant.is_none() {
        let all = tx.events(after, limit)?;
        let to = all.last().map_or(after, |event| event.seq);
        return Ok((all, to));
    }
    let (page, mut to) = (limit.max(MIN_PAGE), after);
    for _ in 0..MAX_PAGES {
        let all = tx.events(to, page)?;
        let Some(last) = all.last().map(|event| event.seq) else { break };
        let is_last = all.len() < page;
        let mut seen = visible(caller, tx, all)?;
        to = last;
        if seen.len() > limit {
            seen.truncate(limit);
            to = seen.last().map_or(to, |event| event.seq);
        }
        if is_last || !seen.is_empty() {
            return Ok((seen, to));
        }
    }
    Ok((Vec::new(), to))
}

/// Stands for events of others, so that a reader can go on behind them; it says nothing else of them.
pub(super) fn hidden(seq: i64, at: Timestamp) -> Event {
    let kind = EventKind::Hidden;
    Event { seq, at, kind, job_id: None, number: None, attempt: None, worker: None, actor: None, data: Value::Null }
}

fn visible(caller: &Caller, tx: &mut dyn Tx, events: Vec<Event>) -> Result<Vec<Event>> {
    let numbers: BTreeSet<Number> = events.iter().filter_map(|e| e.number).collect();
    let jobs = tx.load(&Vec::from_iter(numbers))?.into_iter().filter(|job| caller.sees(&job.tenant));
    let mine: BTreeSet<Number> = jobs.map(|job| job.number).collect();
    let mut groups = HashMap::new();
    let mut seen = Vec::new();
    for event in events {
        let is_mine = match event.number {
            Some(number) => mine.contains(&number),
            None => match group(&event.data) {
                Some(Group::Tenant(tenant)) => caller.sees(&tenant),
                Some(group) => match groups.get(&group) {
                    Some(known) => *known,
                    None => {
                        let tenant = match &group {
                            Group::Run(id) => tx.run(*id)?.map(|run| run.tenant),
                            Group::Schedule(id) => tx.schedule(*id)?.map(|schedule| schedule.tenant),
                            Group::Tenant(tenant) => Some(tenant.clone()),
                        };
                        let is_mine = tenant.is_some_and(|tenant| caller.sees(&tenant));
                        groups.insert(group, is_mine);
                        is_mine
                    }
                },
                None => false,
            },
        };
        if is_mine {
            seen.push(event);
        }
    }
    Ok(seen)
}

/// What an event that tells of no job tells of.
#[derive(PartialEq, Eq, Hash)]
enum Group {
    Run(RunId),
    Schedule(ScheduleId),
    Tenant(String),
}

fn group(data: &Value) -> Option<Group> {
    let id = |key: &str| data.get(key)?.as_str()?.parse::<Uuid>().ok();
    let tenant = data.get("tenant").and_then(Value::as_str).map(|tenant| Group::Tenant(tenant.to_owned()));
    let run = || id("run").map(|id| Group::Run(RunId(id)));
    tenant.or_else(run).or_else(|| id("schedule_id").map(|id| Group::Schedule(ScheduleId(id))))
}
