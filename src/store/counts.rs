//! How many jobs of a lane came to a state or left it in one transaction.

use std::collections::{BTreeMap, HashMap};

use super::rows::NewEvent;
use crate::job::{EventKind, LaneId, Outcome, State};

/// By how much the number of jobs in each state of a lane changes.
#[derive(Clone, Copy, Default)]
pub(super) struct Delta {
    states: [i64; State::ALL.len()],
    pruned: i64,
}

impl Delta {
    pub(super) fn of(&self, state: State) -> i64 {
        self.states[state as usize]
    }

    pub(super) fn pruned(&self) -> i64 {
        self.pruned
    }

    fn is_nothing(&self) -> bool {
        self.states.iter().all(|n| *n == 0) && self.pruned == 0
    }
}

/// The changes of all lanes, and submissions under quotas, until they are written.
#[derive(Default)]
pub(super) struct Counts {
    lanes: HashMap<LaneId, Delta>,
    submitted: BTreeMap<(&'static str, String), i64>,
    tallies: BTreeMap<&'static str, i64>,
}

impl Counts {
    /// Counts a job that came to `to`, from `from` unless it is new.
    pub(super) fn count(&mut self, lane: LaneId, from: Option<State>, to: State) {
        let delta = self.lanes.entry(lane).or_default();
        if let Some(from) = from {
            delta.states[from as usize] -= 1;
        }
        delta.states[to as usize] += 1;
    }

    /// A job is forgotten.
    pub(super) fn prune(&mut self, lane: LaneId, from: State) {
        let delta = self.lanes.entry(lane).or_default();
        delta.states[from as usize] -= 1;
        delta.pruned += 1;
    }

    /// One more submission.
    pub(super) fn submit(&mut self, scope: &'static str, name: &str) {
        *self.submitted.entry((scope, name.to_owned())).or_default() += 1;
    }

    /// One more of the attempts that ended so.
    pub(super) fn attempt(&mut self, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.tally(outcome.as_str());
        }
    }

    /// An event, if such are counted.
    pub(super) fn event(&mut self, event: &NewEvent) {
        match event.kind {
            EventKind::Settled if tries_again(event) => self.tally(tallies::RETRIES),
            EventKind::Retried | EventKind::RejectedStale | EventKind::CallDenied => self.tally(event.kind.as_str()),
            _ => {}
        }
    }

    fn tally(&mut self, name: &'static str) {
        *self.tallies.entry(name).or_default() += 1;
    }

    /// Name and number of what was tallied and is to be written.
    pub(super) fn take_tallies(&mut self) -> Vec<(&'static str, i64)> {
        std::mem::take(&mut self.tallies).into_iter().collect()
    }

    /// Scope, name and number of submissions that are to be written, in the order of names.
    pub(super) fn take_submitted(&mut self) -> Vec<(&'static str, String, i64)> {
        std::mem::take(&mut self.submitted).into_iter().map(|((scope, name), n)| (scope, name, n)).collect()
    }

    /// Whether the jobs of some lane have changed their states.
    pub(super) fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.submitted.is_empty() && self.tallies.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.lanes.clear();
        self.submitted.clear();
        self.tallies.clear();
    }

    /// What is to be written, in the order of lanes so that writers never wait in a circle.
    pub(super) fn take(&mut self) -> Vec<(LaneId, Delta)> {
        let mut counts: Vec<_> = self.lanes.drain().filter(|(_, delta)| !delta.is_nothing()).collect();
        counts.sort_unstable_by_key(|(lane, _)| *lane);
        counts
    }
}

/// Names of tallies that are neither outcomes nor kinds of events.
pub mod tallies {
    /// Failed, timed out or lost attempts that were followed by a wait for the next.
    pub const RETRIES: &str = "retries";
}

fn tries_again(event: &NewEvent) -> bool {
    let failed = |outcome: &str| matches!(outcome, "failed" | "timed_out" | "lost");
    event.state.is_some_and(|state| !state.is_terminal())
        && event.data.get("outcome").and_then(|outcome| outcome.as_str()).is_some_and(failed)
}
