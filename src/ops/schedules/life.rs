//! Pausing, resuming and removing schedules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{Access, Caller, Op, Scopes};
use super::look::ScheduleView;
use super::tick::bring_up_to_date;
use super::{Named, changed};
use crate::error::Result;
use crate::store::Tx;

/// Pauses or resumes a schedule. What was due meanwhile is recorded as skipped.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PauseSchedule {
    /// The schedule.
    pub schedule: Named,
    /// Stop, or go on.
    pub paused: bool,
}

impl Op for PauseSchedule {
    type Reply = ScheduleView;
    const NAME: &'static str = "pause_schedule";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<ScheduleView> {
        let schedule = self.schedule.live(caller, tx)?;
        if schedule.paused == self.paused {
            return ScheduleView::new(&schedule);
        }
        let mut schedule = bring_up_to_date(tx, caller, schedule)?;
        schedule.paused = self.paused;
        if !self.paused {
            schedule.take_owed(tx.now())?; // nothing: this says when it is due
        }
        tx.save_schedules(&[&schedule])?;
        changed(tx, caller, &schedule, if self.paused { "paused" } else { "resumed" }, Value::Null)?;
        ScheduleView::new(&schedule)
    }

    fn check(&self) -> String {
        format!("orx schedule show {}", self.schedule.name)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<ScheduleView>> {
        self.run(caller, tx).map(Some) // once more changes nothing
    }
}

/// Removes a schedule. Its history is kept, and runs that were made go on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RemoveSchedule {
    /// The schedule.
    pub schedule: Named,
}

impl Op for RemoveSchedule {
    type Reply = ScheduleView;
    const NAME: &'static str = "remove_schedule";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<ScheduleView> {
        let schedule = self.schedule.live(caller, tx)?;
        let now = tx.now();
        // A rule that means nothing here owes nothing that could be told.
        let mut schedule = match schedule.clone().take_owed(now) {
            Ok(_) => bring_up_to_date(tx, caller, schedule)?,
            Err(_) => schedule,
        };
        (schedule.removed_at, schedule.next_due_at, schedule.then) = (Some(now), None, None);
        tx.save_schedules(&[&schedule])?;
        changed(tx, caller, &schedule, "removed", json!({ "after": now }))?;
        ScheduleView::new(&schedule)
    }

    fn check(&self) -> String {
        format!("orx schedule show {}", self.schedule.name)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<ScheduleView>> {
        let schedule = self.schedule.find(caller, tx)?;
        schedule.removed_at.map(|_| ScheduleView::new(&schedule)).transpose()
    }
}
