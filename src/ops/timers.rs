//! What becomes of jobs by the clock.

use serde_json::Value;

use super::transition::{By, Next, change_all};
use crate::error::Result;
use crate::job::EventKind;
use crate::store::{Change, Tx};
use crate::time::Span;

/// How many due or overdue jobs one call moves on, so that pending ones are never starved (S18).
pub(super) const MAX_TIMERS: usize = 256;

/// How long it is until something is due.
pub(super) fn next_timer(tx: &mut dyn Tx) -> Result<Option<Span>> {
    let now = tx.now();
    Ok(tx.next_timer()?.map(|at| at.since(now)))
}

/// scheduled → pending for jobs that are due. Tells nobody: whoever leases looks here first (S26).
pub(super) fn promote(tx: &mut dyn Tx) -> Result<usize> {
    let due = tx.due(MAX_TIMERS)?;
    for job in tx.load(&due)? {
        let life = job.life.clone().promote(tx.now())?;
        tx.save(&[Change { number: job.number, lane: job.lane, from: job.life.state, life: &life }])?;
    }
    Ok(due.len())
}

/// Cancels jobs that have not started by their deadline (S7).
pub(super) fn expire(tx: &mut dyn Tx) -> Result<usize> {
    let overdue = tx.overdue(MAX_TIMERS)?;
    let now = tx.now();
    let expired = tx.load(&overdue)?.into_iter().filter_map(|job| {
        let life = job.life.clone().expire(now).ok()?;
        Some(Next { job, life, kind: EventKind::Expired, data: Value::Null })
    });
    // All at once: one of them may be what another waits for.
    change_all(tx, &expired.collect::<Vec<_>>(), By::default())?;
    Ok(overdue.len())
}
