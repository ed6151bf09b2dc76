//! The loop of a worker: one event at a time, and nothing in it waits for the store.

mod farewell;
mod reach;
mod renewal;
mod turns;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::info;

use self::farewell::asked;
use self::reach::{Look, Reach};
use super::attempt::Order;
use super::slots::Seat;
use super::{Config, Shared, Stop};
use crate::beat::on_beat;
use crate::error::{Error, Result};
use crate::hub::Subscription;
use crate::job::Fence;
use crate::ops::heartbeat::HeartbeatReply;
use crate::ops::lease::Leased;
use crate::ops::register::Registered;
use crate::ops::renew::Renewed;
use crate::ops::settle::{Report, Started};
use crate::ops::turn::TurnReply;
use crate::store::{CancelRequest, Topics};

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
    /// Until then it is known that somebody has its lease locked.
    busy_until: Option<Instant>,
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
    Turned(Asked, Result<(Instant, TurnReply)>),
    /// The worker was registered again.
    Registered(Result<Registered>),
    /// Leases were renewed, since this was asked for.
    Renewed(Vec<Fence>, Instant, Result<(Instant, Vec<Renewed>)>),
    /// It was looked who holds leases of jobs that it could run.
    Looked(Result<Look>),
    /// It was looked whether the store is still where it was.
    Placed(Result<()>),
    /// It was said that the worker lives, and that these attempts have started.
    Beaten(Vec<Fence>, Result<HeartbeatReply>),
}

/// A turn, as it was asked for.
struct Asked {
    number: u64,
    /// The attempts that it settles.
    settling: Vec<Fence>,
    /// The jobs that it asks for.
    slots: u32,
    /// What it could not settle, because somebody has those jobs locked.
    busy: Vec<Report>,
}

/// A turn under way.
struct UnderWay {
    number: u64,
    /// Another was under way at the same time: neither knows what the other took, or freed.
    beside: bool,
    /// The slots that it holds for what it asks for.
    slots: u32,
    asked_at: Instant,
    /// When those are given back, though there is no answer yet.
    gives_back_at: Option<Instant>,
    /// They were: nothing waits for it any more.
    overdue: bool,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    stop: watch::Receiver<Stop>,
    running: HashMap<Fence, Running>,
    /// Jobs whose leases were old when they came: they start when these are renewed.
    unsure: HashMap<Fence, Leased>,
    tasks: JoinSet<Back>,
    /// Attempts that ended and are to be settled with the next turn.
    ended: Vec<Report>,
    /// What ended too, but could not be settled while somebody has the jobs locked; and when that is tried again.
    hindered: (Vec<Report>, Option<Instant>),
    /// The next turn passes over jobs that are locked.
    passes_over: bool,
    turning: Vec<UnderWay>,
    /// The number of the last turn that was asked for.
    asked: u64,
    /// Attempts that are being settled, and since when.
    settling: HashMap<Fence, Instant>,
    /// Attempts that were settled, and the last turn then: an answer to it or an older one may still name them.
    settled: HashMap<Fence, u64>,
    /// Of attempts that ended and are not settled yet, for the log.
    spans: HashMap<Fence, tracing::Span>,
    /// It is being registered again.
    registering: bool,
    /// A renewal is under way.
    renewing: bool,
    renew_at: Instant,
    /// A heartbeat is under way.
    beating: bool,
    beat_at: Instant,
    /// Whether the last lease left nothing to take.
    dry: bool,
    /// Work was announced since the last turn was asked for: its answer may be older.
    announced: bool,
    /// The last lease said less than there may be, so nobody knows whether there is anything to take.
    blind: bool,
    /// When it is worth asking for work though nothing happens.
    ask_at: Option<Instant>,
    idle_since: Instant,
    draining: Option<Instant>,
    /// The store knows that it drains.
    told_drain: bool,
    interrupted: bool,
    killed: bool,
    /// What holds it back from its end.
    reach: Reach,
    /// How all its jobs are to be ended.
    cancel: Option<watch::Receiver<Option<CancelRequest>>>,
    /// Why it drains: the store is not where it was.
    misplaced: Option<Error>,
    /// It was told of a second name of the store.
    told_link: bool,
    /// Its place at the slots of the process.
    seat: Seat,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, seat: Seat, stop: watch::Receiver<Stop>) -> Self {
        Self {
            cancel: shared.config.cancel.clone(),
            shared,
            seat,
            stop,
            running: HashMap::new(),
            unsure: HashMap::new(),
            tasks: JoinSet::new(),
            ended: Vec::new(),
            hindered: (Vec::new(), None),
            passes_over: false,
            turning: Vec::new(),
            asked: 0,
            registering: false,
            settling: HashMap::new(),
            settled: HashMap::new(),
            spans: HashMap::new(),
            renewing: false,
            renew_at: Instant::now(),
            beating: false,
            beat_at: Instant::now(),
            dry: false,
            announced: false,
            blind: false,
            ask_at: None,
            idle_since: Instant::now(),
            draining: None,
            told_drain: false,
            interrupted: false,
            killed: false,
            reach: Reach::default(),
            misplaced: None,
            told_link: false,
        }
    }

    pub(super) fn is_guest(&self) -> bool {
        self.seat.is_guest()
    }

    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The loop: one event at a time, nothing in it waits for the store.
    pub(super) async fn work(&mut self, mut changes: Subscription) -> Result<()> {
        let beat = self.config().ttl.third().duration();
        self.renew_at = on_beat(Instant::now() + beat, beat);
        self.beat_at = self.renew_at;
        loop {
            self.obey_stop();
            if self.seat.is_called() {
                self.hear(Topics::WORK);
            }
            self.seat.hope(self.hopes() && !(self.is_guest() && self.room() == 0));
            self.seat.runs(u32::try_from(self.running.len()).unwrap_or(u32::MAX));
            self.report_hindered();
            self.turn();
            self.look_around();
            let now = Instant::now();
            if self.is_finished(now) {
                return self.misplaced.take().map_or(Ok(()), Err);
            }
            if self.gives_up_at().is_some_and(|at| at <= Instant::now()) {
                return Err(self.given_up());
            }
            let wake_at = match self.untold_drain() && !self.beating {
                true => Instant::now(),
                false => self.wake_at(now),
            };
            tokio::select! {
                Some(back) = self.tasks.join_next() => {
                    let back = back.map_err(|e| Error::failed("a task of the worker failed").source(e))?;
                    self.take(back)?;
                }
                topics = changes.changed(None) => self.hear(topics),
                changed = self.stop.changed() => {
                    if changed.is_err() {
                        self.drain(); // nobody is left who could ask
                    }
                }
                () = self.seat.changed() => {}
                () = self.shared.starts.eased() => {}
                () = asked(&mut self.cancel) => self.obey_cancel(),
                () = tokio::time::sleep_until(wake_at) => {}
            }
            self.give_up_late_ones();
            self.give_up_slots();
            let now = Instant::now();
            if now >= self.renew_at && !self.renewing {
                self.renew();
                self.renew_at = on_beat(now + beat, beat);
            }
            if (now >= self.beat_at || self.untold_drain()) && !self.beating {
                self.beat();
                self.beat_at = on_beat(now + beat, beat);
            }
            if self.ask_at.is_some_and(|at| at <= Instant::now()) {
                self.ask_at = None;
                self.dry = false;
            }
        }
    }

    /// Something changed in the store.
    fn hear(&mut self, topics: Topics) {
        if topics.meets(Topics::WORK) {
            (self.dry, self.announced) = (false, true);
        }
        if topics.meets(Topics::JOBS) {
            self.reach.hint();
        }
        if topics.meets(Topics::CONTROL) {
            (self.renew_at, self.beat_at) = (Instant::now(), Instant::now()); // asks what is wanted of us
        }
    }

    /// When something is to be done though nothing happens.
    fn wake_at(&self, now: Instant) -> Instant {
        let timer = self.ask_at.filter(|_| self.draining.is_none());
        let idle = self.config().idle_timeout.filter(|_| self.running.is_empty());
        // Once that has passed, it waits for something else.
        let idle = idle.map(|t| self.idle_since + t.duration()).filter(|at| *at > now);
        let drained = self.draining.filter(|_| !self.interrupted);
        let late = self.running.values().filter_map(|job| self.give_up_at(job)).min();
        // While one is under way, the next one waits for it.
        let renewal = Some(self.renew_at).filter(|_| !self.renewing);
        let heartbeat = Some(self.beat_at).filter(|_| !self.beating);
        let unanswered = self.turning.iter().filter_map(|turn| turn.gives_back_at).min();
        let room = self.shared.starts.room_at().filter(|at| *at > now && self.hopes());
        let own = [renewal, heartbeat, timer, idle, drained, late, unanswered, room];
        let all = own.into_iter().chain([self.hindered.1, self.gives_up_at(), self.reach.again_at()]);
        all.flatten().fold(Instant::now() + self.config().ttl.duration(), Instant::min)
    }

    fn obey_stop(&mut self) {
        let stop = *self.stop.borrow_and_update();
        if stop >= Stop::Drain {
            self.drain();
        }
        let late = self.draining.is_some_and(|at| at <= Instant::now());
        if (stop >= Stop::Interrupt || late) && !self.interrupted {
            self.interrupted = true;
            info!(running = self.running.len(), "interrupting");
            self.tell_all(|_| true, &Order::Interrupt);
        }
        if stop == Stop::Kill && !self.killed {
            self.killed = true;
            info!(running = self.running.len(), "killing");
            self.tell_all(|_| true, &Order::End);
        }
    }

    /// Takes no more jobs, and interrupts services at once: they would never end by themselves (S6).
    fn drain(&mut self) {
        if self.draining.is_none() {
            info!(running = self.running.len(), "draining");
            self.draining = Some(Instant::now() + self.config().drain_timeout.duration());
            self.seat.close();
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

    /// Whether nothing of its own is under way.
    fn is_quiet(&self) -> bool {
        let turned = self.turning.iter().all(|turn| turn.overdue);
        let settled = self.ended.is_empty() && self.hindered.0.is_empty();
        self.running.is_empty() && self.unsure.is_empty() && turned && settled && !self.registering
    }

    fn is_finished(&self, now: Instant) -> bool {
        let idle = || {
            let limit = self.config().idle_timeout;
            limit.is_some_and(|t| self.idle_since + t.duration() <= now)
        };
        let blind = self.blind && self.seat.may_take();
        let nothing = self.dry || !self.seat.may_take();
        let burst = self.config().burst && self.reach.is_clear();
        self.is_quiet() && (self.draining.is_some() || (nothing && !blind && (burst || idle())))
    }

    /// Whether it would take more jobs.
    fn hopes(&self) -> bool {
        !self.dry && self.draining.is_none() && !self.registering && !self.turning.iter().any(|turn| turn.overdue)
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
                    self.shared.queue.outage().say("cannot register", &e); // the next heartbeat tries again
                }
            }
            Back::Renewed(fences, asked_at, reply) => {
                self.renewing = false;
                self.renewed(&fences, asked_at, reply)?;
            }
            Back::Looked(look) => self.looked(look),
            Back::Placed(placed) => self.placed(placed),
            Back::Beaten(telling, reply) => {
                self.beating = false;
                self.beaten(&telling, reply)?;
            }
        }
        Ok(())
    }
}
