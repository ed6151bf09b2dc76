//! Workers come and go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::proof::{check_hash, check_registered};
use super::settle::lose;
use super::tenancy::check_worker;
use super::{Access, Caller, Op, Scopes, bounds};
use crate::error::Result;
use crate::job::many::at_most;
use crate::job::{EventKind, Fence, Number, WorkerId, WorkerKey, WorkerProof, WorkerSecret};
use crate::store::{Lease, MAX_PREDECESSORS, NewEvent, NewWorker, Topics, Tx};
use crate::time::Span;

/// How much the clocks of a store and of a worker's machine may differ over the time of a job.
const SLACK: Span = Span::from_secs(2);

/// Adds a worker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Register {
    /// The worker.
    pub worker: NewWorker,
    /// What it shows from now on with all that it does.
    pub secret: WorkerSecret,
    /// How long its heartbeat lasts.
    pub ttl: Span,
    /// It owns the lock on its name, whose owners these were until they died: their jobs move at once (S8). The lock file has
    /// their secrets.
    #[serde(deserialize_with = "at_most::<MAX_PREDECESSORS, _, _>")]
    pub succeeds: Vec<WorkerKey>,
    /// How young a process is that may be the first one of an attempt of theirs, and cannot be shown to be dead. Leases that
    /// are older are waited for; none: all of their processes are dead.
    #[serde(default)]
    pub doubt: Option<Span>,
    /// Chance in 0..1, for waits of jobs that are taken back.
    pub jitter: f64,
}

/// What a new worker learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// Jobs taken back from a dead worker of this name.
    pub taken_back: Vec<Number>,
    /// Those whose leases are waited for.
    #[serde(default)]
    pub left: Vec<Number>,
}

impl Op for Register {
    type Reply = Registered;
    const NAME: &'static str = "register";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Registered> {
        check_worker(caller, tx, self.worker.id)?;
        bounds::worker(&self.worker, tx)?;
        bounds::ttl(self.ttl)?;
        let mut worker = self.worker.clone();
        let proof = self.proof();
        worker.offer.bind(caller.tenant.as_deref());
        let (mut taken_back, mut left) = (Vec::new(), Vec::new());
        for key in self.succeeds.iter().filter(|key| key.id != worker.id) {
            let Some(dead) = check_registered(&key.proof(), tx)? else { continue };
            let is_its_own = caller.tenant.is_none() || dead.tenant == caller.tenant;
            if !is_its_own || (&dead.name, &dead.host) != (&worker.name, &worker.host) {
                continue;
            }
            let (sure, doubtful) = self.part(tx, key.id)?;
            taken_back.extend(take_back(tx, &sure, "its worker died", self.jitter)?);
            match doubtful.is_empty() {
                true => remove(tx, key.id, &dead.name, EventKind::WorkerLost)?,
                false => left.extend(doubtful), // it is forgotten when it has no lease any more
            }
        }
        check_hash(&proof, &tx.register(&worker, &proof.hash, self.ttl)?)?;
        tx.append(&[NewEvent {
            worker: Some(&self.worker.name),
            data: json!({ "host": self.worker.host, "pid": self.worker.pid, "slots": self.worker.slots }),
            ..NewEvent::of(EventKind::WorkerStarted)
        }])?;
        Ok(Registered { taken_back, left })
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Registered>> {
        check_worker(caller, tx, self.worker.id)?;
        let here = check_registered(&self.proof(), tx)?;
        Ok(here.map(|_| Registered { taken_back: Vec::new(), left: Vec::new() }))
    }
}

impl Register {
    fn proof(&self) -> WorkerProof {
        WorkerProof { id: self.worker.id, hash: self.secret.hash() }
    }

    /// The attempts of a dead worker whose processes are dead too, and the jobs of the others.
    fn part(&self, tx: &mut dyn Tx, dead: WorkerId) -> Result<(Vec<Fence>, Vec<Number>)> {
        let now = tx.now();
        // No process is older than the lease that it was started for.
        let may_live = |lease: &Lease| {
            let age = now.since(lease.started_at).as_millis().saturating_add(SLACK.as_millis());
            self.doubt.is_some_and(|youngest| youngest.as_millis() <= age)
        };
        let (doubtful, sure): (Vec<Lease>, Vec<Lease>) = tx.leases_of(dead)?.into_iter().partition(may_live);
        let sure = sure.into_iter().map(|lease| lease.fence).collect();
        Ok((sure, doubtful.into_iter().map(|lease| lease.fence.number).collect()))
    }
}

/// Ends attempts of a worker that is known to be dead, as lost.
fn take_back(tx: &mut dyn Tx, fences: &[Fence], why: &str, jitter: f64) -> Result<Vec<Number>> {
    // Those that are current once their jobs are locked.
    let leases: Vec<Lease> = tx.held(fences)?.into_iter().flatten().collect();
    lose(tx, &leases, why, jitter)
}

/// Removes a worker and says so.
pub(super) fn remove(tx: &mut dyn Tx, worker: WorkerId, name: &str, kind: EventKind) -> Result<()> {
    tx.deregister(worker)?;
    tx.wake(Topics::JOBS);
    tx.append(&[NewEvent { worker: Some(name), ..NewEvent::of(kind) }])
}

/// Removes a worker that ends as planned; one that is not there is not missed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Deregister {
    /// The worker.
    pub worker: WorkerKey,
    /// Its name, for the record.
    pub name: String,
}

impl Op for Deregister {
    type Reply = ();
    const NAME: &'static str = "deregister";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        check_worker(caller, tx, self.worker.id)?;
        bounds::name(&self.name)?;
        if check_registered(&self.worker.proof(), tx)?.is_none() {
            return Ok(()); // it was stopped before it was here, or taken for dead
        }
        remove(tx, self.worker.id, &self.name, EventKind::WorkerStopped)?;
        tx.wake(Topics::WORK | Topics::CONTROL); // what it would have taken is for others now
        Ok(())
    }

    fn check(&self) -> String {
        "orx workers".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        check_worker(caller, tx, self.worker.id)?;
        Ok(check_registered(&self.worker.proof(), tx)?.is_none().then_some(()))
    }
}
