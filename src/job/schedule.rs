//! A schedule, its versions, and the rows of its ledger.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{CatchUp, Fire, Overlap, Skip, SkipReason, Tick};
use super::spec::word;
use super::{Captured, OccurrenceId, Recurrence, Rule, RunId, ScheduleId, Target, Unread};
use crate::error::Result;
use crate::time::{Span, Timestamp};

/// How often the ledger of a paused schedule is written at most.
const PAUSED_LOOK: Span = Span::from_secs(59);

/// Everything that a version of a schedule says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Definition {
    /// When it is due.
    pub rule: Rule,
    /// What becomes of an occurrence whose predecessor still runs.
    pub overlap: Overlap,
    /// What is made up for after downtime.
    pub catch_up: CatchUp,
    /// Occurrences start up to this much later than they are due.
    pub jitter: Span,
    /// What it runs.
    pub target: Target,
    /// What surrounded the caller.
    #[serde(default)]
    pub captured: Arc<Captured>,
}

/// A version that takes over later.
#[derive(Clone, Debug, PartialEq)]
pub struct Then {
    /// Its number.
    pub version: u32,
    /// What it says.
    pub definition: Arc<Definition>,
    /// The last instant of the version before.
    pub from: Timestamp,
}

/// A schedule as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Who it belongs to.
    pub tenant: String,
    /// What people call it; unique among those of the tenant that are not removed.
    pub name: String,
    /// The version in force.
    pub version: u32,
    /// What that says.
    pub definition: Arc<Definition>,
    /// The version that takes over.
    pub then: Option<Then>,
    /// Whether it is paused.
    pub paused: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// The ledger says of every instant up to here what became of it.
    pub recorded_until: Timestamp,
    /// Where the last row of the ledger begins, if that is a range of skipped instants of this version.
    pub tail_from: Option<Timestamp>,
    /// When to look at it again.
    pub next_due_at: Option<Timestamp>,
    /// The last instant in the ledger.
    pub last_due_at: Option<Timestamp>,
    /// Why an instant was last skipped.
    pub last_skip_reason: Option<SkipReason>,
    /// When it was removed.
    pub removed_at: Option<Timestamp>,
    /// What of its versions cannot be read here: then it owes nothing that could be told.
    pub unread: Option<Unread>,
}

/// A row of the ledger: one instant, or consecutive ones that were skipped for one reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    /// Its id, that of its first instant.
    pub id: OccurrenceId,
    /// The schedule.
    pub schedule: ScheduleId,
    /// The first instant.
    pub due_at: Timestamp,
    /// The last instant.
    pub until: Timestamp,
    /// How many there are.
    pub count: u64,
    /// Why they did not fire; none: it fired.
    pub reason: Option<SkipReason>,
    /// What was made, where it fired.
    pub run: Option<RunId>,
    /// The version of the schedule.
    pub version: u32,
    /// It was missed, and made up for.
    pub recovered: bool,
    /// It had been skipped, or lies before the schedule was made, and somebody asked for it.
    pub backfilled: bool,
}

impl Occurrence {
    /// `fired` or `skipped`.
    pub fn state(&self) -> &'static str {
        match self.reason {
            None => "fired",
            Some(_) => "skipped",
        }
    }

    /// The row of an instant that fires.
    pub fn fired(schedule: ScheduleId, version: u32, fire: Fire) -> Self {
        let id = OccurrenceId::new(schedule, fire.due);
        let Fire { due, recovered } = fire;
        Self {
            id,
            schedule,
            due_at: due,
            until: due,
            count: 1,
            reason: None,
            run: Some(id.into()),
            version,
            recovered,
            backfilled: false,
        }
    }

    /// The row of instants that do not.
    pub fn skipped(schedule: ScheduleId, version: u32, skip: Skip) -> Self {
        Self {
            id: OccurrenceId::new(schedule, skip.from),
            schedule,
            due_at: skip.from,
            until: skip.to,
            count: skip.count,
            reason: Some(skip.reason),
            run: None,
            version,
            recovered: false,
            backfilled: false,
        }
    }
}

/// A new row, or what the last one grows by.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The row, or the part that is new.
    pub row: Occurrence,
    /// Where the row begins that it is added to.
    pub grows: Option<Timestamp>,
}

/// One thing that a schedule owes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Due {
    /// An instant that fires.
    Fire(Fire),
    /// Instants that do not.
    Skip(Skip),
}

/// What a schedule owes under one version, oldest first.
#[derive(Clone, Debug)]
pub struct Owed {
    /// The version.
    pub version: u32,
    /// What it says.
    pub definition: Arc<Definition>,
    /// What is due.
    pub due: Vec<Due>,
}

impl Definition {
    /// Refuses what can never fire or run, and writes the rule in its one form.
    ///
    /// # Errors
    /// `Usage`.
    pub fn check(&mut self) -> Result<Recurrence> {
        let place = if matches!(self.target, Target::Job(_)) { "job" } else { "workflow" };
        self.target.check().map_err(|e| e.within(format_args!("definition.target.{place}")))?;
        let recurrence = Recurrence::new(self.rule.clone())?;
        self.rule = recurrence.rule().clone();
        Ok(recurrence)
    }
}

impl Schedule {
    /// Refuses a name that cannot be typed everywhere.
    ///
    /// # Errors
    /// `Usage`.
    pub fn check_name(name: &str) -> Result<()> {
        word("name", Some(name))
    }

    /// The number of its newest version, and what that says.
    pub fn newest(&self) -> (u32, &Arc<Definition>) {
        match &self.then {
            Some(then) => (then.version, &then.definition),
            None => (self.version, &self.definition),
        }
    }

    /// What it owes at `now`, which counts as recorded from then on. A version that takes over does so.
    ///
    /// # Errors
    /// When its rule means nothing on this machine: a time zone that is not known here, or what cannot be read.
    pub fn take_owed(&mut self, now: Timestamp) -> Result<Vec<Owed>> {
        self.check_read()?;
        let mut owed = Vec::new();
        if let Some(then) = &self.then {
            let mut rule = self.definition.rule.clone();
            rule.end = Some(then.from.min(rule.end.unwrap_or(then.from)));
            let (from, recurrence) = (then.from, Recurrence::new(rule)?);
            // The last instant may be one of the version that takes over.
            let newer = Recurrence::new(then.definition.rule.clone())?.next_after(from).is_some_and(|at| at <= now);
            let gives_way = newer && self.definition.catch_up == CatchUp::Last;
            owed.push(self.owed_by(&recurrence, now, gives_way.then_some(CatchUp::None)));
            if self.recorded_until.max(now) < from {
                self.next_due_at = Some(self.next_due_at.map_or(from, |next| next.min(from)));
                return Ok(owed);
            }
            self.switch();
        }
        let recurrence = Recurrence::new(self.definition.rule.clone())?;
        owed.push(self.owed_by(&recurrence, now, None));
        Ok(owed)
    }

    /// Refuses to go by what cannot be read here.
    ///
    /// # Errors
    /// `Corrupt`, or `Failed` where a newer orx wrote it.
    pub fn check_read(&self) -> Result<()> {
        match &self.unread {
            Some(unread) => Err(unread.error(&format!("schedule {}", self.name))),
            None => Ok(()),
        }
    }

    fn owed_by(&mut self, recurrence: &Recurrence, now: Timestamp, catch_up: Option<CatchUp>) -> Owed {
        let tick = Tick {
            recurrence,
            last_recorded: Some(self.recorded_until),
            now,
            catch_up: catch_up.unwrap_or(self.definition.catch_up),
            paused: self.paused,
        };
        let plan = tick.plan();
        self.next_due_at = match self.paused {
            true => recurrence.next_after(self.recorded_until.max(now.plus(PAUSED_LOOK))),
            false => plan.next_due,
        };
        let fires = plan.fire.into_iter().map(Due::Fire);
        let mut due: Vec<Due> = fires.chain(plan.skip.into_iter().map(Due::Skip)).collect();
        due.sort_by_key(|due| match due {
            Due::Fire(fire) => fire.due,
            Due::Skip(skip) => skip.from,
        });
        if let Some(last) = due.last() {
            self.recorded_until = match last {
                Due::Fire(fire) => fire.due,
                Due::Skip(skip) => skip.to,
            };
        }
        Owed { version: self.version, definition: Arc::clone(&self.definition), due }
    }

    /// The version that waits is in force now.
    fn switch(&mut self) {
        if let Some(then) = self.then.take() {
            self.version = then.version;
            self.definition = then.definition;
            self.recorded_until = self.recorded_until.max(then.from);
            self.tail_from = None;
        }
    }

    /// The row of an instant that fires.
    pub fn enter_fired(&mut self, version: u32, fire: Fire) -> Occurrence {
        self.tail_from = None;
        self.last_due_at = self.last_due_at.max(Some(fire.due));
        Occurrence::fired(self.id, version, fire)
    }

    /// Adds instants that do not fire to `entries`; those that follow each other for one reason are one row.
    pub fn enter_skipped(&mut self, version: u32, skip: Skip, entries: &mut Vec<Entry>) {
        let grows = self.tail_from.filter(|_| self.last_skip_reason == Some(skip.reason));
        match entries.last_mut() {
            Some(last) if grows.is_some() && last.grows.unwrap_or(last.row.due_at) == grows.unwrap_or_default() => {
                last.row.until = skip.to;
                last.row.count += skip.count;
            }
            _ => entries.push(Entry { row: Occurrence::skipped(self.id, version, skip), grows }),
        }
        self.tail_from = grows.or(Some(skip.from));
        self.last_due_at = self.last_due_at.max(Some(skip.to));
        self.last_skip_reason = Some(skip.reason);
    }
}
