//! The clock of schedules: fires and records what is due (S20).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::admission::LaneCache;
use super::super::{Access, Caller, Op, Scopes};
use super::fire::{Admitted, Firing, Place, fire, has_room};
use super::overlap::{Made, Runs, was_cut};
use crate::error::Result;
use crate::job::plan::{CatchUp, Fire, Overlap, Skip, SkipReason};
use crate::job::schedule::{Due, Entry, Owed};
use crate::job::{Definition, EventKind, Occurrence, OccurrenceId, Schedule, ScheduleId};
use crate::store::{NewEvent, Tx};
use crate::time::{Span, Timestamp};

/// How many schedules one tick looks at.
const MAX_SCHEDULES: usize = 256;
/// After how many instants to fire it looks at no more of them.
const MAX_FIRED: usize = 1024;
/// After how many jobs of runs of tasks the rest is left to the next tick.
const MAX_JOBS: usize = 10_000;
/// As how many jobs such a run counts at least: to make it takes many statements.
const RUN_COST: usize = 50;
/// When a schedule is looked at again whose rule means nothing here.
const UNREADABLE_LOOK: Span = Span::from_secs(60);

/// Fires and records what is due, one bounded batch. Whoever does so, and however many at once, makes the same rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Tick {
    /// The caller's epoch, where it leads; an older one does nothing.
    #[serde(default)]
    pub epoch: Option<i64>,
}

/// What a tick did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ticked {
    /// Another leads now.
    Deposed,
    /// Done.
    Done {
        /// How many instants fired.
        fired: u64,
        /// How many were skipped.
        skipped: u64,
        /// Schedules whose rule means nothing on this machine, and why.
        unreadable: Vec<(String, String)>,
        /// After which time the next one is due.
        next: Option<Span>,
    },
}

impl Op for Tick {
    type Reply = Ticked;
    const NAME: &'static str = "tick";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Ticked> {
        if let Some(epoch) = self.epoch
            && !tx.still_leads(epoch)?
        {
            return Ok(Ticked::Deposed);
        }
        let now = tx.now();
        let (mut due, mut unreadable, mut fires) = (Vec::new(), Vec::new(), 0);
        for schedule in tx.due_schedules(MAX_SCHEDULES)? {
            if fires >= MAX_FIRED {
                break;
            }
            let mut next = schedule.clone();
            match next.take_owed(now).and_then(|owed| understood(&owed).map(|()| owed)) {
                Ok(owed) => {
                    fires += owed.iter().map(|o| o.due.len()).sum::<usize>();
                    due.push((schedule, next, owed));
                }
                Err(e) => {
                    unreadable.push((schedule.name.clone(), e.to_string()));
                    tx.save_schedules(&[&Schedule { next_due_at: Some(now.plus(UNREADABLE_LOOK)), ..schedule }])?;
                }
            }
        }
        let mut ticking = Ticking::start(tx, due)?;
        settle(tx, caller, &mut ticking, MAX_JOBS)?;
        let (fired, skipped) = ticking.iter().fold((0, 0), |sums, t| t.add_to(sums));
        let next = tx.next_schedule()?.map(|at| at.since(now));
        Ok(Ticked::Done { fired, skipped, unreadable, next })
    }

    fn reread(&self, _caller: &Caller, _tx: &mut dyn Tx) -> Result<Option<Ticked>> {
        Ok(None) // whatever the lost one did is done; the next does the rest
    }
}

/// Refuses what a later version of orx may have stored: it must not keep the others from firing.
fn understood(owed: &[Owed]) -> Result<()> {
    owed.iter().filter(|o| !o.due.is_empty()).try_for_each(|o| o.definition.target.check())
}

/// After which time a schedule is due.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct NextTick {}

impl Op for NextTick {
    type Reply = Option<Span>;
    const NAME: &'static str = "next_tick";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Span>> {
        let now = tx.now();
        Ok(tx.next_schedule()?.map(|at| at.since(now)))
    }
}

/// Fires and records what one schedule owes, before something is done to it.
pub(super) fn bring_up_to_date(tx: &mut dyn Tx, caller: &Caller, mut schedule: Schedule) -> Result<Schedule> {
    let before = schedule.clone();
    let owed = schedule.take_owed(tx.now())?;
    let mut ticking = Ticking::start(tx, vec![(before, schedule, owed)])?;
    settle(tx, caller, &mut ticking, usize::MAX)?;
    // There is exactly the one that was put in.
    ticking.pop().map(|t| t.schedule).ok_or_else(|| crate::error::Error::failed("a schedule was mislaid"))
}

/// A schedule while its instants are worked off.
struct Ticking {
    /// As it was.
    before: Schedule,
    schedule: Schedule,
    due: VecDeque<(u32, Arc<Definition>, Due)>,
    /// The version of what was worked off last.
    version: u32,
    /// The last instant that was worked off.
    reached: Timestamp,
    runs: Runs,
    /// Instants that were missed are made up for in this round: they, and those that are on time with them, line up.
    recovers: bool,
    /// The round before left them to this one.
    goes_on: bool,
    /// What goes into the ledger, in the order of time.
    entries: Vec<Entry>,
}

impl Ticking {
    fn start(tx: &mut dyn Tx, schedules: Vec<(Schedule, Schedule, Vec<Owed>)>) -> Result<Vec<Ticking>> {
        let fires = |owed: &Owed| {
            owed.definition.overlap != Overlap::Allow && owed.due.iter().any(|due| matches!(due, Due::Fire(_)))
        };
        let asked: Vec<ScheduleId> =
            schedules.iter().filter(|(.., owed)| owed.iter().any(fires)).map(|(s, ..)| s.id).collect();
        let mut runs = if asked.is_empty() { Default::default() } else { Runs::of(tx, &asked)? };
        let mut started = Vec::with_capacity(schedules.len());
        for (before, schedule, owed) in schedules {
            let version = owed.first().map_or(schedule.version, |o| o.version);
            let due = owed.into_iter().flat_map(|Owed { version, definition, due }| {
                due.into_iter().map(move |due| (version, Arc::clone(&definition), due))
            });
            let (due, runs) = (due.collect::<VecDeque<_>>(), runs.remove(&schedule.id).unwrap_or_default());
            let reached = before.recorded_until;
            let lines_up = |(_, definition, due): &(u32, Arc<Definition>, Due)| {
                matches!((definition.overlap, due), (Overlap::Skip | Overlap::Queue, Due::Fire(_)))
            };
            let goes_on = runs.has_line() && due.front().is_some_and(lines_up) && was_cut(tx, &before)?;
            let (recovers, entries) = (goes_on, Vec::new());
            started.push(Ticking { before, schedule, due, version, reached, runs, recovers, goes_on, entries });
        }
        Ok(started)
    }

    /// The next runs of one job that can be made at once: one, where the one after depends on it. Runs of many tasks are
    /// made on the way, until they have `left` no more jobs.
    fn next(
        &mut self,
        tx: &mut dyn Tx,
        caller: &Caller,
        lanes: &mut LaneCache,
        left: &mut usize,
    ) -> Result<Vec<(Occurrence, Admitted)>> {
        let mut wave = Vec::new();
        while *left > 0
            && let Some((version, definition, due)) = self.due.pop_front()
        {
            self.begin(version);
            let fire = match due {
                Due::Fire(fire) => fire,
                Due::Skip(skip) => {
                    self.reached = skip.to;
                    self.schedule.enter_skipped(version, skip, &mut self.entries);
                    continue;
                }
            };
            self.reached = fire.due;
            let row = Occurrence::fired(self.schedule.id, version, fire);
            if definition.overlap == Overlap::Cancel && !has_room(tx, lanes, &self.schedule.name, &definition)? {
                self.skip(version, fire.due, SkipReason::Limit);
                continue;
            }
            self.recovers |= fire.recovered && definition.catch_up != CatchUp::Last;
            let waits = match definition.overlap {
                overlap @ (Overlap::Skip | Overlap::Queue) if self.recovers => {
                    self.runs.line_up(tx, overlap, self.goes_on)?
                }
                overlap => self.runs.meet(tx, caller, overlap)?,
            };
            let Some(waits) = waits else {
                self.skip(version, fire.due, SkipReason::Overlap);
                continue;
            };
            let firing = Firing::new(&self.schedule, &definition, row.id.into(), Some(row.id), fire.due, waits);
            if firing.is_of_tasks() && !tx.occurrences(row.schedule, fire.due, fire.due, 1)?.is_empty() {
                continue; // its instant has a row
            }
            match firing.admit(tx, caller, lanes, None)? {
                None => self.skip(version, fire.due, SkipReason::Limit),
                Some(Place::Run(run)) => {
                    self.runs.add(Made::Run(run));
                    *left = left.saturating_sub(definition.target.jobs().max(RUN_COST));
                    self.enter(version, fire);
                    tx.enter(&[&row])?;
                    if self.runs.made_room {
                        break;
                    }
                }
                Some(Place::Job(admitted)) => {
                    self.enter(version, fire);
                    wave.push((row, *admitted));
                    if definition.overlap != Overlap::Allow {
                        break;
                    }
                }
            }
        }
        Ok(wave)
    }

    fn enter(&mut self, version: u32, fire: Fire) {
        let row = self.schedule.enter_fired(version, fire);
        self.entries.push(Entry { row, grows: None });
    }

    fn skip(&mut self, version: u32, due: Timestamp, reason: SkipReason) {
        let skip = Skip { from: due, to: due, count: 1, reason };
        self.schedule.enter_skipped(version, skip, &mut self.entries);
    }

    /// Leaves what was not worked off to the next tick.
    fn put_back(&mut self) {
        let Some((version, _, due)) = self.due.front() else { return };
        let next = match due {
            Due::Fire(fire) => fire.due,
            Due::Skip(skip) => skip.from,
        };
        let (schedule, before) = (&mut self.schedule, &self.before);
        if *version != schedule.version {
            schedule.version = before.version;
            (schedule.definition, schedule.then) = (Arc::clone(&before.definition), before.then.clone());
        } else if let Some(then) = before.then.as_ref().filter(|_| schedule.then.is_none()) {
            self.reached = self.reached.max(then.from); // the version before has nothing left
        }
        (schedule.recorded_until, schedule.next_due_at) = (self.reached, Some(next));
    }

    /// A range of the ledger is of one version.
    fn begin(&mut self, version: u32) {
        if version != self.version {
            self.schedule.tail_from = None;
            self.version = version;
        }
    }

    fn add_to(&self, (fired, skipped): (u64, u64)) -> (u64, u64) {
        self.entries.iter().fold((fired, skipped), |(fired, skipped), Entry { row, .. }| match row.reason {
            None => (fired + 1, skipped),
            Some(_) => (fired, skipped + row.count),
        })
    }
}

/// Works off what schedules owe: wave by wave, so that each wave costs a database on the network little.
fn settle(tx: &mut dyn Tx, caller: &Caller, ticking: &mut [Ticking], mut left: usize) -> Result<()> {
    let mut lanes = LaneCache::default();
    let mut known: HashSet<OccurrenceId> = HashSet::new();
    loop {
        let mut wave = Vec::new();
        for (place, t) in ticking.iter_mut().enumerate() {
            let next = t.next(tx, caller, &mut lanes, &mut left)?;
            wave.extend(next.into_iter().map(|(row, admitted)| (place, row, admitted)));
        }
        let made_room = ticking.iter().any(|t| t.runs.made_room);
        ticking.iter_mut().for_each(|t| t.runs.made_room = false);
        if wave.is_empty() && !made_room {
            break;
        }
        let rows: Vec<&Occurrence> = wave.iter().map(|(_, row, _)| row).collect();
        let new = tx.enter(&rows)?;
        let (mut places, mut admitted) = (Vec::new(), Vec::new());
        for ((place, row, one), new) in wave.into_iter().zip(new) {
            match new {
                true => {
                    places.push(place);
                    admitted.push(one);
                }
                false => _ = known.insert(row.id),
            }
        }
        for (place, number) in places.into_iter().zip(fire(tx, None, &admitted)?) {
            ticking[place].runs.add(Made::Job(number));
        }
        if made_room {
            lanes = LaneCache::default(); // all that took a place is stored by now
        }
    }
    ticking.iter_mut().for_each(Ticking::put_back);
    record(tx, ticking, &known)
}

/// Writes what was skipped, the events, and how far the ledgers are now.
fn record(tx: &mut dyn Tx, ticking: &mut [Ticking], known: &HashSet<OccurrenceId>) -> Result<()> {
    for t in ticking.iter_mut() {
        t.begin(t.schedule.version);
    }
    let entries: Vec<&Entry> =
        ticking.iter().flat_map(|t| &t.entries).filter(|entry| !known.contains(&entry.row.id)).collect();
    let skipped = entries.iter().filter(|entry| entry.row.reason.is_some());
    let (grown, new): (Vec<&Entry>, Vec<&Entry>) = skipped.copied().partition(|entry| entry.grows.is_some());
    tx.enter(&new.iter().map(|entry| &entry.row).collect::<Vec<_>>())?;
    tx.grow(&grown)?;
    let told: Vec<NewEvent> = entries.iter().map(|entry| event(&entry.row, None)).collect();
    tx.append(&told)?;
    let schedules: Vec<&Schedule> = ticking.iter().map(|t| &t.schedule).collect();
    match schedules.is_empty() {
        true => Ok(()),
        false => tx.save_schedules(&schedules),
    }
}

/// The event of a row, or of a part of one.
pub(super) fn event<'a>(row: &Occurrence, actor: Option<&'a str>) -> NewEvent<'a> {
    let mut data = json!({ "schedule_id": row.schedule, "due_at": row.due_at, "version": row.version });
    let mut tell = |key: &str, value: Value| {
        if let Value::Object(map) = &mut data {
            map.insert(key.to_owned(), value);
        }
    };
    let kind = match row.reason {
        None => {
            tell("occurrence_id", json!(row.id));
            EventKind::OccurrenceFired
        }
        Some(reason) => {
            tell("until", json!(row.until));
            tell("count", json!(row.count));
            tell("reason", json!(reason));
            EventKind::OccurrenceSkipped
        }
    };
    for (flag, set) in [("recovered", row.recovered), ("backfilled", row.backfilled)] {
        if set {
            tell(flag, json!(true));
        }
    }
    NewEvent { actor, data, ..NewEvent::of(kind) }
}
