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
use crate::store::restore::Floor;
use crate::store::{Change, Foresight, Topics, Tx as _};
use crate::time::Timestamp;

/// For how many turns limits are expected where one was seen.
const LIMITED: u32 = 64;
/// How many workers' lanes are remembered.
const WORKERS: usize = 1024;

/// What was read ahead.
#[derive(Default)]
pub(super) struct Foreseen {
    timers: Option<Timers>,
    /// Above what the next attempts of older jobs lie.
    pub(super) floor: Option<Floor>,
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
    /// For so many turns there are limits on what may run. A lane at its limit is not seen among those with room.
    limited: u32,
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
    /// Those in the columns from `at` on.
    fn of(rows: &[Row], at: usize) -> Result<Option<Self>> {
        let timers = |row| Ok(Self { due: time(row, at)?, deadline: time(row, at + 1)? });
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

/// What is asked in one breath.
struct Questions {
    /// Locks the jobs of attempts that end; turn_ahead.sql asks for more.
    lock: Option<Call>,
    /// Reads those jobs, after they were locked and so as they are under the lock; and the next ones of a lane.
    read: Option<Call>,
    /// The timers, then the lanes, where turn_ahead.sql does not ask for them.
    rest: Vec<Call>,
}

impl Questions {
    /// For jobs that end; for the next ones of a lane, which may be known; for the first lanes and up to so many jobs.
    fn of(ending: &[Number], guess: Option<(LaneId, i64)>, lanes: Option<(usize, u32)>, limited: bool) -> Self {
        let (none_ends, ending) = (ending.is_empty(), || ending.to_vec());
        let read = match guess {
            Some((lane, most)) => Some(Call::new(sql!("turn_jobs"), values![ending(), lane, most])),
            None => (!none_ends).then(|| Call::new(sql!("jobs_hold"), values![ending()])),
        };
        if let Some((limit, most)) = lanes
            && !limited
        {
            let columns = values![ending(), limit as i64, i64::from(most)];
            return Self { lock: Some(Call::opening(sql!("turn_ahead"), columns)), read, rest: Vec::new() };
        }
        let lock = (!none_ends).then(|| Call::new(sql!("jobs_lock"), values![ending()]));
        let mut rest = vec![Call::new(sql!("jobs_next_timer"), values![])];
        if let Some((limit, most)) = lanes {
            rest.push(Call::new(sql!("lanes_turn"), values![0i64, limit as i64, i64::from(most), ending()]));
        }
        Self { lock, read, rest }
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
            (habits.limited > 0, next.worker.and_then(|worker| habits.lanes.get(&worker).copied()))
        };
        let guess = guess.zip(next.lanes.map(|(_, most)| i64::from(most)));
        let Questions { lock, read, rest } = Questions::of(&numbers, guess, next.lanes, limited);
        let (locks, reads) = (lock.is_some(), read.is_some());
        let mut answers = self.read(lock.into_iter().chain(read).chain(rest).collect())?.into_iter();
        let mut answer = |is_there: bool| if is_there { answers.next() } else { None }.unwrap_or_default();
        let (ahead, mut held) = (answer(locks), answer(reads));
        let mut pending = None;
        if let Some((lane, _)) = guess {
            let place = held.iter().position(|row| get(row, 31).unwrap_or_default());
            pending = Some((lane, held.split_off(place.unwrap_or(held.len()))));
        }
        self.keep_held(&numbers, &held)?;
        let floor = |rows: &[Row], at| rows.first().map(|row| floor(row, at)).transpose();
        let (floor, (timers, lanes)) = match next.lanes {
            Some((limit, _)) if !limited => (floor(&ahead, 14)?, ahead_of(&ahead, limit)?),
            lanes => {
                let next = answer(true);
                let (floor, timers) = (floor(&next, 2)?, Timers::of(&next, 0)?);
                let mut found = || answer(true).iter().map(lane).collect::<Result<Vec<_>>>();
                (floor, (timers, lanes.map(|_| found()).transpose()?))
            }
        };
        if next.lanes.is_some() {
            let is_limited = |l: &Lane| l.queue_room.or(l.tenant_room).or(l.key_room).is_some();
            let is_seen = lanes.as_ref().is_none_or(|lanes| lanes.iter().any(is_limited));
            let mut habits = self.habits.lock().unwrap_or_else(PoisonError::into_inner);
            habits.limited = if is_seen { LIMITED } else { habits.limited.saturating_sub(1) };
        }
        let lanes = next.lanes.zip(lanes).map(|((limit, most), lanes)| (limit, most, lanes));
        self.foreseen = Foreseen { timers, floor, lanes, pending, worker: next.worker, ..Foreseen::default() };
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

fn floor(row: &Row, at: usize) -> Result<Floor> {
    Ok(Floor::read(get::<Option<String>>(row, at)?.as_deref()))
}

/// What an answer of turn_ahead.sql tells. No lanes where a limit may keep jobs of one from running, or where idle lanes
/// stand for others among the first `limit`; nothing where it had to wait for a lock: then it tells of the time before.
fn ahead_of(rows: &[Row], limit: usize) -> Result<(Option<Timers>, Option<Vec<Lane>>)> {
    if rows.first().map(|row| get(row, 4)).transpose()?.unwrap_or(true) {
        return Ok((None, None));
    }
    let mut lanes = Vec::with_capacity(rows.len());
    for row in rows {
        match (get::<Option<i64>>(row, 12)?, get::<Option<bool>>(row, 13)?) {
            (Some(0), _) if rows.len() < limit => {}
            (Some(0), _) | (_, Some(true)) => return Ok((Timers::of(rows, 5)?, None)),
            (_, Some(false)) => lanes.push(unlimited_lane(row, 7)?),
            (_, None) => {} // the timers without a lane
        }
    }
    Ok((Timers::of(rows, 5)?, Some(lanes)))
}
