//! Storing jobs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::admission::{Before, LaneCache};
use super::naming::{Name, by_key, name_conflict};
use super::select::resolve;
use super::transition::{self, Gate, load_one};
use super::{Access, Caller, Op, Scopes};
use crate::error::{Error, Kind, Result};
use crate::job::audit::Terms;
use crate::job::many::at_most;
use crate::job::run::is_on_complete;
use crate::job::spec::{After, Until};
use crate::job::{EventKind, JobId, JobSpec, LaneId, Life, Number, Origin, Selector, State, Submission};
use crate::store::{Edge, KeyHolder, NewEvent, NewJob, Topics, Tx};

/// Stores jobs: all of them or none.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Enqueue {
    /// The jobs, under ids that the caller made.
    #[serde(deserialize_with = "at_most::<MAX_BATCH, _, _>")]
    pub jobs: Vec<Submission>,
}

/// A job as it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Enqueued {
    /// Its number.
    pub number: Number,
    /// Its id; another than was sent when it existed already.
    pub id: JobId,
    /// Its state.
    pub state: State,
    /// Its queue.
    pub queue: String,
    /// Whether it was there before (same id, idempotency key or name).
    pub existing: bool,
}

/// The most jobs of one transaction.
pub const MAX_BATCH: usize = 10_000;

impl Op for Enqueue {
    type Reply = Vec<Enqueued>;
    const NAME: &'static str = "enqueue";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::SUBMIT;
    /// A list that grows has room for twice as many.
    const OBJECT: usize = 2 * size_of::<Submission>();

    fn scopes(&self) -> Scopes {
        match self.jobs.iter().any(|job| job.spec.needs_exec(&job.captured)) {
            true => Scopes::SUBMIT.and(Scopes::EXEC),
            false => Scopes::SUBMIT,
        }
    }

    fn vet(&self) -> Result<()> {
        self.jobs.iter().enumerate().try_for_each(|(i, job)| vet(job).map_err(|e| self.named(e, i)))
    }

    fn bind(&mut self, caller: &Caller) {
        for job in &mut self.jobs {
            job.origin.by = job.origin.by.or(caller.token);
            job.spec.bind(caller.tenant.as_deref());
        }
    }

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        if self.jobs.len() > MAX_BATCH {
            return Err(Error::usage(format!("more than {MAX_BATCH} jobs in one request")));
        }
        let (mut lanes, mut before) = (LaneCache::default(), Before::of(&self.jobs));
        let mut replies = Vec::with_capacity(self.jobs.len());
        let mut plain = Vec::new();
        for (i, job) in self.jobs.iter().enumerate() {
            if is_plain(&job.spec) {
                plain.push(admit(caller, tx, &mut lanes, &mut before, job).map_err(|e| self.named(e, i))?);
                continue;
            }
            // In the order in which they came, because numbers are an order.
            store_plain(caller, tx, std::mem::take(&mut plain), &mut replies)?;
            replies.push(enqueue(caller, tx, &mut lanes, &mut before, job).map_err(|e| self.named(e, i))?);
        }
        store_plain(caller, tx, plain, &mut replies)?;
        Ok(replies)
    }

    fn check(&self) -> String {
        // All are stored or none.
        self.jobs.first().map_or_else(|| "orx list".into(), |job| format!("orx status {}", job.id))
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Self::Reply>> {
        self.jobs.iter().try_for_each(|job| check(caller, job))?;
        let mut replies = Vec::with_capacity(self.jobs.len());
        for job in &self.jobs {
            match existing(caller, tx, job)? {
                Some(found) => replies.push(found),
                None => return Ok(None),
            }
        }
        Ok(Some(replies))
    }
}

impl Enqueue {
    /// Says which of the jobs an error is about.
    fn named(&self, error: Error, place: usize) -> Error {
        let error = error.within(format_args!("jobs[{place}]"));
        match (self.jobs[place].line, self.jobs.len()) {
            (Some(line), _) => error.context(format_args!("line {line}")),
            (None, 1) => error,
            (None, _) => error.context(format_args!("entry {}", place + 1)),
        }
    }
}

/// Whether nothing that is stored has a say in what becomes of the job, but limits.
fn is_plain(spec: &JobSpec) -> bool {
    spec.name.is_none() && spec.idempotency_key.is_none() && spec.after.is_empty() && spec.limit.is_none()
}

/// A plain job that may be stored.
struct Admitted<'a> {
    job: &'a Submission,
    /// Its place; none where it is stored already.
    lane: Option<LaneId>,
    life: Life,
}

impl Admitted<'_> {
    fn new_job(&self) -> Option<NewJob<'_>> {
        let Submission { id, spec, captured, origin, .. } = self.job;
        let lane = self.lane?;
        Some(NewJob { id: *id, lane, life: &self.life, spec, captured, origin, is_run_of: None })
    }
}

fn admit<'a>(
    caller: &Caller,
    tx: &mut dyn Tx,
    lanes: &mut LaneCache,
    before: &mut Before,
    job: &'a Submission,
) -> Result<Admitted<'a>> {
    check(caller, job)?;
    let lane = if before.has(tx, lanes, job)? { None } else { Some(lanes.admit(tx, &job.spec)?) };
    Ok(Admitted { job, lane, life: Life::admit(&job.spec, tx.now(), 0) })
}

/// Stores plain jobs all at once: many cost a database on the network little more than one.
fn store_plain(caller: &Caller, tx: &mut dyn Tx, jobs: Vec<Admitted>, replies: &mut Vec<Enqueued>) -> Result<()> {
    let new: Vec<NewJob> = jobs.iter().filter_map(Admitted::new_job).collect();
    let mut numbers = tx.insert(&new)?.into_iter();
    let mut events = Vec::with_capacity(jobs.len());
    for Admitted { job, lane, life } in &jobs {
        replies.push(match lane.and_then(|_| numbers.next().flatten()) {
            Some(number) => {
                events.push(event(caller, job, number, life, &[])?);
                tx.wake(wanted(life));
                stored(job, number, life)
            }
            None => already(caller, tx, job)?,
        });
    }
    tx.append(&events)
}

fn enqueue(
    caller: &Caller,
    tx: &mut dyn Tx,
    lanes: &mut LaneCache,
    before: &mut Before,
    job: &Submission,
) -> Result<Enqueued> {
    let spec = &job.spec;
    check(caller, job)?;
    if let Some(found) = by_key(caller, tx, spec)? {
        return Ok(found);
    }
    // What is named may stand in its own way when a load is finished under the same ids (S32).
    if (spec.name.is_some() || !spec.after.is_empty())
        && let Some(found) = existing(caller, tx, job)?
    {
        return Ok(found);
    }
    let mut edges = edges_of(caller, tx, spec)?;
    let name = name_conflict(caller, tx, spec)?;
    if spec.name.is_some() && !edges.is_empty() {
        edges = edges_of(caller, tx, spec)?; // to take the name may have ended some of them
    }
    match name {
        Name::Free => {}
        Name::Answer(found) => return Ok(found),
        Name::After(holder) => wait_for(&mut edges, (holder, Until::Ended, State::Running)),
    }
    make_limit(tx, spec)?;
    if before.has(tx, lanes, job)? {
        return already(caller, tx, job);
    }
    let lane = lanes.admit(tx, spec)?;
    let now = tx.now();
    let life = match transition::gate(edges.iter().copied()) {
        Gate::Waiting(n) => Life::admit(spec, now, n),
        Gate::Broken(needs, state) => {
            let why = format!("needs job {needs}, which is {state}");
            Life::admit(spec, now, 1).skip(why, now)?
        }
    };
    let Submission { id, captured, origin, .. } = job;
    let new = NewJob { id: *id, lane, life: &life, spec, captured, origin, is_run_of: None };
    let Some(number) = tx.insert(&[new])?.pop().flatten() else { return already(caller, tx, job) };
    follow_up(caller, tx, job, number, &life, &edges)?;
    Ok(stored(job, number, &life))
}

fn vet(job: &Submission) -> Result<()> {
    job.spec.check().map_err(|e| e.within("spec"))?;
    job.captured.check().map_err(|e| e.within("captured"))
}

fn check(caller: &Caller, job: &Submission) -> Result<()> {
    let spec = &job.spec;
    vet(job)?;
    caller.schemas.check(spec).map_err(|e| e.within("spec"))?;
    match &caller.tenant {
        Some(tenant) if !caller.sees(spec.tenant()) => {
            Err(Error::new(Kind::Denied, format!("you may not submit for tenant {}", spec.tenant()))
                .hint(format!("without --tenant it is {tenant}")))
        }
        _ => Ok(()),
    }
}

fn stored(job: &Submission, number: Number, life: &Life) -> Enqueued {
    Enqueued { number, id: job.id, state: life.state, queue: job.spec.queue().into(), existing: false }
}

/// The job that has the id already.
fn already(caller: &Caller, tx: &mut dyn Tx, job: &Submission) -> Result<Enqueued> {
    existing(caller, tx, job)?.ok_or_else(|| Error::conflict(format!("the id {} is taken", job.id)))
}

/// Makes the limit that `spec` shares; another number is a conflict (S16).
pub(super) fn make_limit(tx: &mut dyn Tx, spec: &JobSpec) -> Result<()> {
    let Some(limit) = &spec.limit else { return Ok(()) };
    let max = tx.limit_key(spec.tenant(), &limit.key, limit.max)?;
    if max == limit.max {
        return Ok(());
    }
    Err(Error::conflict(format!("limit {} is {max}, not {}", limit.key, limit.max))
        .hint(format!("change it with: orx limit set {} --max-running {}", limit.key, limit.max)))
}

fn follow_up(
    caller: &Caller,
    tx: &mut dyn Tx,
    job: &Submission,
    number: Number,
    life: &Life,
    edges: &[(Number, Until, State)],
) -> Result<()> {
    let spec = &job.spec;
    let edges: Vec<Edge> = edges
        .iter()
        .map(|&(needs, until, state)| Edge { number, needs, until, satisfied: transition::meets(until, state) })
        .collect();
    tx.put_edges(&edges)?;
    if let Some(name) = spec.name.as_deref().filter(|_| !life.state.is_terminal()) {
        tx.hold_name(spec.tenant(), name, number)?;
    }
    if let Some(key) = &spec.idempotency_key {
        let holder = KeyHolder { number, id: job.id, fingerprint: spec.fingerprint(), ended: None };
        tx.keep_key(spec.tenant(), key, &holder)?;
    }
    tx.append(&[event(caller, job, number, life, &edges)?])?;
    if life.state.is_terminal() {
        transition::release(tx, number, life.state, spec)?; // skipped at once
        tx.note_told(&[number])?;
    }
    tx.wake(wanted(life));
    Ok(())
}

fn event<'a>(
    caller: &'a Caller,
    job: &Submission,
    number: Number,
    life: &Life,
    edges: &[Edge],
) -> Result<NewEvent<'a>> {
    Ok(NewEvent {
        number: Some(number),
        actor: Some(&caller.actor),
        state: Some(life.state),
        data: told(&job.spec, life, edges, &job.origin)?,
        ..NewEvent::of(EventKind::Enqueued)
    })
}

/// Who is to hear of a new job.
fn wanted(life: &Life) -> Topics {
    let waits = matches!(life.state, State::Pending | State::Scheduled);
    if waits { Topics::WORK | Topics::JOBS } else { Topics::JOBS }
}

/// What an auditor must know of a job, where it differs from the defaults.
pub(super) fn told(spec: &JobSpec, life: &Life, edges: &[Edge], origin: &Origin) -> Result<Value> {
    let after = edges.iter().map(|e| After { job: Selector::Number(e.needs), until: e.until }).collect();
    let terms = Terms {
        max_attempts: spec.max_attempts,
        max_losses: spec.max_losses,
        backoff: spec.backoff,
        service: spec.is_service(),
        after,
        limit: spec.limit.clone(),
        tenant: spec.limit.as_ref().map(|_| spec.tenant().to_owned()),
        run: origin.run_id,
        last: origin.task.as_deref().is_some_and(is_on_complete),
    };
    if terms == Terms::default() && life.reason.is_none() {
        return Ok(Value::Null);
    }
    let mut data = serde_json::to_value(terms).map_err(|e| Error::failed("cannot be told").source(e))?;
    if let (Some(reason), Value::Object(map)) = (&life.reason, &mut data) {
        map.insert("reason".into(), reason.clone().into());
    }
    Ok(data)
}

/// What was stored before under the same id or key.
fn existing(caller: &Caller, tx: &mut dyn Tx, job: &Submission) -> Result<Option<Enqueued>> {
    if let Some(found) = by_key(caller, tx, &job.spec)? {
        return Ok(Some(found));
    }
    match tx.find(&Selector::Id(job.id), 1)?.pop() {
        Some(number) => {
            let found = load_one(tx, number)?;
            // The same id of another tenant's job is not shown.
            Ok((found.tenant == job.spec.tenant()).then(|| existing_reply(found)))
        }
        None => Ok(None),
    }
}

pub(super) fn existing_reply(job: crate::job::Record) -> Enqueued {
    Enqueued { number: job.number, id: job.id, state: job.life.state, queue: job.queue, existing: true }
}

/// The jobs to wait for, with their states.
pub(super) fn edges_of(caller: &Caller, tx: &mut dyn Tx, spec: &JobSpec) -> Result<Vec<(Number, Until, State)>> {
    let mut edges: Vec<(Number, Until, State)> = Vec::new();
    for after in &spec.after {
        let numbers = resolve(caller, tx, &after.job).map_err(|e| e.context("--after"))?;
        for job in tx.load(&numbers)? {
            wait_for(&mut edges, (job.number, after.until, job.life.state));
        }
    }
    Ok(edges)
}

/// One more job to wait for; to wait for its success says more than to wait for its end.
fn wait_for(edges: &mut Vec<(Number, Until, State)>, edge: (Number, Until, State)) {
    match edges.iter_mut().find(|(needs, ..)| *needs == edge.0) {
        Some(known) if edge.1 == Until::Done => known.1 = Until::Done,
        Some(_) => {}
        None => edges.push(edge),
    }
}
