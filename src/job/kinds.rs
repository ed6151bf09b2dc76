//! The words for where a job is and how its attempts end.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::retry::SNOOZE_CODE;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for other jobs.
    Blocked,
    /// Due later.
    Scheduled,
    /// May be leased now.
    Pending,
    /// A worker holds its lease.
    Running,
    /// Ended well.
    Done,
    /// Attempts used up, or fatal; it has a dead letter.
    Failed,
    /// Ended on request, or expired.
    Cancelled,
    /// Never ran, because a job it needs did not succeed.
    Skipped,
}

impl State {
    /// All of them, in the order people read them.
    pub const ALL: [State; 8] = [
        State::Blocked,
        State::Scheduled,
        State::Pending,
        State::Running,
        State::Done,
        State::Failed,
        State::Cancelled,
        State::Skipped,
    ];

    /// Whether nothing more happens to it by itself.
    pub fn is_terminal(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Cancelled | State::Skipped)
    }

    /// The word for it, the same everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Blocked => "blocked",
            State::Scheduled => "scheduled",
            State::Pending => "pending",
            State::Running => "running",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Skipped => "skipped",
        }
    }

    /// The state of that name.
    pub fn parse(word: &str) -> Option<State> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How an attempt ended, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exit code 0.
    Done,
    /// Another exit code, or a signal.
    Failed,
    /// It took too long.
    TimedOut,
    /// It was asked to end.
    Cancelled,
    /// Its worker drained.
    Interrupted,
    /// Its program never ran, by no fault of the job.
    NotStarted,
    /// It asked to be tried later.
    Snoozed,
    /// Its lease expired.
    Lost,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Outcome; 8] = [
        Outcome::Done,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::Cancelled,
        Outcome::Interrupted,
        Outcome::NotStarted,
        Outcome::Snoozed,
        Outcome::Lost,
    ];

    /// The word for it, the same everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
            Outcome::Interrupted => "interrupted",
            Outcome::NotStarted => "not_started",
            Outcome::Snoozed => "snoozed",
            Outcome::Lost => "lost",
        }
    }

    /// The outcome of that name.
    pub fn parse(word: &str) -> Option<Outcome> {
        Self::ALL.into_iter().find(|o| o.as_str() == word)
    }
}

/// What ended the process of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It ended by itself, or could not be started.
    Itself,
    /// The worker refused to start it, and every other attempt would end so.
    Refused,
    /// The worker signalled it because a cancel was requested.
    Cancel,
    /// The worker signalled it because it took too long.
    Timeout,
    /// The worker signalled it because it drains.
    Drain,
    /// The worker lacked what it takes to start it, or it was killed before its program ran.
    NotStarted,
    /// The same, while other jobs start on that worker: it may be the job.
    NotStartedAlone,
    /// Nobody knows: the lease expired.
    Lost,
}

impl Cause {
    /// The word for it, the same everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Itself => "itself",
            Cause::Refused => "refused",
            Cause::Cancel => "cancel",
            Cause::Timeout => "timeout",
            Cause::Drain => "drain",
            Cause::NotStarted => "not_started",
            Cause::NotStartedAlone => "not_started_alone",
            Cause::Lost => "lost",
        }
    }
}

/// The end of an attempt, as a worker reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ending {
    /// What ended it.
    pub cause: Cause,
    /// The exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// What a person should read, such as why it could not be started.
    pub error: Option<String>,
}

impl Ending {
    /// The end of an attempt whose lease expired.
    pub fn lost(error: impl Into<String>) -> Self {
        Self { cause: Cause::Lost, exit_code: None, signal: None, error: Some(error.into()) }
    }

    /// Whether it went wrong, as far as the job's own options do not decide that: to be given back or tried later is no fault.
    pub fn is_failure(&self) -> bool {
        match self.cause {
            Cause::Itself => !matches!(self.exit_code, Some(0 | SNOOZE_CODE)),
            Cause::Refused | Cause::Timeout => true,
            Cause::Cancel | Cause::Drain | Cause::Lost | Cause::NotStarted | Cause::NotStartedAlone => false,
        }
    }
}
