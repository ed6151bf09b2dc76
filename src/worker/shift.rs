//! The loop of a worker: one event at a time, and nothing in it waits for the store.

mod renewal;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument as _, info, warn};

use super::attempt::{Attempt, Order};
use super::socket::Talker;
use super::{Config, Shared, Stop, chance, program};
use crate::error::{Error, Kind, Result};
use crate::hub::Subscription;
use crate::job::Fence;
use crate::job::state::Ending;
use crate::ops::lease::{Lease, LeaseReply, Leased};
use crate::ops::register::{Register, Registered};
use crate::ops::renew::RenewReply;
use crate::ops::settle::{Report, Settled, Started};
use crate::ops::turn::{Turn, TurnReply};
use crate::store::{CancelRequest, Topics};
use crate::time::Span;

/// How many orders an attempt may have waiting.
const ORDERS: usize = 8;

/// The most attempts that one turn settles.
const MAX_REPORTS: usize = 256;

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
    /// Its lease could not be renewed in time: it is being ended, or runs on if that is wished.
    late: bool,
    /// The request it is being ended by; another one may be harsher.
    cancelling: Option<CancelRequest>,
}

/// What comes back from the tasks of a worker.
enum Back {
    /// An attempt ended.
    Ended(Report),
    /// Attempts were settled, and jobs leased.
    Turned(Asked, Result<TurnReply>),
    /// The worker was registered again.
    Registered(Result<Registered>),
    /// Leases were renewed.
    Renewed(Vec<Fence>, Result<RenewReply>),
}

/// A turn under way.
struct Asked {
    /// The attempts that it settles.
    settling: Vec<Fence>,
    /// The jobs that it asks for.
    slots: u32,
    at: Instant,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    stop: watch::Receiver<Stop>,
    running: HashMap<Fence, Running>,
    tasks: JoinSet<Back>,
    /// Attempts that ended and are to be settled with the next turn.
    ended: Vec<Report>,
    /// There is one turn at a time: what ends meanwhile shares the next.
    turning: bool,
    /// Attempts that are being settled, and since when.
    settling: HashMap<Fence, Instant>,
    /// Of attempts that ended and are not settled yet, for the log.
    spans: HashMap<Fence, tracing::Span>,
    /// It is being registered again.
    registering: bool,
    /// When the renewal under way was asked for.
    renewing: Option<Instant>,
    renew_at: Instant,
    /// The last renewal failed because nobody can write the store.
    nobody_writes: bool,
    /// Whether the last lease left nothing to take.
    dry: bool,
    /// The last lease said less than there may be, so nobody knows whether there is anything to take.
    blind: bool,
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
            ended: Vec::new(),
            turning: false,
            registering: false,
            settling: HashMap::new(),
            spans: HashMap::new(),
            renewing: None,
            renew_at: Instant::now(),
            nobody_writes: false,
            dry: false,
            blind: false,
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
        let registered = self.shared.persist(&self.registration(self.config().owns_name)).await?;
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
            self.turn();
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
        let late = self.running.values().filter(|job| !job.late).map(|job| self.give_up_at(job));
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
        let quiet = self.running.is_empty() && !self.turning && self.ended.is_empty() && !self.registering;
        let idle = || {
            let limit = self.config().idle_timeout;
            limit.is_some_and(|t| self.idle_since.elapsed() >= t.duration())
        };
        quiet && (self.draining.is_some() || (self.dry && !self.blind && (self.config().burst || idle())))
    }

    fn free_slots(&self) -> u32 {
        let used = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        self.config().slots.saturating_sub(used)
    }

    /// Reports what ended, and asks for jobs where there are free slots and hope; both share one commit.
    fn turn(&mut self) {
        let hope = !self.dry && self.draining.is_none() && !self.registering;
        let slots = if hope { self.free_slots() } else { 0 };
        if self.turning || (slots == 0 && self.ended.is_empty()) {
            return;
        }
        self.turning = true;
        let rest = self.ended.split_off(self.ended.len().min(MAX_REPORTS));
        let reports = std::mem::replace(&mut self.ended, rest);
        let settling: Vec<Fence> = reports.iter().map(|report| report.fence).collect();
        self.settling.extend(settling.iter().map(|fence| (*fence, Instant::now())));
        let config = self.config();
        let lease = (slots > 0).then(|| Lease {
            worker: config.id,
            name: config.name.clone(),
            offer: config.offer.clone(),
            slots,
            ttl: config.ttl,
            only: config.only,
        });
        let asked = Asked { settling, slots, at: Instant::now() };
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            let reply = shared.turn(Turn { reports, lease }).await;
            Back::Turned(asked, reply)
        });
    }

    fn take(&mut self, back: Back) -> Result<()> {
        match back {
            Back::Ended(report) => self.ended(report),
            Back::Turned(asked, reply) => self.turned(asked, reply)?,
            Back::Registered(reply) => {
                self.registering = false;
                self.blind = false;
                self.dry = false;
                if let Err(e) = reply {
                    warn!("cannot register: {e}"); // the next heartbeat tries again
                }
            }
            Back::Renewed(fences, reply) => {
                let asked_at = self.renewing.take().unwrap_or_else(Instant::now);
                self.renewed(&fences, asked_at, reply)?;
            }
        }
        Ok(())
    }

    fn turned(&mut self, asked: Asked, reply: Result<TurnReply>) -> Result<()> {
        self.turning = false;
        self.settling.retain(|fence, _| !asked.settling.contains(fence));
        let reply = match reply {
            Ok(reply) => reply,
            // Only to lease: settling waits until the store takes it.
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                warn!("cannot lease: {e}");
                self.blind = true;
                self.dry = true; // until the next change or timer
                self.ask_at = Some(Instant::now() + Duration::from_secs(1));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        for (fence, settled) in asked.settling.iter().zip(&reply.settled) {
            let span = self.spans.remove(fence);
            if *settled == Settled::Stale {
                span.unwrap_or_else(tracing::Span::none).in_scope(|| warn!("settled too late: the lease was lost"));
            }
        }
        match reply.leased {
            Some(leased) => self.leased(asked.slots, asked.at, leased),
            // Removed as lost while this process was stopped: it registers again with the next heartbeat.
            None if asked.slots > 0 => {
                self.blind = true;
                self.dry = true;
                self.renew_at = Instant::now();
            }
            None => self.dry = false, // what was settled may have made room
        }
        Ok(())
    }

    fn leased(&mut self, asked: u32, at: Instant, reply: LeaseReply) {
        self.dry = (reply.jobs.len() as u32) < asked;
        // At once again: after a commit of unknown outcome the answer may be less than there is.
        self.blind = reply.next_timer == Some(Span::ZERO);
        // The millisecond more is for the store's clock, which counts whole ones.
        self.ask_at = reply.next_timer.map(|after| Instant::now() + after.duration() + Duration::from_millis(1));
        for job in reply.jobs {
            // After a commit of unknown outcome the answer is all that we hold: also what runs or has ended here.
            let fence = job.fence;
            let ended = || self.ended.iter().any(|report| report.fence == fence);
            if !self.running.contains_key(&fence) && !self.settling.contains_key(&fence) && !ended() {
                self.start(job, at);
            }
        }
    }

    fn start(&mut self, job: Leased, leased_at: Instant) {
        let slot = (1..).find(|n| self.running.values().all(|r| r.slot != *n)).unwrap_or(1);
        let (orders, receiver) = mpsc::channel(ORDERS);
        let started = Arc::new(OnceLock::new());
        let span = tracing::info_span!("job", id = %job.id, number = job.fence.number, attempt = job.fence.attempt,
            queue = %job.queue, trace = %job.captured.trace_id(job.id));
        span.in_scope(|| info!("leased"));
        let marker = program::marker(self.config(), job.fence);
        let mask = Arc::new(OnceLock::new());
        self.shared.talkers.add(&marker, Talker { fence: job.fence, orders: orders.clone(), mask: Arc::clone(&mask) });
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
                late: false,
                cancelling: None,
            },
        );
        let attempt = Attempt { shared: Arc::clone(&self.shared), job, slot, orders: receiver, started, mask };
        self.tasks.spawn(async move { Back::Ended(attempt.run().await) }.instrument(span));
    }

    /// Frees the slot; the next turn reports it and asks for another job.
    fn ended(&mut self, mut report: Report) {
        let fence = report.fence;
        self.shared.talkers.remove(&program::marker(self.config(), fence));
        if let Some(job) = self.running.remove(&fence) {
            let Ending { cause, exit_code, signal, .. } = &report.ending;
            job.span.in_scope(|| info!(by = cause.as_str(), exit_code, signal, "ended"));
            if job.told {
                report.started = None;
            }
            self.spans.insert(fence, job.span);
        }
        self.idle_since = Instant::now();
        self.dry = false; // a slot, and maybe room under a limit, is free
        self.ended.push(report);
    }
}
