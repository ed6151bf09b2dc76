//! Runs of one schedule that meet (S22). Whether one runs is asked of the store.

use std::collections::{HashMap, HashSet};

use super::super::cancel::{Cancel, Did};
use super::super::runs::{LOOKED_AT, cancel_run};
use super::super::{Caller, Op};
use crate::error::Result;
use crate::job::plan::Overlap;
use crate::job::{JobId, Number, OccurrenceId, RunId, Schedule, ScheduleId, Selector, State, Target};
use crate::store::{CancelRequest, Tx};
use crate::time::Timestamp;

/// How many runs may wait for another, without those of recoveries.
const MAX_WAITING: usize = 100;
/// Why a run is cancelled for another.
const REASON: &str = "the next occurrence takes its place";

/// What a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// One job.
    Job(Number),
    /// Many tasks.
    Run(RunId),
}

/// What a run waits for the end of.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits {
    /// Runs of one job.
    pub(super) jobs: Vec<Number>,
    /// The newest run of many tasks, which waits for those before it itself.
    pub(super) behind: Option<RunId>,
    /// It is one of many that were made up for, and waits only for the one before it and what that waits for: many edges
    /// from each to all before it would be too many.
    pub(super) in_line: bool,
}

/// The runs of a schedule that have not ended.
#[derive(Default)]
pub(super) struct Runs {
    /// The schedule; none where it has no such runs.
    schedule: Option<ScheduleId>,
    /// Whether a recovery is let in; none: that was not asked yet.
    lets_in: Option<bool>,
    jobs: Vec<Number>,
    /// Each with whether it waits for another, the newest last.
    runs: Vec<(RunId, bool)>,
    /// Some were cancelled for the next, so that limits leave more room than before.
    pub(super) made_room: bool,
}

impl Runs {
    /// Those of many schedules.
    pub(super) fn of(tx: &mut dyn Tx, schedules: &[ScheduleId]) -> Result<HashMap<ScheduleId, Runs>> {
        let mut all: HashMap<ScheduleId, Runs> = HashMap::new();
        for (schedule, number) in tx.unfinished(schedules, LOOKED_AT)? {
            all.entry(schedule).or_default().jobs.push(number);
        }
        for (schedule, run, waits) in tx.unfinished_runs(schedules, LOOKED_AT)?.into_iter().rev() {
            all.entry(schedule).or_default().runs.push((run, waits));
        }
        all.iter_mut().for_each(|(schedule, runs)| runs.schedule = Some(*schedule));
        Ok(all)
    }

    /// Whether there are runs of tasks, as those are that line up.
    pub(super) fn has_line(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.runs.is_empty()
    }

    /// Those of one schedule.
    pub(super) fn of_one(tx: &mut dyn Tx, schedule: ScheduleId) -> Result<Runs> {
        Ok(Self::of(tx, &[schedule])?.remove(&schedule).unwrap_or_default())
    }

    /// One more was made.
    pub(super) fn add(&mut self, made: Made) {
        match made {
            Made::Job(number) => self.jobs.push(number),
            Made::Run(run) => self.runs.push((run, !self.runs.is_empty())),
        }
    }

    /// What the next run waits for; none: it must not run.
    pub(super) fn meet(&mut self, tx: &mut dyn Tx, caller: &Caller, overlap: Overlap) -> Result<Option<Waits>> {
        if self.is_empty() {
            return Ok(Some(Waits::default()));
        }
        match overlap {
            Overlap::Skip => return Ok(None),
            Overlap::Allow => return Ok(Some(Waits::default())),
            Overlap::Queue => {
                if self.look_again(tx)? >= MAX_WAITING {
                    return Ok(None);
                }
            }
            Overlap::Cancel => self.cancel(tx, caller)?,
        }
        Ok(Some(self.all(false)))
    }

    /// What the next run of a recovery waits for under `skip` and `queue`: the others of the recovery do not keep it from
    /// being made, and are not counted. None: it must not run, because of runs that were there before.
    ///
    /// `goes_on`: what was there before is of the same recovery.
    pub(super) fn line_up(&mut self, tx: &mut dyn Tx, overlap: Overlap, goes_on: bool) -> Result<Option<Waits>> {
        let lets_in = match self.lets_in {
            Some(lets_in) => lets_in,
            // Once: what has not ended by now does not end before this transaction does.
            None => {
                let waiting = if self.is_empty() { 0 } else { self.look_again(tx)? };
                match overlap {
                    Overlap::Skip => goes_on || self.is_empty(),
                    _ => waiting < MAX_WAITING,
                }
            }
        };
        self.lets_in = Some(lets_in);
        Ok(lets_in.then(|| if self.is_empty() { Waits::default() } else { self.all(true) }))
    }

    fn all(&self, in_line: bool) -> Waits {
        Waits { jobs: self.jobs.clone(), behind: self.runs.last().map(|(run, _)| *run), in_line }
    }

    /// Forgets those that have ended since they were found, and counts those that wait and were not made up for.
    fn look_again(&mut self, tx: &mut dyn Tx) -> Result<usize> {
        let mut jobs = tx.load(&self.jobs)?;
        jobs.retain(|job| !job.life.state.is_terminal());
        // All of them and not only the last: that one may be cancelled while an earlier one runs.
        self.jobs = jobs.iter().map(|job| job.number).collect();
        // A run that ends in the middle hands over what it waits for: the newest of those left is enough.
        while let Some((newest, _)) = self.runs.last() {
            if tx.run(*newest)?.is_some_and(|run| !run.life.state.is_terminal()) {
                break;
            }
            self.runs.pop();
        }
        let waiting = jobs.iter().filter(|job| job.life.state != State::Running).map(|job| job.origin.occurrence_id);
        let runs = self.runs.iter().filter(|(_, waits)| *waits).map(|(run, _)| Some(OccurrenceId(run.0)));
        let waiting: Vec<Option<OccurrenceId>> = waiting.chain(runs).collect();
        let Some(schedule) = self.schedule.filter(|_| waiting.len() >= MAX_WAITING) else { return Ok(waiting.len()) };
        let made_up: HashSet<OccurrenceId> = tx.made_up(schedule, LOOKED_AT)?.into_iter().collect();
        Ok(waiting.iter().filter(|id| id.is_none_or(|id| !made_up.contains(&id))).count())
    }

    fn cancel(&mut self, tx: &mut dyn Tx, caller: &Caller) -> Result<()> {
        self.made_room = true;
        let numbers = std::mem::take(&mut self.jobs);
        let replies = Cancel { numbers, reason: Some(REASON.into()), how: CancelRequest::default() }.run(caller, tx)?;
        self.jobs = replies.iter().filter(|r| r.did == Did::Requested).map(|r| r.number).collect();
        let mut left = Vec::new();
        for (id, _) in std::mem::take(&mut self.runs) {
            let Some(run) = tx.run(id)?.filter(|run| !run.life.state.is_terminal()) else { continue };
            // A second cancel would end its clean-up tasks too.
            let ended = run.life.cancels == 0
                && cancel_run(tx, caller, run, Some(REASON), &CancelRequest::default())?.state.is_terminal();
            if !ended {
                left.push((id, false));
            }
        }
        self.runs = left;
        Ok(())
    }
}

/// The most rows of one round that are on time.
const ON_TIME: usize = 64;

/// Whether the round before ended in the middle of a recovery: it made its last run when the next instant was due already.
pub(super) fn was_cut(tx: &mut dyn Tx, before: &Schedule) -> Result<bool> {
    let rows = tx.occurrences(before.id, Timestamp(i64::MIN), before.recorded_until, ON_TIME)?;
    let last = rows.first().filter(|row| row.due_at == before.recorded_until && rows.iter().any(|row| row.recovered));
    let (Some(run), Some(next)) = (last.and_then(|row| row.run), before.next_due_at) else { return Ok(false) };
    let made_at = match tx.run(run)? {
        Some(run) => Some(run.created_at),
        None => {
            let job = tx.find(&Selector::Id(JobId::of_task(run, Target::MAIN)), 1)?;
            tx.load(&job)?.pop().map(|job| job.created_at)
        }
    };
    Ok(made_at.is_some_and(|made_at| next <= made_at))
}
