//! Storing output while a job runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settle::is_kept;
use super::tenancy::check_jobs;
use super::{Access, Caller, Op, Scopes, bounds};
use crate::error::Result;
use crate::job::many::{MAX_MANY, at_most};
use crate::job::output::{Chunk, Cut};
use crate::job::{Fence, WorkerKey};
use crate::store::{Topics, Tx};

/// Stores output of a running attempt.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AppendOutput {
    /// The worker that holds it.
    pub worker: WorkerKey,
    /// The attempt.
    pub fence: Fence,
    /// What it wrote.
    #[serde(deserialize_with = "at_most::<MAX_MANY, _, _>")]
    pub chunks: Vec<Chunk>,
    /// What is kept no more of what it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// Whether output was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Appended {
    /// It is stored.
    Stored,
    /// The fence is old: nothing was stored.
    Stale,
}

impl Op for AppendOutput {
    type Reply = Appended;
    const NAME: &'static str = "append_output";
    const ACCESS: Access = Access::Output;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Appended> {
        check_jobs(caller, tx, &[self.fence.number])?;
        bounds::output(&self.chunks)?;
        if !is_kept(tx, &self.worker.proof(), self.fence)? {
            return Ok(Appended::Stale);
        }
        tx.put_output(self.fence, &self.chunks)?;
        if let Some(cut) = self.cut {
            tx.cut_output(self.fence, cut)?;
        }
        tx.wake(Topics::OUTPUT);
        Ok(Appended::Stored)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Appended>> {
        // Chunks are keyed by their number, so storing them again and cutting them again changes nothing.
        self.run(caller, tx).map(Some)
    }
}
