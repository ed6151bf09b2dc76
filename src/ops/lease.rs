//! Handing out jobs.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::proof::check_holder;
use super::tenancy::check_worker;
use super::timers::{expire, next_timer, promote};
use super::transition::{By, change};
use super::{Access, Caller, Op, Scopes, Takes, bounds, runs};
use crate::error::Result;
use crate::job::lanes::{self, Lane, Offer};
use crate::job::reading::Texts;
use crate::job::{
    Captured, EventKind, Fence, JobId, JobSpec, LaneId, Number, Origin, Record, RunId, State, Unread, WorkerKey,
    WorkerProof,
};
use crate::store::restore::Floor;
use crate::store::{Foresight, Tx};
use crate::time::Span;

/// Leases up to `slots` jobs for a worker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// The worker.
    pub worker: WorkerKey,
    /// The worker's name, for the record.
    pub name: String,
    /// What it serves.
    pub offer: Offer,
    /// How many it can start now.
    pub slots: u32,
    /// How long the leases last.
    pub ttl: Span,
    /// This only (`orx run`), whatever else the offer says than its labels.
    pub only: Option<Only>,
}

/// What a worker is there for that runs nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// One job.
    Job(Number),
    /// The jobs of one run.
    Run(RunId),
}

/// A job to run, and the fence to run it under.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Leased {
    /// The job and attempt.
    pub fence: Fence,
    /// The job's id.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// Its tenant.
    pub tenant: String,
    /// What is to be done.
    pub spec: JobSpec,
    /// What surrounds it.
    pub captured: Captured,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// An earlier attempt was lost: processes of it may be alive.
    pub lost: bool,
    /// The needed tasks that made something, and their jobs.
    #[serde(default)]
    pub results: Vec<(String, Number)>,
    /// What of it this orx does not understand, where a newer one handed it out: then it must not be run here.
    #[serde(skip)]
    pub unread: Option<Unread>,
}

/// A job as a newer orx may hand it out: with options that are not known here.
impl<'de> Deserialize<'de> for Leased {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Given {
            fence: Fence,
            id: JobId,
            queue: String,
            tenant: String,
            spec: Box<RawValue>,
            captured: Box<RawValue>,
            #[serde(default)]
            origin: Option<Box<RawValue>>,
            lost: bool,
            #[serde(default)]
            results: Vec<(String, Number)>,
        }
        let Given { fence, id, queue, tenant, spec, captured, origin, lost, results } = Given::deserialize(from)?;
        let Texts { spec, captured, origin, unread } = Texts::given(&spec, &captured, origin.as_deref());
        Ok(Self { fence, id, queue, tenant, spec, captured, origin, lost, results, unread })
    }
}

/// What a worker got.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaseReply {
    /// The jobs.
    pub jobs: Vec<Leased>,
    /// After which time it is worth asking again though nothing else happens.
    pub next_timer: Option<Span>,
    /// Some jobs could not be handed out at this moment: there may be more than this soon.
    #[serde(default)]
    pub held_up: bool,
}

/// The most jobs of one call.
pub const MAX_LEASE: u32 = 1024;
/// How often lanes are chosen anew when other workers were faster.
const ROUNDS: usize = 3;
/// How many lanes are looked at at once.
const LANES: usize = 64;
/// How many lanes are looked at in all.
const MAX_LANES: usize = 4096;
/// How many jobs of a lane, and how many lanes, are stepped over because they cannot be handed out (S19, S29).
const MAX_PASSED: usize = 1024;

/// How soon it is worth asking again for tasks that could not be handed out, because of their run.
const AGAIN: Span = Span::from_millis(100);

/// What one call stepped over because it cannot be handed out.
#[derive(Default)]
struct Passed {
    /// Jobs, where it may take some only.
    jobs: HashSet<Number>,
    /// Lanes that have no others.
    lanes: HashSet<LaneId>,
}

/// What one call hands out.
#[derive(Default)]
struct Taken {
    jobs: Vec<Leased>,
    /// Tasks were stepped over because of their run (S19).
    held_up: bool,
}

impl Passed {
    fn len(&self) -> usize {
        self.jobs.len() + self.lanes.len()
    }
}

impl Op for Lease {
    type Reply = LeaseReply;
    const NAME: &'static str = "lease";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<LeaseReply> {
        self.foresee(tx, &[])?;
        self.lease(caller, tx)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<LeaseReply>> {
        check_worker(caller, tx, self.worker.id)?;
        // All that the worker holds; it knows which of them it runs already.
        let (worker, leases) = (self.worker.proof(), tx.leases_of(self.worker.id)?);
        leases.iter().try_for_each(|lease| check_holder(&worker, lease))?;
        let fences: Vec<Fence> = leases.into_iter().map(|lease| lease.fence).collect();
        tx.extend(&fences, self.ttl)?; // it takes them for as young as this answer
        let numbers: Vec<Number> = fences.iter().map(|fence| fence.number).collect();
        let jobs = tx.load(&numbers)?.into_iter().zip(fences).filter(|(job, _)| job.unread.is_none());
        let mut jobs: Vec<Leased> = jobs.map(|(job, fence)| Leased::new(job, fence)).collect();
        add_results(tx, &mut jobs)?;
        // It may be less than there is: a worker that took this for all would wait for the next change.
        Ok(Some(LeaseReply { jobs, next_timer: Some(Span::ZERO), held_up: false }))
    }
}

impl Leased {
    fn new(job: Record, fence: Fence) -> Self {
        Self {
            fence,
            id: job.id,
            queue: job.queue,
            tenant: job.tenant,
            spec: job.spec,
            captured: job.captured,
            origin: job.origin,
            lost: job.life.losses > 0,
            results: Vec::new(),
            unread: None,
        }
    }
}

impl Lease {
    /// Tells the store what will be asked for when the attempts of `ending` have ended.
    pub(super) fn foresee(&self, tx: &mut dyn Tx, ending: &[Fence]) -> Result<()> {
        let slots = self.slots.min(MAX_LEASE);
        let lanes = (slots > 0 && self.only.is_none()).then_some((LANES, slots));
        tx.foresee(&Foresight { ending: ending.to_vec(), lanes, worker: Some(self.worker.id) })
    }

    /// Leases jobs; after [`Lease::foresee`].
    pub(super) fn lease(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<LeaseReply> {
        check_worker(caller, tx, self.worker.id)?;
        bounds::name(&self.name)?;
        bounds::ttl(self.ttl)?;
        bounds::slots(self.slots)?;
        self.offer.check().map_err(|e| e.within("offer"))?;
        let worker = self.worker.proof();
        promote(tx)?;
        expire(tx)?;
        let (mut taken, mut passed, mut rounds) = (Taken::default(), Passed::default(), 0);
        while rounds < ROUNDS {
            let slots = self.slots.min(MAX_LEASE).saturating_sub(taken.jobs.len() as u32);
            let (mut hoped, before, known) = (0, taken.jobs.len(), passed.len());
            let candidates = self.candidates(tx, slots as usize, &passed.jobs)?;
            for (lane, count) in self.choose(caller, tx, slots, candidates.as_deref(), &passed.lanes)? {
                hoped += count as usize;
                match &candidates {
                    Some(some) => {
                        let of_lane = some.iter().filter(|(_, of)| *of == lane.id).map(|(number, _)| *number);
                        let numbers: Vec<Number> = of_lane.take(count as usize).collect();
                        passed.jobs.extend(self.take(tx, &worker, &numbers, &mut taken)?);
                    }
                    None if self.take_first(tx, &worker, lane.id, count as usize, &mut taken)? => {}
                    None => _ = passed.lanes.insert(lane.id),
                }
                tx.served(&[lane.id])?;
            }
            // Others took some of what was chosen: there may be more elsewhere.
            if hoped == taken.jobs.len() - before {
                break;
            }
            // What is stepped over keeps nobody from the rest.
            rounds += usize::from(passed.len() == known || passed.len() > MAX_PASSED);
        }
        let Taken { mut jobs, held_up } = taken;
        add_results(tx, &mut jobs)?;
        let again = held_up.then_some(AGAIN);
        // The next timer may be that of another tenant; those of its own the leader watches for it.
        let timer = if caller.tenant.is_none() { next_timer(tx)? } else { None };
        Ok(LeaseReply { jobs, next_timer: timer.into_iter().chain(again).min(), held_up })
    }

    /// The only jobs it may take, with their lanes; none: all.
    fn candidates(
        &self,
        tx: &mut dyn Tx,
        slots: usize,
        passed: &HashSet<Number>,
    ) -> Result<Option<Vec<(Number, LaneId)>>> {
        let mut found = match self.only {
            None => return Ok(None),
            Some(Only::Job(number)) => tx.load(&[number])?.into_iter().map(|job| (number, job.lane)).collect(),
            Some(Only::Run(id)) => runs::pending(tx, id, &self.offer, slots + passed.len())?,
        };
        found.retain(|(number, _)| !passed.contains(number));
        Ok(Some(found))
    }

    /// The lanes to take from, and how many jobs of each.
    fn choose(
        &self,
        caller: &Caller,
        tx: &mut dyn Tx,
        slots: u32,
        only: Option<&[(Number, LaneId)]>,
        passed: &HashSet<LaneId>,
    ) -> Result<Vec<(Lane, u32)>> {
        if only.is_some_and(<[_]>::is_empty) || caller.takes == Takes::Nothing {
            return Ok(Vec::new());
        }
        let unshared = if caller.takes == Takes::Shared { tx.unshared()? } else { Vec::new() };
        let mut fitting: Vec<Lane> = Vec::new();
        let mut skip = 0;
        while slots > 0 && skip < MAX_LANES {
            let page = tx.lanes(skip, LANES, slots)?;
            skip += LANES;
            let last = page.len() < LANES;
            let mine = |lane: &Lane| caller.sees(&lane.tenant) && self.offer.serves_tenant(&lane.tenant);
            let shared = |lane: &Lane| !unshared.contains(&lane.queue);
            let left = |lane: &Lane| !passed.contains(&lane.id);
            fitting.extend(page.into_iter().filter(mine).filter(shared).filter(left).filter(|lane| match only {
                Some(only) => only.iter().any(|(_, id)| *id == lane.id) && self.offer.carries(&lane.needs.labels),
                None => self.offer.serves(&lane.queue, &lane.needs),
            }));
            let found: u64 = fitting.iter().map(|lane| u64::from(lane.pending)).sum();
            if last || found >= u64::from(slots) {
                break;
            }
        }
        let shares = lanes::share(&fitting, slots);
        let mut chosen: Vec<Lane> = shares.into_iter().map(|(i, _)| fitting[i].clone()).collect();
        tx.reserve(&mut chosen)?;
        let shares = lanes::share(&chosen, slots);
        Ok(shares.into_iter().map(|(i, n)| (chosen[i].clone(), n)).collect())
    }

    /// Takes the first jobs of a lane, and steps over those that cannot be handed out. Gives whether they were as many as
    /// there are.
    fn take_first(
        &self,
        tx: &mut dyn Tx,
        worker: &WorkerProof,
        lane: LaneId,
        count: usize,
        taken: &mut Taken,
    ) -> Result<bool> {
        let (wanted, mut passed) = (taken.jobs.len() + count, HashSet::new());
        while taken.jobs.len() < wanted && passed.len() < MAX_PASSED {
            let limit = wanted - taken.jobs.len() + passed.len();
            let mut numbers = tx.pending(lane, limit)?;
            let is_last = numbers.len() < limit;
            numbers.retain(|number| !passed.contains(number));
            let over = self.take(tx, worker, &numbers, taken)?;
            if over.is_empty() {
                break;
            }
            passed.extend(over);
            if is_last {
                break;
            }
        }
        Ok(passed.is_empty() || taken.jobs.len() >= wanted)
    }

    /// Takes those of `numbers` that are pending; gives those that it steps over: they cannot be read here, or their run
    /// keeps them from starting.
    fn take(
        &self,
        tx: &mut dyn Tx,
        worker: &WorkerProof,
        numbers: &[Number],
        taken: &mut Taken,
    ) -> Result<Vec<Number>> {
        let by = By { worker: Some(&self.name), actor: None };
        let (found, now) = (tx.load(numbers)?, tx.now());
        let is_overdue = |job: &Record| job.life.deadline_at.is_some_and(|at| at <= now);
        let starts = |job: &&Record| job.life.state == State::Pending && job.unread.is_none() && !is_overdue(job);
        let tasks = found.iter().filter(starts).filter(|job| job.origin.run_id.is_some());
        let tasks: Vec<Number> = tasks.map(|job| job.number).collect();
        let mut over = if tasks.is_empty() { Vec::new() } else { runs::begin(tx, &tasks)? };
        taken.held_up |= !over.is_empty();
        let floor = if found.is_empty() { Floor::default() } else { tx.floor()? };
        for job in found {
            if over.contains(&job.number) {
                continue;
            }
            if is_overdue(&job) {
                let life = job.life.clone().expire(tx.now())?;
                change(tx, &job, &life, EventKind::Expired, By::default(), Value::Null)?;
                continue;
            }
            let Ok(life) = job.life.clone().lease(floor.of(job.number)) else {
                continue; // `only`: it is not pending
            };
            if let Some(what) = &job.unread {
                if what.is_unreadable() {
                    tx.note_unreadable(&[job.number])?; // for the leader, who puts it aside
                }
                over.push(job.number);
                continue;
            }
            let fence = Fence { number: job.number, attempt: life.attempt };
            tx.grant(worker, &[fence], self.ttl)?;
            change(tx, &job, &life, EventKind::Leased, by, Value::Null)?;
            taken.jobs.push(Leased::new(job, fence));
        }
        Ok(over)
    }
}

/// Tells tasks what those that they need made.
fn add_results(tx: &mut dyn Tx, jobs: &mut [Leased]) -> Result<()> {
    let numbers: Vec<Number> =
        jobs.iter().filter(|job| job.origin.run_id.is_some()).map(|job| job.fence.number).collect();
    if numbers.is_empty() {
        return Ok(());
    }
    for (number, task, source) in tx.results(&numbers)? {
        if let Some(job) = jobs.iter_mut().find(|job| job.fence.number == number) {
            job.results.push((task, source));
        }
    }
    Ok(())
}
