//! Runs of one schedule that meet (S22). Whether one runs is asked of the store.

use std::collections::HashMap;

use super::super::cancel::{Cancel, Did};
use super::super::{Caller, Op};
use crate::error::Result;
use crate::job::plan::Overlap;
use crate::job::{Number, ScheduleId, State};
use crate::store::{CancelRequest, Tx};

/// How many runs may wait for another.
const MAX_WAITING: usize = 100;
/// How many unfinished jobs of a schedule are looked at; more than may wait.
const LOOKED_AT: usize = 256;

/// The jobs of a schedule that have not ended.
#[derive(Default)]
pub(super) struct Runs(Vec<Number>);

impl Runs {
    /// Those of many schedules.
    pub(super) fn of(tx: &mut dyn Tx, schedules: &[ScheduleId]) -> Result<HashMap<ScheduleId, Runs>> {
        let mut runs: HashMap<ScheduleId, Runs> = HashMap::new();
        for (schedule, number) in tx.unfinished(schedules, LOOKED_AT)? {
            runs.entry(schedule).or_default().add(number);
        }
        Ok(runs)
    }

    /// Those of one schedule.
    pub(super) fn of_one(tx: &mut dyn Tx, schedule: ScheduleId) -> Result<Runs> {
        Ok(Self::of(tx, &[schedule])?.remove(&schedule).unwrap_or_default())
    }

    /// One more was made.
    pub(super) fn add(&mut self, number: Number) {
        self.0.push(number);
    }

    /// What the next run waits for the end of; none: it must not run.
    pub(super) fn meet(&mut self, tx: &mut dyn Tx, caller: &Caller, overlap: Overlap) -> Result<Option<Vec<Number>>> {
        if self.0.is_empty() {
            return Ok(Some(Vec::new()));
        }
        match overlap {
            Overlap::Skip => return Ok(None),
            Overlap::Allow => return Ok(Some(Vec::new())),
            Overlap::Queue => {
                let mut jobs = tx.load(&self.0)?;
                jobs.retain(|job| !job.life.state.is_terminal()); // one may have ended since it was found
                if jobs.iter().filter(|job| job.life.state != State::Running).count() >= MAX_WAITING {
                    return Ok(None);
                }
                // All of them and not only the last: that one may be cancelled while an earlier one runs.
                self.0 = jobs.into_iter().map(|job| job.number).collect();
            }
            Overlap::Cancel => {
                let reason = Some("the next occurrence takes its place".to_owned());
                let numbers = std::mem::take(&mut self.0);
                let replies = Cancel { numbers, reason, how: CancelRequest::default() }.run(caller, tx)?;
                self.0 = replies.iter().filter(|r| r.did == Did::Requested).map(|r| r.number).collect();
            }
        }
        Ok(Some(self.0.clone()))
    }
}
