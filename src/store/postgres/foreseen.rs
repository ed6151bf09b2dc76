//! What is read before it is asked for: all that a turn of a worker needs to know costs one round trip.
//!
//! An answer is kept only as long as nothing that this transaction does could change it; then it is asked for anew.

use tokio_postgres::Row;

use super::conn::{Call, values};
use super::lanes::lane;
use super::sql;
use super::tx::{PgTx, time};
use crate::error::Result;
use crate::job::lanes::Lane;
use crate::job::{Number, State};
use crate::store::{Change, Foresight};
use crate::time::Timestamp;

/// What was read ahead.
#[derive(Default)]
pub(super) struct Foreseen {
    timers: Option<Timers>,
    /// The first lanes in turn, at most so many, with pending jobs up to so many.
    lanes: Option<(usize, u32, Vec<Lane>)>,
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
        *self = Self::default();
    }

    /// A job lives on: what may be different by that is asked for anew.
    pub(super) fn note(&mut self, change: &Change, now: Timestamp) {
        let life = change.life;
        if change.from == State::Pending || life.state == State::Pending {
            self.lanes = None;
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
        (skip == 0 && of == limit && to == most).then_some(lanes)
    }
}

impl PgTx<'_> {
    /// Locks and reads the jobs of the attempts that are about to end, and reads what is asked next, as if they had ended.
    pub(super) fn look_ahead(&mut self, next: &Foresight) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        let numbers: Vec<Number> = next.ending.iter().map(|fence| fence.number).collect();
        let mut calls = self.calls_to_lock(&numbers);
        let locks = calls.len();
        calls.push(Call::new(sql!("jobs_next_timer"), values![]));
        if let Some((limit, most)) = next.lanes {
            calls.push(Call::new(sql!("lanes_turn"), values![0i64, limit as i64, i64::from(most), numbers.clone()]));
        }
        let mut answers = self.read(calls)?.into_iter();
        let held = answers.by_ref().take(locks).last();
        if let Some(held) = held {
            self.keep_held(&numbers, &held)?;
        }
        let timers = Timers::of(&answers.next().unwrap_or_default())?;
        let lanes = match (next.lanes, answers.next()) {
            (Some((limit, most)), Some(rows)) => Some((limit, most, rows.iter().map(lane).collect::<Result<_>>()?)),
            _ => None,
        };
        self.foreseen = Foreseen { timers, lanes };
        Ok(())
    }
}
