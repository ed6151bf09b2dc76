//! Looking at runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::jobs::views;
use super::super::{Access, Caller, Op, Scopes};
use super::find;
use crate::error::Result;
use crate::job::ids::RunName;
use crate::job::run::is_on_complete;
use crate::job::workflow::{self, ON_START};
use crate::job::{
    Job, JobId, JobSpec, JsonText, Number, OccurrenceId, Outcome, Record, RunId, RunState, ScheduleId, Selector, State,
    Unread, Workflow,
};
use crate::store::{Run, RunFilter, RunSpec, Tx};
use crate::time::Timestamp;

/// A run as users see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of docs/reference/json.md
pub struct RunView {
    pub id: RunId,
    pub name: String,
    pub tenant: String,
    pub state: RunState,
    /// Why what had not ended of it was ended.
    pub reason: Option<String>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub timeout_at: Option<Timestamp>,
    pub schedule_id: Option<ScheduleId>,
    pub occurrence_id: Option<OccurrenceId>,
    pub scheduled_for: Option<Timestamp>,
    pub replay_of: Option<RunId>,
    pub replay_reason: Option<String>,
    /// Whether it waits for another run to end.
    pub waiting: bool,
    pub tasks: Vec<RunTask>,
    /// The workflow as it was given; with `options` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<JsonText>,
    /// What of it cannot be read here; absent where all is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Unread>,
}

/// A task of a run as users see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of a job
pub struct RunTask {
    pub task: String,
    pub needs: Vec<String>,
    pub always: bool,
    /// It was done by an earlier run, of which this is a replay.
    pub inherited: bool,
    pub state: State,
    pub job: Option<Number>,
    pub job_id: Option<JobId>,
    pub queue: Option<String>,
    pub attempt: u32,
    pub failures: u32,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub worker: Option<String>,
    #[serde(default, deserialize_with = "crate::job::reading::word_given")]
    pub outcome: Option<Outcome>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub error: Option<String>,
    pub reason: Option<String>,
    /// The job's options in effect; with `options` only.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::job::reading::options_given")]
    pub options: Option<JobSpec>,
}

/// All about one run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GetRun {
    /// The run.
    pub run: RunName,
    /// With the workflow as it was given, and the options in effect.
    #[serde(default)]
    pub options: bool,
}

impl Op for GetRun {
    type Reply = RunView;
    const NAME: &'static str = "get_run";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<RunView> {
        let run = find(caller, tx, &self.run)?;
        look(tx, &run, self.options)
    }
}

/// Lists runs, newest first, without their tasks.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListRuns {
    /// Which ones.
    #[serde(default)]
    pub filter: RunFilter,
    /// At most so many; at most [`MAX_RUNS`].
    pub limit: usize,
}

/// The most runs of one answer.
pub const MAX_RUNS: usize = 1000;

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // as in RunView
pub struct RunLine {
    pub id: RunId,
    pub name: String,
    pub tenant: String,
    pub state: RunState,
    pub reason: Option<String>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub schedule_id: Option<ScheduleId>,
    pub occurrence_id: Option<OccurrenceId>,
    pub replay_of: Option<RunId>,
    /// Jobs of it that have not ended.
    pub open: u32,
    /// Jobs of it that failed.
    pub failed: u32,
}

impl Op for ListRuns {
    type Reply = Vec<RunLine>;
    const NAME: &'static str = "list_runs";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Vec<RunLine>> {
        let mut filter = self.filter.clone();
        if caller.tenant.is_some() {
            filter.tenant.clone_from(&caller.tenant);
        }
        let runs = tx.runs(&filter, None, self.limit.clamp(1, MAX_RUNS))?;
        Ok(runs.into_iter().map(line).collect())
    }
}

fn line(run: Run) -> RunLine {
    RunLine {
        id: run.id,
        name: run.name,
        tenant: run.tenant,
        state: run.life.state,
        reason: run.life.stop,
        created_at: run.created_at,
        started_at: run.life.started_at,
        finished_at: run.life.finished_at,
        schedule_id: run.schedule_id,
        occurrence_id: run.occurrence_id,
        replay_of: run.replay_of,
        open: run.life.open,
        failed: run.life.failed,
    }
}

/// The report for what runs last: the run as it will be when that has ended.
pub(super) fn report(tx: &mut dyn Tx, run: &Run) -> Result<RunView> {
    let mut view = look(tx, run, false)?;
    view.state = run.life.result.unwrap_or(run.life.state);
    view.finished_at = Some(tx.now());
    view.tasks.retain(|task| !is_on_complete(&task.task));
    Ok(view)
}

fn look(tx: &mut dyn Tx, run: &Run, options: bool) -> Result<RunView> {
    let RunSpec { workflow: given, unread, .. } = tx.run_spec(run.seq)?;
    // Where it is not understood, its jobs are shown all the same.
    let workflow = unread.is_none().then(|| workflow::read(&given)).transpose()?;
    let tasks = tasks(tx, run, workflow.as_ref(), options)?;
    Ok(RunView {
        id: run.id,
        name: run.name.clone(),
        tenant: run.tenant.clone(),
        state: run.life.state,
        reason: run.life.stop.clone(),
        created_at: run.created_at,
        started_at: run.life.started_at,
        finished_at: run.life.finished_at,
        timeout_at: run.life.timeout_at,
        schedule_id: run.schedule_id,
        occurrence_id: run.occurrence_id,
        scheduled_for: run.scheduled_for,
        replay_of: run.replay_of,
        replay_reason: run.reason.clone(),
        waiting: run.life.behind.is_some(),
        tasks,
        workflow: options.then_some(given),
        unread,
    })
}

/// The tasks in the order in which they can run; those of hooks first and last.
fn tasks(tx: &mut dyn Tx, run: &Run, workflow: Option<&Workflow>, options: bool) -> Result<Vec<RunTask>> {
    let numbers: Vec<Number> = tx.tasks(run.seq, false)?.into_iter().map(|(number, _)| number).collect();
    let mut jobs: std::collections::HashMap<String, Job> =
        views(tx, &numbers)?.into_iter().filter_map(|job| Some((job.task.clone()?, job))).collect();
    let order = workflow.and_then(|workflow| workflow.order().ok()).unwrap_or_default();
    let of_file = workflow.map_or(&[][..], |workflow| &workflow.tasks);
    let mut tasks = Vec::with_capacity(order.len() + 2);
    let effective = |spec: &JobSpec| options.then(|| spec.clone());
    if let Some(job) = jobs.remove(ON_START) {
        let spec = workflow.and_then(|workflow| workflow.on_start.as_ref());
        tasks.push(task(job, Vec::new(), false, spec.and_then(effective)));
    }
    for i in order {
        let of = &of_file[i];
        let (job, inherited) = match jobs.remove(&of.name) {
            Some(job) => (Some(job), false),
            None => (inherited(tx, run, &of.name)?, true),
        };
        let Some(job) = job else { continue }; // pruned
        let needs = of.needs.iter().map(|n| of_file[*n].name.clone()).collect();
        tasks.push(RunTask { inherited, ..task(job, needs, of.always, effective(&of.spec)) });
    }
    let mut last: Vec<Job> = jobs.into_values().collect();
    last.sort_by_key(|job| job.number);
    tasks.extend(last.into_iter().map(|job| task(job, Vec::new(), false, None)));
    Ok(tasks)
}

fn inherited(tx: &mut dyn Tx, run: &Run, name: &str) -> Result<Option<Job>> {
    let Some(job) = job_of_task(tx, run, name)? else { return Ok(None) };
    Ok(views(tx, &[job.number])?.pop())
}

/// How many replays of replays are looked through for a task that was done once.
const MAX_REPLAYS: usize = 100;

/// The job of a task: of this run, or of the one that did it last before.
pub(super) fn job_of_task(tx: &mut dyn Tx, run: &Run, task: &str) -> Result<Option<Record>> {
    let mut at = Some((run.id, run.replay_of));
    for _ in 0..MAX_REPLAYS {
        let Some((id, before)) = at else { break };
        if let Some(number) = tx.find(&Selector::Id(JobId::of_task(id, task)), 1)?.pop() {
            return Ok(tx.load(&[number])?.pop());
        }
        at = match before {
            Some(before) => tx.run(before)?.map(|run| (run.id, run.replay_of)),
            None => None,
        };
    }
    Ok(None)
}

fn task(job: Job, needs: Vec<String>, always: bool, options: Option<JobSpec>) -> RunTask {
    RunTask {
        task: job.task.unwrap_or_default(),
        needs,
        always,
        inherited: false,
        state: job.state,
        job: Some(job.number),
        job_id: Some(job.id),
        queue: Some(job.queue),
        attempt: job.attempt,
        failures: job.failures,
        started_at: job.started_at,
        finished_at: job.finished_at,
        worker: job.worker,
        outcome: job.outcome,
        exit_code: job.exit_code,
        signal: job.signal,
        error: job.error,
        reason: job.reason,
        options,
    }
}
