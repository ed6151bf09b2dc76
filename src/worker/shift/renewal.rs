//! Keeping leases, learning by the way what is asked for, and giving up in time what cannot be kept (S2).

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::{Back, Running, Worker};
use crate::error::{Kind, Result};
use crate::job::Fence;
use crate::ops::renew::{Renew, RenewReply, Renewed};
use crate::queue::Request;
use crate::store::WorkerState;
use crate::worker::attempt::Order;

/// How soon a renewal that failed is tried again.
const RENEW_AGAIN: Duration = Duration::from_millis(250);

impl Worker {
    /// Where nobody can write, nobody can take a lease either (S2).
    pub(super) fn keeps_without_renewal(&self) -> bool {
        self.nobody_writes || self.shared.queue.fails_for_everyone()
    }

    /// When the processes of a job must be gone: before the store may hand it to another.
    fn gone_at(&self, job: &Running) -> Instant {
        let ttl = self.config().ttl.duration();
        job.renewed + ttl - ttl / 10
    }

    /// When they are told.
    pub(super) fn give_up_at(&self, job: &Running) -> Instant {
        self.gone_at(job) - job.grace.min(self.config().ttl.duration() / 6)
    }

    /// Ends jobs whose leases could not be renewed in time, unless they are to finish: another worker may be given them (S2).
    pub(super) fn give_up_late_ones(&mut self) {
        if self.keeps_without_renewal() {
            return;
        }
        let now = Instant::now();
        let late = |job: &Running| !job.late && self.give_up_at(job) <= now;
        let late: Vec<Fence> = self.running.iter().filter(|(_, job)| late(job)).map(|(fence, _)| *fence).collect();
        for fence in late {
            let Some(job) = self.running.get(&fence) else { continue };
            let gone_at = self.gone_at(job);
            let finish = self.config().finish_when_lost;
            let what = if finish { "the job runs on, and counts if no other worker gets it" } else { "ending the job" };
            job.span.in_scope(|| warn!("the lease could not be renewed: {what}"));
            if let Some(job) = self.running.get_mut(&fence) {
                job.late = true;
                if !finish {
                    let _ = job.orders.try_send(Order::Lose(gone_at)); // full: it is being ended
                }
            }
        }
    }

    /// Attempts that ended and cannot be settled: another worker must not run them again meanwhile.
    fn stuck(&self) -> impl Iterator<Item = Fence> {
        let patience = self.config().ttl.third().duration();
        let waiting = self.ended.iter().map(|report| report.fence).filter(|_| !self.turning.is_empty());
        let long = self.settling.iter().filter(move |(_, since)| since.elapsed() > patience);
        let long: Vec<Fence> = long.map(|(fence, _)| *fence).collect();
        let slow = !long.is_empty() || self.turning.iter().any(|turn| turn.asked_at.elapsed() > patience);
        let waiting: Vec<Fence> = if slow { waiting.collect() } else { Vec::new() };
        let hindered = self.hindered.0.iter().map(|report| report.fence);
        long.into_iter().chain(waiting).chain(hindered)
    }

    pub(super) fn renew(&mut self) {
        self.renewing = true;
        self.told_drain = self.draining.is_some();
        let config = self.config();
        let mut op = Renew {
            worker: config.id,
            name: config.name.clone(),
            ttl: config.ttl,
            fences: self.running.keys().chain(self.unsure.keys()).copied().chain(self.stuck()).collect(),
            started: Vec::new(),
            draining: self.draining.is_some(),
        };
        for (fence, job) in &mut self.running {
            if let (false, Some(started)) = (job.told, job.started.get()) {
                job.told = true;
                op.started.push((*fence, *started));
            }
        }
        self.telling = op.started.iter().map(|(fence, _)| *fence).collect();
        let queue = self.shared.queue.clone();
        self.tasks.spawn(async move {
            let fences = op.fences.clone();
            Back::Renewed(fences, queue.call_since(op, Request::new()).await)
        });
    }

    pub(super) fn renewed(&mut self, fences: &[Fence], reply: Result<(Instant, RenewReply)>) -> Result<()> {
        let (since, reply) = match reply {
            Ok(renewed) => renewed,
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                warn!("cannot renew: {e}");
                self.nobody_writes = e.is_for_everyone();
                self.renew_at = self.renew_at.min(Instant::now() + RENEW_AGAIN);
                for fence in std::mem::take(&mut self.telling) {
                    if let Some(job) = self.running.get_mut(&fence) {
                        job.told = false;
                    }
                }
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        self.nobody_writes = false;
        let finish = self.config().finish_when_lost;
        match reply.worker {
            Some(WorkerState::Draining) => self.drain(),
            Some(_) => {}
            None => self.register_again(),
        }
        for (fence, renewed) in fences.iter().zip(reply.leases) {
            if renewed == Renewed::Busy {
                self.renew_at = self.renew_at.min(Instant::now() + RENEW_AGAIN);
            }
            let Some(job) = self.running.get_mut(fence) else {
                self.ascertain(*fence, &renewed, since);
                continue;
            };
            if renewed == Renewed::Busy {
                job.told &= !self.telling.contains(fence);
                continue;
            }
            job.renewed = since;
            job.late &= !finish;
            match renewed {
                Renewed::Held | Renewed::Busy => {}
                Renewed::Cancel(how) if job.cancelling.as_ref() != Some(&how) => {
                    job.cancelling = Some(how.clone());
                    let _ = job.orders.try_send(Order::Cancel(how)); // full: it is being ended
                }
                Renewed::Cancel(_) => {}
                Renewed::Stale => {
                    job.span.in_scope(|| warn!("the lease is lost: ending the job"));
                    let _ = job.orders.try_send(Order::Kill); // full: it is being ended
                }
            }
        }
        Ok(())
    }

    /// The store took this worker for dead, for instance because it was stopped for a while.
    fn register_again(&mut self) {
        warn!("this worker was taken for dead; registering again");
        if self.registering {
            return;
        }
        self.registering = true; // holds the end back until the answer is there
        let op = self.registration(Vec::new());
        let queue = self.shared.queue.clone();
        self.tasks.spawn(async move { Back::Registered(queue.call(op).await) });
    }
}
