//! Doing a run again, or a part of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::admission::LaneCache;
use super::super::{Access, Caller, Op, Scopes};
use super::find;
use super::start::{self, NewRun, Replay, Started};
use super::view::job_of_task;
use crate::error::{Error, Result};
use crate::job::ids::RunName;
use crate::job::{Number, RunId, State, Workflow, names, workflow};
use crate::store::{Run, Tx};

/// Makes a new run of the workflow of one that has ended.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReplayRun {
    /// The new run's id.
    pub id: RunId,
    /// The run to be done again.
    pub run: RunName,
    /// Only this task and those that need it.
    pub from: Option<String>,
    /// Only what was not done, and what needs it.
    #[serde(default)]
    pub failed: bool,
    /// Why, for the record.
    pub reason: Option<String>,
}

impl Op for ReplayRun {
    type Reply = Started;
    const NAME: &'static str = "replay_run";
    const ACCESS: Access = Access::Write;
    /// What is to be run was allowed before.
    const SCOPES: Scopes = Scopes::SUBMIT.and(Scopes::OPERATE);

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Started> {
        names::reason(self.reason.as_deref())?;
        if let Some(found) = start::existing(caller, tx, self.id)? {
            return Ok(found);
        }
        let old = find(caller, tx, &self.run)?;
        if !old.life.state.is_terminal() {
            return Err(Error::conflict(format!("run {} has not ended", old.id))
                .hint(format!("wait for it, or: orx workflow cancel {}", old.id)));
        }
        let given = tx.run_spec(old.seq)?;
        if let Some(unread) = &given.unread {
            return Err(unread.error(&format!("run {}", old.id)));
        }
        let workflow = workflow::read(&given.workflow)?;
        let done = done(tx, &old, &workflow)?;
        let only = self.only(&workflow, &done)?;
        let new = NewRun {
            schedule_id: old.schedule_id,
            occurrence_id: old.occurrence_id,
            scheduled_for: old.scheduled_for,
            behind: newest_running(tx, &old)?,
            reason: self.reason.clone(),
            actor: Some(&caller.actor),
            replay: Some(Replay { of: old.id, only, done }),
            ..NewRun::of(self.id, &given.workflow, Arc::clone(&given.captured))
        };
        start::start(tx, caller, &mut LaneCache::default(), new)
    }

    fn check(&self) -> String {
        format!("orx workflow show {}", self.id)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Started>> {
        Ok(start::existing(caller, tx, self.id)?.map(|found| Started { existing: false, ..found }))
    }
}

impl ReplayRun {
    /// The tasks to be done again.
    fn only<'w>(&self, workflow: &'w Workflow, done: &HashMap<String, Number>) -> Result<HashSet<&'w str>> {
        let all = || workflow.tasks.iter().map(|task| task.name.as_str());
        let mut from: Vec<&str> = all().collect();
        if let Some(task) = &self.from {
            if !from.contains(&task.as_str()) {
                return Err(Error::not_found(format!("the workflow {} has no task {task}", workflow.name)));
            }
            from.retain(|name| name == task);
        }
        let mut only = workflow.downstream(from);
        if self.failed {
            let failed: HashSet<&str> = workflow.downstream(all().filter(|name| !done.contains_key(*name)));
            only.retain(|name| failed.contains(name));
        }
        match only.is_empty() {
            true => Err(Error::conflict("there is nothing to do again: all its tasks are done")),
            false => Ok(only),
        }
    }
}

/// The jobs of tasks that are done, in this run or in one that it replays itself.
fn done(tx: &mut dyn Tx, run: &Run, workflow: &Workflow) -> Result<HashMap<String, Number>> {
    let mut done = HashMap::new();
    for task in &workflow.tasks {
        if let Some(job) = job_of_task(tx, run, &task.name)?
            && job.life.state == State::Done
        {
            done.insert(task.name.clone(), job.number);
        }
    }
    Ok(done)
}

/// The newest run of the same schedule that has not ended: a replay waits behind it (S22).
fn newest_running(tx: &mut dyn Tx, old: &Run) -> Result<Option<RunId>> {
    let Some(schedule) = old.schedule_id else { return Ok(None) };
    Ok(tx.unfinished_runs(&[schedule], 1)?.pop().map(|(_, run, _)| run))
}
