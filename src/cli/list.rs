//! `orx list`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::context::Context;
use super::everywhere::{self, EverywhereOrPart};
use super::interrupt::until_interrupted;
use super::view::Placed;
use super::{ui, view};
use crate::error::{Error, Result};
use crate::job::{Job, Number, State};
use crate::ops::jobs::{ListJobs, MAX_PAGE, Page};
use crate::store::{Filter, Topics};
use crate::time::{Span, Timestamp};

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx list --state failed --since 1d
  orx list --label team=web -o json
  orx list --format '{{number}} {{state}} {{worker}}'
  orx list --watch")]
pub(super) struct List {
    /// In these states (pending,running,…)
    #[arg(short, long, value_name = "STATES", value_delimiter = ',', value_parser = state)]
    state: Vec<State>,

    /// In this queue
    #[arg(long, value_name = "QUEUE", add = super::select::queue_candidates())]
    queue: Option<String>,

    /// Of this tenant
    #[arg(long)]
    tenant: Option<String>,

    /// With this label
    #[arg(short, long, value_name = "K=V", value_parser = label, add = super::select::label_candidates())]
    label: Vec<(String, String)>,

    /// With this name
    #[arg(long)]
    name: Option<String>,

    /// Stored since then: a time, or how long ago (1h)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// At most so many; 0 for all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: usize,

    /// Go on below this job: the cursor that the page before ended with
    #[arg(long, value_name = "JOB")]
    cursor: Option<Number>,

    /// Draw the list again with each change, until interrupted
    #[arg(short, long)]
    watch: bool,

    #[command(flatten)]
    everywhere: EverywhereOrPart,
}

fn state(word: &str) -> Result<State, String> {
    State::parse(word).ok_or_else(|| {
        let all = State::ALL.map(State::as_str).join(", ");
        format!("no such state; there are {all}")
    })
}

fn label(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(k, v)| (k.into(), v.into())).ok_or_else(|| "use KEY=VALUE".into())
}

/// A time, or how long ago.
pub(super) fn since(text: &str, now: Timestamp) -> Result<Timestamp> {
    match text.parse::<Span>() {
        Ok(ago) => Ok(Timestamp(now.0.saturating_sub(ago.as_millis()))),
        Err(_) => Timestamp::parse(text, None, now).map_err(Error::usage),
    }
}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let now = context.clock.now();
        let filter = Filter {
            states: self.state.clone(),
            queue: self.queue.clone(),
            tenant: self.tenant.clone(),
            name: self.name.clone(),
            labels: self.label.iter().cloned().collect::<BTreeMap<_, _>>(),
            since: self.since.as_deref().map(|s| since(s, now)).transpose()?,
        };
        if self.everywhere.is_asked() {
            return self.everywhere(context, filter).await;
        }
        if self.watch {
            return until_interrupted(self.watch(context, filter)).await;
        }
        let (jobs, next) = self.page(context, &filter).await?;
        if jobs.is_empty() {
            ui::note(context, "no job");
        }
        context.view()?.rows(&jobs)?;
        if let Some(next) = next {
            ui::note(context, &format!("there may be more: --cursor {next}, or --limit 0 for all"));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The newest of all nodes.
    async fn everywhere(&self, context: &Context, filter: Filter) -> Result<ExitCode> {
        if self.watch || self.cursor.is_some() {
            return Err(Error::usage("--cluster goes with neither --watch nor --cursor"));
        }
        let limit = if self.limit == 0 { MAX_PAGE } else { self.limit.min(MAX_PAGE) };
        let answers = everywhere::ask(context, ListJobs { filter, before: None, limit }).await?;
        let more = answers.given.iter().any(|(_, page)| page.next.is_some());
        let of = |(node, page): &(String, Page)| {
            page.jobs.iter().map(|job| Placed { node: node.clone(), item: job.clone() }).collect::<Vec<_>>()
        };
        let mut jobs: Vec<Placed<Job>> = answers.given.iter().flat_map(of).collect();
        jobs.sort_by_key(|job| std::cmp::Reverse((job.item.created_at, job.item.number)));
        let cut = more || jobs.len() > limit;
        jobs.truncate(limit);
        context.view()?.rows(&jobs)?;
        if cut {
            ui::say(context, &format!("there may be more than these {}", jobs.len()));
        }
        self.everywhere.check(&answers)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn page(&self, context: &Context, filter: &Filter) -> Result<(Vec<Job>, Option<Number>)> {
        let wanted = if self.limit == 0 { usize::MAX } else { self.limit };
        let mut jobs = Vec::new();
        let mut before = self.cursor;
        loop {
            let limit = (wanted - jobs.len()).min(MAX_PAGE);
            let page = context.queue()?.call(ListJobs { filter: filter.clone(), before, limit }).await?;
            jobs.extend(page.jobs);
            before = page.next;
            if before.is_none() || jobs.len() >= wanted {
                return Ok((jobs, before));
            }
        }
    }

    async fn watch(&self, context: &Context, filter: Filter) -> Result<ExitCode> {
        if !context.view()?.is_for_people() {
            return Err(Error::usage("--watch draws a table").hint("programs follow 'orx events -f'"));
        }
        let mut changes = context.queue()?.subscribe(Topics::JOBS)?;
        loop {
            let (jobs, _) = self.page(context, &filter).await?;
            let table = context.view()?.text(&jobs)?; // a new view each time: ages grow
            view::raw_aside(view::CLEAR.to_owned() + &table).await?;
            let tick = tokio::time::Instant::now() + Duration::from_secs(1);
            changes.changed(Some(tick)).await;
            // A busy queue changes more often than anybody can read.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
