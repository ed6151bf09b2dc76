//! What a worker does between two jobs: it settles those that ended, asks for others and starts them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing::{Instrument as _, info, warn};

use super::{Asked, Back, MAX_REPORTS, ORDERS, Running, UnderWay, Worker};
use crate::error::{Kind, Result};
use crate::job::Fence;
use crate::job::state::{Cause, Ending};
use crate::ops::lease::{Lease, LeaseReply, Leased};
use crate::ops::renew::Renewed;
use crate::ops::settle::{Report, Settled};
use crate::ops::turn::{Turn, TurnReply};
use crate::time::Span;
use crate::worker::attempt::{Attempt, Order};
use crate::worker::socket::Talker;
use crate::worker::{JOBS_LOG, program};

/// How many turns may be under way.
const MAX_TURNS: usize = 2;
/// How many turns later than the oldest one under way another may be.
const MAX_AHEAD: u64 = 64;
/// How long a guest may keep slots that it only asks jobs for.
const GUEST_LIMIT: Duration = Duration::from_secs(2);
/// How soon it is tried again to settle what is locked.
const LOCKED_AGAIN: Duration = Duration::from_secs(1);

impl Worker {
    /// Reports what ended, and asks for jobs where there are free slots and hope; both share one commit.
    pub(super) fn turn(&mut self) {
        if !self.may_turn() {
            return;
        }
        // A guest settles first: no slot of others waits for a home that does not answer.
        let settles_only = self.seat.is_guest() && !self.ended.is_empty();
        let slots = if self.hopes() && !settles_only { self.seat.take(self.room()) } else { 0 };
        if slots == 0 && self.ended.is_empty() {
            return;
        }
        (self.asked, self.announced) = (self.asked + 1, false);
        let beside = !self.turning.is_empty();
        self.turning.iter_mut().for_each(|turn| turn.beside = true);
        let asked_at = Instant::now();
        let gives_back_at = (self.is_guest() && self.ended.is_empty()).then(|| asked_at + GUEST_LIMIT);
        self.turning.push(UnderWay { number: self.asked, beside, slots, asked_at, gives_back_at, overdue: false });
        let rest = self.ended.split_off(self.ended.len().min(MAX_REPORTS));
        let reports = std::mem::replace(&mut self.ended, rest);
        let settling: Vec<Fence> = reports.iter().map(|report| report.fence).collect();
        self.settling.extend(settling.iter().map(|fence| (*fence, Instant::now())));
        let config = self.config();
        let lease = (slots > 0).then(|| Lease {
            worker: config.key.clone(),
            name: config.name.clone(),
            offer: config.offer.clone(),
            slots,
            ttl: config.ttl,
            only: config.only,
        });
        let (number, shared) = (self.asked, Arc::clone(&self.shared));
        let worker = config.key.clone();
        let mut turn = Turn { worker, reports, lease, pass_over: std::mem::take(&mut self.passes_over) };
        self.tasks.spawn(async move {
            let reply = shared.turn(&mut turn).await;
            let settled = reply.iter().flat_map(|(_, reply)| &reply.settled);
            let busy = turn.reports.into_iter().zip(settled).filter(|(_, settled)| **settled == Settled::Busy);
            let busy = busy.map(|(report, _)| report).collect();
            Back::Turned(Asked { number, settling, slots, busy }, reply)
        });
    }

    /// What ends during a turn shares the next one with whatever ends until then; where nothing runs any more that could,
    /// it does not wait. A guest waits, unless the turn under way is overdue.
    fn may_turn(&self) -> bool {
        let Some(oldest) = self.turning.first() else { return true };
        let waits = match self.is_guest() {
            true => !self.turning.iter().all(|turn| turn.overdue),
            false => !self.running.is_empty(),
        };
        let room = self.turning.len() < MAX_TURNS && self.asked - oldest.number < MAX_AHEAD;
        !waits && !self.ended.is_empty() && room
    }

    /// How many jobs it may ask for, where starts fail.
    pub(super) fn room(&self) -> u32 {
        let starts = &self.shared.starts;
        if !starts.is_limited() {
            return u32::MAX;
        }
        let running = self.started();
        let held = self.running.len() + self.unsure.len();
        let asked: u32 = self.turning.iter().map(|turn| turn.slots).sum();
        let starting = u32::try_from(held).unwrap_or(u32::MAX) - running + asked;
        starts.room(running, starting)
    }

    /// How many jobs run whose programs have started.
    fn started(&self) -> u32 {
        let started = self.running.values().filter(|job| job.started.get().is_some()).count();
        u32::try_from(started).unwrap_or(u32::MAX)
    }

    /// What could not be settled before goes along with the next turn.
    pub(super) fn report_hindered(&mut self) {
        let (reports, at) = &mut self.hindered;
        if at.is_some_and(|at| at <= Instant::now()) {
            self.ended.append(reports);
            (*at, self.passes_over) = (None, true);
        }
    }

    pub(super) fn turned(&mut self, mut asked: Asked, reply: Result<(Instant, TurnReply)>) -> Result<()> {
        let Some(at) = self.turning.iter().position(|turn| turn.number == asked.number) else { return Ok(()) };
        let turn = self.turning.remove(at);
        let before = self.running.len() + self.unsure.len();
        let result = self.understood(&asked, turn.beside, reply);
        self.settling.retain(|fence, _| !asked.settling.contains(fence));
        let is_busy = |fence: &Fence| asked.busy.iter().any(|report| report.fence == *fence);
        let settled = asked.settling.iter().filter(|fence| !is_busy(fence));
        self.settled.extend(settled.map(|fence| (*fence, self.asked)));
        if !asked.busy.is_empty() {
            self.hindered.0.append(&mut asked.busy);
            self.hindered.1 = Some(Instant::now() + LOCKED_AGAIN);
        }
        let oldest = self.turning.first().map_or(u64::MAX, |turn| turn.number);
        self.settled.retain(|_, asked| *asked >= oldest);
        let started = u32::try_from(self.running.len() + self.unsure.len() - before).unwrap_or(u32::MAX);
        self.seat.filled(turn.slots, started);
        result
    }

    /// A home that does not answer keeps no slots from others. What it has given all the same is begun when it says so:
    /// nobody else could.
    pub(super) fn give_up_slots(&mut self) {
        for turn in &mut self.turning {
            if turn.gives_back_at.is_some_and(|at| at <= Instant::now()) {
                (turn.gives_back_at, turn.overdue) = (None, true);
                warn!("{} does not answer in time", self.shared.queue.location());
                self.seat.give_back(std::mem::take(&mut turn.slots));
                (self.blind, self.dry) = (true, true);
            }
        }
    }

    fn understood(&mut self, asked: &Asked, beside: bool, reply: Result<(Instant, TurnReply)>) -> Result<()> {
        let (since, reply) = match reply {
            Ok(turned) => turned,
            // Only to lease: settling waits until the store takes it.
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                self.shared.queue.outage().say("cannot lease", &e);
                self.blind = true;
                self.dry = true; // until the next change or timer
                self.ask_at = Some(Instant::now() + Duration::from_secs(1));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        for (fence, settled) in asked.settling.iter().zip(&reply.settled) {
            if *settled == Settled::Busy {
                continue;
            }
            let span = self.spans.remove(fence);
            if *settled == Settled::Stale {
                span.unwrap_or_else(tracing::Span::none).in_scope(|| warn!("settled too late: the lease was lost"));
            }
        }
        match reply.leased {
            Some(leased) => self.leased(asked.slots, beside, since, leased),
            // Removed as lost while this process was stopped: it registers again with the next heartbeat.
            None if asked.slots > 0 => {
                self.blind = true;
                self.dry = true;
                self.beat_at = Instant::now();
                self.ask_at = Some(Instant::now() + Duration::from_secs(1)); // it may be registered by then
            }
            None => self.dry = false, // what was settled may have made room
        }
        Ok(())
    }

    /// `since`: the leases are younger.
    fn leased(&mut self, asked: u32, beside: bool, since: Instant, reply: LeaseReply) {
        // Only who was alone can say that there is no more.
        self.dry = (reply.jobs.len() as u32) < asked && !self.announced && !beside;
        // At once again: after a commit of unknown outcome the answer may be less than there is.
        self.blind = reply.next_timer == Some(Span::ZERO) || reply.held_up || (self.blind && beside);
        // The millisecond more is for the store's clock, which counts whole ones.
        let ask_at = reply.next_timer.map(|after| Instant::now() + after.duration() + Duration::from_millis(1));
        self.ask_at = [ask_at, self.ask_at.filter(|_| beside)].into_iter().flatten().min();
        let (age, ttl) = (since.elapsed(), self.config().ttl.duration());
        if !reply.jobs.is_empty() && age > ttl / 3 {
            self.renew_at = Instant::now(); // the answer took its time
        }
        if !reply.jobs.is_empty() {
            self.reach.had_job();
        }
        for job in reply.jobs {
            match self.knows(job.fence) {
                true => {}
                // Most of it is over, or all: before a process is begun that would have to end, it is renewed.
                false if age > ttl / 2 => _ = self.unsure.insert(job.fence, job),
                false => self.start(job, since),
            }
        }
    }

    /// After a commit of unknown outcome the answer is all that we hold: also what runs or has ended here.
    fn knows(&self, fence: Fence) -> bool {
        self.running.contains_key(&fence)
            || self.settling.contains_key(&fence)
            || self.settled.contains_key(&fence)
            || self.unsure.contains_key(&fence)
            || self.ended.iter().chain(&self.hindered.0).any(|report| report.fence == fence)
    }

    /// A lease that was old when it came was renewed, or not.
    pub(super) fn ascertain(&mut self, fence: Fence, renewed: &Renewed, since: Instant) {
        let Some(job) = self.unsure.remove(&fence) else { return };
        match renewed {
            Renewed::Held => self.start(job, since),
            Renewed::Cancel(_) => {
                self.start(job, since);
                self.renew_at = Instant::now(); // how it is to be ended
            }
            Renewed::Busy => _ = self.unsure.insert(fence, job),
            Renewed::Stale => {
                warn!("job {} was lost before it could be started: its lease came too late", fence.number);
                self.seat.give_back(1);
            }
        }
    }

    fn start(&mut self, job: Leased, leased_at: Instant) {
        let slot = (1..).find(|n| self.running.values().all(|r| r.slot != *n)).unwrap_or(1);
        let (orders, receiver) = mpsc::channel(ORDERS);
        let service = job.spec.is_service();
        let started = Arc::new(OnceLock::new());
        let span = tracing::info_span!("job", id = %job.id, number = job.fence.number, attempt = job.fence.attempt,
            queue = %job.queue, trace = %job.captured.trace_id(job.id));
        span.in_scope(|| info!(target: JOBS_LOG, "leased"));
        let marker = program::marker(&self.shared, job.fence);
        let (mask, alive) = (Arc::new(OnceLock::new()), Arc::new(Notify::new()));
        let talker = Talker::new(job.fence, Arc::clone(&alive), Arc::clone(&mask));
        self.shared.talkers.add(&marker, talker);
        self.running.insert(
            job.fence,
            Running {
                span: span.clone(),
                slot,
                orders: orders.clone(),
                started: Arc::clone(&started),
                told: false,
                service,
                grace: job.spec.kill_grace().duration(),
                renewed: leased_at,
                busy_until: None,
                late: false,
                cancelling: None,
            },
        );
        self.obey_cancel(); // it may have been asked for before there was a job
        if self.interrupted || (self.draining.is_some() && service) {
            let _ = orders.try_send(Order::Interrupt); // it is the first
        }
        let attempt = Attempt { shared: Arc::clone(&self.shared), job, slot, leased_at, alive, started, mask };
        self.tasks.spawn(async move { Back::Ended(attempt.run(receiver).await) }.instrument(span));
    }

    /// Notes that an attempt did not start, and whether that may be the job's fault.
    fn judge_start(&self, report: &mut Report) {
        let Ending { cause, error, .. } = &mut report.ending;
        if *cause == Cause::NotStarted {
            report.started = None; // a process perhaps, which never was the program
            let why = error.clone().unwrap_or_default();
            warn!("job {} does not start: {why}", report.fence.number);
            if self.shared.starts.failed(report.fence.number, self.started(), why) {
                *cause = Cause::NotStartedAlone;
            }
        }
    }

    /// Frees the slot; the next turn reports it and asks for another job.
    pub(super) fn ended(&mut self, mut report: Report) {
        let fence = report.fence;
        self.shared.talkers.remove(&program::marker(&self.shared, fence));
        if let Some(job) = self.running.remove(&fence) {
            self.seat.give_back(1);
            let Ending { cause, exit_code, signal, .. } = &report.ending;
            job.span.in_scope(|| match report.ending.is_failure() {
                true => warn!(target: JOBS_LOG, by = cause.as_str(), exit_code, signal, "ended"),
                false => info!(target: JOBS_LOG, by = cause.as_str(), exit_code, signal, "ended"),
            });
            if job.told {
                report.started = None;
            }
            self.spans.insert(fence, job.span);
        }
        self.judge_start(&mut report);
        self.idle_since = Instant::now();
        self.dry = false; // a slot, and maybe room under a limit, is free
        self.ended.push(report);
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
