//! The turn that is most of all: one attempt ends and one begins. A small statement with single values costs a server half
//! of what the one for all cases does.

use super::{Attempts, Buffer, Outputs, Saves, counts, submissions};
use crate::job::{LaneId, State};
use crate::store::counts::Delta;
use crate::store::postgres::conn::{Call, Param, values};
use crate::store::postgres::sql;
use crate::time::Timestamp;

impl Buffer {
    /// Whether one attempt ends and one begins, and nothing else happens that has a statement of its own.
    pub(super) fn is_one_turn(&self) -> bool {
        let granted = self.granted.as_ref().map_or(0, |grants| grants.fences.numbers.len());
        let ones = [self.attempts.numbers.len(), self.released.numbers.len(), granted, self.served.len()];
        ones.iter().all(|n| *n == 1) && self.saves.numbers.len() == 2 && !self.events.kinds.is_empty()
    }

    /// The statements that write it; only where [`Buffer::is_one_turn`].
    pub(super) fn take_one_turn(&mut self, now: Timestamp) -> Vec<Call> {
        let mut calls = submissions(&mut self.counts, now);
        self.saved.clear();
        self.moved.clear();
        let mut columns = self.take_events(now);
        columns.extend(std::mem::take(&mut self.attempts).pop());
        let mut r = std::mem::take(&mut self.released);
        let mut g = self.granted.take().unwrap_or_default();
        columns.extend(values![r.numbers.pop(), r.attempts.pop(), g.worker, g.ttl, g.expires_at]);
        columns.extend(values![g.fences.numbers.pop(), g.fences.attempts.pop()]);
        let mut saves = std::mem::take(&mut self.saves);
        columns.extend(saves.pop());
        columns.extend(saves.pop());
        columns.extend(values![self.served.pop()]);
        let lanes = self.counts.take();
        let lane = if let [lane] = lanes.as_slice() { Some(lane) } else { None };
        columns.extend(count(lane));
        if lane.is_none() && !lanes.is_empty() {
            calls.push(Call::new(sql!("counts_add"), counts(&lanes)));
        }
        let (names, numbers): (Vec<&'static str>, Vec<i64>) = self.counts.take_tallies().into_iter().unzip();
        columns.extend(values![names, numbers]);
        let mut outputs = std::mem::take(&mut self.outputs);
        let chunk = if outputs.numbers.len() == 1 { outputs.pop() } else { Outputs::default().pop() };
        columns.extend(chunk);
        calls.extend(outputs.call());
        columns.extend(values![g.secret_hash]);
        calls.push(Call::new(sql!("turn_change"), columns));
        calls
    }
}

impl Attempts {
    /// The values of the last.
    fn pop(mut self) -> Vec<Param> {
        let a = &mut self;
        let (code, signal) = (a.codes.pop().flatten(), a.signals.pop().flatten());
        let mut row = values![a.numbers.pop(), a.attempts.pop(), a.workers.pop().flatten()];
        row.extend(values![a.started.pop().flatten(), a.finished.pop().flatten(), a.outcomes.pop().flatten()]);
        row.extend(values![code, signal, a.errors.pop().flatten()]);
        row
    }
}

impl Saves {
    /// The values of the last.
    fn pop(&mut self) -> Vec<Param> {
        let mut row = values![self.numbers.pop(), self.states.pop()];
        row.extend(self.counters.iter_mut().map(|column| Box::new(column.pop()) as Param));
        row.extend(values![self.due.pop().flatten(), self.deadlines.pop().flatten(), self.reasons.pop().flatten()]);
        row.extend(values![self.finished.pop().flatten(), self.cancels.pop().flatten(), self.before.pop()]);
        row
    }
}

impl Outputs {
    /// The values of the last; nulls where there is none.
    fn pop(&mut self) -> Vec<Param> {
        let mut row = values![self.numbers.pop(), self.attempts.pop(), self.seqs.pop(), self.streams.pop()];
        row.extend(values![self.times.pop(), self.places.pop(), self.bytes.pop()]);
        row
    }
}

/// The values of one lane; nulls for none.
fn count(lane: Option<&(LaneId, Delta)>) -> Vec<Param> {
    let mut row = values![lane.map(|(id, _)| *id)];
    for state in State::ALL {
        row.push(Box::new(lane.map(|(_, d)| d.of(state))));
    }
    row.push(Box::new(lane.map(|(_, d)| d.pruned())));
    row
}
