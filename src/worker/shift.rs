//! The loop of a worker: one event at a time, and nothing in it waits for the store.

mod renewal;

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
use crate::ops::renew::RenewReply;
use crate::ops::settle::{Report, Settle, Settled, Started};
use crate::store::{CancelRequest, Topics};

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
    /// How long it gets between SIGTERM and SIGKILL.
    grace: Duration,
    /// When the renewal, or the lease itself, was asked for that it lives by.
    renewed: Instant,
    /// It is being ended because its lease could not be renewed.
    losing: bool,
    /// The request it is being ended by; another one may be harsher.
    cancelling: Option<CancelRequest>,
}

/// What comes back from the tasks of a worker.
enum Back {
    /// An attempt ended.
    Ended(Report),
    /// Jobs were leased, of so many asked for at that instant.
    Leased(u32, Instant, Result<LeaseReply>),
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
    /// When the renewal under way was asked for.
    renewing: Option<Instant>,
    renew_at: Instant,
    /// The last renewal failed because nobody can write the store.
    nobody_writes: bool,
    /// Whether the last lease left nothing to take.
    dry: bool,
    /// When it is worth asking for work though nothing happens.
    ask_at: Option<Instant>,
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
            renewing: None,
            renew_at: Instant::now(),
            nobody_writes: false,
            dry: false,
            ask_at: None,
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
        let registered = self.shared.persist(self.registration(self.config().owns_name)).await?;
        if !registered.taken_back.is_empty() {
            info!(jobs = ?registered.taken_back, "took back the jobs of a dead worker of this name");
        }
        Ok(())
    }

    /// The loop: one event at a time, nothing in it waits for the store.
    pub(super) async fn work(&mut self, mut changes: Subscription) -> Result<()> {
        let beat = self.config().ttl.third().duration();
        self.renew_at = Instant::now() + beat;
        loop {
            self.obey_stop();
            self.lease();
            if self.is_finished() {
                return Ok(());
            }
            let wake_at = match self.untold_drain() && self.renewing.is_none() {
                true => Instant::now(),
                false => self.wake_at(),
            };
            tokio::select! {
                Some(back) = self.tasks.join_next() => {
                    let back = back.map_err(|e| Error::failed("a task of the worker failed").source(e))?;
                    self.take(back)?;
                }
                topics = changes.changed(None) => {
                    self.dry &= !topics.meets(Topics::WORK);
                    if topics.meets(Topics::CONTROL) {
                        self.renew_at = Instant::now(); // asks what is wanted of us
                    }
                }
                changed = self.stop.changed() => {
                    if changed.is_err() {
                        self.drain(); // nobody is left who could ask
                    }
                }
                () = tokio::time::sleep_until(wake_at) => {}
            }
            self.give_up_late_ones();
            if (Instant::now() >= self.renew_at || self.untold_drain()) && self.renewing.is_none() {
                self.renew();
                self.renew_at = Instant::now() + beat;
            }
            if self.ask_at.is_some_and(|at| at <= Instant::now()) {
                self.ask_at = None;
                self.dry = false;
            }
        }
    }

    /// When something is to be done though nothing happens.
    fn wake_at(&self) -> Instant {
        let timer = self.ask_at.filter(|_| self.draining.is_none());
        let idle = self.config().idle_timeout.filter(|_| self.running.is_empty());
        let idle = idle.map(|t| self.idle_since + t.duration());
        let drained = self.draining.filter(|_| !self.interrupted);
        let late = self.running.values().filter(|job| !job.losing).map(|job| self.give_up_at(job));
        let late = late.min().filter(|_| !self.keeps_without_renewal());
        // While a renewal is under way, the next one waits for it.
        let renewal = Some(self.renew_at).filter(|_| self.renewing.is_none());
        let all = [renewal, timer, idle, drained, late].into_iter().flatten();
        all.fold(Instant::now() + self.config().ttl.duration(), Instant::min)
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
        let (queue, asked_at) = (self.shared.queue.clone(), Instant::now());
        self.tasks.spawn(async move { Back::Leased(slots, asked_at, queue.call(op).await) });
    }

    fn take(&mut self, back: Back) -> Result<()> {
        match back {
            Back::Ended(report) => self.ended(report),
            Back::Leased(asked, at, reply) => self.leased(asked, at, reply)?,
            Back::Settled(fences, reply) => {
                self.settling.retain(|fence| !fences.contains(fence));
                for (fence, settled) in fences.iter().zip(reply?) {
                    if settled == Settled::Stale {
                        warn!(job = fence.number, attempt = fence.attempt, "settled too late: the lease was lost");
                    }
                }
            }
            Back::Renewed(fences, reply) => {
                let asked_at = self.renewing.take().unwrap_or_else(Instant::now);
                self.renewed(&fences, asked_at, reply)?;
            }
        }
        Ok(())
    }

    fn leased(&mut self, asked: u32, at: Instant, reply: Result<LeaseReply>) -> Result<()> {
        self.asked -= asked;
        let reply = match reply {
            Ok(reply) => reply,
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                warn!("cannot lease: {e}");
                self.dry = true; // until the next change or timer
                self.ask_at = Some(Instant::now() + Duration::from_secs(1));
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
        // The millisecond more is for the store's clock, which counts whole ones.
        self.ask_at = reply.next_timer.map(|after| Instant::now() + after.duration() + Duration::from_millis(1));
        for job in reply.jobs {
            // After a commit of unknown outcome the answer is all that we hold: also what runs or has ended here.
            if !self.running.contains_key(&job.fence) && !self.settling.contains(&job.fence) {
                self.start(job, at);
            }
        }
        Ok(())
    }

    fn start(&mut self, job: Leased, leased_at: Instant) {
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
                grace: job.spec.kill_grace().duration(),
                renewed: leased_at,
                losing: false,
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
}
