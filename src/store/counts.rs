//! How many jobs of a lane came to a state or left it in one transaction.

use std::collections::{BTreeMap, HashMap};

use crate::job::{LaneId, State};

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

    /// Scope, name and number of submissions that are to be written, in the order of names.
    pub(super) fn take_submitted(&mut self) -> Vec<(&'static str, String, i64)> {
        std::mem::take(&mut self.submitted).into_iter().map(|((scope, name), n)| (scope, name, n)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.submitted.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.lanes.clear();
        self.submitted.clear();
    }

    /// What is to be written, in the order of lanes so that writers never wait in a circle.
    pub(super) fn take(&mut self) -> Vec<(LaneId, Delta)> {
        let mut counts: Vec<_> = self.lanes.drain().filter(|(_, delta)| !delta.is_nothing()).collect();
        counts.sort_unstable_by_key(|(lane, _)| *lane);
        counts
    }
}
