//! Looking at schedules and their ledgers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Access, Caller, Op, Scopes};
use super::Named;
use crate::error::Result;
use crate::job::plan::{CatchUp, Overlap, SkipReason};
use crate::job::{
    Definition, JobId, JsonText, Number, Occurrence, OccurrenceId, RuleKind, RunId, Schedule, ScheduleId, Selector,
    Target, Unread,
};
use crate::store::{ScheduleFilter, Tx};
use crate::time::{Span, Timestamp};

/// The most schedules or occurrences of one page.
pub const MAX_PAGE: usize = 1000;

/// How a schedule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleState {
    /// It fires when it is due.
    Active,
    /// Nothing fires until it is resumed.
    Paused,
    /// It is never due again.
    Ended,
    /// Only its history is left.
    Removed,
}

impl ScheduleState {
    /// The word for it, the same everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            ScheduleState::Active => "active",
            ScheduleState::Paused => "paused",
            ScheduleState::Ended => "ended",
            ScheduleState::Removed => "removed",
        }
    }

    pub(in crate::ops) fn of(schedule: &Schedule) -> Self {
        match schedule {
            s if s.removed_at.is_some() => ScheduleState::Removed,
            s if s.paused => ScheduleState::Paused,
            s if s.next_due_at.is_none() => ScheduleState::Ended,
            _ => ScheduleState::Active,
        }
    }
}

/// A schedule as users see it, by its newest version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of docs/reference/json.md
pub struct ScheduleView {
    pub id: ScheduleId,
    pub name: String,
    pub kind: RuleKind,
    pub expression: String,
    pub tz: String,
    pub state: ScheduleState,
    pub next_due_at: Option<Timestamp>,
    pub last_due_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "crate::job::reading::word_given")]
    pub last_skip_reason: Option<SkipReason>,
    pub overlap: Overlap,
    pub catch_up: CatchUp,
    pub version: u32,
    /// The options of its job, or `{"workflow": …}` as it was given.
    pub task: JsonText,
    /// What of it cannot be read here; absent where all is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Unread>,
    /// Given by `show` only.
    #[serde(flatten)]
    pub more: Option<More>,
}

/// What else there is to say of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // as in `Definition`
pub struct More {
    pub tenant: String,
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub jitter: Span,
    pub created_at: Timestamp,
    pub removed_at: Option<Timestamp>,
    /// The last instant of the version before, where the newest one waits for that.
    pub version_from: Option<Timestamp>,
}

impl ScheduleView {
    pub(super) fn new(schedule: &Schedule) -> Result<Self> {
        let (version, definition) = schedule.newest();
        let Definition { rule, overlap, catch_up, target, .. } = &**definition;
        let state = ScheduleState::of(schedule);
        let task = match target {
            Target::Job(spec) => JsonText::of(spec),
            target @ Target::Workflow(_) => JsonText::of(target),
        }?;
        Ok(Self {
            id: schedule.id,
            name: schedule.name.clone(),
            kind: rule.kind,
            expression: rule.expression.clone(),
            tz: rule.tz.clone(),
            state,
            next_due_at: schedule.next_due_at.filter(|_| state == ScheduleState::Active),
            last_due_at: schedule.last_due_at,
            last_skip_reason: schedule.last_skip_reason,
            overlap: *overlap,
            catch_up: *catch_up,
            version,
            task,
            unread: schedule.unread.clone(),
            more: None,
        })
    }

    fn with_more(self, schedule: &Schedule) -> Self {
        let (_, definition) = schedule.newest();
        let more = More {
            tenant: schedule.tenant.clone(),
            start: definition.rule.start,
            end: definition.rule.end,
            jitter: definition.jitter,
            created_at: schedule.created_at,
            removed_at: schedule.removed_at,
            version_from: schedule.then.as_ref().map(|then| then.from),
        };
        Self { more: Some(more), ..self }
    }
}

/// Lists schedules by tenant and name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListSchedules {
    /// Which ones.
    #[serde(default)]
    pub filter: ScheduleFilter,
}

/// A page of schedules.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SchedulePage {
    /// The schedules.
    pub schedules: Vec<ScheduleView>,
    /// What the next page comes after, if there may be one.
    pub next: Option<(String, String, ScheduleId)>,
}

impl Op for ListSchedules {
    type Reply = SchedulePage;
    const NAME: &'static str = "list_schedules";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<SchedulePage> {
        let mut filter = self.filter.clone();
        if caller.tenant.is_some() {
            filter.tenant.clone_from(&caller.tenant);
        }
        let found = tx.schedules(&filter, MAX_PAGE)?;
        let last = found.last().filter(|_| found.len() == MAX_PAGE);
        let next = last.map(|s| (s.tenant.clone(), s.name.clone(), s.id));
        Ok(SchedulePage { schedules: found.iter().map(ScheduleView::new).collect::<Result<_>>()?, next })
    }
}

/// All about one schedule.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ShowSchedule {
    /// The schedule.
    pub schedule: Named,
}

/// All about one schedule.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// As users see it.
    pub view: ScheduleView,
    /// What its newest version says.
    #[serde(deserialize_with = "crate::job::reading::definition_given")]
    pub definition: Definition,
}

impl Op for ShowSchedule {
    type Reply = Shown;
    const NAME: &'static str = "show_schedule";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Shown> {
        let schedule = self.schedule.find(caller, tx)?;
        let view = ScheduleView::new(&schedule)?.with_more(&schedule);
        Ok(Shown { view, definition: Definition::clone(schedule.newest().1) })
    }
}

/// A row of the ledger as users see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of docs/reference/json.md
pub struct OccurrenceView {
    pub id: OccurrenceId,
    pub schedule_id: ScheduleId,
    pub due_at: Timestamp,
    pub until: Timestamp,
    pub count: u64,
    pub state: String,
    #[serde(default, deserialize_with = "crate::job::reading::word_given")]
    pub reason: Option<SkipReason>,
    pub run_id: Option<RunId>,
    pub flags: Vec<String>,
    /// The job that was made, where it is asked for and was not pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Number>,
}

impl From<&Occurrence> for OccurrenceView {
    fn from(row: &Occurrence) -> Self {
        let flags = [("recovered", row.recovered), ("backfilled", row.backfilled)];
        Self {
            id: row.id,
            schedule_id: row.schedule,
            due_at: row.due_at,
            until: row.until,
            count: row.count,
            state: row.state().to_owned(),
            reason: row.reason,
            run_id: row.run,
            flags: flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag.to_owned()).collect(),
            job: None,
        }
    }
}

/// What became of the instants of a schedule, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The schedule, also one that was removed.
    pub schedule: Named,
    /// Not after this instant.
    pub to: Option<Timestamp>,
    /// At most so many rows; at most [`MAX_PAGE`].
    pub limit: usize,
    /// With the jobs that were made.
    #[serde(default)]
    pub jobs: bool,
}

impl Op for History {
    type Reply = Vec<OccurrenceView>;
    const NAME: &'static str = "history";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let schedule = self.schedule.find(caller, tx)?;
        let (from, to) = (Timestamp(i64::MIN), self.to.unwrap_or(Timestamp(i64::MAX)));
        let rows = tx.occurrences(schedule.id, from, to, self.limit.clamp(1, MAX_PAGE))?;
        let mut views: Vec<OccurrenceView> = rows.iter().map(OccurrenceView::from).collect();
        for view in views.iter_mut().filter(|_| self.jobs) {
            if let Some(run) = view.run_id {
                view.job = tx.find(&Selector::Id(JobId::of_task(run, Target::MAIN)), 1)?.pop();
            }
        }
        Ok(views)
    }
}
