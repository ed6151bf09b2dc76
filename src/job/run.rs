//! The state machine of a run (S19): what the ends of its jobs mean for it, as pure functions.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::State;
use super::workflow::ON_COMPLETE;
use crate::error::Error;
use crate::time::{Span, Timestamp};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Something of it has not ended.
    Running,
    /// All its tasks are done.
    Done,
    /// A task failed, or it took too long.
    Failed,
    /// It, or a task of it, was cancelled, and nothing failed.
    Cancelled,
}

impl RunState {
    /// All of them.
    pub const ALL: [RunState; 4] = [RunState::Running, RunState::Done, RunState::Failed, RunState::Cancelled];

    /// The word for it, the same everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Done => "done",
            RunState::Failed => "failed",
            RunState::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn parse(word: &str) -> Option<RunState> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Whether nothing more happens to it by itself.
    pub fn is_terminal(self) -> bool {
        self != RunState::Running
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The part of a run that changes. What is counted are its tasks and `on_start`, not `on_complete`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunLife {
    /// Where it is.
    pub state: RunState,
    /// Jobs that have not ended.
    pub open: u32,
    /// Jobs that failed.
    pub failed: u32,
    /// Jobs that were cancelled.
    pub cancelled: u32,
    /// Jobs that were skipped.
    pub skipped: u32,
    /// Why what had not ended was ended.
    pub stop: Option<String>,
    /// It took too long.
    pub timed_out: bool,
    /// How often somebody asked for its end.
    pub cancels: u32,
    /// What it will be when `on_complete` has ended.
    pub result: Option<RunState>,
    /// How often its tasks have ended.
    pub ends: u32,
    /// The run that it waits for.
    pub behind: Option<i64>,
    /// When its first task started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it will have taken too long; none while nothing of it has started.
    pub timeout_at: Option<Timestamp>,
}

/// What does not change of a run, where it decides.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The first failure ends the others.
    pub fail_fast: bool,
    /// Something runs when its tasks have ended.
    pub on_complete: bool,
    /// How long it may take.
    pub timeout: Option<Span>,
}

/// What happened to the jobs of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moved {
    /// More (or fewer) jobs that have not ended.
    pub open: i64,
    /// More (or fewer) jobs that failed.
    pub failed: i64,
    /// More (or fewer) jobs that were cancelled.
    pub cancelled: i64,
    /// More (or fewer) jobs that were skipped.
    pub skipped: i64,
    /// The first job that ended otherwise than done.
    pub bad: Option<(String, State)>,
    /// A job that had ended is to run again.
    pub back: bool,
    /// What was to run last has ended.
    pub completed: bool,
}

impl Moved {
    /// The job of `task` went from one state to another.
    pub fn note(&mut self, task: &str, from: State, to: State) {
        if from.is_terminal() == to.is_terminal() {
            return;
        }
        if is_on_complete(task) {
            self.completed |= to.is_terminal();
            return;
        }
        let mut count = |state: State, n: i64| match state {
            State::Failed => self.failed += n,
            State::Cancelled => self.cancelled += n,
            State::Skipped => self.skipped += n,
            State::Done => {}
            _ => self.open += n,
        };
        count(from, -1);
        count(to, 1);
        self.back |= from.is_terminal();
        if to.is_terminal() && to != State::Done {
            self.bad.get_or_insert_with(|| (task.to_owned(), to));
        }
    }
}

/// Whether `task` is the job that runs last; a run whose tasks end more than once has more than one.
pub fn is_on_complete(task: &str) -> bool {
    task.split(' ').next() == Some(ON_COMPLETE)
}

/// What is to be done for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// End what has not ended: all but `always` tasks.
    Stop,
    /// Its tasks have ended: what runs last may start.
    Complete,
    /// It has ended.
    End,
}

/// What a cancel of a run reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All but `always` tasks.
    Tasks,
    /// Everything.
    All,
}

impl RunLife {
    /// A run of `open` jobs; it waits for the run `behind`, if there is one.
    pub fn admit(open: u32, behind: Option<i64>) -> RunLife {
        RunLife {
            state: RunState::Running,
            open,
            failed: 0,
            cancelled: 0,
            skipped: 0,
            stop: None,
            timed_out: false,
            cancels: 0,
            result: None,
            ends: 0,
            behind,
            started_at: None,
            finished_at: None,
            timeout_at: None,
        }
    }

    /// A task of it starts: its time counts from the first one on, and after a retry from the first one then. Gives
    /// whether that is news.
    pub fn begin(&mut self, terms: Terms, now: Timestamp) -> bool {
        let is_first = self.started_at.is_none();
        self.started_at.get_or_insert(now);
        // One that is being stopped, or whose tasks have ended, takes no more time than that.
        let counts = self.timeout_at.is_none() && self.stop.is_none() && self.result.is_none();
        let timeout = terms.timeout.filter(|_| counts);
        self.timeout_at = timeout.map_or(self.timeout_at, |timeout| Some(now.plus(timeout)));
        is_first || timeout.is_some()
    }

    /// Whether its time is over: nothing but `always` tasks may start.
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.timeout_at.is_some_and(|at| at <= now)
    }

    /// Takes in what happened to its jobs. Gives whether it is open again, and what is to be done.
    pub fn moved(&mut self, terms: Terms, moved: &Moved, now: Timestamp) -> (bool, Step) {
        let add = |n: u32, more: i64| u32::try_from(i64::from(n) + more).unwrap_or_default();
        self.open = add(self.open, moved.open);
        self.failed = add(self.failed, moved.failed);
        self.cancelled = add(self.cancelled, moved.cancelled);
        self.skipped = add(self.skipped, moved.skipped);
        let anew = moved.back && self.open > 0 && (self.result.is_some() || self.stop.is_some());
        if anew {
            self.reopen();
        }
        (anew, self.step(terms, moved, now))
    }

    fn reopen(&mut self) {
        self.timeout_at = None; // its time begins anew, with the first task that starts
        self.state = RunState::Running;
        self.result = None;
        self.finished_at = None;
        self.stop = None;
        self.timed_out = false;
        self.cancels = 0;
    }

    fn step(&mut self, terms: Terms, moved: &Moved, now: Timestamp) -> Step {
        if let (Some((task, state)), true, None, true) = (&moved.bad, terms.fail_fast, &self.stop, self.open > 0) {
            self.stop = Some(format!("task {task} {}", said(*state)));
            return Step::Stop;
        }
        if self.open == 0 && self.result.is_none() {
            self.result = Some(self.verdict());
            self.ends += 1;
            self.timeout_at = None;
            if terms.on_complete {
                return Step::Complete;
            }
            return self.end(now);
        }
        match moved.completed && self.open == 0 && !self.state.is_terminal() {
            true => self.end(now),
            false => Step::Nothing,
        }
    }

    fn end(&mut self, now: Timestamp) -> Step {
        self.state = self.result.unwrap_or(RunState::Done);
        self.finished_at = Some(now);
        self.behind = None;
        Step::End
    }

    /// What the ends of its jobs say about it.
    fn verdict(&self) -> RunState {
        match () {
            () if self.timed_out || self.failed > 0 => RunState::Failed,
            () if self.cancelled > 0 => RunState::Cancelled,
            () if self.skipped > 0 => RunState::Failed, // a job outside of it that it waited for
            () => RunState::Done,
        }
    }

    /// Somebody asks for its end: the first time `always` tasks run still, the second ends them too.
    ///
    /// # Errors
    /// `Conflict` when it has ended.
    pub fn cancel(&mut self, reason: Option<&str>) -> Result<Reach, Error> {
        if self.state.is_terminal() {
            return Err(Error::conflict(format!("a {} run cannot be cancelled", self.state)));
        }
        self.cancels += 1;
        self.timeout_at = None;
        self.stop = Some(reason.unwrap_or("the run was cancelled").to_owned());
        // A run that waits for another has nothing that could be to clean up.
        Ok(if self.cancels > 1 || self.behind.is_some() { Reach::All } else { Reach::Tasks })
    }

    /// It takes too long; false when that no longer matters.
    pub fn time_out(&mut self, terms: Terms, now: Timestamp) -> bool {
        let late = self.is_late(now);
        if late {
            self.timeout_at = None;
            self.timed_out = true;
            let after = terms.timeout.unwrap_or_default();
            self.stop.get_or_insert_with(|| format!("the run timed out after {after}"));
        }
        late
    }
}

fn said(state: State) -> &'static str {
    match state {
        State::Failed => "failed",
        State::Skipped => "was skipped",
        _ => "was cancelled",
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
