//! What goes in and out of a store about runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::run::{Moved, Terms};
use crate::job::{Captured, JsonText, Number, OccurrenceId, RunId, RunLife, RunState, ScheduleId, State, Unread};
use crate::time::Timestamp;

/// A run as it is stored.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its key in the store; rises.
    pub seq: i64,
    /// Its id.
    pub id: RunId,
    /// What people call it.
    pub name: String,
    /// Who its jobs belong to.
    pub tenant: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// What decides about it.
    pub terms: Terms,
    /// The limit that its jobs share.
    pub limit_key: Option<String>,
    /// The schedule that made it.
    pub schedule_id: Option<ScheduleId>,
    /// The occurrence that it is.
    pub occurrence_id: Option<OccurrenceId>,
    /// When it was due by its schedule.
    pub scheduled_for: Option<Timestamp>,
    /// The run that it does again.
    pub replay_of: Option<RunId>,
    /// Why somebody made it.
    pub reason: Option<String>,
    /// State, counts and instants.
    pub life: RunLife,
}

/// What a run was asked to do.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The workflow as it was given.
    pub workflow: JsonText,
    /// What surrounded whoever submitted it.
    pub captured: Arc<Captured>,
    /// What of both cannot be read here.
    pub unread: Option<Unread>,
}

/// Which runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunFilter {
    /// In this state.
    pub state: Option<RunState>,
    /// With this name.
    pub name: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this schedule.
    pub schedule: Option<ScheduleId>,
}

/// What a job is to its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// One of its tasks.
    Task,
    /// A task that runs whatever becomes of the run.
    Always,
    /// What runs when the others have ended.
    Last,
}

impl TaskKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            TaskKind::Task => "task",
            TaskKind::Always => "always",
            TaskKind::Last => "last",
        }
    }

    pub(super) fn parse(word: &str) -> Option<TaskKind> {
        [TaskKind::Task, TaskKind::Always, TaskKind::Last].into_iter().find(|k| k.as_str() == word)
    }
}

/// What the run of a task says about its start.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The job.
    pub number: Number,
    /// What it is to the run.
    pub kind: TaskKind,
    /// The run.
    pub run: RunId,
    /// The time of the run counts already; or it has none, and has started.
    pub is_counted: bool,
    /// When the run will have taken too long.
    pub timeout_at: Option<Timestamp>,
}

/// What happened to runs in a transaction and is to be looked at yet.
#[derive(Default)]
pub(super) struct MovedRuns(BTreeMap<RunId, Moved>);

impl MovedRuns {
    pub(super) fn note(&mut self, run: RunId, task: &str, from: State, to: State) {
        if from.is_terminal() != to.is_terminal() {
            self.0.entry(run).or_default().note(task, from, to);
        }
    }

    pub(super) fn next(&mut self) -> Option<(RunId, Moved)> {
        self.0.pop_first()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
