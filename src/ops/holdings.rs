//! The leases that others hold on jobs which a worker could run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lease::Only;
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::lanes::{Needs, Offer};
use crate::job::{Number, Record, WorkerId};
use crate::store::{Holding, Tx};

/// The most leases that are looked at, those that end soonest.
const MAX_HOLDINGS: usize = 1000;

/// Who holds leases on jobs that a worker could run itself: it looks whether they live before it ends (S8).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListHoldings {
    /// The worker, whose own leases are left out.
    pub worker: WorkerId,
    /// What it serves.
    pub offer: Offer,
    /// This only (`orx run`).
    pub only: Option<Only>,
}

impl Op for ListHoldings {
    type Reply = Vec<Holding>;
    const NAME: &'static str = "list_holdings";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Vec<Holding>> {
        let number = match self.only {
            Some(Only::Job(number)) => Some(number),
            _ => None,
        };
        let mut holdings = tx.holdings(number, MAX_HOLDINGS)?;
        holdings.retain(|holding| holding.worker != self.worker);
        let numbers: Vec<Number> = holdings.iter().map(|holding| holding.number).collect();
        let mut mine = tx.load(&numbers)?;
        mine.retain(|job| caller.sees(&job.tenant) && self.serves(job));
        holdings.retain(|holding| mine.iter().any(|job| job.number == holding.number));
        Ok(holdings)
    }
}

impl ListHoldings {
    fn serves(&self, job: &Record) -> bool {
        let needs = Needs::of(&job.spec);
        let only = match self.only {
            Some(Only::Run(run)) => job.origin.run_id == Some(run),
            Some(Only::Job(number)) => job.number == number,
            None => true,
        };
        let fits = self.only.is_some() || self.offer.serves(&job.queue, &needs);
        only && fits && self.offer.serves_tenant(&job.tenant) && job.unread.is_none()
    }
}
