//! The loop of a worker: one event at a time, and nothing in it waits for the store.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument as _, info, warn};

use super::attempt::{Attempt, Order};
use super::{Config, Shared, Stop, chance, program};
use crate::engine::Subscription;
use crate::error::{Error, Kind, Result};
use crate::job::Fence;
use crate::job::state::Ending;
use crate::ops::lease::{Lease, LeaseReply, Leased};
use crate::ops::register::Register;
use crate::ops::renew::{Renew, RenewReply, Renewed};
use crate::ops::settle::{Report, Settle, Settled, Started};
use crate::store::{CancelRequest, Topics, WorkerState};
use crate::time::{Span, Timestamp};

/// How many orders an attempt may have waiting.
const ORDERS: usize = 8;

/// An attempt that runs.
struct Running {
    /// Puts the job's ids on each line of the log.
    span: tracing::Span,
    slot: u32,
    orders: mpsc::Sender<Order>,
    started: Arc<OnceLock<Started>>,
    /// Whether its start was recorded.
    told: bool,
    service: bool,
    /// The request it is being ended by; another one may be harsher.
    cancelling: Option<CancelRequest>,
}

/// What comes back from the tasks of a worker.
enum Back {
    /// An attempt ended.
    Ended(Report),
    /// Jobs were leased, of so many asked for.
    Leased(u32, Result<LeaseReply>),
    /// Attempts were settled.
    Settled(Vec<Fence>, Result<Vec<Settled>>),
    /// Leases were renewed.
    Renewed(Vec<Fence>, Result<RenewReply>),
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    stop: watch::Receiver<Stop>,
    running: HashMap<Fence, Running>,
    tasks: JoinSet<Back>,
    /// Slots asked for in leases under way.
    asked: u32,
    /// Attempts whose settles are under way.
    settling: HashSet<Fence>,
    renewing: bool,
    /// Whether the last lease left nothing to take.
    dry: bool,
    next_timer: Option<Timestamp>,
    idle_since: Instant,
    draining: Option<Instant>,
    /// The store knows that it drains.
    told_drain: bool,
    interrupted: bool,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, stop: watch::Receiver<Stop>) -> Self {
        Self {
            shared,
            stop,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            asked: 0,
            settling: HashSet::new(),
            renewing: false,
            dry: false,
            next_timer: None,
            idle_since: Instant::now(),
            draining: None,
            told_drain: false,
            interrupted: false,
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    fn registration(&self, succeeds: bool) -> Register {
        let config = self.config();
        Register { worker: config.introduction(), ttl: config.ttl, succeeds, jitter: chance() }
    }

    pub(super) async fn register(&self) -> Result<()> {
        let registered = self.shared.queue.call(self.registration(self.config().owns_name)).await?;
        if !registered.taken_back.is_empty() {
            info!(jobs = ?registered.taken_back, "took back the jobs of a dead worker of this name");
        }
        Ok(())
    }

    /// The loop: one event at a time, nothing in it waits for the store.
    pub(super) async fn work(&mut self, mut changes: Subscription) -> Result<()> {
        let beat = self.config().ttl.third().duration();
        let mut renew_at = Instant::now() + beat;
        loop {
            self.obey_stop();
            self.lease();
            if self.is_finished() {
                return Ok(());
            }
            let wake_at = match self.untold_drain() && !self.renewing {
                true => Instant::now(),
                false => self.wake_at(renew_at),
            };
            tokio::select! {
                Some(back) = self.tasks.join_next() => {
                    let back = back.map_err(|e| Error::failed("a task of the worker failed").source(e))?;
                    self.take(back)?;
                }
                topics = changes.changed(None) => {
                    self.dry &= !topics.meets(Topics::WORK);
                    if topics.meets(Topics::CONTROL) {
                        renew_at = Instant::now(); // asks what is wanted of us
                    }
                }
                changed = self.stop.changed() => {
                    if changed.is_err() {
                        self.drain(); // nobody is left who could ask
                    }
                }
                () = tokio::time::sleep_until(wake_at) => {}
            }
            if (Instant::now() >= renew_at || self.untold_drain()) && !self.renewing {
                self.renew();
                renew_at = Instant::now() + beat;
            }
            if self.next_timer.is_some_and(|at| at <= self.shared.clock.now()) {
                self.next_timer = None;
                self.dry = false;
            }
        }
    }

    /// When something is to be done though nothing happens.
    fn wake_at(&self, renew_at: Instant) -> Instant {
        let now = Instant::now();
        let in_time = |at: Timestamp| now + at.since(self.shared.clock.now()).duration() + Duration::from_millis(1);
        let timer = self.next_timer.filter(|_| self.draining.is_none()).map(in_time);
        let idle = self.config().idle_timeout.filter(|_| self.running.is_empty());
        let idle = idle.map(|t| self.idle_since + t.duration());
        let drained = self.draining.filter(|_| !self.interrupted);
        let all = [timer, idle, drained].into_iter().flatten();
        all.fold(renew_at, Instant::min)
    }

    fn obey_stop(&mut self) {
        let stop = *self.stop.borrow_and_update();
        if stop >= Stop::Drain {
            self.drain();
        }
        let late = self.draining.is_some_and(|at| at <= Instant::now());
        if (stop == Stop::Interrupt || late) && !self.interrupted {
            self.interrupted = true;
            self.tell_all(|_| true, &Order::Interrupt);
        }
    }

    /// Takes no more jobs, and interrupts services at once: they would never end by themselves (S6).
    fn drain(&mut self) {
        if self.draining.is_none() {
            info!(running = self.running.len(), "draining");
            self.draining = Some(Instant::now() + self.config().drain_timeout.duration());
            self.tell_all(|job| job.service, &Order::Interrupt);
        }
    }

    /// Others must not count on a worker that drains.
    fn untold_drain(&self) -> bool {
        self.draining.is_some() && !self.told_drain && !self.running.is_empty()
    }

    fn tell_all(&self, which: impl Fn(&Running) -> bool, order: &Order) {
        for job in self.running.values().filter(|job| which(job)) {
            let _ = job.orders.try_send(order.clone()); // full: it has orders enough to end
        }
    }

    fn is_finished(&self) -> bool {
        let quiet = self.running.is_empty() && self.asked == 0 && self.settling.is_empty();
        let idle = || {
            let limit = self.config().idle_timeout;
            limit.is_some_and(|t| self.idle_since.elapsed() >= t.duration())
        };
        quiet && (self.draining.is_some() || (self.dry && (self.config().burst || idle())))
    }

    fn free_slots(&self) -> u32 {
        let used = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        self.config().slots.saturating_sub(used.saturating_add(self.asked))
    }

    /// Asks for jobs where there are free slots and hope.
    fn lease(&mut self) {
        let slots = self.free_slots();
        if slots == 0 || self.dry || self.draining.is_some() {
            return;
        }
        self.asked += slots;
        let config = self.config();
        let op = Lease {
            worker: config.id,
            name: config.name.clone(),
            offer: config.offer.clone(),
            slots,
            ttl: config.ttl,
            only: config.only,
        };
        let queue = self.shared.queue.clone();
        self.tasks.spawn(async move { Back::Leased(slots, queue.call(op).await) });
    }

    fn take(&mut self, back: Back) -> Result<()> {
        match back {
            Back::Ended(report) => self.ended(report),
            Back::Leased(asked, reply) => self.leased(asked, reply)?,
            Back::Settled(fences, reply) => {
                self.settling.retain(|fence| !fences.contains(fence));
                for (fence, settled) in fences.iter().zip(reply?) {
                    if settled == Settled::Stale {
                        warn!(job = fence.number, attempt = fence.attempt, "settled too late: the lease was lost");
                    }
                }
            }
            Back::Renewed(fences, reply) => {
                self.renewing = false;
                self.renewed(&fences, reply)?;
            }
        }
        Ok(())
    }

    fn leased(&mut self, asked: u32, reply: Result<LeaseReply>) -> Result<()> {
        self.asked -= asked;
        let reply = match reply {
            Ok(reply) => reply,
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                warn!("cannot lease: {e}");
                self.dry = true; // until the next change or timer
                self.next_timer = Some(self.shared.clock.now().plus(Span::from_secs(1)));
                return Ok(());
            }
            // Removed as lost while this process was stopped: register again with the next heartbeat.
            Err(e) if e.kind() == Kind::Conflict => {
                warn!("cannot lease: {e}");
                self.dry = true;
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        self.dry = reply.jobs.is_empty() || (reply.jobs.len() as u32) < asked;
        self.next_timer = reply.next_timer;
        for job in reply.jobs {
            // After a commit of unknown outcome the answer is all that we hold: also what runs or has ended here.
            if !self.running.contains_key(&job.fence) && !self.settling.contains(&job.fence) {
                self.start(job);
            }
        }
        Ok(())
    }

    fn start(&mut self, job: Leased) {
        let slot = (1..).find(|n| self.running.values().all(|r| r.slot != *n)).unwrap_or(1);
        let (orders, receiver) = mpsc::channel(ORDERS);
        let started = Arc::new(OnceLock::new());
        let span = tracing::info_span!("job", id = %job.id, number = job.fence.number, attempt = job.fence.attempt,
            queue = %job.queue, trace = %job.captured.trace_id(job.id));
        span.in_scope(|| info!("leased"));
        let marker = program::marker(self.config(), job.fence);
        self.shared.talkers.add(&marker, job.fence, orders.clone());
        self.running.insert(
            job.fence,
            Running {
                span: span.clone(),
                slot,
                orders,
                started: Arc::clone(&started),
                told: false,
                service: job.spec.is_service(),
                cancelling: None,
            },
        );
        let attempt = Attempt { shared: Arc::clone(&self.shared), job, slot, orders: receiver, started };
        self.tasks.spawn(async move { Back::Ended(attempt.run().await) }.instrument(span));
    }

    /// Frees the slot, and asks for the next job in the same breath: both share one commit.
    fn ended(&mut self, mut report: Report) {
        let fence = report.fence;
        self.shared.talkers.remove(&program::marker(self.config(), fence));
        if let Some(job) = self.running.remove(&fence) {
            let Ending { cause, exit_code, signal, .. } = &report.ending;
            job.span.in_scope(|| info!(by = cause.as_str(), exit_code, signal, "ended"));
            if job.told {
                report.started = None;
            }
        }
        self.idle_since = Instant::now();
        self.settling.insert(fence);
        self.dry = false; // a slot, and maybe room under a limit, is free
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            let reply = shared.persist(Settle { reports: vec![report] }).await;
            Back::Settled(vec![fence], reply)
        });
    }

    fn renew(&mut self) {
        self.renewing = true;
        self.told_drain = self.draining.is_some();
        let config = self.config();
        let mut op = Renew {
            worker: config.id,
            name: config.name.clone(),
            ttl: config.ttl,
            fences: self.running.keys().copied().collect(),
            started: Vec::new(),
            draining: self.draining.is_some(),
        };
        for (fence, job) in &mut self.running {
            if let (false, Some(started)) = (job.told, job.started.get()) {
                job.told = true;
                op.started.push((*fence, *started));
            }
        }
        let queue = self.shared.queue.clone();
        self.tasks.spawn(async move {
            let fences = op.fences.clone();
            Back::Renewed(fences, queue.call(op).await)
        });
    }

    fn renewed(&mut self, fences: &[Fence], reply: Result<RenewReply>) -> Result<()> {
        let reply = match reply {
            Ok(reply) => reply,
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                // Nobody can write this store, so nobody can take the leases either (S2).
                warn!("cannot renew: {e}");
                self.running.values_mut().for_each(|job| job.told = false);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        match reply.worker {
            Some(WorkerState::Draining) => self.drain(),
            Some(_) => {}
            None => self.register_again(),
        }
        for (fence, renewed) in fences.iter().zip(reply.leases) {
            let Some(job) = self.running.get_mut(fence) else { continue };
            match renewed {
                Renewed::Held => {}
                Renewed::Cancel(how) if job.cancelling.as_ref() != Some(&how) => {
                    job.cancelling = Some(how.clone());
                    let _ = job.orders.try_send(Order::Cancel(how)); // full: it is being ended
                }
                Renewed::Cancel(_) => {}
                Renewed::Stale => {
                    warn!(number = fence.number, attempt = fence.attempt, "the lease is lost: ending the job");
                    let _ = job.orders.try_send(Order::Kill); // full: it is being ended
                }
            }
        }
        Ok(())
    }

    /// The store took this worker for dead, for instance because it was stopped for a while.
    fn register_again(&mut self) {
        warn!("this worker was taken for dead; registering again");
        self.dry = false;
        let op = self.registration(false);
        let queue = self.shared.queue.clone();
        self.asked += 1; // holds the end back until the answer is there
        self.tasks.spawn(async move {
            let reply = queue.call(op).await;
            Back::Leased(1, reply.map(|_| LeaseReply { jobs: Vec::new(), next_timer: None }))
        });
    }
}
