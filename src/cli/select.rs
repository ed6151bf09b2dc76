//! The words that name jobs, and their completion from the store.

use std::collections::HashSet;

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::context::Context;
use super::{Globals, ui};
use crate::error::{Error, Result};
use crate::job::{Number, Selector, State};
use crate::ops::jobs::ListJobs;
use crate::ops::schedules::look::ListSchedules;
use crate::ops::select::{Select, Selected};
use crate::ops::status::Status;
use crate::store::postgres::Postgres;
use crate::store::{Filter, Location};

/// How many jobs a shell is offered.
const MAX_OFFERED: usize = 100;

/// Jobs named on the command line.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Jobs {
    /// 42, 5-8, an id or its start, last, or @label=value
    #[arg(value_name = "JOB", add = job_candidates())]
    jobs: Vec<Selector>,
}

/// Jobs named on the command line, or all of a kind.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct JobsOrAll {
    #[command(flatten)]
    named: Jobs,

    /// All that this can be done to, instead of naming them
    #[arg(long, conflicts_with = "jobs")]
    all: bool,

    /// With --all: in this queue only
    #[arg(long, value_name = "QUEUE", requires = "all", add = queue_candidates())]
    queue: Option<String>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Jobs {
    /// Those that an option names.
    pub(super) fn named(jobs: Vec<Selector>) -> Self {
        Self { jobs }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The words that name them.
    pub(super) fn selectors(&self) -> &[Selector] {
        &self.jobs
    }

    /// Looks them up: at least one, each once, in the order named.
    pub(super) async fn find(&self, context: &Context) -> Result<Vec<Selected>> {
        if self.jobs.is_empty() {
            return Err(Error::usage("no job is named").hint("use its number, 'last', or @label=value"));
        }
        context.queue()?.call(Select { selectors: self.jobs.clone(), all: None }).await
    }

    /// Looks them up: each that is named, as it is meant, and of those among which a label or a range chooses what `fits`.
    pub(super) async fn find_fitting(
        &self,
        context: &Context,
        fits: impl Fn(&Selected) -> bool,
    ) -> Result<Vec<Selected>> {
        if self.jobs.is_empty() {
            return self.find(context).await; // says that none is named
        }
        let (choose, name): (Vec<_>, Vec<_>) = self.jobs.iter().cloned().partition(chooses);
        let mut found = match name.is_empty() {
            true => Vec::new(),
            false => Self { jobs: name }.find(context).await?,
        };
        if !choose.is_empty() {
            let known: HashSet<Number> = found.iter().map(|job| job.number).collect();
            let chosen = Self { jobs: choose }.find(context).await?;
            found.extend(chosen.into_iter().filter(|job| fits(job) && !known.contains(&job.number)));
        }
        Ok(found)
    }

    /// Whether a label chooses some of them: nobody knows how many those are.
    pub(super) fn by_label(&self) -> bool {
        self.jobs.iter().any(|s| matches!(s, Selector::Label(..)))
    }
}

/// Whether it chooses among jobs instead of naming one.
fn chooses(selector: &Selector) -> bool {
    matches!(selector, Selector::Label(..) | Selector::Range(..))
}

impl JobsOrAll {
    /// Those that are named one by one, and not chosen among others by --all, a label or a range.
    pub(super) async fn one_by_one(&self, context: &Context) -> Result<HashSet<Number>> {
        let is_name = |s: &&Selector| !chooses(s);
        let jobs: Vec<Selector> = self.named.jobs.iter().filter(is_name).cloned().collect();
        if jobs.is_empty() {
            return Ok(HashSet::new());
        }
        Ok(Jobs { jobs }.find(context).await?.into_iter().map(|job| job.number).collect())
    }

    /// Those that are named.
    pub(super) fn named_ones(&self) -> Result<&Jobs> {
        match self.all {
            true => Err(Error::usage("--all is for one store").hint("name the jobs, or leave --cluster out")),
            false => Ok(&self.named),
        }
    }

    /// Looks them up: of labels and ranges those in `states`, with --all those in the states of `all`; asks first where
    /// they are many.
    pub(super) async fn find(
        &self,
        context: &Context,
        verb: &str,
        states: &[State],
        all: &[State],
    ) -> Result<Vec<Selected>> {
        let found = match self.all {
            false => self.named.find_fitting(context, |job| states.contains(&job.state)).await?,
            true => {
                let filter = Filter { states: all.to_vec(), queue: self.queue.clone(), ..Filter::default() };
                context.queue()?.call(Select { selectors: Vec::new(), all: Some(filter) }).await?
            }
        };
        if (self.all && !found.is_empty()) || (self.named.by_label() && found.len() > 1) {
            ui::confirm(&format!("{verb} {}?", ui::count(found.len() as u64, "job")), self.yes)?;
        }
        if found.is_empty() {
            ui::say(context, "no job to do this to");
        }
        Ok(found)
    }
}

/// Completes jobs: number, state and command of the newest ones.
pub(super) fn job_candidates() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let jobs = ask(|queue| async move {
            queue.call(ListJobs { filter: Filter::default(), before: None, limit: MAX_OFFERED }).await
        });
        let jobs = jobs.map(|page| page.jobs).unwrap_or_default();
        let offer = |(order, job): (usize, crate::job::Job)| {
            let help = format!("{} {}", job.state, job.title());
            CompletionCandidate::new(job.number.to_string()).help(Some(help.into())).display_order(Some(order))
        };
        jobs.into_iter().enumerate().map(offer).collect()
    })
}

/// Completes schedules.
pub(super) fn schedule_candidates() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let page = ask(|queue| async move { queue.call(ListSchedules::default()).await });
        let schedules = page.map(|page| page.schedules).unwrap_or_default();
        let offer = |s: crate::ops::schedules::look::ScheduleView| {
            let help = format!("{} {} {}", s.state.as_str(), s.kind, s.expression);
            CompletionCandidate::new(s.name).help(Some(help.into()))
        };
        schedules.into_iter().take(MAX_OFFERED).map(offer).collect()
    })
}

/// Completes queues.
pub(super) fn queue_candidates() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let status = ask(|queue| async move { queue.call(Status {}).await });
        let queues = status.map(|s| s.queues).unwrap_or_default();
        queues.into_iter().map(|q| CompletionCandidate::new(q.name)).collect()
    })
}

/// Completes labels of the newest jobs.
pub(super) fn label_candidates() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let jobs = ask(|queue| async move {
            queue.call(ListJobs { filter: Filter::default(), before: None, limit: MAX_OFFERED }).await
        });
        let jobs = jobs.map(|page| page.jobs).unwrap_or_default();
        let labels = jobs.into_iter().flat_map(|job| job.labels).map(|(k, v)| format!("{k}={v}"));
        let unique: std::collections::BTreeSet<String> = labels.collect();
        unique.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// Asks the store for a shell that waits: never makes one, never complains.
pub(super) fn ask<T, F: Future<Output = Result<T>>>(question: impl FnOnce(crate::queue::Queue) -> F) -> Option<T> {
    let globals = Globals { store: super::completions::typed_store(), ..Globals::default() };
    let context = Context::new(globals).ok()?;
    match context.location().ok()? {
        Location::File(path) if path.exists() => {}
        Location::Coordinator(_) => {}
        Location::Server(place) if Postgres::steps(&place).is_ok_and(|steps| steps.iter().all(|s| s.applied)) => {}
        _ => return None,
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let answer = question(context.queue().ok()?.clone());
    runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(2), answer).await.ok()?.ok() })
}
