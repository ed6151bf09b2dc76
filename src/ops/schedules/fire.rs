//! The one place where an occurrence becomes jobs.

use std::sync::Arc;

use super::super::Caller;
use super::super::admission::LaneCache;
use super::super::enqueue::told;
use super::super::runs::{self, NewRun};
use super::overlap::{Made, Waits};
use crate::error::{Error, Kind, Result};
use crate::job::plan::jitter;
use crate::job::spec::Until;
use crate::job::target::LABEL;
use crate::job::workflow;
use crate::job::{
    Definition, EventKind, JobId, JobSpec, LaneId, Life, Number, OccurrenceId, Origin, RunId, Schedule, ScheduleId,
    Selector, State, Target,
};
use crate::store::{Edge, NewEvent, NewJob, Topics, Tx};
use crate::time::Timestamp;

/// A run that is to be made.
pub(super) struct Firing {
    schedule: ScheduleId,
    name: String,
    definition: Arc<Definition>,
    run: RunId,
    occurrence: Option<OccurrenceId>,
    due: Timestamp,
    waits: Waits,
}

/// A run of one job, which has a place.
pub(super) struct Admitted {
    firing: Firing,
    spec: JobSpec,
    lane: LaneId,
}

impl Firing {
    /// A run of `schedule` for the instant `due`, which starts when what it waits for has ended.
    pub(super) fn new(
        schedule: &Schedule,
        definition: &Arc<Definition>,
        run: RunId,
        occurrence: Option<OccurrenceId>,
        due: Timestamp,
        waits: Waits,
    ) -> Self {
        let (name, definition) = (schedule.name.clone(), Arc::clone(definition));
        Self { schedule: schedule.id, name, definition, run, occurrence, due, waits }
    }

    /// When it starts.
    fn start(&self) -> Timestamp {
        self.due.plus(jitter(self.schedule, self.due, self.definition.jitter))
    }

    /// What its one job is to do, and not before when; none where it is a run of tasks. A job that waits for such a run,
    /// or in a line, is one too, with one task: its own end is not enough to wait for.
    fn spec(&self) -> Option<JobSpec> {
        let Target::Job(spec) = &self.definition.target else { return None };
        if self.is_of_tasks() {
            return None;
        }
        let mut spec = JobSpec::clone(spec);
        let start = spec.delay.take().map_or(self.start(), |delay| self.start().plus(delay));
        spec.at = (start > self.due).then_some(start);
        spec.label.entry(LABEL.to_owned()).or_insert_with(|| self.name.clone());
        Some(spec)
    }

    /// Whether it is a run of tasks.
    pub(super) fn is_of_tasks(&self) -> bool {
        let waits = self.waits.in_line || self.waits.behind.is_some();
        waits || matches!(self.definition.target, Target::Workflow(_))
    }

    /// Gives a run of one job its place, and makes one of tasks at once. None: a limit on queued jobs is reached (S15).
    pub(super) fn admit(
        self,
        tx: &mut dyn Tx,
        caller: &Caller,
        lanes: &mut LaneCache,
        actor: Option<&str>,
    ) -> Result<Option<Place>> {
        let done = match self.spec() {
            Some(spec) => {
                if actor.is_some() {
                    caller.schemas.check(&spec)?; // somebody asks for it, and not the clock
                }
                lanes.admit(tx, &spec).map(|lane| Place::Job(Box::new(Admitted { firing: self, spec, lane })))
            }
            None => self.start_run(tx, caller, lanes, actor).map(|()| Place::Run(self.run)),
        };
        match done {
            Ok(place) => Ok(Some(place)),
            Err(e) if e.kind() == Kind::Limit => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn start_run(&self, tx: &mut dyn Tx, caller: &Caller, lanes: &mut LaneCache, actor: Option<&str>) -> Result<()> {
        let workflow = self.definition.target.as_workflow(&self.name)?;
        let start = self.start();
        let new = NewRun {
            schedule_id: Some(self.schedule),
            occurrence_id: self.occurrence,
            scheduled_for: Some(self.due),
            behind: self.waits.behind,
            after: &self.waits.jobs,
            not_before: (start > self.due).then_some(start),
            actor,
            ..NewRun::of(self.run, &workflow, Arc::clone(&self.definition.captured))
        };
        runs::start(tx, caller, lanes, new).map(|_| ())
    }
}

/// Whether there is room for one more run: nothing is cancelled for one that cannot be.
pub(super) fn has_room(tx: &mut dyn Tx, lanes: &mut LaneCache, name: &str, definition: &Definition) -> Result<bool> {
    let workflow = workflow::read(&definition.target.as_workflow(name)?)?;
    let plan = workflow.plan(None);
    lanes.fits(tx, plan.iter().map(|job| &job.spec))
}

/// What became of a run that there is room for.
pub(super) enum Place {
    /// It may be made.
    Job(Box<Admitted>),
    /// It is made.
    Run(RunId),
}

impl Place {
    /// Makes it, where it is not made yet.
    pub(super) fn make(self, tx: &mut dyn Tx, actor: Option<&str>) -> Result<Made> {
        match self {
            Place::Run(run) => Ok(Made::Run(run)),
            Place::Job(admitted) => {
                let number = fire(tx, actor, &[*admitted])?.pop();
                number.map(Made::Job).ok_or_else(|| Error::failed("no job was made"))
            }
        }
    }
}

impl Admitted {
    fn origin(&self) -> Origin {
        Origin {
            run_id: Some(self.firing.run),
            task: Some(Target::MAIN.to_owned()),
            schedule_id: Some(self.firing.schedule),
            occurrence_id: self.firing.occurrence,
            scheduled_for: Some(self.firing.due),
            ..Origin::default()
        }
    }
}

/// Makes the jobs of runs that were admitted; gives the number of each.
pub(super) fn fire(tx: &mut dyn Tx, actor: Option<&str>, admitted: &[Admitted]) -> Result<Vec<Number>> {
    let now = tx.now();
    let prepared: Vec<(JobId, Origin, Life)> = admitted
        .iter()
        .map(|one| {
            let waiting = u32::try_from(one.firing.waits.jobs.len()).unwrap_or(u32::MAX);
            let life = Life::admit(&one.spec, now, waiting);
            (JobId::of_task(one.firing.run, Target::MAIN), one.origin(), life)
        })
        .collect();
    let jobs: Vec<NewJob> = admitted
        .iter()
        .zip(&prepared)
        .map(|(Admitted { firing, spec, lane }, (id, origin, life))| NewJob {
            id: *id,
            lane: *lane,
            life,
            spec,
            captured: &firing.definition.captured,
            origin,
            is_run_of: Some(firing.schedule),
        })
        .collect();
    let stored = tx.insert(&jobs)?;
    let mut numbers = Vec::with_capacity(admitted.len());
    let mut edges = Vec::new();
    let mut events = Vec::new();
    for ((Admitted { firing, spec, .. }, (id, origin, life)), number) in admitted.iter().zip(&prepared).zip(stored) {
        let Some(number) = number else {
            numbers.push(existing(tx, *id)?);
            continue;
        };
        numbers.push(number);
        let wait = |needs: &Number| Edge { number, needs: *needs, until: Until::Ended, satisfied: false };
        let waits: Vec<Edge> = firing.waits.jobs.iter().map(wait).collect();
        events.push(NewEvent {
            number: Some(number),
            actor,
            state: Some(life.state),
            data: told(spec, life, &waits, origin)?,
            ..NewEvent::of(EventKind::Enqueued)
        });
        edges.extend(waits);
    }
    tx.put_edges(&edges)?;
    tx.append(&events)?;
    let work = prepared.iter().any(|(.., life)| matches!(life.state, State::Pending | State::Scheduled));
    tx.wake(if work { Topics::WORK | Topics::JOBS } else { Topics::JOBS });
    Ok(numbers)
}

/// The job that was made for the same run before.
fn existing(tx: &mut dyn Tx, id: JobId) -> Result<Number> {
    let found = tx.find(&Selector::Id(id), 1)?.pop();
    found.ok_or_else(|| Error::conflict(format!("the id {id} is taken")))
}
