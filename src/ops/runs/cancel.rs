//! Ending a run on request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::transition::By;
use super::super::{Access, Caller, Op, Scopes};
use super::{find, follow};
use crate::error::Result;
use crate::job::ids::RunName;
use crate::job::{RunId, RunState, names};
use crate::store::{CancelRequest, Run, Tx};

/// Cancels a run: what waits at once, what runs by asking its worker. `always` tasks run still, unless this is the second
/// time (S19).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CancelRun {
    /// The run.
    pub run: RunName,
    /// Why, for the record.
    pub reason: Option<String>,
    /// How what runs is to be ended.
    #[serde(default)]
    pub how: CancelRequest,
}

/// What a cancel did to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunCancelled {
    /// The run.
    pub id: RunId,
    /// What people call it.
    pub name: String,
    /// Its state now.
    pub state: RunState,
    /// How many of its jobs have not ended.
    pub open: u32,
}

impl Op for CancelRun {
    type Reply = RunCancelled;
    const NAME: &'static str = "cancel_run";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<RunCancelled> {
        names::reason(self.reason.as_deref())?;
        let run = find(caller, tx, &self.run)?;
        cancel_run(tx, caller, run, self.reason.as_deref(), &self.how)
    }

    fn check(&self) -> String {
        format!("orx workflow show {}", self.run)
    }
}

/// Cancels `run`, and gives what has become of it.
pub(in crate::ops) fn cancel_run(
    tx: &mut dyn Tx,
    caller: &Caller,
    mut run: Run,
    reason: Option<&str>,
    how: &CancelRequest,
) -> Result<RunCancelled> {
    let reach = run.life.cancel(reason)?;
    tx.save_run(&run)?;
    follow::stop(tx, &run, reach, how, By { actor: Some(&caller.actor), worker: None })?;
    follow::follow(tx)?;
    let life = tx.run(run.id)?.map_or(run.life, |run| run.life);
    Ok(RunCancelled { id: run.id, name: run.name, state: life.state, open: life.open })
}
