//! The clock of schedules: fires and records what is due (S20).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::enqueue::LaneCache;
use super::super::{Access, Caller, Op, Scopes};
use super::fire::{Firing, admit, fire};
use super::overlap::Runs;
use crate::error::Result;
use crate::job::plan::{Fire, Overlap, Skip, SkipReason};
use crate::job::schedule::{Due, Entry, Owed};
use crate::job::{Definition, EventKind, Number, Occurrence, OccurrenceId, Schedule, ScheduleId};
use crate::store::{NewEvent, Tx};
use crate::time::Span;

/// How many schedules one tick looks at.
const MAX_SCHEDULES: usize = 256;
/// After how many instants to fire it looks at no more of them.
const MAX_FIRED: usize = 1024;
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

    fn scopes(&self) -> Scopes {
        Scopes::ADMIN
    }

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
            match next.take_owed(now) {
                Ok(owed) => {
                    fires += owed.iter().map(|o| o.due.len()).sum::<usize>();
                    due.push((next, owed));
                }
                Err(e) => {
                    unreadable.push((schedule.name.clone(), e.to_string()));
                    tx.save_schedules(&[&Schedule { next_due_at: Some(now.plus(UNREADABLE_LOOK)), ..schedule }])?;
                }
            }
        }
        let mut ticking = Ticking::start(tx, due)?;
        settle(tx, caller, &mut ticking)?;
        let (fired, skipped) = ticking.iter().fold((0, 0), |sums, t| t.add_to(sums));
        let next = tx.next_schedule()?.map(|at| at.since(now));
        Ok(Ticked::Done { fired, skipped, unreadable, next })
    }

    fn reread(&self, _caller: &Caller, _tx: &mut dyn Tx) -> Result<Option<Ticked>> {
        Ok(None) // whatever the lost one did is done; the next does the rest
    }
}

/// After which time a schedule is due.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct NextTick {}

impl Op for NextTick {
    type Reply = Option<Span>;
    const NAME: &'static str = "next_tick";
    const ACCESS: Access = Access::Read;

    fn scopes(&self) -> Scopes {
        Scopes::ADMIN
    }

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Span>> {
        let now = tx.now();
        Ok(tx.next_schedule()?.map(|at| at.since(now)))
    }
}

/// Fires and records what one schedule owes, before something is done to it.
pub(super) fn bring_up_to_date(tx: &mut dyn Tx, caller: &Caller, mut schedule: Schedule) -> Result<Schedule> {
    let owed = schedule.take_owed(tx.now())?;
    let mut ticking = Ticking::start(tx, vec![(schedule, owed)])?;
    settle(tx, caller, &mut ticking)?;
    // There is exactly the one that was put in.
    ticking.pop().map(|t| t.schedule).ok_or_else(|| crate::error::Error::failed("a schedule was mislaid"))
}

/// A schedule while its instants are worked off.
struct Ticking {
    schedule: Schedule,
    due: VecDeque<(u32, Arc<Definition>, Due)>,
    /// The version of what was worked off last.
    version: u32,
    runs: Runs,
    /// What goes into the ledger, in the order of time.
    entries: Vec<Entry>,
}

impl Ticking {
    fn start(tx: &mut dyn Tx, schedules: Vec<(Schedule, Vec<Owed>)>) -> Result<Vec<Ticking>> {
        let fires = |owed: &Owed| {
            owed.definition.overlap != Overlap::Allow && owed.due.iter().any(|due| matches!(due, Due::Fire(_)))
        };
        let asked: Vec<ScheduleId> =
            schedules.iter().filter(|(_, owed)| owed.iter().any(fires)).map(|(s, _)| s.id).collect();
        let mut runs = if asked.is_empty() { Default::default() } else { Runs::of(tx, &asked)? };
        let start = |(schedule, owed): (Schedule, Vec<Owed>)| {
            let version = owed.first().map_or(schedule.version, |o| o.version);
            let due = owed.into_iter().flat_map(|Owed { version, definition, due }| {
                due.into_iter().map(move |due| (version, Arc::clone(&definition), due))
            });
            let (due, runs) = (due.collect(), runs.remove(&schedule.id).unwrap_or_default());
            Ticking { schedule, due, version, runs, entries: Vec::new() }
        };
        Ok(schedules.into_iter().map(start).collect())
    }

    /// The next runs that can be made at once: one, where the one after depends on it.
    fn next(&mut self, tx: &mut dyn Tx, caller: &Caller, lanes: &mut LaneCache) -> Result<Vec<(Occurrence, Firing)>> {
        let mut firings = Vec::new();
        while let Some((version, definition, due)) = self.due.pop_front() {
            self.begin(version);
            let fire = match due {
                Due::Fire(fire) => fire,
                Due::Skip(skip) => {
                    self.schedule.enter_skipped(version, skip, &mut self.entries);
                    continue;
                }
            };
            match self.place(tx, caller, lanes, &definition)? {
                Ok(place) => {
                    let row = self.schedule.enter_fired(version, fire);
                    self.entries.push(Entry { row: row.clone(), grows: None });
                    let (run, id) = (row.id.into(), Some(row.id));
                    firings.push((row, Firing::new(&self.schedule, &definition, run, id, fire.due, place)));
                    if definition.overlap != Overlap::Allow {
                        break;
                    }
                }
                Err(reason) => {
                    let Fire { due, .. } = fire;
                    let skip = Skip { from: due, to: due, count: 1, reason };
                    self.schedule.enter_skipped(version, skip, &mut self.entries);
                }
            }
        }
        Ok(firings)
    }

    /// A range of the ledger is of one version.
    fn begin(&mut self, version: u32) {
        if version != self.version {
            self.schedule.tail_from = None;
            self.version = version;
        }
    }

    fn place(
        &mut self,
        tx: &mut dyn Tx,
        caller: &Caller,
        lanes: &mut LaneCache,
        definition: &Definition,
    ) -> Result<Result<(i64, Vec<Number>), SkipReason>> {
        let Some(waits_for) = self.runs.meet(tx, caller, definition.overlap)? else {
            return Ok(Err(SkipReason::Overlap));
        };
        let lane = admit(tx, lanes, definition)?;
        Ok(lane.map(|lane| (lane, waits_for)).ok_or(SkipReason::Limit))
    }

    fn add_to(&self, (fired, skipped): (u64, u64)) -> (u64, u64) {
        self.entries.iter().fold((fired, skipped), |(fired, skipped), Entry { row, .. }| match row.reason {
            None => (fired + 1, skipped),
            Some(_) => (fired, skipped + row.count),
        })
    }
}

/// Works off what schedules owe: wave by wave, so that each wave costs a database on the network little.
fn settle(tx: &mut dyn Tx, caller: &Caller, ticking: &mut [Ticking]) -> Result<()> {
    let mut lanes = LaneCache::default();
    let mut known: HashSet<OccurrenceId> = HashSet::new();
    loop {
        let mut wave = Vec::new();
        for (place, t) in ticking.iter_mut().enumerate() {
            wave.extend(t.next(tx, caller, &mut lanes)?.into_iter().map(|(row, firing)| (place, row, firing)));
        }
        if wave.is_empty() {
            break;
        }
        let rows: Vec<&Occurrence> = wave.iter().map(|(_, row, _)| row).collect();
        let new = tx.enter(&rows)?;
        let (mut places, mut firings) = (Vec::new(), Vec::new());
        for ((place, row, firing), new) in wave.into_iter().zip(new) {
            match new {
                true => {
                    places.push(place);
                    firings.push(firing);
                }
                false => _ = known.insert(row.id),
            }
        }
        for (place, number) in places.into_iter().zip(fire(tx, None, &firings)?) {
            ticking[place].runs.add(number);
        }
    }
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
