//! The whole at a glance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, Caller, Op, Scopes, tenancy};
use crate::error::Result;
use crate::store::{Leader, QueueTotals, Tx, Worker};

/// Totals per queue and state, the workers, the leader.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Status {}

/// The whole at a glance.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusReply {
    /// What each queue holds.
    pub queues: Vec<QueueTotals>,
    /// The workers.
    pub workers: Vec<Worker>,
    /// Who does the upkeep; none where no process runs.
    pub leader: Option<Leader>,
}

impl Op for Status {
    type Reply = StatusReply;
    const NAME: &'static str = "status";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let queues = tx.totals(caller.tenant.as_deref())?;
        let leader = tx.leader()?.filter(|leader| !leader.released); // who said good-bye leads no more
        Ok(StatusReply { queues, workers: tenancy::workers(caller, tx)?, leader })
    }
}
