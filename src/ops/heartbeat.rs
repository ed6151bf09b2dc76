//! Heartbeats: a worker says that it lives and what it has started, and learns what is asked of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proof::{check_hash, check_holder};
use super::settle::{Started, record_start};
use super::tenancy::{check_jobs, check_worker};
use super::{Access, Caller, Op, Scopes, bounds};
use crate::error::Result;
use crate::job::many::{MAX_MANY, at_most};
use crate::job::{Fence, Number, WorkerKey};
use crate::store::{Kept, Topics, Tx, WorkerState};
use crate::time::Span;

/// Says that a worker lives. Its leases are renewed by themselves.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// The worker.
    pub worker: WorkerKey,
    /// Its name, for the record.
    pub name: String,
    /// How long this holds from now.
    pub ttl: Span,
    /// It takes no more jobs.
    #[serde(default)]
    pub draining: bool,
    /// Why it starts no jobs, or fewer than it has slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Processes that started since the last call.
    #[serde(default, deserialize_with = "at_most::<MAX_MANY, _, _>")]
    pub started: Vec<(Fence, Started)>,
}

/// What a worker learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatReply {
    /// What is known of it; none: it must register again.
    pub worker: Option<WorkerState>,
    /// Starts that were not recorded, because somebody was about to change those leases: they are to be told again.
    pub untold: Vec<Fence>,
}

impl Op for Heartbeat {
    type Reply = HeartbeatReply;
    const NAME: &'static str = "heartbeat";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<HeartbeatReply> {
        check_worker(caller, tx, self.worker.id)?;
        bounds::name(&self.name)?;
        bounds::ttl(self.ttl)?;
        let fences: Vec<Fence> = self.started.iter().map(|(fence, _)| *fence).collect();
        let numbers: Vec<Number> = fences.iter().map(|fence| fence.number).collect();
        check_jobs(caller, tx, &numbers)?;
        let proof = self.worker.proof();
        let trouble = self.trouble.as_deref().map(bounds::trouble);
        let known = tx.heartbeat(proof.id, self.ttl, trouble.as_deref())?;
        let mut worker = None;
        if let Some((state, hash)) = known {
            check_hash(&proof, &hash)?;
            worker = Some(state);
        }
        if self.draining && worker == Some(WorkerState::Active) {
            tx.ask_drain(proof.id)?;
            tx.wake(Topics::JOBS);
            worker = Some(WorkerState::Draining);
        }
        let mut untold = Vec::new();
        for ((fence, started), kept) in self.started.iter().zip(tx.keep(&fences, false)?) {
            match kept {
                Kept::Held(lease) => {
                    check_holder(&proof, &lease)?;
                    record_start(tx, *fence, &self.name, *started)?;
                }
                Kept::Busy => untold.push(*fence),
                Kept::Gone => {} // its end says so
            }
        }
        Ok(HeartbeatReply { worker, untold })
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<HeartbeatReply>> {
        // Saying so once more is never wrong.
        self.run(caller, tx).map(Some)
    }
}
