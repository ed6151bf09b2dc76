//! A store that was put back: what ran in it when it was copied is over, and whoever comes back finds nothing of it (S38).

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::register::remove;
use super::settle::lose;
use super::{Access, Caller, Op, Scopes, perform};
use crate::error::{Error, Result};
use crate::job::{EventKind, Fence, Number};
use crate::private;
use crate::store::copy::copy;
use crate::store::restore::{self, Renewal, Renewed, Workshop};
use crate::store::{self, Location, Store, Tx, Work, WorkerState, Written};
use crate::time::Clock;

/// How many leases one call ends.
const MAX_ENDED: usize = 256;
/// What their attempts say.
const WHY: &str = "the store was restored while it ran";

/// Ends every lease as lost and forgets every worker and coordinator, a bounded number of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Abandon {
    /// It is done though workers are alive by what is stored: they were of the store of before.
    pub despite_workers: bool,
    /// Chance in 0..1, for waits of jobs that are taken back.
    pub jitter: f64,
}

/// What was ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Abandoned {
    /// Jobs whose attempts were ended.
    pub lost: Vec<Number>,
    /// There may be more.
    pub more: bool,
}

impl Op for Abandon {
    type Reply = Abandoned;
    const NAME: &'static str = "abandon";
    const ACCESS: Access = Access::Write;
    const SHARED: bool = true;
    const SCOPES: Scopes = Scopes::ADMIN;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Abandoned> {
        let workers = tx.workers()?;
        if let Some(alive) = workers.iter().find(|worker| worker.state != WorkerState::Lost && !self.despite_workers) {
            return Err(Error::conflict(format!("worker {} is alive", alive.name)).hint(
                "end all workers and coordinators first; one that was killed is forgotten after its lease time",
            ));
        }
        if let Some(held) = tx.holdings(None, 1)?.pop() {
            let fences: Vec<Fence> = tx.leases_of(held.worker)?.into_iter().map(|l| l.fence).take(MAX_ENDED).collect();
            // Those that are current once their jobs are locked.
            let leases: Vec<store::Lease> = tx.held(&fences)?.into_iter().flatten().collect();
            if leases.is_empty() {
                tx.release(&fences)?; // of jobs that are no more
            }
            let lost = lose(tx, &leases, WHY, self.jitter)?;
            return Ok(Abandoned { lost, more: true });
        }
        for worker in workers {
            remove(tx, worker.id, &worker.name, EventKind::WorkerLost)?;
        }
        for node in tx.nodes()? {
            tx.retire(node.id)?;
        }
        Ok(Abandoned::default())
    }

    fn reread(&self, _caller: &Caller, _tx: &mut dyn Tx) -> Result<Option<Abandoned>> {
        Ok(None) // once more ends what is left
    }
}

/// What is to be restored, and how.
pub struct Restore<'a> {
    /// The backup.
    pub backup: &'a Path,
    /// Where the store is to be.
    pub target: &'a Location,
    /// A store that is there is replaced.
    pub replace: bool,
    /// What the store becomes.
    pub renewal: Renewal,
    /// Chance in 0..1, for waits of jobs that are taken back.
    pub jitter: f64,
}

/// What was restored.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// What it is now.
    #[serde(flatten)]
    pub renewed: Renewed,
    /// How many jobs were running when the backup was made; their attempts count as lost.
    pub lost: usize,
}

impl Restore<'_> {
    /// Makes a store of the backup, all of it or nothing.
    ///
    /// # Errors
    /// `Conflict` when there is a store already, or it is in use; `Corrupt` when the backup is damaged; `Unavailable` when
    /// the store cannot be written.
    pub fn run(&self, clock: std::sync::Arc<dyn Clock>) -> Result<Restored> {
        match self.target {
            Location::File(path) => {
                let workshop = Workshop::open(path, self.replace)?;
                let part = restore::unpack(self.backup, workshop.dir())?;
                let place = Location::File(part.clone());
                let lost = self.abandon(&*store::open(&place, clock)?)?;
                let renewed = restore::renew(&place, &self.renewal)?;
                workshop.place(&part, self.replace)?;
                Ok(Restored { renewed, lost })
            }
            Location::Server(_) if self.replace => Err(Error::usage("a store on a server is not replaced")
                .hint("drop its schema first, or name another one with ?schema=NAME")),
            Location::Server(_) => {
                let dir = private::temp_dir("orx-restore-")
                    .map_err(|e| Error::unavailable("cannot make a directory for the backup").source(e))?;
                let place = Location::File(restore::unpack(self.backup, dir.path())?);
                let lost = self.abandon(&*store::open(&place, clock)?)?;
                let (_, renewed) = copy(&place, self.target, &self.renewal, &mut |_, _| {})?;
                Ok(Restored { renewed, lost })
            }
            _ => Err(restore::nowhere()),
        }
    }

    /// Ends what ran in a store that nobody else uses.
    fn abandon(&self, store: &dyn Store) -> Result<usize> {
        let caller = Caller::local(self.renewal.actor.clone());
        let mut count = 0;
        loop {
            let op = Abandon { despite_workers: true, jitter: self.jitter };
            let mut call = Call { op, caller: &caller, reply: None };
            let reply = match store.write(&mut [&mut call]) {
                Written::Committed(_) | Written::Refused => call.reply,
                Written::Nothing(error) | Written::Unknown(error) => return Err(error),
            };
            let Abandoned { lost, more } = reply.unwrap_or_else(|| Err(Error::failed("the store did nothing")))?;
            count += lost.len();
            if !more {
                return Ok(count);
            }
        }
    }
}

/// An Op on a store that no engine runs for.
struct Call<'a> {
    op: Abandon,
    caller: &'a Caller,
    reply: Option<Result<Abandoned>>,
}

impl Work for Call<'_> {
    fn run(&mut self, tx: &mut dyn Tx) -> Result<()> {
        let reply = perform(&self.op, self.caller, tx);
        let told = reply.as_ref().map(|_| ()).map_err(Error::copy);
        self.reply = Some(reply);
        told
    }
}
