//! Writes of one transaction that answer nothing, until they are sent in one breath.

mod turn;

use std::collections::{BTreeSet, HashSet};

use uuid::Uuid;

use super::conn::{Call, Param, values};
use super::sql;
use super::tx::{int, text};
use crate::job::output::{Chunk, Stream};
use crate::job::{Attempt, Fence, LaneId, Number, Outcome, State, WorkerProof};
use crate::store::counts::{Counts, Delta};
use crate::store::{Change, RATE_WINDOW};
use crate::time::Timestamp;

/// What waits to be written.
#[derive(Default)]
pub(super) struct Buffer {
    pub(super) counts: Counts,
    pub(super) events: Events,
    saves: Saves,
    /// The jobs in `saves`.
    saved: HashSet<Number>,
    /// Lanes whose pending jobs are others by `saves`.
    moved: HashSet<LaneId>,
    attempts: Attempts,
    released: Fences,
    granted: Option<Grants>,
    outputs: Outputs,
    /// Lanes that go to the end of the turn.
    pub(super) served: Vec<LaneId>,
    /// Lanes that got pending jobs and are to be kept active.
    awake: BTreeSet<LaneId>,
}

/// Leases to be given.
#[derive(Default)]
struct Grants {
    worker: Uuid,
    secret_hash: Vec<u8>,
    ttl: i64,
    expires_at: i64,
    fences: Fences,
}

/// Columns of events.
#[derive(Default)]
pub(super) struct Events {
    pub(super) kinds: Vec<&'static str>,
    pub(super) numbers: Vec<Option<i64>>,
    pub(super) attempts: Vec<Option<i32>>,
    pub(super) workers: Vec<Option<String>>,
    pub(super) actors: Vec<Option<String>>,
    pub(super) states: Vec<Option<&'static str>>,
    pub(super) data: Vec<Option<String>>,
}

#[derive(Default)]
struct Saves {
    numbers: Vec<i64>,
    states: Vec<&'static str>,
    /// attempt, generation, failures, losses, interruptions, streak, unstarted, unstarted_alone, waiting
    counters: [Vec<i32>; 9],
    due: Vec<Option<i64>>,
    deadlines: Vec<Option<i64>>,
    reasons: Vec<Option<String>>,
    finished: Vec<Option<i64>>,
    cancels: Vec<Option<i64>>,
    before: Vec<&'static str>,
}

#[derive(Default)]
struct Attempts {
    numbers: Vec<i64>,
    attempts: Vec<i32>,
    workers: Vec<Option<String>>,
    started: Vec<Option<i64>>,
    finished: Vec<Option<i64>>,
    outcomes: Vec<Option<&'static str>>,
    codes: Vec<Option<i32>>,
    signals: Vec<Option<i32>>,
    errors: Vec<Option<String>>,
}

/// Columns of fences.
#[derive(Default)]
pub(super) struct Fences {
    pub(super) numbers: Vec<i64>,
    pub(super) attempts: Vec<i32>,
}

impl Fences {
    pub(super) fn of(fences: &[Fence]) -> Self {
        let mut columns = Self::default();
        columns.add(fences);
        columns
    }

    fn add(&mut self, fences: &[Fence]) {
        self.numbers.extend(fences.iter().map(|f| f.number));
        self.attempts.extend(fences.iter().map(|f| int(f.attempt)));
    }
}

#[derive(Default)]
struct Outputs {
    numbers: Vec<i64>,
    attempts: Vec<i32>,
    seqs: Vec<i64>,
    streams: Vec<i16>,
    times: Vec<i64>,
    places: Vec<i64>,
    bytes: Vec<Vec<u8>>,
}

impl Buffer {
    /// Whether a job's new life waits here.
    pub(super) fn has_saved(&self, number: Number) -> bool {
        self.saved.contains(&number)
    }

    /// Whether the pending jobs of a lane will be others.
    pub(super) fn has_moved(&self, lane: LaneId) -> bool {
        self.moved.contains(&lane)
    }

    pub(super) fn has_leases(&self) -> bool {
        self.granted.is_some() || !self.released.numbers.is_empty()
    }

    pub(super) fn has_attempts(&self) -> bool {
        self.has_leases() || !self.attempts.numbers.is_empty()
    }

    pub(super) fn save(&mut self, change: &Change) {
        let (life, s) = (change.life, &mut self.saves);
        self.saved.insert(change.number);
        s.numbers.push(change.number);
        s.states.push(life.state.as_str());
        let counters = [
            life.attempt,
            life.generation,
            life.failures,
            life.losses,
            life.interruptions,
            life.streak,
            life.unstarted,
            life.unstarted_alone,
            life.waiting,
        ];
        for (column, n) in s.counters.iter_mut().zip(counters) {
            column.push(int(n));
        }
        s.due.push(life.due_at.map(|t| t.0));
        s.deadlines.push(life.deadline_at.map(|t| t.0));
        s.reasons.push(life.reason.as_deref().map(text));
        s.finished.push(life.finished_at.map(|t| t.0));
        s.cancels.push(life.cancel_requested_at.map(|t| t.0));
        s.before.push(change.from.as_str());
        if change.from == State::Pending || life.state == State::Pending {
            self.moved.insert(change.lane);
        }
        if change.from != life.state {
            self.counts.count(change.lane, Some(change.from), life.state);
            self.mark_awake(change.lane, life.state);
        }
    }

    /// A lane that has a pending job must be looked at.
    pub(super) fn mark_awake(&mut self, lane: LaneId, state: State) {
        if state == State::Pending {
            self.awake.insert(lane);
        }
    }

    /// The lanes that got pending jobs, in order.
    pub(super) fn take_awake(&mut self) -> Vec<LaneId> {
        std::mem::take(&mut self.awake).into_iter().collect()
    }

    pub(super) fn record(&mut self, number: Number, a: &Attempt) {
        let columns = &mut self.attempts;
        columns.numbers.push(number);
        columns.attempts.push(int(a.number));
        columns.workers.push(a.worker.as_deref().map(text));
        columns.started.push(a.started_at.map(|t| t.0));
        columns.finished.push(a.finished_at.map(|t| t.0));
        columns.outcomes.push(a.outcome.map(Outcome::as_str));
        columns.codes.push(a.exit_code);
        columns.signals.push(a.signal);
        columns.errors.push(a.error.as_deref().map(text));
    }

    pub(super) fn release(&mut self, fences: &[Fence]) {
        self.released.add(fences);
    }

    /// Leases of one worker; false: those of another wait still.
    pub(super) fn grant(&mut self, worker: &WorkerProof, fences: &[Fence], ttl: i64, expires_at: i64) -> bool {
        let (id, hash) = (worker.id.0, worker.hash.as_bytes());
        let grants = self.granted.get_or_insert_with(|| Grants {
            worker: id,
            secret_hash: hash.to_vec(),
            ttl,
            expires_at,
            fences: Fences::default(),
        });
        if grants.worker != id || grants.secret_hash != hash || grants.ttl != ttl {
            return false;
        }
        grants.fences.add(fences);
        true
    }

    pub(super) fn put_output(&mut self, fence: Fence, chunks: &[Chunk]) {
        let o = &mut self.outputs;
        for c in chunks {
            o.numbers.push(fence.number);
            o.attempts.push(int(fence.attempt));
            o.seqs.push(c.seq.into());
            o.streams.push(match c.stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            });
            o.times.push(c.at.0);
            o.places.push(i64::try_from(c.place).unwrap_or(i64::MAX));
            o.bytes.push(c.bytes.clone());
        }
    }

    /// Whether nothing waits here but lanes that got pending jobs.
    pub(super) fn is_empty(&self) -> bool {
        self.changes_nothing()
            && self.events.kinds.is_empty()
            && self.outputs.numbers.is_empty()
            && self.counts.is_empty()
    }

    fn changes_nothing(&self) -> bool {
        !self.has_attempts() && self.saves.numbers.is_empty() && self.served.is_empty()
    }

    /// The statements that write all this, in an order that they can have.
    pub(super) fn take(&mut self, now: Timestamp) -> Vec<Call> {
        if self.is_one_turn() {
            return self.take_one_turn(now);
        }
        let mut calls = Vec::new();
        let is_plain = self.changes_nothing();
        let (told, counted) = (!self.events.kinds.is_empty(), self.counts.has_lanes());
        let mut columns = self.take_events(now);
        let counts = counts(&self.counts.take());
        calls.extend(tallies(&mut self.counts));
        calls.extend(submissions(&mut self.counts, now));
        calls.extend(std::mem::take(&mut self.outputs).call());
        if is_plain {
            calls.extend(told.then(|| Call::new(sql!("events_append"), columns)));
            calls.extend(counted.then(|| Call::new(sql!("counts_add"), counts)));
            return calls;
        }
        self.saved.clear();
        self.moved.clear();
        let a = std::mem::take(&mut self.attempts);
        columns.extend(values![
            a.numbers, a.attempts, a.workers, a.started, a.finished, a.outcomes, a.codes, a.signals, a.errors
        ]);
        let r = std::mem::take(&mut self.released);
        let g = self.granted.take().unwrap_or_default();
        let f = g.fences;
        columns.extend(values![r.numbers, r.attempts, g.worker, g.ttl, g.expires_at, f.numbers, f.attempts]);
        let s = std::mem::take(&mut self.saves);
        columns.extend(values![s.numbers, s.states]);
        columns.extend(s.counters.map(|column| Box::new(column) as Param));
        columns.extend(values![s.due, s.deadlines, s.reasons, s.finished, s.cancels, s.before]);
        columns.extend(values![std::mem::take(&mut self.served)]);
        columns.extend(counts);
        columns.extend(values![g.secret_hash]);
        calls.push(Call::new(sql!("jobs_change"), columns));
        calls
    }

    /// The columns of events, and when they happen.
    fn take_events(&mut self, now: Timestamp) -> Vec<Param> {
        let e = std::mem::take(&mut self.events);
        values![now.0, e.kinds, e.numbers, e.attempts, e.workers, e.actors, e.states, e.data]
    }
}

impl Outputs {
    /// What stores them, if there are any.
    fn call(self) -> Option<Call> {
        let o = self;
        let is_empty = o.numbers.is_empty();
        let columns = values![o.numbers, o.attempts, o.seqs, o.streams, o.times, o.places, o.bytes];
        (!is_empty).then(|| Call::new(sql!("output_put"), columns))
    }
}

/// The columns of what is to be counted.
fn counts(counts: &[(LaneId, Delta)]) -> Vec<Param> {
    let lanes: Vec<i64> = counts.iter().map(|(lane, _)| *lane).collect();
    let mut columns = values![lanes];
    for state in State::ALL {
        columns.push(Box::new(counts.iter().map(|(_, d)| d.of(state)).collect::<Vec<i64>>()));
    }
    columns.push(Box::new(counts.iter().map(|(_, d)| d.pruned()).collect::<Vec<i64>>()));
    columns
}

/// What adds up tallies.
fn tallies(counts: &mut Counts) -> Option<Call> {
    let (names, numbers): (Vec<&'static str>, Vec<i64>) = counts.take_tallies().into_iter().unzip();
    (!names.is_empty()).then(|| Call::new(sql!("tallies_add"), values![names, numbers]))
}

/// What keeps submissions under quotas for their window.
fn submissions(counts: &mut Counts, now: Timestamp) -> Vec<Call> {
    let submitted = counts.take_submitted();
    if submitted.is_empty() {
        return Vec::new();
    }
    let scopes: Vec<&'static str> = submitted.iter().map(|(scope, ..)| *scope).collect();
    let names: Vec<String> = submitted.iter().map(|(_, name, _)| name.clone()).collect();
    let times = vec![now.0; submitted.len()];
    let numbers: Vec<i64> = submitted.iter().map(|(.., n)| *n).collect();
    let (from, to) = (now.0 - RATE_WINDOW.as_millis(), now.0 + RATE_WINDOW.as_millis());
    vec![
        Call::new(sql!("submissions_add"), values![scopes.clone(), names.clone(), times, numbers]),
        // What is far ahead is of a clock that was set back since.
        Call::new(sql!("submissions_forget"), values![scopes, names, from, to]),
    ]
}
