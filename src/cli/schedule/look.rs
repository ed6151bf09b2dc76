//! `orx schedule list`, `show`, `preview` and `history`

use clap::Args;
use serde::Serialize;

use super::One;
use super::rule::RuleOptions;
use crate::cli::context::Context;
use crate::cli::ui;
use crate::cli::view::words::relative;
use crate::cli::view::{Text, View, line, title, when};
use crate::error::{Error, Result};
use crate::job::{Definition, JobSpec, Recurrence, Rule};
use crate::ops::schedules::Named;
use crate::ops::schedules::look::{self, ListSchedules, MAX_PAGE, OccurrenceView, ScheduleView, ShowSchedule};
use crate::store::ScheduleFilter;
use crate::time::Timestamp;

/// How many instants `preview` prints at most.
const MAX_PREVIEW: u32 = 10_000;
/// How many instants `show` shows.
const SHOWN: usize = 3;

/// List the schedules: when each is due next and was last, its state, why it last skipped an instant
#[derive(Args)]
#[command(visible_alias = "ls", after_help = "Example:\n  orx schedule list")]
pub(super) struct List {
    /// Also those that were removed
    #[arg(short, long)]
    all: bool,

    /// Of this tenant
    #[arg(long)]
    tenant: Option<String>,
}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let mut filter = ScheduleFilter { tenant: self.tenant, removed: self.all, after: None };
        let mut schedules = Vec::new();
        loop {
            let page = context.queue()?.call(ListSchedules { filter: filter.clone() }).await?;
            schedules.extend(page.schedules);
            filter.after = page.next;
            if filter.after.is_none() {
                return context.view()?.rows(&schedules);
            }
        }
    }
}

/// Show all about a schedule
#[derive(Args)]
#[command(after_help = "Example:\n  orx schedule show nightly")]
pub(super) struct Show {
    #[command(flatten)]
    one: One,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let shown = context.queue()?.call(ShowSchedule { schedule: self.one.named() }).await?;
        context.view()?.one(&shown.view, |view| describe(view, &shown.view, &shown.definition))
    }
}

fn describe(view: &View, s: &ScheduleView, definition: &Definition) -> Result<()> {
    let at = |t: Timestamp| format!("{} ({})", t.local(&s.tz), relative(t, view.now()));
    let text = |t: String| Some(Text::new(t));
    let spec: JobSpec = s.task.read().unwrap_or_default();
    let is_workflow = s.task.members().unwrap_or_default().contains_key("workflow");
    let more = s.more.as_ref();
    let coming = Recurrence::new(definition.rule.clone()).ok().zip(s.next_due_at);
    let coming: Vec<String> = coming
        .map(|(r, next)| r.between(next, Timestamp(i64::MAX)).take(SHOWN).map(|t| t.local(&s.tz)).collect())
        .unwrap_or_default();
    let waits = more.and_then(|m| m.version_from).map(|t| format!(" (after {})", t.local(&s.tz)));
    let facts = [
        ("schedule", text(format!("{} {}", s.name, s.id))),
        ("tenant", more.filter(|m| m.tenant != "default").and_then(|m| text(m.tenant.clone()))),
        ("state", text(s.state.as_str().to_owned())),
        ("when", text(format!("{} in {}", when(s.kind, &s.expression), s.tz))),
        ("from", more.and_then(|m| m.start).and_then(|t| text(at(t)))),
        ("until", more.and_then(|m| m.end).and_then(|t| text(at(t)))),
        ("next", s.next_due_at.and_then(|t| text(at(t)))),
        ("then", (!coming.is_empty()).then(|| Text::dim(coming.join(", ")))),
        ("last", s.last_due_at.and_then(|t| text(at(t)))),
        ("last skipped", s.last_skip_reason.and_then(|r| text(r.to_string()))),
        ("overlap", text(s.overlap.to_string())),
        ("catch-up", text(s.catch_up.to_string())),
        ("jitter", more.filter(|m| m.jitter.as_millis() > 0).and_then(|m| text(m.jitter.to_string()))),
        (if is_workflow { "runs" } else { "command" }, text(title(&s.task))),
        ("queue", spec.queue.clone().and_then(text)),
        ("version", text(format!("{}{}", s.version, waits.unwrap_or_default()))),
        ("added", more.and_then(|m| text(at(m.created_at)))),
        ("removed", more.and_then(|m| m.removed_at).and_then(|t| text(at(t)))),
    ];
    view.facts(facts.into_iter().filter_map(|(key, text)| Some((key, text?))).collect())
}

/// An instant at which something is due.
#[derive(Serialize)]
pub(in crate::cli) struct Instant {
    /// In UTC.
    pub(in crate::cli) due_at: Timestamp,
    /// As the wall clock shows it.
    #[serde(skip)]
    pub(in crate::cli) local: String,
}

/// Print the next instants of a schedule, or of a rule that is not stored
#[derive(Args)]
#[command(
    override_usage = "orx schedule preview SCHEDULE [OPTIONS]\n       orx schedule preview --cron EXPR [OPTIONS]",
    after_help = "\
Examples:
  orx schedule preview nightly -n 3
  orx schedule preview --cron '30 2 * * *' --tz Europe/Berlin --from 2026-03-28 -n 3"
)]
pub(super) struct Preview {
    /// The schedule's name or id
    #[arg(value_name = "SCHEDULE", add = crate::cli::select::schedule_candidates(), conflicts_with = "rule")]
    schedule: Option<String>,

    /// Who it belongs to [default: default]
    #[arg(long, requires = "schedule")]
    tenant: Option<String>,

    /// Begin at this time [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,

    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PREVIEW)))]
    count: u32,

    #[command(flatten)]
    rule: RuleOptions,
}

impl Preview {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let now = context.clock.now();
        let (rule, kept) = self.rule(context).await?;
        let recurrence = Recurrence::new(rule)?;
        let tz = recurrence.rule().tz.clone();
        let from = match &self.from {
            Some(text) => time(text, &tz, now)?,
            None => now,
        };
        let kept = kept.filter(|at| *at >= from);
        let after = kept.unwrap_or(Timestamp(from.0.saturating_sub(1)));
        let instants = kept.into_iter().chain(recurrence.between(after, Timestamp(i64::MAX))).take(self.count as usize);
        let instants: Vec<Instant> = instants.map(|due_at| Instant { due_at, local: due_at.local(&tz) }).collect();
        context.view()?.rows(&instants)?;
        if instants.is_empty() {
            ui::note(context, "nothing is due from then on");
        }
        Ok(())
    }

    /// The rule, and the instant before it that an update has left as it was.
    async fn rule(&self, context: &Context) -> Result<(Rule, Option<Timestamp>)> {
        let Some(name) = &self.schedule else { return Ok((self.rule.rule(context)?, None)) };
        let schedule = Named { tenant: self.tenant.clone(), name: name.clone() };
        let shown = context.queue()?.call(ShowSchedule { schedule }).await?;
        let mut rule = shown.definition.rule;
        self.rule.change(context, &mut rule)?;
        Ok((rule, shown.view.more.and_then(|more| more.version_from)))
    }
}

/// A time; a day alone begins at midnight.
pub(super) fn time(text: &str, tz: &str, now: Timestamp) -> Result<Timestamp> {
    let midnight = || Timestamp::parse(&format!("{text}T00:00:00"), Some(tz), now);
    Timestamp::parse(text, Some(tz), now).or_else(|e| midnight().map_err(|_| e)).map_err(Error::usage)
}

/// Show what became of each instant of a schedule, newest first: also of those that were skipped or missed, and why
///
/// A row is one instant, or consecutive ones that were skipped for the same reason.
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx schedule history nightly
  orx schedule history poll --limit 0 -o ndjson")]
pub(super) struct History {
    #[command(flatten)]
    one: One,

    /// At most so many rows; 0 for all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: usize,

    /// Not after this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

impl History {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let zone = crate::time::system_zone();
        let mut to = self.to.as_deref().map(|t| time(t, &zone, context.clock.now())).transpose()?;
        let view = context.view()?;
        let wanted = if self.limit == 0 { usize::MAX } else { self.limit };
        let mut rows: Vec<OccurrenceView> = Vec::new();
        while rows.len() < wanted {
            let limit = (wanted - rows.len()).min(MAX_PAGE);
            let op = look::History { schedule: self.one.named(), to, limit, jobs: view.is_for_people() };
            let page = context.queue()?.call(op).await?;
            let last = page.len() < limit;
            rows.extend(page);
            to = rows.last().map(|row| Timestamp(row.due_at.0 - 1));
            if last {
                break;
            }
        }
        print_rows(&view, &rows)
    }
}

/// Rows of the ledger, without the columns that say nothing.
pub(super) fn print_rows(view: &View, rows: &[OccurrenceView]) -> Result<()> {
    match view.is_for_people() {
        true if rows.is_empty() => line("nothing was due yet"),
        true => view.dense_table(rows, &["DUE", "STATE", "WHY"]),
        false => view.rows(rows),
    }
}
