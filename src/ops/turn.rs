//! What a worker does between two jobs: it reports the ends of some and takes the next, in one transaction.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lease::{Lease, LeaseReply};
use super::settle::{Report, Settle, Settled};
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::WorkerKey;
use crate::job::many::{MAX_MANY, at_most};
use crate::store::Tx;

/// Settles attempts, then leases jobs: a slot that became free is filled in the same breath.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Turn {
    /// The worker that held the leases.
    pub worker: WorkerKey,
    /// The ends to report.
    #[serde(deserialize_with = "at_most::<MAX_MANY, _, _>")]
    pub reports: Vec<Report>,
    /// The jobs to ask for.
    pub lease: Option<Lease>,
    /// Jobs that somebody else has locked are passed over; otherwise they are waited for.
    #[serde(default)]
    pub pass_over: bool,
}

/// What became of both.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TurnReply {
    /// One for each report.
    pub settled: Vec<Settled>,
    /// The jobs, where some were asked for.
    pub leased: Option<LeaseReply>,
}

impl Op for Turn {
    type Reply = TurnReply;
    const NAME: &'static str = "turn";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<TurnReply> {
        let worker = self.worker.proof();
        let settled = Settle::reports(caller, tx, &worker, &self.reports, self.lease.as_ref(), self.pass_over)?;
        let leased = self.lease.as_ref().map(|lease| lease.lease(caller, tx)).transpose()?;
        Ok(TurnReply { settled, leased })
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<TurnReply>> {
        let reread = Settle::reread_reports(caller, tx, &self.worker.proof(), &self.reports, self.pass_over)?;
        let Some(settled) = reread else { return Ok(None) };
        let leased = match &self.lease {
            Some(lease) => lease.reread(caller, tx)?,
            None => None,
        };
        Ok(Some(TurnReply { settled, leased }))
    }
}
