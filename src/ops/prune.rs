//! Forgetting finished jobs, in bounded batches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::Number;
use crate::job::many::{MAX_MANY, at_most};
use crate::store::{Topics, Tx};
use crate::time::Timestamp;

/// The most jobs of one batch.
pub const MAX_PRUNED: usize = 500;

/// Finds the next jobs that may be forgotten.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Prunable {
    /// Above this number.
    pub after: Number,
    /// Finished before this instant.
    pub before: Timestamp,
    /// Also those with a dead letter.
    pub dead: bool,
}

impl Op for Prunable {
    type Reply = Vec<Number>;
    const NAME: &'static str = "prunable";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Vec<Number>> {
        tx.prunable(self.after, self.before, self.dead, MAX_PRUNED)
    }
}

/// Removes what jobs wrote from the output store, before [`Prune`] forgets them; of those only that it would forget now.
///
/// The output store has a file and transactions of its own, so the jobs are looked at and not held: one that somebody
/// retries at that very instant keeps its life and its new output, and loses what it wrote so long ago.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DropOutput {
    /// The jobs, ascending.
    #[serde(deserialize_with = "at_most::<MAX_MANY, _, _>")]
    pub numbers: Vec<Number>,
    /// Finished before this instant.
    pub before: Timestamp,
    /// Also those with a dead letter.
    pub dead: bool,
    /// The epoch of a leader that does so by itself; once another leads nothing is removed.
    #[serde(default)]
    pub epoch: Option<i64>,
}

impl Op for DropOutput {
    type Reply = ();
    const NAME: &'static str = "drop_output";
    const ACCESS: Access = Access::Output;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        // This transaction writes output only, so that it cannot say of the leader that it lives.
        if let Some(epoch) = self.epoch
            && tx.leader()?.is_none_or(|leader| leader.epoch != epoch)
        {
            return Ok(());
        }
        let still = still_prunable(tx, &self.numbers, self.before, self.dead)?;
        if still.is_empty() { Ok(()) } else { tx.drop_output(&still) }
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some) // once more removes nothing else
    }
}

/// Forgets jobs with all their history; gives how many. Those that may not be forgotten (any more) are left.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Prune {
    /// The jobs, ascending.
    #[serde(deserialize_with = "at_most::<MAX_MANY, _, _>")]
    pub numbers: Vec<Number>,
    /// Finished before this instant.
    pub before: Timestamp,
    /// Also those with a dead letter.
    pub dead: bool,
    /// The epoch of a leader that does so by itself; once another leads nothing is forgotten.
    #[serde(default)]
    pub epoch: Option<i64>,
}

/// Whether it was asked for by a leader that leads no more.
pub(super) fn deposed(tx: &mut dyn Tx, epoch: Option<i64>) -> Result<bool> {
    Ok(match epoch {
        Some(epoch) => !tx.still_leads(epoch)?,
        None => false,
    })
}

/// Those of `numbers`, which ascend, that may be forgotten now.
fn still_prunable(tx: &mut dyn Tx, numbers: &[Number], before: Timestamp, dead: bool) -> Result<Vec<Number>> {
    let Some(first) = numbers.first() else { return Ok(Vec::new()) };
    let mut still = tx.prunable(first.saturating_sub(1), before, dead, numbers.len())?;
    still.retain(|number| numbers.binary_search(number).is_ok());
    Ok(still)
}

impl Op for Prune {
    type Reply = usize;
    const NAME: &'static str = "prune";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<usize> {
        if self.numbers.is_empty() || deposed(tx, self.epoch)? {
            return Ok(0);
        }
        let still = still_prunable(tx, &self.numbers, self.before, self.dead)?;
        tx.hold_runs(&still)?;
        let mut jobs = tx.load(&still)?;
        // Somebody may have brought one back while this waited for it: from here on nobody does.
        let still = still_prunable(tx, &self.numbers, self.before, self.dead)?;
        jobs.retain(|job| still.binary_search(&job.number).is_ok());
        tx.prune(&jobs)?;
        tx.wake(Topics::JOBS);
        Ok(jobs.len())
    }

    fn reread(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<usize>> {
        let left = tx.load(&self.numbers)?.len();
        Ok((left < self.numbers.len()).then(|| self.numbers.len() - left))
    }
}

/// Forgets old rows of the ledgers of schedules, one bounded batch; gives how many.
///
/// The last row of a schedule stays, and so do rows whose run has not ended. Nothing fires because its row is gone: up
/// to which instant a ledger reaches is written beside it (S20).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PruneLedger {
    /// Whose instants lie before this one.
    pub before: Timestamp,
    /// The epoch of a leader that does so by itself; once another leads nothing is forgotten.
    #[serde(default)]
    pub epoch: Option<i64>,
}

impl Op for PruneLedger {
    type Reply = usize;
    const NAME: &'static str = "prune_ledger";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<usize> {
        if deposed(tx, self.epoch)? {
            return Ok(0);
        }
        tx.prune_ledger(self.before, MAX_PRUNED)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<usize>> {
        self.run(caller, tx).map(Some) // the next batch, whether or not that one took effect
    }
}

/// Removes idempotency keys whose day is over, one bounded batch; gives how many (S13).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PruneKeys {
    /// The epoch of a leader that does so by itself; once another leads nothing is removed.
    #[serde(default)]
    pub epoch: Option<i64>,
}

impl Op for PruneKeys {
    type Reply = usize;
    const NAME: &'static str = "prune_keys";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<usize> {
        if deposed(tx, self.epoch)? {
            return Ok(0);
        }
        tx.prune_keys(MAX_PRUNED)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<usize>> {
        self.run(caller, tx).map(Some) // the next batch, whether or not that one took effect
    }
}
