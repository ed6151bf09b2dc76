//! The roles of a transaction that are about runs.

use super::run_rows::{Place, Run, RunFilter, RunSpec, TaskKind};
use crate::error::Result;
use crate::job::lanes::Needs;
use crate::job::run::Moved;
use crate::job::{LaneId, Number, RunId, State};

/// Runs: rows and their lives.
pub trait Runs {
    /// Stores a run; gives its key in the store, or none where its id is stored already.
    fn add_run(&mut self, run: &Run, spec: &RunSpec) -> Result<Option<i64>>;
    /// The run of `id`; nobody else changes it until this transaction ends, if it writes.
    fn run(&mut self, id: RunId) -> Result<Option<Run>>;
    /// The same, unless somebody else has it at this moment.
    fn free_run(&mut self, id: RunId) -> Result<Option<Run>> {
        self.run(id) // where one writes at a time
    }
    /// Records its new life.
    fn save_run(&mut self, run: &Run) -> Result<()>;
    /// What it was asked to do.
    fn run_spec(&mut self, seq: i64) -> Result<RunSpec>;
    /// Those that match, newest first, below `before`, at most `limit`.
    fn runs(&mut self, filter: &RunFilter, before: Option<i64>, limit: usize) -> Result<Vec<Run>>;
    /// Those whose id lies in `low..=high`, at most `limit`.
    fn find_runs(&mut self, low: RunId, high: RunId, limit: usize) -> Result<Vec<RunId>>;
    /// Those that take too long, at most `limit`.
    fn late_runs(&mut self, limit: usize) -> Result<Vec<RunId>>;
    /// Those that wait for the run `seq`.
    fn runs_behind(&mut self, seq: i64) -> Result<Vec<RunId>>;
    /// The limits that unfinished runs of `tenant` have for themselves; nobody else makes a run `name` until the
    /// transaction ends, if it writes.
    fn run_limits(&mut self, tenant: &str, name: &str) -> Result<Vec<String>>;
}

/// The jobs of runs.
pub trait RunJobs {
    /// Makes jobs tasks of the run `seq`.
    fn add_tasks(&mut self, seq: i64, tasks: &[(Number, TaskKind)]) -> Result<()>;
    /// The jobs of the run `seq`, in the order of their numbers; `open`: those that have not ended.
    fn tasks(&mut self, seq: i64, open: bool) -> Result<Vec<(Number, TaskKind)>>;
    /// The run that a job is a task of, as the store knows it without what the job says.
    fn run_of(&mut self, number: Number) -> Result<Option<(RunId, TaskKind)>>;
    /// What the runs of those jobs say that are tasks of runs. Locks none.
    fn places(&mut self, numbers: &[Number]) -> Result<Vec<Place>>;
    /// The lanes of pending jobs of the run `seq`, and what these need.
    fn pending_lanes(&mut self, seq: i64) -> Result<Vec<(LaneId, Needs)>>;
    /// Pending jobs of the run `seq` in some lanes, in the order they are handed out, at most `limit`.
    fn pending_tasks(&mut self, seq: i64, lanes: &[LaneId], limit: usize) -> Result<Vec<(Number, LaneId)>>;
    /// Keeps others from the runs of these jobs until the transaction ends. Called before the jobs are loaded: whoever
    /// changes a run has it first and its jobs then, so that nobody waits in a circle.
    fn hold_runs(&mut self, numbers: &[Number]) -> Result<()>;
    /// The needed tasks of these jobs that made something: (job, task, the task's job).
    fn results(&mut self, numbers: &[Number]) -> Result<Vec<(Number, String, Number)>>;
    /// Notes that a job of a run changed its state.
    fn note_moved(&mut self, run: RunId, task: &str, from: State, to: State);
    /// Takes the notes on one run.
    fn next_moved(&mut self) -> Option<(RunId, Moved)>;
}
