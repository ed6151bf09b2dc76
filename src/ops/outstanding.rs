//! What is left of what a worker could run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::LaneId;
use crate::job::lanes::{Offer, OpenLane};
use crate::store::Tx;
use crate::time::{Span, Timestamp};

/// The most lanes that are looked at.
const MAX_LANES: usize = 4096;
/// How many paused queues are named.
const MAX_NAMED: usize = 20;

/// What has not ended of what a worker could run: a worker with `--until-done` ends when there is nothing to wait for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outstanding {
    /// What the worker serves.
    pub offer: Offer,
    /// What is due later than this after now is not waited for.
    pub within: Span,
}

/// What is left. Services, and what waits in paused queues, are counted apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backlog {
    /// Whether some of it comes to run by itself: it runs, could run, or is due in time.
    pub comes: bool,
    /// Jobs that could run now.
    pub pending: i64,
    /// Jobs that run, on whichever worker.
    pub running: i64,
    /// Jobs that are due later.
    pub scheduled: i64,
    /// When the first of them is due.
    pub next_due: Option<Timestamp>,
    /// Jobs that wait for others.
    pub blocked: i64,
    /// Jobs that wait in paused queues.
    pub paused: i64,
    /// Those queues, at most 20.
    pub paused_queues: Vec<String>,
    /// Services, which a worker that ends by itself does not run.
    pub services: i64,
}

impl Backlog {
    fn add(&mut self, lane: &OpenLane) {
        let waiting = lane.blocked + lane.scheduled + lane.pending;
        if lane.needs.service {
            self.services += waiting + lane.running;
            return;
        }
        self.running += lane.running;
        if !lane.paused {
            self.pending += lane.pending;
            self.scheduled += lane.scheduled;
            self.blocked += lane.blocked;
        } else if waiting > 0 {
            self.paused += waiting;
            if !self.paused_queues.contains(&lane.queue) && self.paused_queues.len() < MAX_NAMED {
                self.paused_queues.push(lane.queue.clone());
            }
        }
    }
}

impl Op for Outstanding {
    type Reply = Backlog;
    const NAME: &'static str = "outstanding";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Backlog> {
        let offer = Offer { no_services: false, ..self.offer.clone() };
        let serves = |lane: &OpenLane| {
            caller.sees(&lane.tenant) && offer.serves_tenant(&lane.tenant) && offer.serves(&lane.queue, &lane.needs)
        };
        let mut backlog = Backlog::default();
        let mut timed: Vec<LaneId> = Vec::new();
        for lane in tx.open_lanes(MAX_LANES)?.into_iter().filter(serves) {
            backlog.add(&lane);
            if lane.scheduled > 0 && !lane.paused && !lane.needs.service {
                timed.push(lane.id);
            }
        }
        if !timed.is_empty() {
            backlog.next_due = tx.next_due(&timed)?;
        }
        let in_time = backlog.next_due.is_some_and(|at| at <= tx.now().plus(self.within));
        // What is blocked by none of these is blocked by what this worker cannot run, or does not wait for.
        backlog.comes = backlog.pending > 0 || backlog.running > 0 || in_time;
        Ok(backlog)
    }
}
