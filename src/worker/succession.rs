//! Taking the place of another worker of this machine that is dead: what it left is ended, its jobs move at once (S8).

use std::time::Instant;

use tracing::{info, warn};

use super::sweep::{self, Swept};
use super::{Config, SWEEP_LIMIT, chance, program};
use crate::error::{Error, Result};
use crate::job::{Number, WorkerId};
use crate::ops::register::{Deregister, Register, Registered};
use crate::queue::Queue;
use crate::store::Ownership;

/// Takes the place of the worker `id` of this `name`, if the lock on the name shows that it is dead; gives its jobs.
///
/// `None`: nothing shows that. It is what a worker of that name would do that started and ended now. `config` is that of
/// the caller, which must not have this name.
///
/// # Errors
/// When locks cannot be had, or the store does not take it: whoever has the name next then does it.
pub async fn succeed(queue: &Queue, config: &Config, id: WorkerId, name: &str) -> Result<Option<Vec<Number>>> {
    if name == config.name || name.contains('/') {
        return Ok(None); // no file of ours
    }
    let me = super::new_key()?;
    let (locks, file, key) = (queue.clone(), format!("workers/{name}"), me.clone());
    let lock = tokio::task::spawn_blocking(move || locks.succeed(&file, id, &key));
    let Some(lock) = lock.await.map_err(|e| Error::failed("looking at a lock failed").source(e))?? else {
        return Ok(None);
    };
    let mut lock = Unfinished(Some(lock));
    let predecessors = lock.0.iter().flat_map(|lock| lock.predecessors.clone()).collect();
    let successor = Config { key: me.clone(), name: name.to_owned(), predecessors, ..config.clone() };
    let marks = program::predecessors_markers(&successor);
    let sweep = move || sweep::sweep(marks, Instant::now() + SWEEP_LIMIT);
    let swept = tokio::task::spawn_blocking(sweep).await;
    let Swept { found: processes, doubt } = swept.map_err(|e| Error::failed("a sweep failed").source(e))?;
    let mut worker = successor.introduction();
    worker.solo = true; // nobody is to count on it
    let (secret, succeeds) = (me.secret.clone(), successor.predecessors);
    let op = Register { worker, secret, ttl: config.ttl, succeeds, doubt, jitter: chance() };
    let Registered { taken_back: jobs, left } = queue.call(op).await?;
    if !left.is_empty() {
        warn!(worker = name, jobs = ?left, "{}", program::IN_DOUBT);
    }
    info!(worker = name, processes, ?jobs, "a worker of this machine is dead: took back its jobs");
    if let Err(e) = queue.call(Deregister { worker: me, name: name.to_owned() }).await {
        warn!("{name} could not say good-bye: {e}"); // it is forgotten by itself
    }
    drop(lock.0.take());
    Ok(Some(jobs))
}

/// A lock that goes on naming the dead where what they left is not settled: also where this is given up half-way.
struct Unfinished(Option<Ownership>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.leave();
        }
    }
}
