//! Workers come and go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::settle::lose;
use super::tenancy::check_worker;
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::{EventKind, Fence, Number, WorkerId};
use crate::store::{Lease, NewEvent, NewWorker, Topics, Tx};
use crate::time::Span;

/// Adds a worker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Register {
    /// The worker.
    pub worker: NewWorker,
    /// How long its heartbeat lasts.
    pub ttl: Span,
    /// It owns the lock on its name, whose owners these were until they died: their jobs move at once (S8).
    pub succeeds: Vec<WorkerId>,
    /// Chance in 0..1, for waits of jobs that are taken back.
    pub jitter: f64,
}

/// What a new worker learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// Jobs taken back from a dead worker of this name.
    pub taken_back: Vec<Number>,
}

impl Op for Register {
    type Reply = Registered;
    const NAME: &'static str = "register";
    const ACCESS: Access = Access::Write;

    fn scopes(&self) -> Scopes {
        Scopes::WORK
    }

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Registered> {
        check_worker(caller, tx, self.worker.id)?;
        let mut worker = self.worker.clone();
        worker.offer.bind(caller.tenant.as_deref());
        let mut taken_back = Vec::new();
        if !self.succeeds.is_empty() {
            let same = |w: &crate::store::Worker| {
                self.succeeds.contains(&w.id)
                    && w.name == worker.name
                    && w.host == worker.host
                    && w.id != worker.id
                    && (caller.tenant.is_none() || w.tenant == caller.tenant)
            };
            for dead in tx.workers()?.into_iter().filter(same) {
                taken_back.extend(take_back(tx, dead.id, "its worker died and was started again", self.jitter)?);
                remove(tx, dead.id, &dead.name, EventKind::WorkerLost)?;
            }
        }
        tx.register(&worker, self.ttl)?;
        tx.append(&[NewEvent {
            worker: Some(&self.worker.name),
            data: json!({ "host": self.worker.host, "pid": self.worker.pid, "slots": self.worker.slots }),
            ..NewEvent::of(EventKind::WorkerStarted)
        }])?;
        Ok(Registered { taken_back })
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Registered>> {
        check_worker(caller, tx, self.worker.id)?;
        let here = is_here(tx, self.worker.id)?;
        Ok(here.then_some(Registered { taken_back: Vec::new() }))
    }
}

/// Ends every attempt of a worker that is known to be dead, as lost.
pub(super) fn take_back(tx: &mut dyn Tx, worker: WorkerId, why: &str, jitter: f64) -> Result<Vec<Number>> {
    let fences: Vec<Fence> = tx.leases_of(worker)?.into_iter().map(|lease| lease.fence).collect();
    // Those that are current once their jobs are locked.
    let leases: Vec<Lease> = tx.held(&fences)?.into_iter().flatten().collect();
    lose(tx, &leases, why, jitter)
}

/// Removes a worker and says so.
pub(super) fn remove(tx: &mut dyn Tx, worker: WorkerId, name: &str, kind: EventKind) -> Result<()> {
    tx.deregister(worker)?;
    tx.wake(Topics::JOBS);
    tx.append(&[NewEvent { worker: Some(name), ..NewEvent::of(kind) }])
}

fn is_here(tx: &mut dyn Tx, worker: WorkerId) -> Result<bool> {
    Ok(tx.workers()?.iter().any(|w| w.id == worker))
}

/// Removes a worker that ends as planned; one that is not there is not missed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Deregister {
    /// The worker.
    pub worker: WorkerId,
    /// Its name, for the record.
    pub name: String,
}

impl Op for Deregister {
    type Reply = ();
    const NAME: &'static str = "deregister";
    const ACCESS: Access = Access::Write;

    fn scopes(&self) -> Scopes {
        Scopes::WORK
    }

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        check_worker(caller, tx, self.worker)?;
        if !is_here(tx, self.worker)? {
            return Ok(()); // it was stopped before it was here, or taken for dead
        }
        remove(tx, self.worker, &self.name, EventKind::WorkerStopped)?;
        tx.wake(Topics::WORK | Topics::CONTROL); // what it would have taken is for others now
        Ok(())
    }

    fn check(&self) -> String {
        "orx workers".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        check_worker(caller, tx, self.worker)?;
        Ok((!is_here(tx, self.worker)?).then_some(()))
    }
}
