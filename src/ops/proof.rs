//! Whether who names a worker or a lease of it is that worker: it shows the secret that it registered with.

use crate::error::{Error, Kind, Result};
use crate::job::{Number, SecretHash, WorkerId, WorkerProof};
use crate::store::{KnownWorker, Lease, Tx};

/// Refuses whoever is not the worker that was registered with `hash`.
pub(super) fn check_hash(worker: &WorkerProof, hash: &SecretHash) -> Result<()> {
    match worker.hash == *hash {
        true => Ok(()),
        false => Err(not_the_worker(worker.id)),
    }
}

/// Refuses whoever does not hold the lease.
pub(super) fn check_holder(worker: &WorkerProof, lease: &Lease) -> Result<()> {
    match worker.id == lease.worker {
        true => check_hash(worker, &lease.secret_hash),
        false => Err(not_the_holder(lease.fence.number)),
    }
}

/// Refuses whoever is not the worker, where that is registered; gives what is known of it.
pub(super) fn check_registered(worker: &WorkerProof, tx: &mut dyn Tx) -> Result<Option<KnownWorker>> {
    let known = tx.registered(worker.id)?;
    known.iter().try_for_each(|known| check_hash(worker, &known.secret))?;
    Ok(known)
}

/// The lease is another worker's.
pub(super) fn not_the_holder(number: Number) -> Error {
    Error::new(Kind::Denied, format!("another worker holds job {number}"))
}

fn not_the_worker(id: WorkerId) -> Error {
    Error::new(Kind::Denied, format!("this is not the secret of worker {id}"))
}
