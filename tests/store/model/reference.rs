//! The reference: what docs/semantics.md says of jobs, leases and limits, in plain maps and by the book.
//!
//! It shares no code with orx but the words. Where orx has a choice (which lanes a lease takes from), it takes what orx
//! chose and judges it.

use std::collections::BTreeMap;

use orx::error::Kind;
use orx::job::state::{Cause, reason};
use orx::job::{Fence, Number, Outcome, State, WorkerId};

use super::steps::Order;

/// How long leases and heartbeats last here, in milliseconds.
pub const TTL: i64 = 10_000;
/// A leader that was silent for longer than the lease of a worker that has been there for a while could not write (S2, S30).
const SETTLED: i64 = 6_000;
/// And for longer than this where there is no such worker.
const GAP: i64 = 15_000;
/// How long a key is kept after the end (S13).
const KEY_KEPT: i64 = 24 * 3600 * 1000;

/// A job, as far as the model knows it.
#[derive(Clone, Debug)]
pub struct Job {
    pub order: Order,
    pub state: State,
    pub attempt: u32,
    pub failures: u32,
    pub losses: u32,
    pub interruptions: u32,
    pub(super) snoozes: u32,
    /// Consecutive attempts that were not started, and those of them on workers that started others.
    pub(super) unstarted: (u32, u32),
    pub due: Option<i64>,
    pub(super) created: i64,
    deadline: Option<i64>,
    pub finished: Option<i64>,
    pub reason: Option<String>,
    pub asked: bool,
    lease: Option<(WorkerId, i64)>,
    pub(super) needs: Vec<Need>,
    pub outcomes: Vec<(u32, Outcome)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) number: Number,
    /// Any end will do.
    pub(super) ended: bool,
    pub(super) met: bool,
}

impl Need {
    pub(super) fn met_by(self, state: State) -> bool {
        state == State::Done || (self.ended && state.is_terminal())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub running: Option<u32>,
    pub queued: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) number: Number,
    pub(super) order: Order,
    pub(super) expires: Option<i64>,
}

/// All there is.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub now: i64,
    pub jobs: BTreeMap<Number, Job>,
    pub letters: BTreeMap<Number, String>,
    pub(super) names: BTreeMap<(String, String), Number>,
    pub(super) keys: BTreeMap<(String, String), Key>,
    pub paused: BTreeMap<String, bool>,
    pub queues: BTreeMap<String, Limits>,
    pub tenants: BTreeMap<String, Limits>,
    pub limits: BTreeMap<(String, String), u32>,
    /// Who is registered, and until when.
    pub workers: BTreeMap<WorkerId, i64>,
    /// And since when.
    came: BTreeMap<WorkerId, i64>,
    led: Option<i64>,
    /// Ended attempts.
    pub stale: Vec<Fence>,
    pub(super) turns: super::lanes::Turns,
}

impl Model {
    pub fn new(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    /// Does it, or leaves everything as it was.
    pub fn attempt<T>(&mut self, does: impl FnOnce(&mut Self) -> Result<T, Kind>) -> Result<T, Kind> {
        let mut next = self.clone();
        let done = does(&mut next)?;
        *self = next;
        Ok(done)
    }

    pub fn count(&self, accept: impl Fn(&Job) -> bool) -> u32 {
        self.jobs.values().filter(|job| accept(job)).count() as u32
    }

    pub fn fences_of(&self, worker: WorkerId) -> Vec<Fence> {
        let held = |job: &Job| job.lease.is_some_and(|(by, _)| by == worker);
        self.jobs.iter().filter(|(_, job)| held(job)).map(|(n, j)| Fence { number: *n, attempt: j.attempt }).collect()
    }

    pub fn fences(&self) -> Vec<Fence> {
        let running = self.jobs.iter().filter(|(_, job)| job.state == State::Running);
        running.map(|(n, j)| Fence { number: *n, attempt: j.attempt }).collect()
    }

    pub fn cancel(&mut self, number: Number, why: &str) -> State {
        match self.jobs[&number].state {
            State::Running => self.ask(number, why),
            state if state.is_terminal() => {}
            _ => self.end(number, State::Cancelled, Some(why.into())),
        }
        self.jobs[&number].state
    }

    pub(super) fn ask(&mut self, number: Number, why: &str) {
        let job = self.job(number);
        job.asked = true;
        job.reason = Some(why.into());
    }

    pub(super) fn job(&mut self, number: Number) -> &mut Job {
        self.jobs.get_mut(&number).expect("a job that was stored")
    }

    /// Brings a job to its end, and what follows for others (S9, S12, S13).
    pub(super) fn end(&mut self, number: Number, state: State, why: Option<String>) {
        let now = self.now;
        let job = self.job(number);
        (job.state, job.reason, job.finished) = (state, why, Some(now));
        (job.due, job.deadline, job.lease) = (None, None, None);
        self.names.retain(|_, holder| *holder != number);
        for key in self.keys.values_mut().filter(|key| key.number == number) {
            key.expires = Some(now + KEY_KEPT);
        }
        let waits = |job: &Job| job.state == State::Blocked && job.needs.iter().any(|n| n.number == number && !n.met);
        let waiting: Vec<Number> = self.jobs.iter().filter(|(_, job)| waits(job)).map(|(n, _)| *n).collect();
        for dependant in waiting {
            let job = self.job(dependant);
            if job.state != State::Blocked {
                continue; // one that ended with this one ended it
            }
            let need = job.needs.iter_mut().find(|n| n.number == number).expect("it waits");
            if need.met_by(state) {
                need.met = true;
                job.start(now);
            } else {
                let why = self.jobs[&dependant].needs.iter().find(|n| n.number == number).map(|n| self.broken(*n));
                self.end(dependant, State::Skipped, why);
            }
        }
    }

    /// A worker reports an end. None: the fence is stale.
    pub fn settle(&mut self, fence: Fence, cause: Cause, code: Option<i32>) -> Option<State> {
        let job = self.jobs.get(&fence.number)?;
        if job.state != State::Running || job.attempt != fence.attempt {
            return None;
        }
        self.stale.push(fence);
        let (now, outcome) = (self.now, job.outcome(cause, code));
        let job = self.job(fence.number);
        job.outcomes.push((fence.attempt, outcome));
        job.lease = None;
        if !matches!(outcome, Outcome::Snoozed | Outcome::NotStarted) {
            job.deadline = None; // S7
        }
        if outcome != Outcome::NotStarted {
            job.unstarted = (0, 0);
        }
        let (mut dead, mut wait) = (None, None);
        match outcome {
            Outcome::Done | Outcome::Cancelled => {
                let (state, why) = match outcome {
                    Outcome::Done => (State::Done, None),
                    _ => (State::Cancelled, job.reason.clone()),
                };
                self.end(fence.number, state, why);
                return Some(state);
            }
            Outcome::Failed | Outcome::TimedOut => {
                job.failures += 1;
                job.snoozes = 0;
                wait = Some(job.failures);
                if job.failures >= job.order.max_attempts() {
                    dead = Some(reason::ATTEMPTS);
                }
            }
            Outcome::Snoozed => {
                job.snoozes += 1;
                wait = Some(job.snoozes);
                if job.snoozes > job.order.max_snoozes() {
                    dead = Some(reason::SNOOZED_OUT);
                }
            }
            Outcome::Interrupted => job.interruptions += 1,
            Outcome::Lost => job.losses += 1,
            Outcome::NotStarted => {
                job.unstarted.0 += 1;
                job.unstarted.1 += u32::from(cause == Cause::NotStartedAlone);
                wait = Some(job.unstarted.0);
                if job.unstarted.1 >= 100 {
                    dead = Some(reason::CANNOT_START);
                }
            }
        }
        if matches!(outcome, Outcome::Interrupted | Outcome::Lost) {
            if job.order.max_losses() == 0 {
                dead = Some(reason::LOST);
            } else if job.losses > job.order.max_losses() && outcome == Outcome::Lost {
                dead = Some(reason::POISON);
            }
        }
        match dead {
            Some(why) => {
                self.letters.insert(fence.number, why.into());
                self.end(fence.number, State::Failed, Some(why.into()));
            }
            None => {
                job.due = wait.map(|step| now + backoff(step));
                job.start(now);
            }
        }
        Some(self.jobs[&fence.number].state)
    }

    fn lose(&mut self, fence: Fence) {
        self.settle(fence, Cause::Lost, None).expect("it runs");
    }

    pub fn discard(&mut self, number: Number) -> Result<(), Kind> {
        self.letters.remove(&number).map(|_| ()).ok_or(Kind::Conflict)
    }

    pub fn register(&mut self, worker: WorkerId, before: Option<WorkerId>) -> Vec<Number> {
        let taken: Vec<Fence> = before.map(|w| self.fences_of(w)).unwrap_or_default();
        if let Some(before) = before {
            self.workers.remove(&before);
        }
        taken.iter().for_each(|fence| self.lose(*fence));
        self.workers.insert(worker, self.now + TTL);
        self.came.insert(worker, self.now);
        taken.iter().map(|fence| fence.number).collect()
    }

    /// Keeps what a worker holds; gives whether it is known, and of each fence whether its end is wanted.
    pub fn renew(&mut self, worker: WorkerId) -> (bool, Vec<bool>) {
        let until = self.now + TTL;
        let held = self.fences_of(worker);
        held.iter().for_each(|fence| self.job(fence.number).lease = Some((worker, until)));
        let known = self.workers.get_mut(&worker).map(|at| *at = until).is_some();
        (known, held.iter().map(|fence| self.jobs[&fence.number].asked).collect())
    }

    pub(super) fn grant(&mut self, number: Number, worker: WorkerId) -> Fence {
        let until = self.now + TTL;
        let job = self.job(number);
        job.state = State::Running;
        job.attempt += 1;
        job.lease = Some((worker, until));
        Fence { number, attempt: job.attempt }
    }

    /// Scheduled jobs that are due become pending; those past their deadline expire.
    pub(super) fn pass_timers(&mut self) {
        let now = self.now;
        for job in self.jobs.values_mut().filter(|j| j.state == State::Scheduled && j.due.is_some_and(|at| at <= now)) {
            (job.state, job.due) = (State::Pending, None);
        }
        let late = |job: &Job| job.state != State::Running && job.deadline.is_some_and(|at| at <= now);
        let late: Vec<Number> = self.jobs.iter().filter(|(_, job)| late(job)).map(|(n, _)| *n).collect();
        // All at once: who waits for another of them expires like it. It has the higher number.
        for number in late.into_iter().rev() {
            self.end(number, State::Cancelled, Some(reason::EXPIRED.into()));
        }
    }

    /// One round of upkeep; gives the jobs whose leases had expired.
    pub fn sweep(&mut self) -> Vec<Number> {
        let (now, until) = (self.now, self.now + TTL);
        let counts = |(id, at): (&WorkerId, &i64)| *at > now && self.came[id] + SETTLED <= now;
        let gap = if self.workers.iter().any(counts) { TTL } else { GAP };
        if self.led.replace(now).is_some_and(|at| now - at > gap) {
            self.workers.values_mut().for_each(|at| *at = until);
            self.jobs.values_mut().filter_map(|job| job.lease.as_mut()).for_each(|(_, at)| *at = until);
        }
        let late = |job: &Job| job.lease.is_some_and(|(_, at)| at <= now);
        let expired: Vec<Fence> = self.fences().into_iter().filter(|f| late(&self.jobs[&f.number])).collect();
        expired.iter().for_each(|fence| self.lose(*fence));
        let dead: Vec<WorkerId> = self.workers.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        // What they hold they hold until those leases end (S2).
        for worker in dead.into_iter().filter(|worker| self.fences_of(*worker).is_empty()).collect::<Vec<_>>() {
            self.workers.remove(&worker);
        }
        self.pass_timers();
        expired.into_iter().map(|fence| fence.number).collect()
    }
}

impl Job {
    pub(super) fn new(order: &Order, needs: Vec<Need>, now: i64) -> Self {
        Self {
            order: order.clone(),
            state: State::Blocked,
            attempt: 0,
            failures: 0,
            losses: 0,
            interruptions: 0,
            snoozes: 0,
            unstarted: (0, 0),
            due: order.due(now),
            created: now,
            deadline: order.deadline.map(|secs| now + i64::from(secs) * 1000),
            finished: None,
            reason: None,
            asked: false,
            lease: None,
            needs,
            outcomes: Vec::new(),
        }
    }

    /// Where it waits: for others, for its time, or for a worker.
    pub(super) fn start(&mut self, now: i64) {
        self.state = match self.due {
            _ if self.needs.iter().any(|need| !need.met) => State::Blocked,
            Some(at) if at > now => State::Scheduled,
            _ => State::Pending,
        };
    }

    pub(super) fn back(&mut self, now: i64) {
        (self.reason, self.finished, self.asked) = (None, None, false);
        self.start(now);
    }

    fn outcome(&self, cause: Cause, code: Option<i32>) -> Outcome {
        match (cause, code) {
            (Cause::Itself, Some(0)) => Outcome::Done,
            _ if self.asked => Outcome::Cancelled, // S3
            (Cause::Cancel, _) => Outcome::Cancelled,
            (Cause::Timeout, _) => Outcome::TimedOut,
            (Cause::Drain, _) => Outcome::Interrupted,
            (Cause::NotStarted | Cause::NotStartedAlone, _) => Outcome::NotStarted,
            (Cause::Lost, _) => Outcome::Lost,
            (Cause::Itself, Some(75)) => Outcome::Snoozed,
            (Cause::Itself | Cause::Refused, _) => Outcome::Failed,
        }
    }
}

/// The wait before the next attempt, with `Order`'s backoff of 2 s to 8 s and half of the jitter.
fn backoff(step: u32) -> i64 {
    let bound = (2000_i64 << step.min(10)).min(8000);
    2000 + (bound - 2000) / 2
}
