//! Renewals: a worker keeps its leases, and learns which of its jobs are to end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proof::check_holder;
use super::settle::reject_stale;
use super::tenancy::{check_jobs, check_worker};
use super::{Access, Caller, Op, Scopes, bounds};
use crate::error::Result;
use crate::job::many::{MAX_MANY, at_most};
use crate::job::{Fence, Number, WorkerKey};
use crate::mutant::{Mutant, planted};
use crate::store::{CancelRequest, Kept, Tx};
use crate::time::Span;

/// Renews leases, and does nothing else: whatever else in the store is locked must not cost a job its lease.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Renew {
    /// The worker that holds them.
    pub worker: WorkerKey,
    /// How long they last from now.
    pub ttl: Span,
    /// The attempts.
    #[serde(deserialize_with = "at_most::<MAX_MANY, _, _>")]
    pub fences: Vec<Fence>,
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
    /// One for each fence.
    type Reply = Vec<Renewed>;
    const NAME: &'static str = "renew";
    const ACCESS: Access = Access::Renewal;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Vec<Renewed>> {
        check_worker(caller, tx, self.worker.id)?;
        bounds::ttl(self.ttl)?;
        let fences: Vec<Number> = self.fences.iter().map(|fence| fence.number).collect();
        check_jobs(caller, tx, &fences)?;
        let (worker, kept) = (self.worker.proof(), tx.keep(&self.fences, true)?);
        let mut alive = Vec::with_capacity(kept.len());
        let mut leases = Vec::with_capacity(kept.len());
        let mut stale = Vec::new();
        for (fence, lease) in self.fences.iter().zip(kept) {
            leases.push(match lease {
                Kept::Held(lease) => {
                    check_holder(&worker, &lease)?;
                    alive.push(*fence);
                    lease.cancel.map_or(Renewed::Held, Renewed::Cancel)
                }
                Kept::Busy => Renewed::Busy,
                Kept::Gone if planted(Mutant::NoFence) => Renewed::Held,
                Kept::Gone => {
                    stale.push(*fence);
                    Renewed::Stale
                }
            });
        }
        reject_stale(tx, &stale, Self::NAME)?;
        tx.extend(&alive, self.ttl)?;
        Ok(leases)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Vec<Renewed>>> {
        // Renewing once more is never wrong.
        self.run(caller, tx).map(Some)
    }
}
