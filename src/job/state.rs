//! The state machine of a job (docs/semantics.md, States): the only place that names a next state.
//!
//! Every function is pure: it takes the life of a job and what happened, and gives the life that
//! follows, or says why it cannot happen. The store records it, and decides nothing.

pub use super::kinds::{Cause, Ending, Outcome, State};
use super::retry::{MAX_UNSTARTED, SNOOZE_CODE, UNSTARTED_CAP};
use super::spec::JobSpec;
use crate::error::Error;
use crate::mutant::{Mutant, planted};
use crate::time::{Span, Timestamp};

/// The part of a job that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// Where it is.
    pub state: State,
    /// The fence: the attempt leased last. Only rises.
    pub attempt: u32,
    /// Rises with each operator's retry.
    pub generation: u32,
    /// Attempts that counted against `max_attempts`, in this generation.
    pub failures: u32,
    /// Leases lost in this generation.
    pub losses: u32,
    /// Drains in this generation.
    pub interruptions: u32,
    /// Consecutive snoozes, or restarts of a service, that its backoff has grown by.
    pub streak: u32,
    /// Consecutive attempts whose program never ran; its backoff has grown by them.
    pub unstarted: u32,
    /// Those of them on workers that started other jobs meanwhile.
    pub unstarted_alone: u32,
    /// Edges not satisfied yet.
    pub waiting: u32,
    /// Not before this instant.
    pub due_at: Option<Timestamp>,
    /// Cancelled when it has not started by then.
    pub deadline_at: Option<Timestamp>,
    /// Why it is in a terminal state, where that says more than the state.
    pub reason: Option<String>,
    /// When it came to a terminal state.
    pub finished_at: Option<Timestamp>,
    /// When somebody asked for its end while it ran.
    pub cancel_requested_at: Option<Timestamp>,
}

/// Reasons that programs look for.
pub mod reason {
    /// Dead: `max_attempts` failures.
    pub const ATTEMPTS: &str = "attempts used up";
    /// Dead: an exit code that is never tried again.
    pub const FATAL: &str = "fatal";
    /// Dead: too many lost leases.
    pub const POISON: &str = "poison";
    /// Dead: it must not run twice, and its lease was lost.
    pub const LOST: &str = "lost";
    /// Dead: its program never ran, in too many consecutive attempts, on workers that started other jobs.
    pub const CANNOT_START: &str = "cannot start";
    /// Dead: too many consecutive snoozes.
    pub const SNOOZED_OUT: &str = "snoozed out";
    /// Dead: no orx can read what it is to do.
    pub const UNREADABLE: &str = "unreadable";
    /// Cancelled: not started by its deadline.
    pub const EXPIRED: &str = "expired";
}

/// What cannot happen to a job in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {state} job cannot be {verb}")]
pub struct Refused {
    /// The state it is in.
    pub state: State,
    /// What was to happen.
    pub verb: &'static str,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Error::conflict(refused.to_string())
    }
}

/// What an attempt's end means for its job.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The job's life from now on.
    pub life: Life,
    /// The outcome of the attempt.
    pub outcome: Outcome,
}

/// What a cancel means for a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// It ended at once.
    Ended(Life),
    /// Its worker has been asked to end it.
    Requested(Life),
}

/// Not before when a job of `created_at` is to run.
fn due_at(spec: &JobSpec, created_at: Timestamp) -> Option<Timestamp> {
    spec.at.or(spec.delay.map(|delay| created_at.plus(delay)))
}

impl Life {
    /// A job as it is admitted, with `waiting` edges that are not satisfied.
    pub fn admit(spec: &JobSpec, now: Timestamp, waiting: u32) -> Life {
        let due_at = due_at(spec, now).filter(|t| *t > now);
        let mut life = Life {
            state: State::Blocked,
            attempt: 0,
            generation: 1,
            failures: 0,
            losses: 0,
            interruptions: 0,
            streak: 0,
            unstarted: 0,
            unstarted_alone: 0,
            waiting,
            due_at,
            deadline_at: spec.deadline.map(|d| now.plus(d)),
            reason: None,
            finished_at: None,
            cancel_requested_at: None,
        };
        life.state = life.start_state(now);
        life
    }

    /// Where a job waits: for others, for its time, or for a worker.
    fn start_state(&self, now: Timestamp) -> State {
        match self.due_at {
            _ if self.waiting > 0 => State::Blocked,
            Some(due) if due > now => State::Scheduled,
            _ => State::Pending,
        }
    }

    fn refuse(&self, verb: &'static str) -> Refused {
        let state = self.state;
        Refused { state, verb }
    }

    fn end(mut self, state: State, reason: Option<String>, now: Timestamp) -> Life {
        self.state = state;
        self.reason = reason;
        self.finished_at = Some(now);
        self.due_at = None;
        self.deadline_at = None;
        self
    }

    /// scheduled → pending, when due.
    pub fn promote(mut self, now: Timestamp) -> Result<Life, Refused> {
        match (self.state, self.due_at) {
            (State::Scheduled, Some(due)) if due <= now => {
                self.state = State::Pending;
                self.due_at = None;
                Ok(self)
            }
            _ => Err(self.refuse("promoted")),
        }
    }

    /// pending → running, under the next fence, which lies above `floor` (S38).
    pub fn lease(mut self, floor: u32) -> Result<Life, Refused> {
        match self.state {
            State::Pending => {
                self.state = State::Running;
                self.attempt = self.attempt.max(floor) + 1;
                Ok(self)
            }
            _ => Err(self.refuse("leased")),
        }
    }

    /// One more edge is satisfied: blocked → pending or scheduled with the last of them.
    pub fn satisfy(mut self, now: Timestamp) -> Result<Life, Refused> {
        if self.state != State::Blocked || self.waiting == 0 {
            return Err(self.refuse("unblocked"));
        }
        self.waiting -= 1;
        self.state = self.start_state(now);
        Ok(self)
    }

    /// blocked → skipped, when a job it needs can no longer succeed; any waiting state, when its run is stopped (S19).
    pub fn skip(self, reason: String, now: Timestamp) -> Result<Life, Refused> {
        match self.state {
            State::Blocked | State::Scheduled | State::Pending => Ok(self.end(State::Skipped, Some(reason), now)),
            _ => Err(self.refuse("skipped")),
        }
    }

    /// skipped → blocked, when the cause is retried (S10). It is as late as it was to be: `spec` is of `created_at`.
    pub fn revive(
        mut self,
        spec: &JobSpec,
        created_at: Timestamp,
        waiting: u32,
        now: Timestamp,
    ) -> Result<Life, Refused> {
        if self.state != State::Skipped {
            return Err(self.refuse("revived"));
        }
        self.waiting = waiting;
        self.generation += 1;
        self.reason = None;
        self.finished_at = None;
        self.due_at = due_at(spec, created_at).filter(|t| *t > now);
        self.state = self.start_state(now);
        Ok(self)
    }

    /// blocked, scheduled, pending → cancelled at once; a running job is asked to end.
    pub fn cancel(mut self, reason: Option<String>, now: Timestamp) -> Result<Cancelled, Refused> {
        match self.state {
            State::Blocked | State::Scheduled | State::Pending => {
                Ok(Cancelled::Ended(self.end(State::Cancelled, reason, now)))
            }
            State::Running => {
                self.cancel_requested_at.get_or_insert(now);
                self.reason = reason.or(self.reason);
                Ok(Cancelled::Requested(self))
            }
            _ => Err(self.refuse("cancelled")),
        }
    }

    /// blocked, scheduled, pending → cancelled, when its deadline has passed (S7).
    pub fn expire(self, now: Timestamp) -> Result<Life, Refused> {
        match (self.state, self.deadline_at) {
            (State::Blocked | State::Scheduled | State::Pending, Some(at)) if at <= now => {
                Ok(self.end(State::Cancelled, Some(reason::EXPIRED.into()), now))
            }
            _ => Err(self.refuse("expired")),
        }
    }

    /// blocked, scheduled, pending → failed, when no orx can read what it is to do (S29).
    pub fn quarantine(self, now: Timestamp) -> Result<Life, Refused> {
        match self.state {
            State::Blocked | State::Scheduled | State::Pending => {
                Ok(self.end(State::Failed, Some(reason::UNREADABLE.into()), now))
            }
            _ => Err(self.refuse("quarantined")),
        }
    }

    /// failed, cancelled → pending: an operator's retry, a new generation.
    pub fn retry(mut self, waiting: u32, now: Timestamp) -> Result<Life, Refused> {
        if !matches!(self.state, State::Failed | State::Cancelled) {
            return Err(self.refuse("retried"));
        }
        self.generation += 1;
        self.failures = 0;
        self.losses = 0;
        self.interruptions = 0;
        self.streak = 0;
        (self.unstarted, self.unstarted_alone) = (0, 0);
        self.waiting = waiting;
        self.reason = None;
        self.finished_at = None;
        self.cancel_requested_at = None;
        self.state = self.start_state(now);
        Ok(self)
    }

    /// running → what the end of its attempt means, with `jitter` in 0..1 for the next wait.
    ///
    /// `ran` is how long the attempt took, and `ended` when it did: the report of that may be late.
    pub fn settle(
        mut self,
        spec: &JobSpec,
        ending: &Ending,
        ran: Span,
        ended: Timestamp,
        now: Timestamp,
        jitter: f64,
    ) -> Result<Verdict, Refused> {
        if self.state != State::Running {
            return Err(self.refuse("settled"));
        }
        let outcome = self.outcome(spec, ending);
        if !matches!(outcome, Outcome::Snoozed | Outcome::NotStarted) {
            self.deadline_at = None; // S7: it has started
        }
        if outcome != Outcome::NotStarted {
            (self.unstarted, self.unstarted_alone) = (0, 0);
        }
        let backoff = spec.backoff.unwrap_or_default();
        let wait = |step| Some(now.plus(backoff.delay(step, jitter)));
        let life = match outcome {
            Outcome::Cancelled => {
                let reason = self.reason.take();
                self.end(State::Cancelled, reason, ended)
            }
            Outcome::Interrupted | Outcome::Lost => self.vanish(spec, outcome, ended, now),
            Outcome::NotStarted => {
                self.unstarted += 1;
                self.unstarted_alone += u32::from(ending.cause == Cause::NotStartedAlone);
                if self.unstarted_alone >= MAX_UNSTARTED && !spec.is_service() {
                    self.end(State::Failed, Some(reason::CANNOT_START.into()), ended)
                } else {
                    let wait = backoff.delay(self.unstarted, jitter).min(UNSTARTED_CAP);
                    self.again(Some(now.plus(wait)), now)
                }
            }
            Outcome::Done | Outcome::Failed | Outcome::TimedOut | Outcome::Snoozed if spec.is_service() => {
                self.streak = if ran > backoff.cap { 1 } else { self.streak + 1 };
                let due = wait(self.streak);
                self.again(due, now)
            }
            Outcome::Done => self.end(State::Done, None, ended),
            Outcome::Snoozed => {
                self.streak += 1;
                if self.streak > spec.max_snoozes() {
                    self.end(State::Failed, Some(reason::SNOOZED_OUT.into()), ended)
                } else {
                    let due = wait(self.streak);
                    self.again(due, now)
                }
            }
            Outcome::Failed | Outcome::TimedOut => {
                self.failures += 1;
                self.streak = 0;
                let fatal = outcome == Outcome::Failed && is_fatal(spec, ending);
                if fatal {
                    self.end(State::Failed, Some(reason::FATAL.into()), ended)
                } else if self.failures >= spec.max_attempts() {
                    self.end(State::Failed, Some(reason::ATTEMPTS.into()), ended)
                } else {
                    let due = wait(self.failures);
                    self.again(due, now)
                }
            }
        };
        Ok(Verdict { life, outcome })
    }

    fn outcome(&self, spec: &JobSpec, ending: &Ending) -> Outcome {
        let asked = self.cancel_requested_at.is_some();
        let code = ending.exit_code;
        match ending.cause {
            // A service that is asked to end has no success that would count instead (S6).
            Cause::Itself if code == Some(0) && !(asked && spec.is_service()) => Outcome::Done,
            // S3: with a cancel requested nothing but an unforced exit 0 counts.
            _ if asked => Outcome::Cancelled,
            Cause::Cancel => Outcome::Cancelled,
            Cause::Timeout => Outcome::TimedOut,
            Cause::Drain if planted(Mutant::DrainCounts) => Outcome::Failed,
            Cause::Drain => Outcome::Interrupted,
            Cause::NotStarted | Cause::NotStartedAlone => Outcome::NotStarted,
            Cause::Lost => Outcome::Lost,
            Cause::Itself if code == Some(SNOOZE_CODE) && !is_listed(spec, SNOOZE_CODE) => Outcome::Snoozed,
            Cause::Itself | Cause::Refused => Outcome::Failed,
        }
    }

    /// The worker drained or was lost: again at once, unless it must not run twice.
    fn vanish(mut self, spec: &JobSpec, outcome: Outcome, ended: Timestamp, now: Timestamp) -> Life {
        let lost = outcome == Outcome::Lost;
        match lost {
            true => self.losses += u32::from(!planted(Mutant::LossUncounted)),
            false => self.interruptions += 1,
        }
        if spec.max_losses() == 0 {
            return self.end(State::Failed, Some(reason::LOST.into()), ended); // S4
        }
        if lost && self.losses > spec.max_losses() && !spec.is_service() {
            return self.end(State::Failed, Some(reason::POISON.into()), ended);
        }
        self.again(None, now)
    }

    fn again(mut self, due_at: Option<Timestamp>, now: Timestamp) -> Life {
        self.due_at = due_at.filter(|t| *t > now);
        self.state = self.start_state(now);
        self
    }
}

fn is_listed(spec: &JobSpec, code: i32) -> bool {
    spec.fatal_codes.as_ref().is_some_and(|c| c.contains(code))
}

fn is_fatal(spec: &JobSpec, ending: &Ending) -> bool {
    if ending.cause == Cause::Refused {
        return true;
    }
    let Some(code) = ending.exit_code else {
        return false;
    };
    let unlisted = |codes: &super::retry::CodeSet| !codes.contains(code);
    is_listed(spec, code) || spec.retry_codes.as_ref().is_some_and(unlisted)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
