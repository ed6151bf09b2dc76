//! Submitting a workflow.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::admission::LaneCache;
use super::super::{Access, Caller, Op, Scopes};
use super::start::{self, NewRun, Started};
use crate::error::Result;
use crate::job::{Captured, RunId, workflow};
use crate::store::Tx;

/// Stores a run of a workflow with all its jobs: all of it or nothing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SubmitRun {
    /// The id that the caller made; the same makes no second run.
    pub id: RunId,
    /// The workflow as it was given.
    pub workflow: Value,
    /// What surrounds its jobs.
    #[serde(default)]
    pub captured: Arc<Captured>,
    /// The run whose end it waits for.
    #[serde(default)]
    pub behind: Option<RunId>,
}

impl Op for SubmitRun {
    type Reply = Started;
    const NAME: &'static str = "submit_run";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::SUBMIT;

    fn scopes(&self) -> Scopes {
        scopes(&self.workflow, &self.captured)
    }

    fn vet(&self) -> Result<()> {
        workflow::read(&self.workflow).map_err(|e| e.within("workflow"))?;
        self.captured.check()
    }

    fn bind(&mut self, caller: &Caller) {
        workflow::bind(&mut self.workflow, caller.tenant.as_deref());
    }

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Started> {
        let new = NewRun {
            behind: self.behind,
            actor: Some(&caller.actor),
            ..NewRun::of(self.id, &self.workflow, Arc::clone(&self.captured))
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

/// Raw commands anywhere in it need their own scope, and so does what surrounds a handler or is read for it.
pub(in crate::ops) fn scopes(workflow: &Value, captured: &Captured) -> Scopes {
    fn has_command(value: &Value, hook: bool) -> bool {
        match value {
            Value::Array(_) => hook,
            value => ["command", "env", "env_from_file", "cwd"].iter().any(|key| value.get(key).is_some()),
        }
    }
    let tasks = ["task", "tasks"].iter().filter_map(|key| workflow.get(key)?.as_array()).flatten();
    let mut hooks = ["on_start", "on_complete", "defaults"].iter().filter_map(|key| workflow.get(key));
    let surroundings = captured.has_surroundings();
    match surroundings
        || tasks.into_iter().any(|task| has_command(task, false))
        || hooks.any(|hook| has_command(hook, true))
    {
        true => Scopes::SUBMIT.and(Scopes::EXEC),
        false => Scopes::SUBMIT,
    }
}
