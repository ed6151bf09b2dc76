//! How attempts end: what a worker reports, and what is recorded.

use serde::{Deserialize, Serialize};

/// How an attempt ended, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// It asked to be tried later.
    Snoozed,
    /// Its lease expired.
    Lost,
}

impl Outcome {
    /// The word for it, the same everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
            Outcome::Interrupted => "interrupted",
            Outcome::Snoozed => "snoozed",
            Outcome::Lost => "lost",
        }
    }

    /// The outcome of that name.
    pub fn parse(word: &str) -> Option<Outcome> {
        use Outcome::*;
        [Done, Failed, TimedOut, Cancelled, Interrupted, Snoozed, Lost].into_iter().find(|o| o.as_str() == word)
    }
}

/// What ended the process of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It ended by itself, or could not be started.
    Itself,
    /// The worker signalled it because a cancel was requested.
    Cancel,
    /// The worker signalled it because it took too long.
    Timeout,
    /// The worker signalled it because it drains.
    Drain,
    /// Nobody knows: the lease expired.
    Lost,
}

/// The end of an attempt, as a worker reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}
