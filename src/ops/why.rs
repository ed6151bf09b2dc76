//! Why a job does not run, or a schedule does not fire: every cause, and what would end it.

mod life;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::admission::jobs;
use super::lead::silent;
use super::schedules::Named;
use super::tenancy::load_mine;
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::lanes::{Needs, Offer};
use crate::job::{Number, Record, State, Target};
use crate::store::{Filter, RATE_WINDOW, Tx, Worker, WorkerState};
use crate::time::Timestamp;

/// Explains why a job does not run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// The job.
    pub number: Number,
}

/// Explains why a schedule does not fire.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WhySchedule {
    /// The schedule.
    pub schedule: Named,
}

/// Why something waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The id of the job or schedule.
    pub id: Uuid,
    /// The number of the job or the name of the schedule.
    pub what: String,
    /// Its state.
    pub state: String,
    /// What keeps it, the real blocker first.
    pub causes: Vec<Cause>,
}

/// One thing that keeps a job or schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// What kind of thing it is.
    pub kind: CauseKind,
    /// What it is, for people.
    pub message: String,
    /// What would end it; none where nothing has to be done.
    pub remedy: Option<String>,
    /// When it ends by itself at the latest; none where that is not known.
    pub until: Option<Timestamp>,
    /// The jobs that stand in the way, at most [`MAX_NAMED`].
    pub jobs: Vec<Number>,
}

/// What kind of thing keeps a job or schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// A newer orx made it, and this one does not understand all of it.
    Newer,
    /// No orx can read it.
    Unreadable,
    /// It has ended.
    Ended,
    /// It runs.
    Running,
    /// It runs, and nothing has been heard of its worker.
    WorkerLost,
    /// It runs, and was asked to end.
    Cancelling,
    /// It runs, and a process of it is stopped; known on its machine only.
    Stopped,
    /// Other jobs have to end first.
    Blocked,
    /// It is to start later.
    NotDue,
    /// It failed, did not start, or asked to be tried later, and waits before the next attempt.
    Backoff,
    /// Its queue, or the schedule itself, is paused.
    Paused,
    /// As many run as a limit lets.
    Limit,
    /// As many were submitted in this minute as a tenant or queue may.
    Rate,
    /// No live worker could run it.
    NoWorker,
    /// All slots of the workers that could run it are taken.
    NoSlot,
    /// The workers that could run it cannot start jobs.
    CannotStart,
    /// Others of its lane come first.
    Behind,
    /// Nothing: it is about to be taken.
    Nothing,
    /// Nobody does the upkeep, so no schedule fires.
    NoLeader,
    /// The clock shows a time of which the ledger says already what became of it.
    ClockSetBack,
    /// Something that a newer orx tells of.
    #[serde(other)]
    Unknown,
}

/// How many jobs are named as being in the way.
pub const MAX_NAMED: usize = 20;
/// How far a lane is looked along.
const MAX_AHEAD: usize = 1000;

impl Cause {
    fn new(kind: CauseKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), remedy: None, until: None, jobs: Vec::new() }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    fn until(self, until: Option<Timestamp>) -> Self {
        Self { until, ..self }
    }

    fn jobs(self, jobs: impl IntoIterator<Item = Number>) -> Self {
        Self { jobs: jobs.into_iter().take(MAX_NAMED).collect(), ..self }
    }
}

impl Op for Why {
    type Reply = Explanation;
    const NAME: &'static str = "why";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Explanation> {
        let job = load_mine(caller, tx, self.number)?;
        let mut causes = life::causes(tx, &job)?;
        let unread = life::unread(tx, &job)?;
        let is_read = unread.is_none();
        causes.splice(0..0, unread);
        if is_read && !matches!(job.life.state, State::Running) && !job.life.state.is_terminal() {
            causes.extend(paused(tx, &job)?);
            let may_start = causes.is_empty();
            let (served, cause) = worker_cause(tx, caller, &job)?;
            if may_start {
                causes.extend(limits(tx, caller, &job)?);
            }
            let is_free = causes.is_empty();
            // Busy workers matter to a job that could start; that there are none does to every one.
            causes.extend(cause.filter(|cause| is_free || cause.kind == CauseKind::NoWorker));
            if causes.is_empty() && served {
                causes.push(turn(tx, &job)?);
            }
        }
        Ok(Explanation { id: job.id.0, what: job.number.to_string(), state: job.life.state.to_string(), causes })
    }
}

fn paused(tx: &mut dyn Tx, job: &Record) -> Result<Option<Cause>> {
    let queue = tx.totals(None)?.into_iter().find(|queue| queue.name == job.queue);
    Ok(queue.filter(|queue| queue.paused).map(|queue| {
        Cause::new(CauseKind::Paused, format!("queue {} is paused", queue.name))
            .remedy(format!("orx queue resume {}", queue.name))
    }))
}

/// A limit on running jobs.
struct Bound<'a> {
    what: String,
    max: Option<u32>,
    running: i64,
    /// Among whom those are that hold its slots.
    filter: Filter,
    key: Option<&'a str>,
}

/// The limits on running jobs that are reached, and who holds their slots.
fn limits(tx: &mut dyn Tx, caller: &Caller, job: &Record) -> Result<Vec<Cause>> {
    let mut bounds = Vec::new();
    let of_tenant = || Filter { tenant: Some(job.tenant.clone()), ..Filter::default() };
    if let Some(queue) = tx.totals(None)?.into_iter().find(|queue| queue.name == job.queue) {
        let (what, running) = (format!("queue {}", queue.name), queue.counts[&State::Running]);
        let filter = Filter { queue: Some(queue.name), ..Filter::default() };
        bounds.push(Bound { what, max: queue.limits.max_running, running, filter, key: None });
    }
    if let Some(tenant) = tx.tenants()?.into_iter().find(|tenant| tenant.name == job.tenant) {
        let (what, max) = (format!("tenant {}", tenant.name), tenant.limits.max_running);
        bounds.push(Bound { what, max, running: tenant.running, filter: of_tenant(), key: None });
    }
    if let Some(key) = job.spec.limit.as_ref().map(|limit| limit.key.as_str())
        && let Some(limit) = tx.named_limits()?.into_iter().find(|l| l.tenant == job.tenant && l.key == key)
    {
        let (what, max) = (format!("limit {key}"), Some(limit.max_running));
        bounds.push(Bound { what, max, running: limit.running, filter: of_tenant(), key: Some(key) });
    }
    let mut causes = Vec::new();
    for bound in bounds {
        if let Some(max) = bound.max.filter(|max| bound.running >= i64::from(*max)) {
            let filter = Filter { states: vec![State::Running], ..bound.filter };
            let numbers = tx.list(&filter, None, MAX_AHEAD)?;
            let shares = |j: &Record| j.spec.limit.as_ref().map(|l| l.key.as_str()) == bound.key;
            let holds = |j: &Record| caller.sees(&j.tenant) && (bound.key.is_none() || shares(j));
            let holders = tx.load(&numbers)?.into_iter().filter(holds).map(|j| j.number);
            let message = format!("{} lets {max} run, and {} do", bound.what, bound.running);
            causes.push(Cause::new(CauseKind::Limit, message).remedy("one of them has to end").jobs(holders));
        }
    }
    Ok(causes)
}

/// Whether a live worker could run it, and what keeps all of them from it.
fn worker_cause(tx: &mut dyn Tx, caller: &Caller, job: &Record) -> Result<(bool, Option<Cause>)> {
    let needs = Needs::of(&job.spec);
    let none =
        |message: String, remedy: &str| Ok((false, Some(Cause::new(CauseKind::NoWorker, message).remedy(remedy))));
    let mut workers = tx.workers()?;
    let lacking = || {
        let labels: Vec<String> = needs.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let remedy = format!("orx worker --labels {}", labels.join(","));
        none(format!("no worker carries {}", labels.join(" and ")), &remedy)
    };
    workers.retain(|w| w.state == WorkerState::Active && !w.solo && offer(w).serves_tenant(&job.tenant));
    if workers.is_empty() && !needs.labels.is_empty() {
        return lacking(); // not any worker would do
    }
    if workers.is_empty() {
        return none("no worker runs".into(), "orx worker");
    }
    workers.retain(|w| w.queues.is_empty() || w.queues.contains(&job.queue));
    if workers.is_empty() {
        return none(format!("no worker serves queue {}", job.queue), &format!("orx worker --queues {}", job.queue));
    }
    if let Some(handler) = &needs.handler {
        workers.retain(|w| w.handlers.contains(handler));
        if workers.is_empty() {
            let remedy = format!("a worker with [handlers.{handler}] in its configuration");
            return none(format!("no worker has the handler {handler}"), &remedy);
        }
    }
    workers.retain(|w| offer(w).serves(&job.queue, &needs));
    if workers.is_empty() {
        return lacking();
    }
    let free: Vec<&Worker> = workers.iter().filter(|w| w.running.len() < w.slots as usize).collect();
    let trouble = free.iter().find_map(|w| Some((&w.name, w.trouble.as_ref()?)));
    match trouble {
        Some((name, why)) if free.iter().all(|w| w.trouble.is_some()) => {
            let cause = Cause::new(CauseKind::CannotStart, format!("worker {name} {why}"));
            return Ok((true, Some(cause.remedy("orx workers shows what they lack"))));
        }
        _ if !free.is_empty() => return Ok((true, None)),
        _ => {}
    }
    let numbers: Vec<Number> = workers.iter().flat_map(|w| w.running.iter().copied()).take(MAX_AHEAD).collect();
    let mine = tx.load(&numbers)?.into_iter().filter(|holder| caller.sees(&holder.tenant)).map(|job| job.number);
    let slots: u64 = workers.iter().map(|w| u64::from(w.slots)).sum();
    let message = match slots {
        1 => "the only slot of a worker that could run it is taken".to_owned(),
        n => format!("all {n} slots of the workers that could run it are taken"),
    };
    Ok((true, Some(Cause::new(CauseKind::NoSlot, message).remedy("more slots, or more workers").jobs(mine))))
}

fn offer(worker: &Worker) -> Offer {
    Offer {
        queues: worker.queues.clone(),
        labels: worker.labels.clone(),
        handlers: worker.handlers.clone(),
        no_services: false,
        tenant: worker.tenant.clone(),
    }
}

/// Where it stands among those that could start.
fn turn(tx: &mut dyn Tx, job: &Record) -> Result<Cause> {
    let ahead: Vec<Number> =
        tx.pending(job.lane, MAX_AHEAD)?.into_iter().take_while(|number| *number != job.number).collect();
    Ok(match ahead.len() {
        0 => Cause::new(CauseKind::Nothing, "a worker is about to take it"),
        1 => Cause::new(CauseKind::Behind, "1 job of its queue and tenant comes first").jobs(ahead),
        n => Cause::new(CauseKind::Behind, format!("{n} jobs of its queue and tenant come first")).jobs(ahead),
    })
}

impl Op for WhySchedule {
    type Reply = Explanation;
    const NAME: &'static str = "why_schedule";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Explanation> {
        let schedule = self.schedule.find(caller, tx)?;
        let now = tx.now();
        let mut causes = Vec::new();
        if let Some(at) = schedule.removed_at {
            causes.push(Cause::new(CauseKind::Ended, format!("it was removed at {at}")));
        } else if schedule.next_due_at.is_none() {
            causes.push(Cause::new(CauseKind::Ended, "it is never due again"));
        }
        if let Some(unread) = &schedule.unread {
            causes.push(life::unread_schedule(unread, &schedule.name));
        }
        if causes.is_empty() && schedule.paused {
            let remedy = format!("orx schedule resume {}", schedule.name);
            causes.push(Cause::new(CauseKind::Paused, "it is paused").remedy(remedy));
        }
        if causes.is_empty() {
            // Every instant is recorded when it is over, so what is recorded lies behind a clock that goes right.
            if let Some(last) = schedule.last_due_at.filter(|last| *last > now) {
                let message =
                    format!("the clock was set back: what was due up to {last} is recorded, and nothing fires twice");
                causes.push(Cause::new(CauseKind::ClockSetBack, message).until(schedule.next_due_at));
            } else if let Some(next) = schedule.next_due_at.filter(|next| *next > now) {
                causes.push(Cause::new(CauseKind::NotDue, "it is not due").until(Some(next)));
            }
            let limit = silent(tx)?;
            let leads = tx.leader()?.is_some_and(|l| !l.released && l.age.is_some_and(|age| age <= limit));
            if !leads {
                let message = "no process keeps the clock, so no schedule fires";
                causes.push(Cause::new(CauseKind::NoLeader, message).remedy("orx coordinator, or orx worker"));
            }
            causes.extend(rate(tx, &schedule)?);
        }
        let state = super::schedules::look::ScheduleState::of(&schedule).as_str().to_owned();
        Ok(Explanation { id: schedule.id.0, what: schedule.name.clone(), state, causes })
    }
}

/// Where one more occurrence would be skipped because of what was submitted in this minute.
fn rate(tx: &mut dyn Tx, schedule: &crate::job::Schedule) -> Result<Vec<Cause>> {
    let Target::Job(spec) = &schedule.newest().1.target else { return Ok(Vec::new()) };
    let Some(lane) =
        tx.find_lane(spec.queue(), spec.tenant(), spec.limit.as_ref().map(|l| l.key.as_str()), &Needs::of(spec).key())?
    else {
        return Ok(Vec::new());
    };
    let over = tx.quotas(lane)?.into_iter().filter(|q| q.per_minute.is_some_and(|max| q.submitted >= max));
    Ok(over
        .map(|q| {
            let message = format!("{} {} may submit {} a minute, and did", q.scope, q.name, jobs(q.submitted));
            Cause::new(CauseKind::Rate, message).until(q.first_at.map(|first| first.plus(RATE_WINDOW)))
        })
        .collect())
}
