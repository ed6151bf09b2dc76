//! `orx why`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::everywhere::Everywhere;
use super::process;
use super::select::Jobs;
use super::view::words::relative;
use super::view::{self, Text, Tone, View};
use crate::error::Result;
use crate::job::{Number, State};
use crate::ops::jobs::GetJobs;
use crate::ops::schedules::Named;
use crate::ops::why::{self, Cause, CauseKind, Explanation, WhySchedule};
use crate::time::Timestamp;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx why 42
  orx why last -o json | jq -r '.causes[].kind'
  orx why --schedule nightly")]
pub(super) struct Why {
    #[command(flatten)]
    jobs: Jobs,

    #[command(flatten)]
    everywhere: Everywhere,

    /// A schedule instead of a job
    #[arg(long, value_name = "NAME", conflicts_with = "jobs")]
    schedule: Option<String>,

    /// The schedule's tenant
    #[arg(long, requires = "schedule")]
    tenant: Option<String>,
}

impl Why {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let home = self.everywhere.home(context, &self.jobs).await?;
        let context = home.as_ref().unwrap_or(context);
        let (queue, view) = (context.queue()?, context.view()?);
        let mut all = Vec::new();
        match self.schedule {
            Some(name) => {
                let schedule = Named { tenant: self.tenant, name };
                all.push(queue.call(WhySchedule { schedule }).await?);
            }
            None => {
                for job in self.jobs.find(context).await? {
                    let mut why = queue.call(why::Why { number: job.number }).await?;
                    // What only this machine knows.
                    if job.state == State::Running {
                        why.causes.splice(0..0, stopped(context, job.number).await?);
                    }
                    all.push(why);
                }
            }
        }
        match all.as_slice() {
            [one] => view.one(one, |view| describe(view, one))?,
            many if view.is_for_people() => many.iter().try_for_each(|one| describe(&view, one))?,
            many => view.rows(many)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// That processes of it are stopped, where they are on this machine.
async fn stopped(context: &Context, number: Number) -> Result<Option<Cause>> {
    let jobs = context.queue()?.call(GetJobs { numbers: vec![number], detail: false }).await?;
    let Some(job) = jobs.first() else { return Ok(None) };
    let stopped = process::of(context, job).await?.map(|process| process.stopped).filter(|pids| !pids.is_empty());
    Ok(stopped.map(|pids| {
        let pids = process::words(&pids);
        Cause {
            kind: CauseKind::Stopped,
            message: format!("stopped by a signal, or by the terminal: process {pids}"),
            remedy: Some(format!("kill -CONT {pids}")),
            until: None,
            jobs: Vec::new(),
        }
    }))
}

fn describe(view: &View, one: &Explanation) -> Result<()> {
    view::line(&format!("{} is {}", one.what, one.state))?;
    one.causes.iter().try_for_each(|cause| tell(view, cause))
}

fn tell(view: &View, cause: &Cause) -> Result<()> {
    view::line(&format!("  {}", said(cause, view.now())))?;
    match &cause.remedy {
        Some(remedy) => view::painted(&view.paint(Text::toned(format!("    {remedy}"), Tone::Dim))),
        None => Ok(()),
    }
}

/// What it is, how long it lasts, and the jobs that stand in the way.
pub(super) fn said(cause: &Cause, now: Timestamp) -> String {
    let mut text = cause.message.clone();
    if let Some(until) = cause.until {
        text += &format!(", until {until} ({})", relative(until, now));
    }
    if !cause.jobs.is_empty() && !cause.message.contains("job ") {
        let jobs: Vec<String> = cause.jobs.iter().map(ToString::to_string).collect();
        text += &format!(": {}", jobs.join(", "));
    }
    text
}
