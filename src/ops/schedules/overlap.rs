//! Runs of one schedule that meet (S22). Whether one runs is asked of the store.

use std::collections::HashMap;

use super::super::cancel::{Cancel, Did};
use super::super::runs::{LOOKED_AT, cancel_run};
use super::super::{Caller, Op};
use crate::error::Result;
use crate::job::plan::Overlap;
use crate::job::{Number, RunId, ScheduleId, State};
use crate::store::{CancelRequest, Tx};

/// How many runs may wait for another.
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
}

/// The runs of a schedule that have not ended.
#[derive(Default)]
pub(super) struct Runs {
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
        Ok(all)
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
        if self.jobs.is_empty() && self.runs.is_empty() {
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
        Ok(Some(Waits { jobs: self.jobs.clone(), behind: self.runs.last().map(|(run, _)| *run) }))
    }

    /// Forgets those that have ended since they were found, and counts those that wait.
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
        let waiting = jobs.iter().filter(|job| job.life.state != State::Running).count();
        Ok(waiting + self.runs.iter().filter(|(_, waits)| *waits).count())
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
