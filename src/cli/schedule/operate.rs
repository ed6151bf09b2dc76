//! `orx schedule pause`, `resume`, `trigger`, `backfill` and `remove`

use clap::Args;
use uuid::Uuid;

use super::change::say;
use super::look::{print_rows, time};
use super::{Many, One};
use crate::cli::context::Context;
use crate::cli::ui;
use crate::cli::workflow::say_started;
use crate::error::{Error, Kind, Result};
use crate::job::RunId;
use crate::job::plan::{Overlap, SkipReason};
use crate::ops::schedules::backfill::{self, Backfilled};
use crate::ops::schedules::life::{PauseSchedule, RemoveSchedule};
use crate::ops::schedules::look::{ScheduleView, ShowSchedule};
use crate::ops::schedules::trigger::{self, Triggered};
use crate::time::Timestamp;

/// Fire nothing more; what is due meanwhile is recorded as skipped
#[derive(Args)]
#[command(after_help = "Example:\n  orx schedule pause nightly")]
pub(super) struct Pause {
    #[command(flatten)]
    many: Many,
}

/// Fire again from now on
#[derive(Args)]
#[command(after_help = "Example:\n  orx schedule resume nightly")]
pub(super) struct Resume {
    #[command(flatten)]
    many: Many,
}

/// Remove schedules; their history is kept, and jobs that were made go on
#[derive(Args)]
#[command(visible_alias = "rm", after_help = "Example:\n  orx schedule remove nightly")]
pub(super) struct Remove {
    #[command(flatten)]
    many: Many,
}

impl Pause {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        set_paused(context, &self.many, true).await
    }
}

impl Resume {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        set_paused(context, &self.many, false).await
    }
}

async fn set_paused(context: &Context, many: &Many, paused: bool) -> Result<()> {
    let mut done = Vec::new();
    for schedule in many.named() {
        let view = context.queue()?.call(PauseSchedule { schedule, paused }).await?;
        say(context, if paused { "paused" } else { "resumed" }, &view);
        done.push(view);
    }
    show(context, &done)
}

impl Remove {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let mut done = Vec::new();
        for schedule in self.many.named() {
            let view = context.queue()?.call(RemoveSchedule { schedule }).await?;
            say(context, "removed", &view);
            done.push(view);
        }
        show(context, &done)
    }
}

/// For programs: people have been told.
fn show(context: &Context, done: &[ScheduleView]) -> Result<()> {
    let view = context.view()?;
    match view.is_for_people() {
        true => Ok(()),
        false => view.rows(done),
    }
}

/// Run it once now, whenever it is due, paused or not
///
/// Prints the job's id, or the run's where it is a workflow. Such a run has no row in the history.
#[derive(Args)]
#[command(after_help = "Example:\n  orx wait $(orx schedule trigger nightly)")]
pub(super) struct Trigger {
    #[command(flatten)]
    one: One,

    /// What to do when a run is not finished: skip, queue, allow or cancel [default: as the schedule says]
    #[arg(long, value_name = "WHAT")]
    overlap: Option<Overlap>,
}

impl Trigger {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let (schedule, run) = (self.one.named(), RunId(Uuid::now_v7()));
        match context.queue()?.call(trigger::Trigger { schedule, run, overlap: self.overlap }).await? {
            Triggered::Job(job) => {
                ui::note(context, &format!("job {} {} in {}", job.number, job.state, job.queue));
                context.view()?.enqueued(&[job])
            }
            Triggered::Run(run) => {
                say_started(context, &run);
                context.view()?.started(&run)
            }
        }
    }
}

/// Run the instants of a time that is over which did not fire, also from before the schedule was made
///
/// Instants that have fired are listed too, and run once more with --again.
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx schedule backfill nightly --from 2026-01-01 --to 2026-01-07
  orx schedule backfill nightly --from 2026-01-03 --to 2026-01-04 --again --overlap allow")]
pub(super) struct Backfill {
    #[command(flatten)]
    one: One,

    /// The first instant
    #[arg(long, value_name = "TIME")]
    from: String,

    /// The last instant; nothing after now
    #[arg(long, value_name = "TIME")]
    to: String,

    /// How runs meet: queue (one after the other), allow, skip or cancel [default: queue, or allow where the schedule does]
    #[arg(long, value_name = "WHAT")]
    overlap: Option<Overlap>,

    /// Run those again that have fired
    #[arg(long)]
    again: bool,
}

impl Backfill {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let (schedule, now) = (self.one.named(), context.clock.now());
        let shown = context.queue()?.call(ShowSchedule { schedule: schedule.clone() }).await?;
        let at = |text: &str| time(text, &shown.view.tz, now);
        let op = backfill::Backfill {
            id: Uuid::now_v7(),
            schedule,
            from: at(&self.from)?,
            to: at(&self.to)?,
            overlap: self.overlap,
            again: self.again,
        };
        let Backfilled { fired, again, before, left } = context.queue()?.call(op).await?;
        let mut parts = vec![format!("{} to run", ui::count((fired.len() + again.len()) as u64, "instant"))];
        if !before.is_empty() {
            parts.push(format!("{} had fired before (--again runs them once more)", before.len()));
        }
        if let Some((_, reason)) = left.first() {
            parts.push(format!("{} left out ({reason})", left.len()));
        }
        ui::say(context, &parts.join(", "));
        let mut rows = [fired, again, before].concat();
        rows.sort_by_key(|row| row.due_at);
        if !rows.is_empty() || !context.view()?.is_for_people() {
            print_rows(&context.view()?, &rows)?;
        }
        self.left_out(&left)
    }

    /// What of it did not come to run, and how to go on.
    fn left_out(&self, left: &[(Timestamp, SkipReason)]) -> Result<()> {
        let (Some((from, reason)), Some((to, _))) = (left.first(), left.last()) else { return Ok(()) };
        let mut again = format!("orx schedule backfill {}", self.one.schedule);
        if let Some(tenant) = &self.one.tenant {
            again += &format!(" --tenant {tenant}");
        }
        again += &format!(" --from {from} --to {to}");
        if let Some(overlap) = self.overlap {
            again += &format!(" --overlap {overlap}");
        }
        again += if self.again { " --again" } else { "" };
        let (kind, until) = match (reason, self.overlap) {
            (SkipReason::Overlap, Some(Overlap::Skip)) => (Kind::Conflict, "when the runs before have ended"),
            (SkipReason::Overlap, _) => (Kind::Limit, "100 wait already; when some have ended"),
            _ => (Kind::Limit, "when there is room under the limit"),
        };
        let count = ui::count(left.len() as u64, "instant");
        Err(Error::new(kind, format!("{count} left out ({reason}), from {from} to {to}"))
            .hint(format!("{until}: {again}")))
    }
}
