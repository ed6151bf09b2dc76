//! What handing out the jobs of runs asks of the runs.

use std::collections::HashMap;

use crate::error::Result;
use crate::job::lanes::Offer;
use crate::job::{LaneId, Number, RunId};
use crate::store::{Run, TaskKind, Tx};

/// The first pending jobs of a run that require no other labels than these, with their lanes.
///
/// Others are left alone: to lock them would hide them from whoever can take them.
pub(in crate::ops) fn pending(
    tx: &mut dyn Tx,
    run: RunId,
    offer: &Offer,
    limit: usize,
) -> Result<Vec<(Number, LaneId)>> {
    let Some(run) = tx.run(run)? else { return Ok(Vec::new()) };
    let lanes = tx.pending_lanes(run.seq)?.into_iter().filter(|(_, needs)| offer.carries(&needs.labels));
    let lanes: Vec<LaneId> = lanes.map(|(lane, _)| lane).collect();
    tx.pending_tasks(run.seq, &lanes, limit)
}

/// Starts the time of the runs of which these jobs are the first that start, and gives those jobs that may not start now:
/// the time of their run is over, which whoever leads sees to, or somebody else has the run at this moment.
///
/// They are locked already, and a run is locked before its jobs; so no run is waited for here.
pub(in crate::ops) fn begin(tx: &mut dyn Tx, numbers: &[Number]) -> Result<Vec<Number>> {
    let now = tx.now();
    let mut begun: HashMap<RunId, bool> = HashMap::new();
    let mut held_up = Vec::new();
    for place in tx.places(numbers)? {
        let is_free = place.is_counted
            || match begun.get(&place.run) {
                Some(begun) => *begun,
                None => {
                    let run = tx.free_run(place.run)?;
                    begun.insert(place.run, run.is_some());
                    run.map(|run| start_clock(tx, run)).transpose()?.is_some()
                }
            };
        let is_late = place.kind == TaskKind::Task && place.timeout_at.is_some_and(|at| at <= now);
        held_up.extend((!is_free || is_late).then_some(place.number));
    }
    Ok(held_up)
}

fn start_clock(tx: &mut dyn Tx, mut run: Run) -> Result<()> {
    match run.life.begin(run.terms, tx.now()) {
        true => tx.save_run(&run),
        false => Ok(()),
    }
}
