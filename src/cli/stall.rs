//! Says once, to somebody who waits, why nothing happens.

use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use super::ui;
use super::view::words::relative;
use super::why::said;
use crate::error::Result;
use crate::job::{Job, Number, Outcome, State};
use crate::ops::jobs::GetJobs;
use crate::ops::why::{Cause, CauseKind, Why};

/// How long nothing happens before it is said why.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest time between two looks whether what runs has lost its worker.
const SLOWEST: Duration = Duration::from_secs(60);

/// Whether anything happens to what is waited for.
pub(super) struct Stall {
    since: Option<Instant>,
    /// How long to wait for the next look.
    patience: Duration,
    /// Whether what was looked at last ran.
    ran: bool,
    said: bool,
    /// This process runs the job itself, unless other workers do.
    runs: bool,
}

impl Stall {
    pub(super) fn of_watcher() -> Self {
        Self { since: None, patience: PATIENCE, ran: false, said: false, runs: false }
    }

    pub(super) fn of_run() -> Self {
        Self { runs: true, ..Self::of_watcher() }
    }

    /// Something happens, or nothing does.
    fn saw(&mut self, happens: bool) {
        self.since = if happens { None } else { self.since.or_else(|| Some(Instant::now())) };
    }

    /// When it is to be said why nothing happens, unless something does before.
    pub(super) fn at(&self) -> Option<Instant> {
        self.since.filter(|_| !self.said).map(|since| since + self.patience)
    }

    /// Looks at those that have not ended, and says what it is to say.
    pub(super) async fn look(&mut self, context: &Context, left: &[Job]) -> Result<()> {
        // Something happens where one runs, unless its worker is lost: that is seen by asking, and ever more seldom.
        let running = left.iter().find(|job| job.state == State::Running);
        let first = running.or(left.first());
        if running.is_some() != self.ran {
            (self.ran, self.since, self.patience) = (running.is_some(), None, PATIENCE);
        }
        if let Some(why) = self.wait(context, first.map(|job| job.number), left.len().saturating_sub(1)).await? {
            ui::say(context, &why);
        }
        Ok(())
    }

    /// This job waits, and so many others with it; none: something happens. Gives why, once it is to be said.
    pub(super) async fn wait(
        &mut self,
        context: &Context,
        first: Option<Number>,
        others: usize,
    ) -> Result<Option<String>> {
        self.saw(first.is_none());
        let Some(number) = first.filter(|_| self.at().is_some_and(|at| at <= Instant::now())) else {
            return Ok(None);
        };
        self.said = true;
        let why = context.queue()?.call(Why { number }).await?;
        // What it is about to do is no reason; nor is it that no other worker runs where this process is one.
        let says = |cause: &&Cause| match cause.kind {
            CauseKind::Ended | CauseKind::Running | CauseKind::Nothing => false,
            CauseKind::NoWorker | CauseKind::NoSlot => !self.runs,
            CauseKind::Cancelling => !self.ran,
            _ => true,
        };
        let Some(cause) = why.causes.iter().find(says) else {
            self.said = false; // there may be one later
            self.since = None;
            self.patience = if self.ran { (self.patience * 2).min(SLOWEST) } else { PATIENCE };
            return Ok(None);
        };
        Ok(Some(told(number, &why.state, cause, context, others)))
    }
}

/// `job 3 is pending: no worker runs (orx worker); 4 more wait`
fn told(number: Number, state: &str, cause: &Cause, context: &Context, others: usize) -> String {
    let mut text = format!("job {number} is {state}: {}", said(cause, context.clock.now()));
    if let Some(remedy) = &cause.remedy {
        text += &format!(" ({remedy})");
    }
    match others {
        0 => {}
        1 => text += "; 1 more waits",
        n => text += &format!("; {n} more wait"),
    }
    text
}

/// Says how attempts of the job of `orx run` end that are not its last, and where the next begin.
#[derive(Default)]
pub(super) struct Between {
    told: u32,
    /// The last attempt of which it is clear that what comes is its output.
    begun: u32,
}

impl Between {
    /// `attempt` has begun, and what it writes comes. It is said of those that did not follow at once.
    pub(super) fn begins(&mut self, context: &Context, job: &Job, attempt: u32) {
        if attempt > self.begun.max(1) {
            let of = if job.max_attempts >= attempt { format!(" of {}", job.max_attempts) } else { String::new() };
            ui::say(context, &format!("attempt {attempt}{of} begins"));
        }
        self.begun = self.begun.max(attempt);
    }

    /// What is to be said of `attempt`, which has ended and is not the last; once.
    pub(super) async fn tell(&mut self, context: &Context, job: &Job, attempt: u32) -> Result<()> {
        if attempt <= self.told {
            return Ok(());
        }
        self.told = attempt;
        let op = GetJobs { numbers: vec![job.number], detail: true };
        let Some(job) = context.queue()?.call(op).await?.pop() else { return Ok(()) };
        let Some(ended) = job.attempts.iter().flatten().find(|a| a.number == attempt) else { return Ok(()) };
        let how = super::view::words::ending(ended.exit_code, ended.signal);
        let how = match (ended.outcome, how.as_str()) {
            (Some(Outcome::Failed), "") => "failed".to_owned(),
            (Some(Outcome::Failed), how) => format!("failed ({how})"),
            (Some(Outcome::TimedOut), _) => "timed out".into(),
            (Some(Outcome::Snoozed), _) => "asks to be tried again later".into(),
            (Some(outcome), _) => format!("was {}", outcome.as_str()),
            (None, _) => return Ok(()),
        };
        let of = if job.max_attempts > 1 && attempt <= job.max_attempts {
            format!(" of {}", job.max_attempts)
        } else {
            String::new()
        };
        let waits = matches!(ended.outcome, Some(Outcome::Lost | Outcome::Interrupted));
        let next = match (job.state, job.due_at) {
            _ if job.attempt > attempt => "begins now".into(),
            _ if job.state.is_terminal() => return Ok(()),
            (State::Scheduled, Some(at)) => format!("begins {}", relative(at, context.clock.now())),
            _ if waits => "waits for a worker".into(),
            _ => "begins now".into(),
        };
        if next.starts_with("begins") && !next.starts_with("begins in") {
            self.begun = attempt + 1;
        }
        ui::say(context, &format!("attempt {attempt}{of} {how}; the next {next}"));
        Ok(())
    }
}
