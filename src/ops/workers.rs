//! Looking at workers, and asking them to drain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, Caller, Op, Scopes, tenancy};
use crate::error::{Error, Result};
use crate::job::EventKind;
use crate::store::{NewEvent, Topics, Tx, Worker};

/// Every worker, by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListWorkers {}

impl Op for ListWorkers {
    type Reply = Vec<Worker>;
    const NAME: &'static str = "list_workers";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        tenancy::workers(caller, tx)
    }
}

/// Asks a worker, by name or id, to take no more jobs and to end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DrainWorker {
    /// Its name or id.
    pub worker: String,
}

impl Op for DrainWorker {
    type Reply = Vec<Worker>;
    const NAME: &'static str = "drain_worker";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        // One that serves other tenants too is not for one of them to stop.
        let mine = |w: &Worker| caller.tenant.is_none() || w.tenant == caller.tenant;
        let named = |w: &Worker| mine(w) && (w.name == self.worker || w.id.to_string() == self.worker);
        let found: Vec<Worker> = tx.workers()?.into_iter().filter(named).collect();
        if found.is_empty() {
            return Err(Error::not_found(format!("no worker {}", self.worker)).hint("'orx workers' shows them"));
        }
        for worker in &found {
            tx.ask_drain(worker.id)?;
            tx.append(&[NewEvent {
                worker: Some(&worker.name),
                actor: Some(&caller.actor),
                ..NewEvent::of(EventKind::DrainRequested)
            }])?;
        }
        tx.wake(Topics::CONTROL | Topics::JOBS);
        Ok(found)
    }

    fn check(&self) -> String {
        "orx workers".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Self::Reply>> {
        self.run(caller, tx).map(Some)
    }
}
