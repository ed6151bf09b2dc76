//! `orx events`

use std::collections::HashSet;
use std::process::ExitCode;

use clap::Args;

use super::OutputFormat;
use super::context::Context;
use super::interrupt::until_interrupted;
use super::select::{Jobs, job_candidates};
use super::view::{ndjson, raw_aside};
use crate::error::Result;
use crate::job::{Event, EventKind, Number, Selector};
use crate::ops::events::{MAX_EVENTS, ReadEvents};
use crate::store::Topics;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx events --job 42 | jq -r .kind
  orx events -f --from 1000")]
pub(super) struct Events {
    /// Go on with each new event, until interrupted
    #[arg(short, long)]
    follow: bool,

    /// From this event on
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: i64,

    /// About these jobs only, named as elsewhere: 42, 5-8, an id or its start, last, @label=value; several with commas
    #[arg(long, value_name = "JOB", value_delimiter = ',', add = job_candidates())]
    job: Vec<Selector>,
}

impl Events {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        match self.follow {
            true => until_interrupted(self.print(context)).await,
            false => self.print(context).await,
        }
    }

    /// The jobs that are named, if any are.
    async fn jobs(&self, context: &Context) -> Result<Option<HashSet<Number>>> {
        if self.job.is_empty() {
            return Ok(None);
        }
        let found = Jobs::named(self.job.clone()).find(context).await?;
        Ok(Some(found.into_iter().map(|job| job.number).collect()))
    }

    async fn print(&self, context: &Context) -> Result<ExitCode> {
        let view = context.view()?;
        // The trail is made for programs; a table only where it was asked for by name.
        let as_rows = context.globals.format.is_some() || context.globals.output == Some(OutputFormat::Table);
        let jobs = self.jobs(context).await?;
        let wanted = |event: &Event| {
            let fits = jobs.as_ref().is_none_or(|jobs| event.number.is_some_and(|number| jobs.contains(&number)));
            fits && event.kind != EventKind::Hidden
        };
        let queue = context.queue()?;
        let mut changes = queue.subscribe(Topics::ALL)?;
        let mut after = self.from.saturating_sub(1);
        loop {
            let events = queue.call(ReadEvents { after, limit: MAX_EVENTS }).await?;
            if let Some(last) = events.last() {
                after = last.seq;
                let seen: Vec<Event> = events.into_iter().filter(&wanted).collect();
                if !seen.is_empty() {
                    raw_aside(if as_rows { view.text(&seen)? } else { ndjson(&seen)? }).await?;
                }
                continue;
            }
            if !self.follow {
                return Ok(ExitCode::SUCCESS);
            }
            changes.changed(None).await;
        }
    }
}
