//! The upkeep: expired leases, due jobs, deadlines, dead workers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lead::{silent, soon_silent};
use super::register::remove;
use super::settle::lose;
use super::timers::{MAX_TIMERS, expire, promote};
use super::{Access, Caller, Op, Scopes, quarantine, runs};
use crate::error::Result;
use crate::job::{EventKind, Number};
use crate::mutant::{Mutant, planted};
use crate::store::{Topics, Tx, Worker, WorkerState};
use crate::time::Span;

/// One bounded round of upkeep by the leader of `epoch`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    /// The caller's epoch; an older one does nothing.
    pub epoch: i64,
    /// For how long holders of leases could not reach the store: they get that time back.
    #[serde(default)]
    pub away: Option<Span>,
    /// Expired leases and dead workers are taken back too.
    pub reap: bool,
    /// Chance in 0..1, for waits of jobs that are taken back.
    pub jitter: f64,
}

impl Sweep {
    /// A whole round.
    pub fn of(epoch: i64, jitter: f64) -> Self {
        Self { epoch, away: None, reap: true, jitter }
    }
}

/// What a round did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Swept {
    /// Another leads now.
    Deposed,
    /// Done.
    Done {
        /// Jobs whose leases had expired.
        reaped: Vec<Number>,
        /// Jobs that no orx can read and that were put aside.
        #[serde(default)]
        quarantined: Vec<Number>,
        /// Whether there is more to do at once.
        more: bool,
        /// What there is to do next.
        #[serde(default)]
        due: Due,
    },
}

/// How long whoever was about to renew has for it once it can again.
const PATIENCE: Span = Span::from_secs(1);

/// How long ago somebody last got or renewed a lease, or said that it lives; none: nobody has.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct LastSign {}

impl Op for LastSign {
    type Reply = Option<Span>;
    const NAME: &'static str = "last_sign";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Span>> {
        tx.last_sign()
    }
}

/// Whether a round of upkeep has anything to do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SweepDue {}

/// What a round of upkeep has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Due {
    /// Jobs are due or past their deadline, or runs take too long.
    pub timers: bool,
    /// Leases or heartbeats have run out.
    pub expired: bool,
    /// Jobs are to be put aside that no orx can read.
    #[serde(default)]
    pub unreadable: bool,
    /// Nothing can come to be due until there is a new job.
    #[serde(default)]
    pub quiet: bool,
    /// The leader may be replaced after so long a silence; none: the store does not say.
    #[serde(default)]
    pub silence: Option<Span>,
}

impl Due {
    /// Whether there is anything.
    pub fn any(self) -> bool {
        self.timers || self.expired || self.unreadable
    }
}

impl Op for SweepDue {
    type Reply = Due;
    const NAME: &'static str = "sweep_due";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Due> {
        due(tx)
    }
}

fn due(tx: &mut dyn Tx) -> Result<Due> {
    let now = tx.now();
    let lost = |w: &Worker| w.state == WorkerState::Lost && w.running.is_empty();
    Ok(Due {
        timers: tx.next_timer()?.is_some_and(|at| at <= now) || !tx.late_runs(1)?.is_empty(),
        expired: !tx.expired(MAX_REAPED)?.is_empty() || tx.workers()?.iter().any(lost),
        unreadable: quarantine::is_due(tx)?,
        quiet: tx.is_quiet()?,
        silence: Some(soon_silent(tx)?),
    })
}

/// How many runs that take too long one round ends.
const MAX_LATE: usize = 16;
/// How many leases one round reaps.
const MAX_REAPED: usize = 256;

impl Op for Sweep {
    type Reply = Swept;
    const NAME: &'static str = "sweep";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Swept> {
        let before = tx.leader()?;
        if !tx.still_leads(self.epoch)? && !planted(Mutant::NoEpoch) {
            return Ok(Swept::Deposed);
        }
        let gap = silent(tx)?;
        let unwritten = before.is_some_and(|l| l.age.is_some_and(|age| age > gap)).then_some(Span::MAX);
        if let Some(away) = self.away.or(unwritten)
            && !planted(Mutant::NoForgiveness)
        {
            // Nobody could write: the holders could not renew either, and get the time that they lost (S2).
            tx.forgive(away, PATIENCE)?;
        }
        let expired = if self.reap { tx.expired(MAX_REAPED)? } else { Vec::new() };
        let reaped = lose(tx, &expired, "its lease expired", self.jitter)?;
        let lost = if self.reap { tx.lost_workers()? } else { Vec::new() };
        for worker in lost {
            remove(tx, worker.id, &worker.name, EventKind::WorkerLost)?;
        }
        for node in tx.nodes()?.into_iter().filter(|node| node.lost) {
            tx.retire(node.id)?;
        }
        let quarantined = quarantine::put_aside(tx)?;
        tx.tidy()?;
        let promoted = promote(tx)?;
        let overdue = expire(tx)?;
        runs::time_out(tx, MAX_LATE)?;
        if promoted > 0 {
            tx.wake(Topics::WORK);
        }
        Ok(Swept::Done {
            quarantined,
            more: expired.len() == MAX_REAPED || promoted == MAX_TIMERS || overdue == MAX_TIMERS,
            reaped,
            due: due(tx)?,
        })
    }

    fn reread(&self, _caller: &Caller, _tx: &mut dyn Tx) -> Result<Option<Swept>> {
        // Whatever the lost round did is done; what matters is that the store could not be written.
        Ok(None)
    }
}
