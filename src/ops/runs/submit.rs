//! Submitting a workflow.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::admission::LaneCache;
use super::super::{Access, Caller, Op, Scopes};
use super::start::{self, NewRun, Started};
use crate::error::Result;
use crate::job::json_text::members;
use crate::job::target::bind_workflow;
use crate::job::{Captured, JsonText, RunId, workflow};
use crate::store::Tx;

/// Stores a run of a workflow with all its jobs: all of it or nothing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SubmitRun {
    /// The id that the caller made; the same makes no second run.
    pub id: RunId,
    /// The workflow as it was given.
    pub workflow: JsonText,
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
        bind_workflow(&mut self.workflow, caller.tenant.as_deref());
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
pub(in crate::ops) fn scopes(workflow: &JsonText, captured: &Captured) -> Scopes {
    fn has_command(given: &RawValue, hook: bool) -> bool {
        match members(given) {
            Some(options) => ["command", "env", "env_from_file", "cwd"].iter().any(|key| options.contains_key(*key)),
            None => hook && given.get().starts_with('['),
        }
    }
    let all = workflow.members().unwrap_or_default();
    let list = |key| serde_json::from_str::<Vec<Box<RawValue>>>(all.get(key)?.get()).ok();
    let mut tasks = ["task", "tasks"].into_iter().filter_map(list).flatten();
    let mut hooks = ["on_start", "on_complete", "defaults"].into_iter().filter_map(|key| all.get(key));
    let surroundings = captured.has_surroundings();
    match surroundings || tasks.any(|task| has_command(&task, false)) || hooks.any(|hook| has_command(hook, true)) {
        true => Scopes::SUBMIT.and(Scopes::EXEC),
        false => Scopes::SUBMIT,
    }
}
