//! The leases of others in a worker's reach: it does not end, or wait, while jobs that it could run belong to the dead (S8).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Back, Worker};
use crate::error::Result;
use crate::job::Number;
use crate::ops::holdings::ListHoldings;
use crate::ops::outstanding::Outstanding;
use crate::store::Holding;
use crate::worker::{Shared, succession};

/// How often it is looked whether a lease was renewed or taken back that is waited for.
const AGAIN: Duration = Duration::from_millis(250);
/// How soon it is looked again after jobs have ended: others may do so at the same time.
const SOON: Duration = Duration::from_millis(50);
/// How often a worker for one job or run looks that has nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// How long it takes at most to take back a lease that is over: then it is waited for no more.
const TAKE_BACK: Duration = Duration::from_secs(2);

/// What a worker knows of the leases in its reach.
#[derive(Default)]
pub(super) struct Reach {
    /// It is being looked.
    looking: bool,
    /// Nothing there holds it back, since it had a job last.
    clear: bool,
    /// When it is looked again.
    again_at: Option<Instant>,
    /// Leases that their holders do not renew, and until when each is waited for.
    waiting: HashMap<Number, Instant>,
}

/// What one look found.
pub(super) struct Look {
    /// Jobs were taken back: they may be leased.
    freed: bool,
    /// Leases that their holders do not renew.
    neglected: Vec<Holding>,
    /// What it is to wait for comes to be runnable.
    comes: bool,
}

impl Reach {
    /// Whether nothing holds back a worker that would end.
    pub(super) fn is_clear(&self) -> bool {
        self.clear && !self.looking
    }

    /// When it is looked next; none: it is not.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at.filter(|_| !self.looking)
    }

    /// A job ended somewhere: what is waited for may be over.
    pub(super) fn hint(&mut self) {
        if let Some(at) = &mut self.again_at {
            *at = (*at).min(Instant::now() + SOON);
        }
    }

    /// There was a job: what was found before it is old.
    pub(super) fn had_job(&mut self) {
        self.clear = false;
        self.again_at = None;
    }
}

impl Worker {
    /// Looks, where this worker would end otherwise, or is there for one job or run that somebody else has.
    pub(super) fn look_around(&mut self) {
        let now = Instant::now();
        let wants = self.config().burst || self.config().only.is_some();
        if !wants || self.reach.looking || self.draining.is_some() || !self.is_quiet() {
            return;
        }
        if !self.dry && self.seat.may_take() {
            return;
        }
        let at = match self.config().burst {
            true if self.reach.clear => return,
            true => self.reach.again_at.unwrap_or(now),
            false => *self.reach.again_at.get_or_insert(now + IDLE),
        };
        if at > now {
            return;
        }
        self.reach.looking = true;
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move { Back::Looked(look(&shared).await) });
    }

    pub(super) fn looked(&mut self, look: Result<Look>) {
        let until_done = self.config().until_done;
        let reach = &mut self.reach;
        (reach.looking, reach.again_at) = (false, None);
        let look = match look {
            Ok(look) => look,
            Err(e) => {
                self.shared.queue.outage().say("cannot look for jobs of dead workers", &e);
                // As if there were none; but what it is to wait for is still to be waited for.
                reach.clear = until_done.is_none();
                reach.again_at = until_done.map(|_| Instant::now() + IDLE);
                return;
            }
        };
        if look.freed {
            self.dry = false;
            return;
        }
        let now = Instant::now();
        reach.waiting.retain(|number, _| look.neglected.iter().any(|holding| holding.number == *number));
        for holding in look.neglected {
            reach.waiting.entry(holding.number).or_insert_with(|| {
                info!(job = %holding.number, worker = holding.name, "waits for a lease that is not renewed");
                now + holding.ttl.duration() + TAKE_BACK
            });
        }
        let given_up = reach.waiting.values().all(|until| *until <= now);
        reach.clear = given_up && !look.comes;
        reach.again_at = (!reach.clear).then_some(now + if given_up { IDLE } else { AGAIN });
    }
}

/// Looks at the leases in reach, and takes the place of holders that are shown to be dead.
async fn look(shared: &Shared) -> Result<Look> {
    let config = &shared.config;
    let op = ListHoldings { worker: config.key.id, offer: config.offer.clone(), only: config.only };
    let mut holdings = shared.queue.call(op).await?;
    let mut freed = false;
    let mut seen = Vec::new();
    for holding in &holdings {
        let here = holding.host.as_ref() == Some(&config.host);
        if !here || seen.contains(&holding.worker) {
            continue;
        }
        seen.push(holding.worker);
        match succession::succeed(&shared.queue, config, holding.worker, &holding.name).await {
            Ok(jobs) => freed |= jobs.is_some_and(|jobs| !jobs.is_empty()),
            Err(e) => warn!("{} may be dead, and its jobs wait for their leases: {e}", holding.name),
        }
    }
    holdings.retain(Holding::is_neglected);
    let comes = match config.until_done {
        Some(within) => shared.queue.call(Outstanding { offer: config.offer.clone(), within }).await?.comes,
        None => false,
    };
    Ok(Look { freed, neglected: holdings, comes })
}
