//! What is read before it is asked for: all that a turn of a worker needs to know costs one round trip.
//!
//! An answer is kept only as long as nothing that this transaction does could change it; then it is asked for anew.

use std::collections::HashMap;
use std::sync::PoisonError;

use tokio_postgres::Row;

use super::conn::{Call, values};
use super::lanes::{lane, unlimited_lane};
use super::sql;
use super::tx::{PgTx, get, time};
use crate::error::Result;
use crate::job::lanes::Lane;
use crate::job::{LaneId, Number, State, WorkerId};
use crate::store::{Change, Foresight, Topics, Tx as _};
use crate::time::Timestamp;

/// How many workers' lanes are remembered.
const WORKERS: usize = 1024;

/// What was read ahead.
#[derive(Default)]
pub(super) struct Foreseen {
    timers: Option<Timers>,
    /// The first lanes in turn, at most so many, with pending jobs up to so many.
    lanes: Option<(usize, u32, Vec<Lane>)>,
    /// The first jobs of a lane, locked.
    pending: Option<(LaneId, Vec<Row>)>,
    /// Jobs were locked that are not taken.
    locked_in_vain: bool,
    /// There was one lane only to take from.
    one_lane: bool,
    /// Who leases.
    worker: Option<WorkerId>,
}

/// What was learned from the turns before: what to ask for ahead. It may be wrong at any time.
#[derive(Default)]
pub(super) struct Habits {
    /// There are limits on what may run.
    limited: bool,
    /// The lane that a worker took jobs from.
    lanes: HashMap<WorkerId, LaneId>,
}

impl Habits {
    /// Where lanes take turns, the next is another.
    fn learn(&mut self, worker: WorkerId, lane: Option<LaneId>) {
        if self.lanes.len() >= WORKERS {
            self.lanes.clear(); // of workers that are gone, most likely
        }
        match lane {
            Some(lane) => self.lanes.insert(worker, lane),
            None => self.lanes.remove(&worker),
        };
    }
}

/// The next instants that something is to be done at.
#[derive(Clone, Copy)]
struct Timers {
    due: Option<Timestamp>,
    deadline: Option<Timestamp>,
}

impl Timers {
    fn of(rows: &[Row]) -> Result<Option<Self>> {
        let timers = |row| Ok(Self { due: time(row, 0)?, deadline: time(row, 1)? });
        rows.first().map(timers).transpose()
    }

    /// Whether nothing is to be done at `now`.
    fn are_after(&self, now: Timestamp) -> bool {
        [self.due, self.deadline].into_iter().flatten().all(|at| at > now)
    }
}

impl Foreseen {
    /// A job is stored, or another lane or limit.
    pub(super) fn forget(&mut self) {
        self.forget_lanes();
        self.timers = None;
    }

    fn forget_lanes(&mut self) {
        self.lanes = None;
        if let Some((_, rows)) = self.pending.take() {
            self.locked_in_vain |= !rows.is_empty();
        }
    }

    /// A job lives on: what may be different by that is asked for anew.
    pub(super) fn note(&mut self, change: &Change, now: Timestamp) {
        let life = change.life;
        if change.from == State::Pending || life.state == State::Pending {
            self.forget_lanes();
        }
        let was_timed = change.from == State::Scheduled;
        self.timers = self.timers.take().filter(|_| !was_timed && life.deadline_at.is_none());
        if life.state == State::Scheduled
            && let Some(timers) = &mut self.timers
        {
            match life.due_at.filter(|due| *due > now) {
                Some(due) => timers.due = Some(timers.due.map_or(due, |at| at.min(due))),
                None => self.timers = None,
            }
        }
    }

    /// Whether neither a job is due nor a deadline has passed.
    pub(super) fn is_quiet(&self, now: Timestamp) -> bool {
        self.timers.is_some_and(|timers| timers.are_after(now))
    }

    /// The next instant of all timers, if it is known for certain: a deadline may have been that of a job just taken.
    pub(super) fn next_timer(&self) -> Option<Option<Timestamp>> {
        self.timers.filter(|timers| timers.deadline.is_none()).map(|timers| timers.due)
    }

    pub(super) fn take_lanes(&mut self, skip: usize, limit: usize, most: u32) -> Option<Vec<Lane>> {
        let (of, to, lanes) = self.lanes.take()?;
        self.one_lane = lanes.len() == 1;
        (skip == 0 && of == limit && to == most).then_some(lanes)
    }
}

impl PgTx<'_> {
    /// Locks and reads the jobs of the attempts that are about to end, and reads what is asked next, as if they had ended.
    ///
    /// A worker's next job is most often of the lane of its last: that one is locked and read at once.
    pub(super) fn look_ahead(&mut self, next: &Foresight) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        let numbers: Vec<Number> = next.ending.iter().map(|fence| fence.number).collect();
        let (limited, guess) = {
            let habits = self.habits.lock().unwrap_or_else(PoisonError::into_inner);
            (habits.limited, next.worker.and_then(|worker| habits.lanes.get(&worker).copied()))
        };
        let mut calls = self.calls_to_lock(&numbers);
        let locks = calls.len();
        let guess = guess.filter(|_| next.lanes.is_some());
        match next.lanes {
            None => calls.push(Call::new(sql!("jobs_next_timer"), values![])),
            Some((limit, most)) if limited => {
                calls.push(Call::new(sql!("jobs_next_timer"), values![]));
                calls
                    .push(Call::new(sql!("lanes_turn"), values![0i64, limit as i64, i64::from(most), numbers.clone()]));
            }
            Some((limit, most)) => calls.push(Call::new(sql!("turn_ahead"), values![limit as i64, i64::from(most)])),
        }
        if let (Some(lane), Some((_, most))) = (guess, next.lanes) {
            calls.push(Call::new(sql!("lanes_pending_lock"), values![lane, i64::from(most)]));
        }
        let mut answers = self.read(calls)?.into_iter();
        if let Some(held) = answers.by_ref().take(locks).last() {
            self.keep_held(&numbers, &held)?;
        }
        let timers = answers.next().unwrap_or_default();
        let found = match next.lanes {
            None => None,
            Some(_) if limited => {
                Some(answers.next().unwrap_or_default().iter().map(lane).collect::<Result<Vec<_>>>()?)
            }
            Some(_) => unlimited(&timers)?,
        };
        let is_limited = |l: &Lane| l.queue_room.or(l.tenant_room).or(l.key_room).is_some();
        let limited = found.as_ref().is_none_or(|lanes| lanes.iter().any(is_limited));
        if next.lanes.is_some() {
            self.habits.lock().unwrap_or_else(PoisonError::into_inner).limited = limited;
        }
        let lanes = next.lanes.zip(found).map(|((limit, most), lanes)| (limit, most, lanes));
        let pending = guess.zip(answers.next());
        self.foreseen =
            Foreseen { timers: Timers::of(&timers)?, lanes, pending, worker: next.worker, ..Foreseen::default() };
        Ok(())
    }

    /// The first jobs of `lane`, if they were locked ahead and are as many as can be had up to `limit`.
    pub(super) fn take_foreseen(&mut self, lane: LaneId, limit: usize) -> Result<Option<Vec<Number>>> {
        if let Some(worker) = self.foreseen.worker {
            let lane = self.foreseen.one_lane.then_some(lane);
            self.habits.lock().unwrap_or_else(PoisonError::into_inner).learn(worker, lane);
        }
        match self.foreseen.pending.take() {
            Some((of, mut rows)) if of == lane => {
                self.foreseen.locked_in_vain |= rows.len() > limit;
                rows.truncate(limit);
                self.keep_locked(&rows).map(Some)
            }
            other => {
                self.foreseen.pending = other;
                Ok(None)
            }
        }
    }

    /// Before the end: others passed over jobs that were locked and not taken, so they are to look again.
    pub(super) fn confess(&mut self) {
        self.foreseen.forget();
        if std::mem::take(&mut self.foreseen.locked_in_vain) {
            self.wake(Topics::WORK);
            if let Some(worker) = self.foreseen.worker {
                self.habits.lock().unwrap_or_else(PoisonError::into_inner).learn(worker, None);
            }
        }
    }
}

/// The lanes in an answer of turn_ahead.sql; none where a limit may keep jobs of one from running.
fn unlimited(rows: &[Row]) -> Result<Option<Vec<Lane>>> {
    let mut lanes = Vec::with_capacity(rows.len());
    for row in rows {
        match get::<Option<bool>>(row, 8)? {
            Some(true) => return Ok(None),
            Some(false) => lanes.push(unlimited_lane(row, 2)?),
            None => {} // the timers without a lane
        }
    }
    Ok(Some(lanes))
}
