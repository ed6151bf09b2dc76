//! `orx status`

use std::process::ExitCode;

use clap::Args;

use super::OutputFormat;
use super::context::Context;
use super::everywhere::{self, EverywhereOrPart};
use super::process::{self, Process};
use super::select::Jobs;
use super::view::words::{relative, took};
use super::view::{self, Placed, Text, Tone, View, tone_of};
use crate::error::Result;
use crate::job::{Job, Number, State};
use crate::ops::jobs::GetJobs;
use crate::ops::status::{self, StatusReply};
use crate::time::{Span, Timestamp};
use crate::worker::program::INHERITED;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx status
  orx status last
  orx status 42 -o json | jq .attempts")]
pub(super) struct Status {
    #[command(flatten)]
    jobs: Jobs,

    #[command(flatten)]
    everywhere: EverywhereOrPart,
}

impl Status {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let home = self.everywhere.home(context, &self.jobs).await?;
        let context = home.as_ref().unwrap_or(context);
        let view = context.view()?;
        if self.jobs.is_empty() && self.everywhere.is_asked() {
            let answers = everywhere::ask(context, status::Status {}).await?;
            show_nodes(&view, &answers.given)?;
            self.everywhere.check(&answers)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.jobs.is_empty() {
            let reply = context.queue()?.call(status::Status {}).await?;
            match view.format() {
                OutputFormat::Id => view.ids(reply.queues.iter().map(|q| &q.name))?,
                _ => view.value(&reply, |view| describe_all(view, &reply))?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        show(context, &self.jobs).await
    }
}

/// The totals of each node.
fn show_nodes(view: &View, nodes: &[(String, StatusReply)]) -> Result<()> {
    if view.is_for_people() {
        for (i, (node, reply)) in nodes.iter().enumerate() {
            if i > 0 {
                view::line("")?;
            }
            view.facts(vec![("node", Text::new(node))])?;
            describe_all(view, reply)?;
        }
        return Ok(());
    }
    let all: Vec<Placed<&StatusReply>> = nodes.iter().map(|(node, item)| Placed { node: node.clone(), item }).collect();
    view.rows(&all)
}

/// All about some jobs and their attempts.
pub(super) async fn show(context: &Context, jobs: &Jobs) -> Result<ExitCode> {
    show_jobs(context, jobs.find(context).await?.into_iter().map(|job| job.number).collect()).await
}

/// The same of jobs that were looked up.
pub(super) async fn show_jobs(context: &Context, numbers: Vec<Number>) -> Result<ExitCode> {
    let view = context.view()?;
    let jobs = context.queue()?.call(GetJobs { numbers, detail: true }).await?;
    match jobs.as_slice() {
        [job] => {
            let process = of_people(context, &view, job).await?;
            view.one(job, |view| describe(view, job, process.as_ref()))?;
        }
        many if view.is_for_people() => {
            for (i, job) in many.iter().enumerate() {
                if i > 0 {
                    view::line("")?;
                }
                let process = of_people(context, &view, job).await?;
                describe(&view, job, process.as_ref())?;
            }
        }
        many => view.rows(many)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The process of a job that a person is shown.
async fn of_people(context: &Context, view: &View, job: &Job) -> Result<Option<Process>> {
    match view.is_for_people() {
        true => process::of(context, job).await,
        false => Ok(None),
    }
}

fn describe_all(view: &View, reply: &StatusReply) -> Result<()> {
    match reply.queues.is_empty() {
        true => view::line("no job has been stored yet")?,
        false => view.dense_table(&reply.queues, &["QUEUE", "PENDING", "RUNNING", "DONE", "FAILED"])?,
    }
    view::line("")?;
    match reply.workers.is_empty() {
        true => view::line("no worker runs; 'orx worker' starts one")?,
        false => view.dense_table(&reply.workers, &["WORKER"])?,
    }
    if let Some(leader) = &reply.leader {
        let alive = leader.age.is_some_and(|age| age <= Span::from_secs(15));
        let seen = relative(leader.seen_at, view.now());
        let tone = if alive { Tone::Plain } else { Tone::Dim };
        let text = format!("{} (epoch {}, seen {seen})", leader.name, leader.epoch);
        view::line("")?;
        view.facts(vec![("leader", Text::toned(text, tone))])?;
    }
    Ok(())
}

fn describe(view: &View, job: &Job, process: Option<&Process>) -> Result<()> {
    let now = view.now();
    let at = |t: Option<Timestamp>| t.map(|t| format!("{t} ({})", relative(t, now)));
    let mut facts = vec![
        ("job", Some(Text::new(format!("{}  {}", job.number, job.id)))),
        ("state", Some(Text::toned(state(job, now), tone_of(job.state)))),
        ("unread", job.unread.as_ref().map(|unread| Text::toned(unread.to_string(), Tone::Bad))),
        ("command", Some(Text::new(job.title()))),
        ("cwd", job.cwd.clone().map(Text::new)),
        ("env", variables(job).map(Text::new)),
        ("pid", process.map(|process| Text::new(process.to_string()))),
        ("name", job.name.clone().map(Text::new)),
        ("task", job.task.as_ref().map(|task| Text::new(format!("{task} of run {}", run(job))))),
        ("queue", Some(Text::new(&job.queue))),
        ("tenant", (job.tenant != "default").then(|| Text::new(&job.tenant))),
        ("priority", (job.priority != 0).then(|| Text::new(job.priority.to_string()))),
        ("labels", (!job.labels.is_empty()).then(|| Text::new(labels(job)))),
        ("after", after(job).map(Text::new)),
        ("stored", at(Some(job.created_at)).map(Text::new)),
        ("due", at(job.due_at).map(Text::new)),
        ("finished", at(job.finished_at).map(Text::new)),
        (
            "failures",
            (job.max_attempts > 1 || job.failures > 0)
                .then(|| Text::new(format!("{} of {}", job.failures, job.max_attempts))),
        ),
        ("losses", (job.losses > 0).then(|| Text::new(job.losses.to_string()))),
        ("drains", (job.interruptions > 0).then(|| Text::new(job.interruptions.to_string()))),
        (
            "progress",
            job.progress
                .as_ref()
                .map(|p| Text::new(format!("{:.0} % {}", p.percent, p.text.as_deref().unwrap_or_default()))),
        ),
        ("result", job.result.as_ref().map(|r| Text::new(r.one_line()))),
        ("key", job.idempotency_key.clone().map(Text::new)),
        ("trace", job.trace_id.clone().map(Text::dim)),
    ];
    view.facts(facts.drain(..).filter_map(|(key, text)| Some((key, text?))).collect())?;
    match job.attempts.as_deref() {
        Some(attempts @ [_, ..]) => {
            view::line("")?;
            view.table(attempts)
        }
        _ => Ok(()),
    }
}

fn state(job: &Job, now: Timestamp) -> String {
    let mut text = job.state.to_string();
    if let Some(reason) = &job.reason {
        text += &format!(": {reason}");
    }
    if job.state == State::Running {
        text += &format!(" for {}", took(job.started_at, None, now));
        if let Some(worker) = &job.worker {
            text += &format!(" on {worker}");
        }
        if let Some(asked) = job.cancel_requested_at {
            text += &format!(", cancel requested {}", relative(asked, now));
        }
    }
    text
}

/// What of its environment somebody asked for: what every job gets is in the JSON.
fn variables(job: &Job) -> Option<String> {
    let own = job.env.iter().flatten().filter(|(name, _)| !INHERITED.contains(&name.as_str()));
    let own: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
    (!own.is_empty()).then(|| own.join(" "))
}

fn run(job: &Job) -> String {
    job.run_id.map(|id| id.to_string()).unwrap_or_default()
}

fn labels(job: &Job) -> String {
    job.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
}

fn after(job: &Job) -> Option<String> {
    let after = job.after.as_ref()?;
    (!after.is_empty()).then(|| after.join(" "))
}
