//! The one place where an occurrence becomes jobs.

use std::sync::Arc;

use super::super::enqueue::{LaneCache, told};
use crate::error::{Error, Kind, Result};
use crate::job::plan::jitter;
use crate::job::spec::Until;
use crate::job::{
    Definition, EventKind, JobId, JobSpec, LaneId, Life, Number, OccurrenceId, Origin, RunId, Schedule, ScheduleId,
    Selector, State, Target,
};
use crate::store::{Edge, NewEvent, NewJob, Topics, Tx};
use crate::time::Timestamp;

/// The label by which the jobs of a schedule are found.
const LABEL: &str = "schedule";

/// A run that is to be made.
pub(super) struct Firing {
    schedule: ScheduleId,
    name: String,
    definition: Arc<Definition>,
    run: RunId,
    occurrence: Option<OccurrenceId>,
    due: Timestamp,
    lane: LaneId,
    waits_for: Vec<Number>,
}

impl Firing {
    /// A run of `schedule` for the instant `due`, which starts after the end of the jobs in `waits_for`.
    pub(super) fn new(
        schedule: &Schedule,
        definition: &Arc<Definition>,
        run: RunId,
        occurrence: Option<OccurrenceId>,
        due: Timestamp,
        (lane, waits_for): (LaneId, Vec<Number>),
    ) -> Self {
        let (name, definition) = (schedule.name.clone(), Arc::clone(definition));
        Self { schedule: schedule.id, name, definition, run, occurrence, due, lane, waits_for }
    }

    fn origin(&self) -> Origin {
        Origin {
            run_id: Some(self.run),
            task: Some(Target::MAIN.to_owned()),
            schedule_id: Some(self.schedule),
            occurrence_id: self.occurrence,
            scheduled_for: Some(self.due),
        }
    }

    /// What its job is to do, and not before when.
    fn spec(&self) -> JobSpec {
        let Target::Job(spec) = &self.definition.target;
        let mut spec = JobSpec::clone(spec);
        let start = self.due.plus(jitter(self.schedule, self.due, self.definition.jitter));
        let start = spec.delay.take().map_or(start, |delay| start.plus(delay));
        spec.at = (start > self.due).then_some(start);
        spec.label.entry(LABEL.to_owned()).or_insert_with(|| self.name.clone());
        spec
    }
}

/// A place for what `definition` runs; none where a limit on queued jobs is reached (S15).
pub(super) fn admit(tx: &mut dyn Tx, lanes: &mut LaneCache, definition: &Definition) -> Result<Option<LaneId>> {
    let Target::Job(spec) = &definition.target;
    match lanes.admit(tx, spec) {
        Ok(lane) => Ok(Some(lane)),
        Err(e) if e.kind() == Kind::Limit => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes the jobs of runs that were admitted; gives the number of each.
pub(super) fn fire(tx: &mut dyn Tx, actor: Option<&str>, firings: &[Firing]) -> Result<Vec<Number>> {
    let now = tx.now();
    let prepared: Vec<(JobId, JobSpec, Origin, Life)> = firings
        .iter()
        .map(|firing| {
            let spec = firing.spec();
            let waiting = u32::try_from(firing.waits_for.len()).unwrap_or(u32::MAX);
            let life = Life::admit(&spec, now, waiting);
            (JobId::of_task(firing.run, Target::MAIN), spec, firing.origin(), life)
        })
        .collect();
    let jobs: Vec<NewJob> = firings
        .iter()
        .zip(&prepared)
        .map(|(firing, (id, spec, origin, life))| NewJob {
            id: *id,
            lane: firing.lane,
            life,
            spec,
            captured: &firing.definition.captured,
            origin,
        })
        .collect();
    let stored = tx.insert(&jobs)?;
    let mut numbers = Vec::with_capacity(firings.len());
    let mut edges = Vec::new();
    let mut events = Vec::new();
    for ((firing, (id, spec, origin, life)), number) in firings.iter().zip(&prepared).zip(stored) {
        let Some(number) = number else {
            numbers.push(existing(tx, *id)?);
            continue;
        };
        numbers.push(number);
        let waits: Vec<Edge> = firing
            .waits_for
            .iter()
            .map(|needs| Edge { number, needs: *needs, until: Until::Ended, satisfied: false })
            .collect();
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
