//! The end of a worker that drains while the store takes nothing, and of its jobs where it does not wait for the store.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::{Back, Worker};
use crate::error::{Error, Kind};
use crate::job::Fence;
use crate::store::CancelRequest;
use crate::worker::SWEEP_LIMIT;
use crate::worker::attempt::Order;

/// The longest that a worker which drains tries to settle what has ended; less where its leases are shorter.
///
/// It is the default lease: after that time another worker may have been given the jobs. With the default drain timeout
/// and kill grace it ends well before the stop timeout of the systemd units.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
/// How many attempts are named.
const MAX_NAMED: usize = 20;

/// Waits until somebody in this process asks for the end of its jobs; for ever where nobody can.
pub(super) async fn asked(cancel: &mut Option<watch::Receiver<Option<CancelRequest>>>) {
    if let Some(changes) = cancel
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

impl Worker {
    /// Kills what runs still: nothing of it counts any more.
    pub(in crate::worker) async fn end_all(&mut self) {
        self.tell_all(|_| true, &Order::Kill);
        let ended = async {
            while !self.running.is_empty() {
                match self.tasks.join_next().await {
                    Some(Ok(Back::Ended(report))) => self.ended(report),
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if tokio::time::timeout(SWEEP_LIMIT, ended).await.is_err() {
            warn!("some jobs do not end");
        }
    }

    /// Somebody in this process asked for the end of all its jobs.
    pub(super) fn obey_cancel(&mut self) {
        let how = self.cancel.as_mut().and_then(|cancel| cancel.borrow_and_update().clone());
        if let Some(how) = how {
            for job in self.running.values_mut().filter(|job| job.cancelling.as_ref() != Some(&how)) {
                job.cancelling = Some(how.clone());
                let _ = job.orders.try_send(Order::Cancel(how.clone())); // full: it is being ended
            }
        }
    }

    /// When it stops trying to reach the store: it drains, nothing runs any more, and nothing could be said for so long.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        let config = self.config();
        let drains_since = self.draining? - config.drain_timeout.duration();
        let limit = config.ttl.duration().min(SETTLE_LIMIT);
        self.running.is_empty().then(|| self.idle_since.max(drains_since) + limit)
    }

    /// What it leaves behind: nobody can say which of these outcomes are stored.
    pub(super) fn given_up(&self) -> Error {
        let mut fences: Vec<Fence> = self.settling.keys().copied().collect();
        fences.extend(self.ended.iter().chain(&self.hindered.0).map(|report| report.fence));
        fences.sort_unstable_by_key(|fence| (fence.number, fence.attempt));
        let what = match fences.len() {
            0 => return Error::unavailable("the store does not answer, and the worker ends without saying good-bye"),
            1 => "unknown whether the outcome of this attempt is stored",
            _ => "unknown whether the outcomes of these attempts are stored",
        };
        let named = fences.iter().take(MAX_NAMED);
        let mut list: Vec<String> = named.map(|f| format!("job {} attempt {}", f.number, f.attempt)).collect();
        if fences.len() > MAX_NAMED {
            list.push(format!("and {} more", fences.len() - MAX_NAMED));
        }
        let numbers: Vec<String> = fences.iter().take(MAX_NAMED).map(|fence| fence.number.to_string()).collect();
        Error::new(Kind::Unknown, format!("{what}: {}", list.join(", "))).hint(format!(
            "what is not stored counts as a lost lease; check with `orx status {}` when the store is back",
            numbers.join(" ")
        ))
    }
}
