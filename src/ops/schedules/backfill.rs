//! Running the instants of a schedule that did not fire (S21).

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::admission::LaneCache;
use super::super::{Access, Caller, Op, Scopes};
use super::Named;
use super::fire::{Firing, has_room};
use super::look::OccurrenceView;
use super::overlap::Runs;
use super::tick::{bring_up_to_date, event};
use crate::error::{Error, Result};
use crate::job::plan::{Fire, MAX_RECOVERED, Overlap, Skip, SkipReason};
use crate::job::{Definition, Occurrence, Recurrence, RunId, Schedule};
use crate::store::Tx;
use crate::time::Timestamp;

/// Makes runs for the instants in [from, to] that were skipped, or lie before the schedule was made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Backfill {
    /// Made by the caller: the same call makes the same replays.
    pub id: Uuid,
    /// The schedule.
    pub schedule: Named,
    /// The first instant.
    pub from: Timestamp,
    /// The last one; not later than now.
    pub to: Timestamp,
    /// What becomes of runs that meet; `queue` when absent, unless the schedule lets them run side by side.
    pub overlap: Option<Overlap>,
    /// Run those again that have fired.
    #[serde(default)]
    pub again: bool,
}

/// What a backfill did.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Backfilled {
    /// Instants that fired because of it.
    pub fired: Vec<OccurrenceView>,
    /// Instants that had fired before, and run again.
    pub again: Vec<OccurrenceView>,
    /// Instants that had fired before.
    pub before: Vec<OccurrenceView>,
    /// Instants that did not fire this time either, and why.
    pub left: Vec<(Timestamp, SkipReason)>,
}

/// How many rows of the ledger are looked at.
const MAX_ROWS: usize = 10_000;
/// How many jobs may be made.
const MAX_JOBS: usize = 100_000;

impl Op for Backfill {
    type Reply = Backfilled;
    const NAME: &'static str = "backfill";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Backfilled> {
        let schedule = self.schedule.live(caller, tx)?;
        let now = tx.now();
        if self.from > self.to || self.from > now {
            return Err(Error::usage("no instant that is over lies between --from and --to")
                .hint("--from is the earlier one, and not in the future"));
        }
        let mut schedule = bring_up_to_date(tx, caller, schedule)?;
        let to = self.to.min(now);
        let mut rows = tx.occurrences(schedule.id, self.from, to, MAX_ROWS + 1)?;
        if rows.len() > MAX_ROWS {
            return Err(too_many());
        }
        rows.reverse();
        let overlap = self.overlap.unwrap_or(match schedule.newest().1.overlap {
            Overlap::Allow => Overlap::Allow,
            _ => Overlap::Queue,
        });
        let runs = Runs::of_one(tx, schedule.id)?;
        let mut work =
            Work { op: self, caller, overlap, runs, lanes: LaneCache::default(), reply: Backfilled::default() };
        let todo = work.todo(tx, &schedule, &rows, to)?;
        for (row, stretch) in todo {
            work.run(tx, &schedule, row, stretch)?;
        }
        // The last row may be another by now.
        schedule.tail_from = None;
        tx.save_schedules(&[&schedule])?;
        Ok(work.reply)
    }

    fn check(&self) -> String {
        format!("orx schedule history {}", self.schedule.name)
    }
}

fn too_many() -> Error {
    Error::usage(format!("more than {MAX_RECOVERED} instants at once")).hint("choose --from and --to closer together")
}

/// Instants under one version.
struct Stretch {
    version: u32,
    definition: Arc<Definition>,
    recurrence: Recurrence,
    due: Vec<Timestamp>,
}

struct Work<'a> {
    op: &'a Backfill,
    caller: &'a Caller,
    overlap: Overlap,
    runs: Runs,
    lanes: LaneCache,
    reply: Backfilled,
}

impl Work<'_> {
    /// What is to be run, oldest first: rows of the ledger with the instants in them, and instants without a row.
    fn todo<'r>(
        &self,
        tx: &mut dyn Tx,
        schedule: &Schedule,
        rows: &'r [Occurrence],
        to: Timestamp,
    ) -> Result<Vec<(Option<&'r Occurrence>, Stretch)>> {
        let mut todo = vec![(None, self.before_it_was_made(schedule, rows, to)?)];
        let mut jobs = todo.iter().map(|(_, s)| s.due.len() * s.definition.target.jobs()).sum::<usize>();
        let mut versions: HashMap<u32, Arc<Definition>> = HashMap::new();
        let mut left = MAX_RECOVERED as usize - todo.iter().map(|(_, s)| s.due.len()).sum::<usize>();
        for row in rows {
            let definition = match versions.get(&row.version) {
                Some(definition) => Arc::clone(definition),
                None => {
                    let found = tx.definition(schedule.id, row.version)?;
                    let found = Arc::new(found.ok_or_else(|| Error::failed("a version of the schedule is missing"))?);
                    versions.insert(row.version, Arc::clone(&found));
                    found
                }
            };
            let recurrence = Recurrence::new(definition.rule.clone())?;
            let due: Vec<Timestamp> = match row.reason {
                None => vec![row.due_at],
                Some(_) => {
                    let (from, to) = (row.due_at.max(self.op.from), row.until.min(to));
                    recurrence.between(Timestamp(from.0 - 1), to).take(left + 1).collect()
                }
            };
            if row.reason.is_some() || self.op.again {
                left = left.checked_sub(due.len()).ok_or_else(too_many)?;
            }
            jobs += definition.target.jobs() * if row.reason.is_some() || self.op.again { due.len() } else { 0 };
            if jobs > MAX_JOBS {
                return Err(Error::usage(format!("more than {MAX_JOBS} jobs at once"))
                    .hint("choose --from and --to closer together"));
            }
            todo.push((Some(row), Stretch { version: row.version, definition, recurrence, due }));
        }
        Ok(todo)
    }

    /// Instants from before the schedule was made, as its present version names them.
    fn before_it_was_made(&self, schedule: &Schedule, rows: &[Occurrence], to: Timestamp) -> Result<Stretch> {
        let definition = Arc::clone(&schedule.definition);
        let recurrence = Recurrence::new(definition.rule.clone())?;
        let to = to.min(Timestamp(schedule.created_at.0 - 1));
        let has_row = |due: &Timestamp| rows.iter().any(|row| row.due_at == *due);
        let due = recurrence.between(Timestamp(self.op.from.0.saturating_sub(1)), to);
        let due: Vec<Timestamp> = due.filter(|due| !has_row(due)).take(MAX_RECOVERED as usize + 1).collect();
        match due.len() > MAX_RECOVERED as usize {
            true => Err(too_many()),
            false => Ok(Stretch { version: schedule.version, definition, recurrence, due }),
        }
    }

    fn run(&mut self, tx: &mut dyn Tx, schedule: &Schedule, row: Option<&Occurrence>, stretch: Stretch) -> Result<()> {
        if let Some(row) = row.filter(|row| row.reason.is_none()) {
            return self.replay(tx, schedule, row, &stretch.definition);
        }
        let mut fired = Vec::new();
        for due in &stretch.due {
            let mut made = Occurrence::fired(schedule.id, stretch.version, Fire { due: *due, recovered: false });
            made.backfilled = true;
            let run = made.id.into();
            match self.start(tx, schedule, &stretch.definition, run, &made)? {
                Ok(()) => {
                    self.reply.fired.push(OccurrenceView::from(&made));
                    fired.push(made);
                }
                Err(reason) => self.reply.left.push((*due, reason)),
            }
        }
        if fired.is_empty() {
            return Ok(());
        }
        let rest = match row {
            Some(row) => {
                tx.cut(schedule.id, row.due_at)?;
                rest_of(row, &fired, &stretch.recurrence)
            }
            None => Vec::new(),
        };
        tx.enter(&fired.iter().chain(&rest).collect::<Vec<_>>())?;
        let actor = Some(self.caller.actor.as_str());
        tx.append(&fired.iter().map(|made| event(made, actor)).collect::<Vec<_>>())
    }

    /// An instant that has fired is reported, and runs again only where that was asked for.
    fn replay(
        &mut self,
        tx: &mut dyn Tx,
        schedule: &Schedule,
        row: &Occurrence,
        definition: &Arc<Definition>,
    ) -> Result<()> {
        if !self.op.again {
            self.reply.before.push(OccurrenceView::from(row));
            return Ok(());
        }
        let run = RunId(Uuid::new_v5(&self.op.id, row.id.0.as_bytes()));
        match self.start(tx, schedule, definition, run, row)? {
            Ok(()) => {
                let view = OccurrenceView::from(row);
                self.reply.again.push(OccurrenceView { run_id: Some(run), ..view });
            }
            Err(reason) => self.reply.left.push((row.due_at, reason)),
        }
        Ok(())
    }

    fn start(
        &mut self,
        tx: &mut dyn Tx,
        schedule: &Schedule,
        definition: &Arc<Definition>,
        run: RunId,
        occurrence: &Occurrence,
    ) -> Result<Result<(), SkipReason>> {
        if self.overlap == Overlap::Cancel && !has_room(tx, &mut self.lanes, &schedule.name, definition)? {
            return Ok(Err(SkipReason::Limit));
        }
        let Some(waits) = self.runs.meet(tx, self.caller, self.overlap)? else {
            return Ok(Err(SkipReason::Overlap));
        };
        let firing = Firing::new(schedule, definition, run, Some(occurrence.id), occurrence.due_at, waits);
        let actor = Some(self.caller.actor.as_str());
        let Some(place) = firing.admit(tx, self.caller, &mut self.lanes, actor)? else {
            return Ok(Err(SkipReason::Limit));
        };
        self.runs.add(place.make(tx, actor)?);
        Ok(Ok(()))
    }
}

/// What is left of a range of skipped instants when those that `fired` are taken out of it.
fn rest_of(row: &Occurrence, fired: &[Occurrence], recurrence: &Recurrence) -> Vec<Occurrence> {
    let ends = fired.iter().map(|made| Timestamp(made.due_at.0 - 1)).chain([row.until]);
    let begins = [Timestamp(row.due_at.0 - 1)].into_iter().chain(fired.iter().map(|made| made.due_at));
    let mut rest = Vec::new();
    for (after, to) in begins.zip(ends) {
        let (first, last) = (recurrence.next_after(after), recurrence.last_n(1, after, to).pop());
        if let (Some(from), Some(to), Some(reason)) = (first, last, row.reason) {
            let skip = Skip { from, to, count: recurrence.count(after, to), reason };
            rest.push(Occurrence::skipped(row.schedule, row.version, skip));
        }
    }
    rest
}
