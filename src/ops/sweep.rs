//! The upkeep: expired leases, due jobs, deadlines, dead workers.

use serde::{Deserialize, Serialize};

use super::lease::{MAX_TIMERS, expire, promote};
use super::register::{remove, take_back};
use super::settle::end_attempt;
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::state::Ending;
use crate::job::{EventKind, Number};
use crate::mutant::{Mutant, planted};
use crate::store::{Topics, Tx, WorkerState};
use crate::time::{Span, Timestamp};

/// One bounded round of upkeep by the leader of `epoch`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// The caller's epoch; an older one does nothing.
    pub epoch: i64,
    /// The store could not be written for a while.
    #[serde(default)]
    pub gap: bool,
    /// Chance in 0..1, for waits of jobs that are taken back.
    pub jitter: f64,
}

/// What a round did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Swept {
    /// Another leads now.
    Deposed,
    /// Done.
    Done {
        /// Jobs whose leases had expired.
        reaped: Vec<Number>,
        /// Whether there is more to do at once.
        more: bool,
        /// When it is worth looking again though nothing else happens.
        next_timer: Option<Timestamp>,
    },
}

/// A silence of the leader that is longer means that the store could not be written.
const GAP: Span = Span::from_secs(15);

/// Whether a round of upkeep has anything to do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SweepDue {}

impl Op for SweepDue {
    type Reply = bool;
    const NAME: &'static str = "sweep_due";
    const ACCESS: Access = Access::Read;

    fn scopes(&self) -> Scopes {
        Scopes::WORK
    }

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<bool> {
        let now = tx.now();
        Ok(tx.next_timer()?.is_some_and(|at| at <= now)
            || !tx.expired(1)?.is_empty()
            || tx.workers()?.iter().any(|w| w.state == WorkerState::Lost))
    }
}

/// How many leases one round reaps.
const MAX_REAPED: usize = 256;

impl Op for Sweep {
    type Reply = Swept;
    const NAME: &'static str = "sweep";
    const ACCESS: Access = Access::Write;

    fn scopes(&self) -> Scopes {
        Scopes::WORK
    }

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Swept> {
        let before = tx.leader()?;
        if !tx.still_leads(self.epoch)? && !planted(Mutant::NoEpoch) {
            return Ok(Swept::Deposed);
        }
        let gap = self.gap || before.is_some_and(|l| l.age.is_some_and(|age| age > GAP));
        if gap && !planted(Mutant::NoForgiveness) {
            // Nobody could write: the holders could not renew either, and get the time that they lost (S2).
            tx.forgive()?;
        }
        let expired = tx.expired(MAX_REAPED)?;
        for lease in &expired {
            let ran = tx.now().since(lease.started_at);
            end_attempt(tx, lease, &Ending::lost("its lease expired"), None, ran, self.jitter)?;
        }
        for worker in tx.workers()? {
            if worker.state == WorkerState::Lost {
                take_back(tx, worker.id, "its worker's heartbeat ended", self.jitter)?;
                remove(tx, worker.id, &worker.name, EventKind::WorkerLost)?;
            }
        }
        let promoted = promote(tx)?;
        let overdue = expire(tx)?;
        if promoted > 0 {
            tx.wake(Topics::WORK);
        }
        Ok(Swept::Done {
            more: expired.len() == MAX_REAPED || promoted == MAX_TIMERS || overdue == MAX_TIMERS,
            reaped: expired.into_iter().map(|lease| lease.fence.number).collect(),
            next_timer: tx.next_timer()?,
        })
    }

    fn reread(&self, _caller: &Caller, _tx: &mut dyn Tx) -> Result<Option<Swept>> {
        // Whatever the lost round did is done; what matters is that the store could not be written.
        Ok(None)
    }
}
