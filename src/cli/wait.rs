//! `orx wait`

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use tokio::time::Instant;

use super::context::Context;
use super::everywhere::Everywhere;
use super::select::Jobs;
use super::stall::Stall;
use super::{exit, ui};
use crate::error::{Error, Kind, Result};
use crate::job::{Job, Number, State};
use crate::ops::jobs::GetJobs;
use crate::ops::select::{Select, Selected};
use crate::store::{Filter, Topics};
use crate::time::Span;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx wait 42                 exits as job 42 does
  orx wait 5-8 --timeout 10m  exits 0 if all are done, else 1
  orx wait --any @team=web
  orx wait --all              until nothing is left of what there is now

Exit code for one job: as 'orx run'. 75 when --timeout passes before they have ended; 125 when orx failed.")]
pub(super) struct Wait {
    #[command(flatten)]
    jobs: Jobs,

    /// Every job that has not ended now, instead of naming them
    #[arg(long, conflicts_with_all = ["jobs", "cluster"])]
    all: bool,

    #[command(flatten)]
    everywhere: Everywhere,

    /// Until the first of them has ended
    #[arg(long)]
    any: bool,

    /// No longer than this
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
}

impl Wait {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let home = self.everywhere.home(context, &self.jobs).await?;
        let context = home.as_ref().unwrap_or(context);
        let found = match self.all {
            true => unfinished(context).await?,
            false => self.jobs.find(context).await?,
        };
        if self.all && found.is_empty() {
            ui::say(context, "no job to wait for");
            return Ok(ExitCode::SUCCESS);
        }
        let numbers: Vec<Number> = found.iter().map(|job| job.number).collect();
        let deadline = self.timeout.map(|t| Instant::now() + t.duration());
        let need = if self.any { 1 } else { numbers.len() };
        let many = numbers.len() > 1;
        let bar = match many {
            true => ui::progress(context, need as u64, "ended"),
            false => ProgressBar::hidden(),
        };
        let jobs = wait_for(context, numbers, need, deadline, &bar).await?;
        bar.finish_and_clear();
        if ended(&jobs).count() < need {
            let left = jobs.iter().filter(|job| !job.state.is_terminal()).count();
            let message = match jobs.as_slice() {
                [job] => format!("job {} is {} still", job.number, job.state),
                _ => format!("{} not ended", if left == 1 { "1 job has".into() } else { format!("{left} jobs have") }),
            };
            return Err(Error::new(Kind::TimedOut, message));
        }
        let why = match jobs.as_slice() {
            [job] if !self.all => exit::explain(job),
            _ => not_done(&jobs),
        };
        if let Some(why) = why {
            ui::say(context, &why);
        }
        Ok(ExitCode::from(match jobs.as_slice() {
            [job] if !self.all => exit::exit_code(job),
            _ => u8::from(ended(&jobs).any(|job| job.state != State::Done)),
        }))
    }
}

/// All jobs that have not ended.
async fn unfinished(context: &Context) -> Result<Vec<Selected>> {
    let states = State::ALL.iter().copied().filter(|state| !state.is_terminal()).collect();
    let all = Some(Filter { states, ..Filter::default() });
    context.queue()?.call(Select { selectors: Vec::new(), all }).await
}

/// Which of those that ended are not done: nothing else says it.
fn not_done(jobs: &[Job]) -> Option<String> {
    let mut bad: Vec<Number> = ended(jobs).filter(|job| job.state != State::Done).map(|job| job.number).collect();
    bad.sort_unstable();
    let named: Vec<String> = bad.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = match bad.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!bad.is_empty()).then(|| format!("{} of {} not done: {}{more}", bad.len(), ended(jobs).count(), named.join(", ")))
}

/// How many jobs that are not done are named.
const MAX_NAMED: usize = 20;
/// The most time between a change and the next look.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Looks at those that have not ended with each change, until `need` of them have or the deadline passes; gives all.
async fn wait_for(
    context: &Context,
    mut open: Vec<Number>,
    need: usize,
    deadline: Option<Instant>,
    bar: &ProgressBar,
) -> Result<Vec<Job>> {
    let queue = context.queue()?;
    let mut changes = queue.subscribe(Topics::JOBS)?;
    let mut done = Vec::new();
    let mut stall = Stall::of_watcher();
    loop {
        let begun = Instant::now();
        let jobs = queue.call(GetJobs { numbers: open.clone(), detail: false }).await?;
        let took = begun.elapsed();
        let known: HashSet<Number> = jobs.iter().map(|job| job.number).collect();
        if let Some(gone) = open.iter().find(|n| !known.contains(n)) {
            return Err(Error::not_found(format!("job {gone} was pruned")));
        }
        let (ended, left): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.state.is_terminal());
        open = left.iter().map(|job| job.number).collect();
        done.extend(ended);
        bar.set_position(done.len() as u64);
        let late = deadline.is_some_and(|at| at <= Instant::now());
        if done.len() >= need || late {
            done.extend(left);
            return Ok(done);
        }
        stall.look(context, &left).await?;
        changes.changed(stall.at().into_iter().chain(deadline).min()).await;
        // Many jobs take a while to look at: that must not be all that this machine does.
        if left.len() > 1 {
            let next = Instant::now() + (took * 4).min(MAX_PAUSE);
            tokio::time::sleep_until(deadline.map_or(next, |at| at.min(next))).await;
        }
    }
}

fn ended(jobs: &[Job]) -> impl Iterator<Item = &Job> {
    jobs.iter().filter(|job| job.state.is_terminal())
}

/// Waits for one job, for as long as it takes.
pub(super) async fn until_ended(context: &Context, number: Number) -> Result<Job> {
    let jobs = wait_for(context, vec![number], 1, None, &ProgressBar::hidden()).await?;
    jobs.into_iter().next().ok_or_else(|| Error::not_found(format!("job {number} was pruned")))
}
