//! Heartbeats: a worker keeps its leases, and learns what is asked of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settle::{Started, record_start, reject_stale};
use super::tenancy::{check_jobs, check_worker};
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::{Fence, Number, WorkerId};
use crate::mutant::{Mutant, planted};
use crate::store::{CancelRequest, Kept, Topics, Tx, WorkerState};
use crate::time::Span;

/// Renews a worker's heartbeat and its leases.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Renew {
    /// The worker.
    pub worker: WorkerId,
    /// Its name, for the record.
    pub name: String,
    /// How long everything lasts from now.
    pub ttl: Span,
    /// The attempts it runs.
    pub fences: Vec<Fence>,
    /// It takes no more jobs.
    #[serde(default)]
    pub draining: bool,
    /// Processes that started since the last call.
    #[serde(default)]
    pub started: Vec<(Fence, Started)>,
}

/// What a worker learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RenewReply {
    /// What is known of it; none: it must register again.
    pub worker: Option<WorkerState>,
    /// One for each fence.
    pub leases: Vec<Renewed>,
}

/// What became of a lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Renewed {
    /// It lasts on.
    Held,
    /// It lasts on, and the job is to be ended.
    Cancel(CancelRequest),
    /// It is held, but somebody is about to change that: it was not renewed, and is to be asked for again.
    Busy,
    /// It is lost: the process must end, nothing of it counts.
    Stale,
}

impl Op for Renew {
    type Reply = RenewReply;
    const NAME: &'static str = "renew";
    const ACCESS: Access = Access::Write;

    fn scopes(&self) -> Scopes {
        Scopes::WORK
    }

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<RenewReply> {
        check_worker(caller, tx, self.worker)?;
        let fences: Vec<Number> = self.fences.iter().map(|fence| fence.number).collect();
        check_jobs(caller, tx, &fences)?;
        let mut worker = tx.heartbeat(self.worker, self.ttl)?;
        if self.draining && worker == Some(WorkerState::Active) {
            tx.ask_drain(self.worker)?;
            tx.wake(Topics::JOBS);
            worker = Some(WorkerState::Draining);
        }
        let held = tx.keep(&self.fences, true)?;
        let mut alive = Vec::with_capacity(held.len());
        let mut leases = Vec::with_capacity(held.len());
        for (fence, lease) in self.fences.iter().zip(held) {
            leases.push(match lease {
                Kept::Held(lease) => {
                    alive.push(*fence);
                    lease.cancel.map_or(Renewed::Held, Renewed::Cancel)
                }
                Kept::Busy => Renewed::Busy,
                Kept::Gone if planted(Mutant::NoFence) => Renewed::Held,
                Kept::Gone => {
                    reject_stale(tx, *fence, Self::NAME)?;
                    Renewed::Stale
                }
            });
        }
        tx.extend(&alive, self.ttl)?;
        for (fence, started) in &self.started {
            if alive.contains(fence) {
                record_start(tx, *fence, &self.name, *started)?;
            }
        }
        Ok(RenewReply { worker, leases })
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<RenewReply>> {
        // Renewing once more is never wrong.
        self.run(caller, tx).map(Some)
    }
}
