//! Storing a run with all its jobs and edges in one transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;

use super::super::Caller;
use super::super::admission::LaneCache;
use super::super::enqueue::{edges_of, make_limit, told};
use super::super::policies::change_limit;
use super::super::transition::{self, Gate};
use crate::error::{Error, Kind, Result};
use crate::job::run::Terms;
use crate::job::spec::{KeyLimit, Until};
use crate::job::workflow::{self, OnFailure};
use crate::job::{
    Captured, EventKind, JobId, JobSpec, JsonText, LaneId, Life, Number, OccurrenceId, Origin, Planned, RunId, RunLife,
    RunState, ScheduleId, State, Workflow,
};
use crate::store::{Edge, NewEvent, NewJob, Run, RunSpec, TaskKind, Topics, Tx};
use crate::time::Timestamp;

/// A run to be started.
pub(in crate::ops) struct NewRun<'a> {
    /// Its id: the same makes no second run.
    pub(in crate::ops) id: RunId,
    /// The workflow as it was given.
    pub(in crate::ops) workflow: &'a JsonText,
    /// What surrounds its jobs.
    pub(in crate::ops) captured: Arc<Captured>,
    /// The schedule that makes it.
    pub(in crate::ops) schedule_id: Option<ScheduleId>,
    /// The occurrence that it is.
    pub(in crate::ops) occurrence_id: Option<OccurrenceId>,
    /// When it was due.
    pub(in crate::ops) scheduled_for: Option<Timestamp>,
    /// The run whose end it waits for (S22).
    pub(in crate::ops) behind: Option<RunId>,
    /// Jobs whose ends it waits for too.
    pub(in crate::ops) after: &'a [Number],
    /// Its first tasks do not start before.
    pub(in crate::ops) not_before: Option<Timestamp>,
    /// Who makes it; none: the clock.
    pub(in crate::ops) actor: Option<&'a str>,
    /// Why somebody makes it.
    pub(in crate::ops) reason: Option<String>,
    /// What it does again.
    pub(in crate::ops) replay: Option<Replay<'a>>,
}

impl<'a> NewRun<'a> {
    /// A run that starts at once, by nobody and of no schedule.
    pub(in crate::ops) fn of(id: RunId, workflow: &'a JsonText, captured: Arc<Captured>) -> Self {
        Self {
            id,
            workflow,
            captured,
            schedule_id: None,
            occurrence_id: None,
            scheduled_for: None,
            behind: None,
            after: &[],
            not_before: None,
            actor: None,
            reason: None,
            replay: None,
        }
    }
}

/// A part of a workflow that is done again.
pub(in crate::ops) struct Replay<'a> {
    /// The run that did it before.
    pub(in crate::ops) of: RunId,
    /// These tasks.
    pub(in crate::ops) only: HashSet<&'a str>,
    /// The jobs that did the others.
    pub(in crate::ops) done: HashMap<String, Number>,
}

/// A run as it was stored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Started {
    /// Its id.
    pub id: RunId,
    /// What people call it.
    pub name: String,
    /// Its state.
    pub state: RunState,
    /// How many jobs it began with.
    pub jobs: usize,
    /// It was there before.
    pub existing: bool,
}

/// Stores a run with all its jobs and edges; all of it or nothing.
///
/// # Errors
/// `Usage` for a workflow that makes no sense, `Limit` where its jobs find no room.
pub(in crate::ops) fn start(tx: &mut dyn Tx, caller: &Caller, lanes: &mut LaneCache, new: NewRun) -> Result<Started> {
    if let Some(found) = existing(caller, tx, new.id)? {
        return Ok(found);
    }
    let workflow = workflow::read(new.workflow).map_err(|e| e.within("workflow"))?;
    if !caller.sees(&workflow.tenant) {
        return Err(Error::new(Kind::Denied, format!("you may not submit for tenant {}", workflow.tenant)));
    }
    new.captured.check()?;
    let before = new.behind.map(|id| tx.run(id)).transpose()?.flatten();
    let before = before.filter(|run| caller.sees(&run.tenant) && !run.life.state.is_terminal()).map(|run| run.seq);
    let limit = run_limit(tx, &workflow, new.actor)?;
    let mut plan = workflow.plan(new.replay.as_ref().map(|r| &r.only));
    for job in &mut plan {
        job.spec.limit = job.spec.limit.take().or_else(|| limit.clone());
        if let Some(start) = new.not_before.filter(|_| job.is_first()) {
            job.spec.at = Some(job.spec.delay.take().map_or(start, |delay| start.plus(delay)));
        }
    }
    if new.actor.is_some() {
        // The clock asks for nothing new: what it makes was looked at when the schedule was stored.
        check_payloads(caller, &workflow)?;
    }
    let on_complete = workflow.on_complete.as_ref();
    let maker = Maker { new: &new, plan: &plan, on_complete, held: before.is_some(), now: tx.now() };
    maker.limits(tx)?;
    let lanes = lanes.admit_all(tx, plan.iter().map(|job| &job.spec))?;
    let foreign = maker.foreign(caller, tx)?;
    let lives = maker.lives(&foreign)?;
    let numbers = maker.insert(tx, &lanes, &lives)?;
    let edges = maker.edges(&numbers, &foreign);
    tx.put_edges(&edges)?;
    let terms = Terms {
        fail_fast: workflow.on_failure == OnFailure::FailFast,
        on_complete: workflow.on_complete.is_some(),
        timeout: workflow.timeout,
    };
    let life = RunLife::admit(u32::try_from(plan.len()).unwrap_or(u32::MAX), before);
    let run = Run {
        seq: 0,
        id: new.id,
        name: workflow.name,
        tenant: workflow.tenant,
        created_at: tx.now(),
        terms,
        limit_key: limit.map(|l| l.key),
        schedule_id: new.schedule_id,
        occurrence_id: new.occurrence_id,
        scheduled_for: new.scheduled_for,
        replay_of: new.replay.as_ref().map(|r| r.of),
        reason: new.reason.clone(),
        life,
    };
    let spec = RunSpec { workflow: new.workflow.clone(), captured: Arc::clone(&new.captured), unread: None };
    let Some(seq) = tx.add_run(&run, &spec)? else {
        return Err(Error::conflict(format!("the run {} was stored at this moment", new.id)).hint("try again"));
    };
    let kind = |job: &Planned| if job.always { TaskKind::Always } else { TaskKind::Task };
    let tasks: Vec<_> = numbers.iter().copied().zip(plan.iter().map(kind)).collect();
    tx.add_tasks(seq, &tasks)?;
    tx.append(&[NewEvent {
        actor: new.actor,
        data: json!({ "run": run.id, "name": run.name, "replay_of": run.replay_of, "reason": run.reason }),
        ..NewEvent::of(EventKind::RunStarted)
    }])?;
    maker.tell(tx, &numbers, &lives, &edges)?;
    tx.wake(Topics::WORK | Topics::JOBS);
    // What is broken from the start ends what needs it.
    let mut skipped = Vec::new();
    for ((job, number), life) in plan.iter().zip(&numbers).zip(&lives).filter(|(_, life)| life.state.is_terminal()) {
        tx.note_moved(run.id, &job.task, State::Blocked, life.state);
        skipped.push((*number, life.state));
    }
    if !skipped.is_empty() {
        tx.note_told(&skipped.iter().map(|(number, _)| *number).collect::<Vec<_>>())?;
    }
    transition::resolve_dependants(tx, skipped)?;
    Ok(Started { id: run.id, name: run.name, state: run.life.state, jobs: plan.len(), existing: false })
}

/// Whether the payloads of all jobs fit, as far as their handlers' schemas are known here.
///
/// # Errors
/// `Usage`, naming the task and the place in its payload.
pub(in crate::ops) fn check_payloads(caller: &Caller, workflow: &Workflow) -> Result<()> {
    let check = |(task, spec)| caller.schemas.check(spec).map_err(|e: Error| e.context(format_args!("task {task}")));
    workflow.jobs().try_for_each(check)
}

/// The run of this id, if there is one.
pub(in crate::ops) fn existing(caller: &Caller, tx: &mut dyn Tx, id: RunId) -> Result<Option<Started>> {
    let Some(run) = tx.run(id)? else { return Ok(None) };
    if !caller.sees(&run.tenant) {
        return Err(Error::conflict(format!("the id {id} is taken")));
    }
    let jobs = tx.tasks(run.seq, false)?.len();
    Ok(Some(Started { id, name: run.name, state: run.life.state, jobs, existing: true }))
}

/// The limit that the jobs of a run share, for as many as may run at once.
///
/// Its key is free for the next run when this one has ended, so that there are never more keys than runs side by side.
fn run_limit(tx: &mut dyn Tx, workflow: &Workflow, actor: Option<&str>) -> Result<Option<KeyLimit>> {
    let Some(max) = workflow.width() else { return Ok(None) };
    let taken = tx.run_limits(&workflow.tenant, &workflow.name)?;
    let key = |n: usize| format!("workflow/{}/{max}/{n}", workflow.name);
    let free = (1..=taken.len() + 1).map(key).find(|key| !taken.contains(key)).unwrap_or_default();
    let in_force = tx.limit_key(&workflow.tenant, &free, max)?;
    if in_force != max {
        change_limit(tx, actor, &workflow.tenant, &free, max)?; // somebody changed it for an earlier run
    }
    Ok(Some(KeyLimit { key: free, max }))
}

/// An edge to a job outside of the run, with that job's state.
type Foreign = (Number, Until, State);

/// Makes the jobs of a plan.
struct Maker<'a> {
    new: &'a NewRun<'a>,
    plan: &'a [Planned],
    /// What runs when they have ended; made then.
    on_complete: Option<&'a JobSpec>,
    /// Its first jobs wait for another run.
    held: bool,
    now: Timestamp,
}

impl Maker<'_> {
    fn is_held(&self, job: &Planned) -> bool {
        self.held && job.is_first()
    }

    fn origin(&self, job: &Planned) -> Origin {
        Origin {
            run_id: Some(self.new.id),
            task: Some(job.task.clone()),
            schedule_id: self.new.schedule_id,
            occurrence_id: self.new.occurrence_id,
            scheduled_for: self.new.scheduled_for,
            ..Origin::default()
        }
    }

    /// Makes the limits that its jobs share. Another number than the one in force is a conflict, but not for a schedule:
    /// somebody changed it since that was made.
    fn limits(&self, tx: &mut dyn Tx) -> Result<()> {
        let mut known: HashSet<(&str, u32)> = HashSet::new();
        for spec in self.plan.iter().map(|job| &job.spec).chain(self.on_complete) {
            let Some(limit) = spec.limit.as_ref().filter(|l| known.insert((l.key.as_str(), l.max))) else { continue };
            match self.new.schedule_id {
                None => make_limit(tx, spec)?,
                Some(_) => _ = tx.limit_key(spec.tenant(), &limit.key, limit.max)?,
            }
        }
        Ok(())
    }

    /// The edges of each job to jobs outside.
    fn foreign(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Vec<Vec<Foreign>>> {
        let mut all = Vec::with_capacity(self.plan.len());
        let done = self.new.replay.as_ref().map(|r| &r.done);
        let mut before = Vec::new();
        for job in tx.load(self.new.after)? {
            before.push((job.number, Until::Ended, job.life.state));
        }
        for job in self.plan {
            let of_task = |e: Error| e.context(format_args!("task {}", job.task));
            let mut edges = if job.spec.after.is_empty() {
                Vec::new()
            } else {
                edges_of(caller, tx, &job.spec).map_err(of_task)?
            };
            for (task, until) in &job.inherited {
                match done.and_then(|done| done.get(task)) {
                    Some(number) => edges.push((*number, *until, State::Done)),
                    None if *until == Until::Ended => {} // there is nothing of it that could be awaited
                    None => {
                        let missing = Error::conflict(format!("needs {task}, which is not done"));
                        return Err(of_task(missing).hint("--failed does all again that was not done"));
                    }
                }
            }
            if job.is_first() {
                edges.extend(&before);
            }
            all.push(edges);
        }
        Ok(all)
    }

    fn lives(&self, foreign: &[Vec<Foreign>]) -> Result<Vec<Life>> {
        let jobs = self.plan.iter().zip(foreign);
        jobs.map(|(job, foreign)| {
            let own = u32::try_from(job.edges.len()).unwrap_or(u32::MAX) + u32::from(self.is_held(job));
            Ok(match transition::gate(foreign.iter().copied()) {
                Gate::Waiting(n) => Life::admit(&job.spec, self.now, own + n),
                Gate::Broken(needs, state) => {
                    let why = format!("needs job {needs}, which is {state}");
                    Life::admit(&job.spec, self.now, own + 1).skip(why, self.now)?
                }
            })
        })
        .collect()
    }

    fn insert(&self, tx: &mut dyn Tx, lanes: &[LaneId], lives: &[Life]) -> Result<Vec<Number>> {
        let origins: Vec<Origin> = self.plan.iter().map(|job| self.origin(job)).collect();
        let jobs = self.plan.iter().zip(lanes).zip(lives).zip(&origins);
        let jobs: Vec<NewJob> = jobs
            .map(|(((job, lane), life), origin)| NewJob {
                id: JobId::of_task(self.new.id, &job.task),
                lane: *lane,
                life,
                spec: &job.spec,
                captured: &self.new.captured,
                origin,
                is_run_of: None,
            })
            .collect();
        let numbers: Option<Vec<Number>> = tx.insert(&jobs)?.into_iter().collect();
        numbers.ok_or_else(|| Error::conflict(format!("jobs of run {} are stored already", self.new.id)))
    }

    fn edges(&self, numbers: &[Number], foreign: &[Vec<Foreign>]) -> Vec<Edge> {
        let mut edges = Vec::new();
        for ((job, number), foreign) in self.plan.iter().zip(numbers).zip(foreign) {
            let (number, held) = (*number, self.is_held(job));
            edges.extend(job.edges.iter().map(|(i, until)| Edge {
                number,
                needs: numbers[*i],
                until: *until,
                satisfied: false,
            }));
            edges.extend(foreign.iter().map(|&(needs, until, state)| Edge {
                number,
                needs,
                until,
                satisfied: transition::meets(until, state),
            }));
            // To itself: what waits for another run is let go by that run's end.
            edges.extend(held.then_some(Edge { number, needs: number, until: Until::Ended, satisfied: false }));
        }
        edges
    }

    fn tell(&self, tx: &mut dyn Tx, numbers: &[Number], lives: &[Life], edges: &[Edge]) -> Result<()> {
        let mut of_job: HashMap<Number, Vec<Edge>> = HashMap::new();
        for edge in edges.iter().filter(|e| e.needs != e.number) {
            of_job.entry(edge.number).or_default().push(*edge);
        }
        let mut events = Vec::with_capacity(numbers.len());
        for ((job, number), life) in self.plan.iter().zip(numbers).zip(lives) {
            let edges = of_job.remove(number).unwrap_or_default();
            events.push(NewEvent {
                number: Some(*number),
                actor: self.new.actor,
                state: Some(life.state),
                data: told(&job.spec, life, &edges, &self.origin(job))?,
                ..NewEvent::of(EventKind::Enqueued)
            });
        }
        tx.append(&events)
    }
}
