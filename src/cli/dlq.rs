//! `orx dlq`

use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::list::since;
use super::select::Jobs;
use super::{status, ui};
use crate::error::{Error, Result};
use crate::job::{Number, State};
use crate::ops::dead_letters::{DeadLetter, DiscardLetters, GroupLetters, ListLetters};
use crate::ops::jobs::{GetJobs, MAX_PAGE};
use crate::ops::retry::Retry;
use crate::ops::select::Selected;
use crate::store::{LetterFilter, Topics};

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx dlq list --group
  orx dlq show 42
  orx dlq requeue --all --reason poison --canary 3
  orx dlq discard 42")]
pub(super) struct Dlq {
    #[command(subcommand)]
    command: DlqSubcommand,
}

#[derive(Subcommand)]
enum DlqSubcommand {
    /// List them, of the newest jobs first
    #[command(visible_alias = "ls", after_help = "Example:\n  orx dlq list --group --since 1d")]
    List {
        #[command(flatten)]
        which: Which,

        /// Count those that are alike
        #[arg(short, long)]
        group: bool,

        /// At most so many; 0 for all
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Show all about some, with their attempts
    #[command(after_help = "Example:\n  orx dlq show 42")]
    Show {
        #[command(flatten)]
        jobs: Jobs,
    },
    /// Run them again, as new generations
    #[command(after_help = "\
Examples:
  orx dlq requeue 42
  orx dlq requeue --all --fingerprint 'exit code 7: connection refused' --canary 2 --yes")]
    Requeue {
        #[command(flatten)]
        chosen: Chosen,

        /// Try this many first, and stop if one of them fails
        #[arg(long, value_name = "N")]
        canary: Option<NonZeroUsize>,
    },
    /// Take them away for good; their jobs stay failed
    #[command(after_help = "Example:\n  orx dlq discard --all --queue test --yes")]
    Discard {
        #[command(flatten)]
        chosen: Chosen,
    },
}

/// Which dead letters.
#[derive(Args, Clone, Debug, Default)]
struct Which {
    /// Of jobs in this queue
    #[arg(long, value_name = "QUEUE", add = super::select::queue_candidates())]
    queue: Option<String>,

    /// Of jobs of this tenant
    #[arg(long)]
    tenant: Option<String>,

    /// With this reason: 'attempts used up', fatal, poison, lost, 'snoozed out', unreadable
    #[arg(long)]
    reason: Option<String>,

    /// With this fingerprint, as 'list --group' shows it
    #[arg(long, value_name = "TEXT")]
    fingerprint: Option<String>,

    /// Dead since then: a time, or how long ago (1h)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

impl Which {
    fn filter(&self, context: &Context) -> Result<LetterFilter> {
        let now = context.clock.now();
        Ok(LetterFilter {
            queue: self.queue.clone(),
            tenant: self.tenant.clone(),
            reason: self.reason.clone(),
            fingerprint: self.fingerprint.clone(),
            since: self.since.as_deref().map(|s| since(s, now)).transpose()?,
        })
    }

    fn is_empty(&self) -> bool {
        [&self.queue, &self.tenant, &self.reason, &self.fingerprint, &self.since].iter().all(|o| o.is_none())
    }
}

/// Dead letters named, or all that match.
#[derive(Args, Clone, Debug, Default)]
struct Chosen {
    #[command(flatten)]
    jobs: Jobs,

    /// All that match, instead of naming them
    #[arg(long, conflicts_with = "jobs")]
    all: bool,

    #[command(flatten)]
    which: Which,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Chosen {
    /// The jobs; asks first where they are many.
    async fn find(&self, context: &Context, verb: &str) -> Result<Vec<Number>> {
        let numbers = match self.all {
            true => self.matching(context).await?,
            false => self.named(context).await?,
        };
        if (self.all && !numbers.is_empty()) || (self.jobs.by_label() && numbers.len() > 1) {
            ui::confirm(&format!("{verb} {}?", ui::count(numbers.len() as u64, "dead letter")), self.yes)?;
        }
        Ok(numbers)
    }

    /// All that match, the oldest first.
    async fn matching(&self, context: &Context) -> Result<Vec<Number>> {
        let letters = list(context, self.which.filter(context)?, usize::MAX).await?;
        Ok(letters.into_iter().rev().map(|letter| letter.job.number).collect())
    }

    async fn named(&self, context: &Context) -> Result<Vec<Number>> {
        match self.which.is_empty() {
            true => named(context, &self.jobs).await,
            false => Err(Error::usage("a filter needs --all").hint("or name the jobs and leave it out")),
        }
    }
}

/// A label or a range chooses among dead letters; a job that is named must have one.
async fn named(context: &Context, jobs: &Jobs) -> Result<Vec<Number>> {
    let dead = dead(context, &jobs.find(context).await?).await?;
    let found = jobs.find_fitting(context, |job| dead.contains(&job.number)).await?;
    match found.iter().find(|job| !dead.contains(&job.number)) {
        Some(job) => {
            let message = format!("job {} has no dead letter: it is {}", job.number, job.state);
            Err(Error::conflict(message).hint("'orx dlq list' shows them"))
        }
        None => Ok(found.into_iter().map(|job| job.number).collect()),
    }
}

impl Dlq {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        match self.command {
            DlqSubcommand::List { which, group: true, limit } => {
                let filter = which.filter(context)?;
                let mut groups = context.queue()?.call(GroupLetters { filter }).await?;
                let more = if limit == 0 { 0 } else { groups.len().saturating_sub(limit) };
                groups.truncate(groups.len() - more);
                context.view()?.rows(&groups)?;
                if more > 0 {
                    ui::say(context, &format!("{} more; --limit 0 shows all", ui::count(more as u64, "group")));
                }
            }
            DlqSubcommand::List { which, limit, .. } => {
                let limit = if limit == 0 { usize::MAX } else { limit };
                let letters = list(context, which.filter(context)?, limit).await?;
                if letters.is_empty() {
                    ui::note(context, "there are no dead letters");
                }
                context.view()?.rows(&letters)?;
            }
            DlqSubcommand::Show { jobs } => return status::show_jobs(context, named(context, &jobs).await?).await,
            DlqSubcommand::Requeue { chosen, canary } => {
                let numbers = chosen.find(context, "Requeue").await?;
                requeue(context, numbers, canary.map(NonZeroUsize::get)).await?;
            }
            DlqSubcommand::Discard { chosen } => {
                let numbers = chosen.find(context, "Discard").await?;
                let count = context.queue()?.call(DiscardLetters { numbers }).await?;
                ui::say(context, &format!("{} discarded", ui::count(count as u64, "dead letter")));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(context: &Context, filter: LetterFilter, wanted: usize) -> Result<Vec<DeadLetter>> {
    let mut all = Vec::new();
    let mut before = None;
    while all.len() < wanted {
        let limit = (wanted - all.len()).min(MAX_PAGE);
        let page = context.queue()?.call(ListLetters { filter: filter.clone(), before, limit }).await?;
        let last = page.len() < limit;
        before = page.last().map(|l| l.job.number);
        all.extend(page);
        if last {
            break;
        }
    }
    Ok(all)
}

/// Which of them have a dead letter.
async fn dead(context: &Context, jobs: &[Selected]) -> Result<HashSet<Number>> {
    let failed = jobs.iter().filter(|job| job.state == State::Failed);
    let mut left: BTreeSet<Number> = failed.map(|job| job.number).collect();
    let mut dead = HashSet::new();
    while let Some(highest) = left.last() {
        let (before, limit) = (Some(highest + 1), left.len().min(MAX_PAGE));
        let page = context.queue()?.call(ListLetters { filter: LetterFilter::default(), before, limit }).await?;
        let Some(lowest) = page.last().map(|letter| letter.job.number) else { break };
        dead.extend(page.iter().map(|letter| letter.job.number));
        left = left.into_iter().take_while(|number| *number < lowest).collect();
    }
    Ok(dead)
}

/// Requeues; with a canary only if the first ones succeed.
async fn requeue(context: &Context, mut numbers: Vec<Number>, canary: Option<usize>) -> Result<()> {
    let queue = context.queue()?;
    let rest = match canary {
        Some(n) => numbers.split_off(n.min(numbers.len())),
        None => Vec::new(),
    };
    let first = numbers.len();
    let replies = queue.call(Retry { numbers: numbers.clone(), only: false }).await?;
    let mut count = replies.len();
    if canary.is_some() && first > 0 {
        ui::say(context, &format!("{first} requeued; waiting for them before the other {}", rest.len()));
        let op = GetJobs { numbers, detail: false };
        let ended = |jobs: &Vec<crate::job::Job>| jobs.iter().all(|job| job.state.is_terminal());
        let jobs = queue.call_until(op, Topics::JOBS, None, ended).await?;
        if let Some(bad) = jobs.iter().find(|job| job.state != State::Done) {
            let message = format!("job {} is {} again; the other {} stay dead", bad.number, bad.state, rest.len());
            return Err(Error::failed(message).hint(format!("orx status {}", bad.number)));
        }
        for part in rest.chunks(MAX_PAGE) {
            count += queue.call(Retry { numbers: part.to_vec(), only: false }).await?.len();
        }
    }
    ui::say(context, &format!("{} requeued", ui::count(count as u64, "job")));
    Ok(())
}
