//! Keeping leases, giving up in time what cannot be kept (S2), and saying that the worker is there, lives, and ends.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Back, Running, Worker};
use crate::error::{Error, Kind, Result};
use crate::job::Fence;
use crate::ops::heartbeat::{Heartbeat, HeartbeatReply};
use crate::ops::register::{Deregister, Register};
use crate::ops::renew::{Renew, Renewed};
use crate::queue::Request;
use crate::store::WorkerState;
use crate::time::Span;
use crate::worker::attempt::Order;
use crate::worker::{chance, program};

/// How soon a renewal or a heartbeat that failed is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// For how long it is known of a lease that somebody has it locked: nobody else can take it so long.
const BUSY: Duration = Duration::from_secs(1);

impl Worker {
    /// When the processes of a job must be gone: before the store may hand it to another.
    fn gone_at(&self, job: &Running) -> Instant {
        let ttl = self.config().ttl.duration();
        job.renewed + ttl - ttl / 10
    }

    /// When they are told; never where nobody could take a lease either as long as this process cannot (S2).
    pub(super) fn give_up_at(&self, job: &Running) -> Option<Instant> {
        let at = self.gone_at(job) - job.grace.min(self.config().ttl.duration() / 6);
        (!job.late && !self.shared.queue.fails_for_everyone()).then(|| job.busy_until.map_or(at, |busy| busy.max(at)))
    }

    /// Ends jobs whose leases could not be renewed in time, unless they are to finish: another worker may be given them (S2).
    pub(super) fn give_up_late_ones(&mut self) {
        let now = Instant::now();
        let late = |job: &Running| self.give_up_at(job).is_some_and(|at| at <= now);
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
        let fences: Vec<Fence> = self.running.keys().chain(self.unsure.keys()).copied().chain(self.stuck()).collect();
        if fences.is_empty() {
            return;
        }
        self.renewing = true;
        let op = Renew { worker: self.config().key.clone(), ttl: self.config().ttl, fences: fences.clone() };
        let (queue, asked_at) = (self.shared.queue.clone(), Instant::now());
        self.tasks.spawn(async move { Back::Renewed(fences, asked_at, queue.call_since(op, Request::new()).await) });
    }

    pub(super) fn renewed(
        &mut self,
        fences: &[Fence],
        asked_at: Instant,
        reply: Result<(Instant, Vec<Renewed>)>,
    ) -> Result<()> {
        let (since, leases) = match reply {
            Ok(renewed) => renewed,
            Err(e) if waits(&e) => {
                self.shared.queue.outage().say("cannot renew", &e);
                self.renew_at = self.renew_at.min(Instant::now() + AGAIN);
                if e.is_for_everyone() {
                    // Who could not renew either could not take a lease, and whoever first can gives the time back (S2).
                    for fence in fences {
                        if let Some(job) = self.running.get_mut(fence) {
                            job.renewed = job.renewed.max(asked_at);
                        }
                    }
                }
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let finish = self.config().finish_when_lost;
        for (fence, renewed) in fences.iter().zip(leases) {
            if renewed == Renewed::Busy {
                self.renew_at = self.renew_at.min(Instant::now() + AGAIN);
            }
            let Some(job) = self.running.get_mut(fence) else {
                self.ascertain(*fence, &renewed, since);
                continue;
            };
            job.busy_until = (renewed == Renewed::Busy).then(|| since + BUSY);
            if renewed != Renewed::Busy {
                job.renewed = since;
                job.late &= !finish;
            }
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

    /// Says that the worker lives, and what has started.
    pub(super) fn beat(&mut self) {
        self.beating = true;
        self.told_drain = self.draining.is_some();
        let mut started = Vec::new();
        for (fence, job) in &mut self.running {
            if let (false, Some(start)) = (job.told, job.started.get()) {
                job.told = true;
                started.push((*fence, *start));
            }
        }
        let config = self.config();
        let draining = self.draining.is_some();
        let (worker, name, trouble) = (config.key.clone(), config.name.clone(), self.shared.starts.trouble());
        let op = Heartbeat { worker, name, ttl: config.ttl, draining, trouble, started };
        let queue = self.shared.queue.clone();
        let place = queue.clone();
        self.tasks.spawn(async move { Back::Placed(place.in_place().await) });
        self.tasks.spawn(async move {
            let telling = op.started.iter().map(|(fence, _)| *fence).collect();
            Back::Beaten(telling, queue.call(op).await)
        });
    }

    /// Nobody else sees what is written to a store that was removed or replaced: this worker takes no more of it.
    pub(super) fn placed(&mut self, placed: Result<()>) {
        let Err(e) = placed else { return };
        if e.is_lasting() && self.misplaced.is_none() {
            warn!("{e}: this worker drains");
            self.misplaced = Some(e);
            self.drain();
        } else if !e.is_lasting() && !self.told_link {
            warn!("{e}: nobody else can open it");
            self.told_link = true;
        }
    }

    /// `telling`: the attempts of whose start it told.
    pub(super) fn beaten(&mut self, telling: &[Fence], reply: Result<HeartbeatReply>) -> Result<()> {
        let heard = match reply {
            Ok(heard) => heard,
            Err(e) if waits(&e) => {
                self.shared.queue.outage().say("no heartbeat", &e);
                self.beat_at = self.beat_at.min(Instant::now() + AGAIN);
                self.tell_again(telling);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        self.tell_again(&heard.untold);
        match heard.worker {
            Some(WorkerState::Draining) => self.drain(),
            Some(_) => {}
            None => self.register_again(),
        }
        Ok(())
    }

    /// The start of these attempts was not recorded.
    fn tell_again(&mut self, untold: &[Fence]) {
        for fence in untold {
            if let Some(job) = self.running.get_mut(fence) {
                job.told = false;
            }
        }
    }

    fn registration(&self) -> Register {
        let config = self.config();
        Register {
            worker: config.introduction(),
            secret: config.key.secret.clone(),
            ttl: config.ttl,
            succeeds: Vec::new(),
            doubt: None,
            jitter: chance(),
        }
    }

    /// `doubt`: see [`Register::doubt`].
    pub(in crate::worker) async fn register(&self, doubt: Option<Span>) -> Result<()> {
        let op = Register { succeeds: self.config().predecessors.clone(), doubt, ..self.registration() };
        let registered = self.shared.begin(&op).await?;
        if !registered.taken_back.is_empty() {
            info!(jobs = ?registered.taken_back, "took back the jobs of a dead worker of this name");
        }
        if !registered.left.is_empty() {
            warn!(jobs = ?registered.left, "{}", program::IN_DOUBT);
        }
        Ok(())
    }

    pub(in crate::worker) async fn say_goodbye(&self) -> Result<()> {
        let config = self.config();
        self.shared.queue.call(Deregister { worker: config.key.clone(), name: config.name.clone() }).await
    }

    /// The store took this worker for dead, for instance because it was stopped for a while.
    fn register_again(&mut self) {
        warn!("this worker was taken for dead; registering again");
        if self.registering {
            return;
        }
        self.registering = true; // holds the end back until the answer is there
        let op = self.registration();
        let queue = self.shared.queue.clone();
        self.tasks.spawn(async move { Back::Registered(queue.call(op).await) });
    }
}

/// Whether it is tried again after this error.
fn waits(e: &Error) -> bool {
    matches!(e.kind(), Kind::Unavailable | Kind::Unknown)
}
