//! `orx workflow`

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::context::Context;
use super::job_options::{captured, chance};
use super::view::{junit, runs};
use super::{OutputFormat, entering, run_workflow, ui, view};
use crate::error::{Error, Result};
use crate::job::ids::RunName;
use crate::job::workflow_file::{self, MAX_FILE};
use crate::job::{JsonText, RunId, RunState, Workflow};
use crate::ops::runs::Started;
use crate::ops::runs::cancel::CancelRun;
use crate::ops::runs::replay::ReplayRun;
use crate::ops::runs::submit::SubmitRun;
use crate::ops::runs::view::{GetRun, ListRuns, RunView};
use crate::store::{CancelRequest, RunFilter};
use crate::time::Span;

#[derive(Args)]
#[command(
    name = "workflow",
    after_help = "\
Examples:
  orx workflow submit nightly.toml
  orx workflow wait last
  orx workflow show last
  orx workflow report last -o junit > report.xml
  orx workflow replay last --failed --reason 'the disk was full'
  orx run --workflow nightly.toml           follow it, and exit with 1 if it fails

A file:
  name = \"nightly\"
  on_failure = \"continue\"       # or fail-fast, the default
  max_parallel = 4
  timeout = \"2h\"
  defaults = { max_attempts = 2, cwd = \"/srv/build\" }
  on_complete = [\"./tell\"]      # gets the report on standard input

  [[task]]
  name = \"build\"
  command = [\"make\"]

  [[task]]
  name = \"test\"
  needs = [\"build\"]
  command = [\"make\", \"test\"]

  [[task]]
  name = \"tidy\"
  needs = [\"test\"]
  always = true
  command = [\"make\", \"clean\"]"
)]
pub(super) struct WorkflowCommand {
    #[command(subcommand)]
    command: WorkflowSubcommand,
}

#[derive(Subcommand)]
enum WorkflowSubcommand {
    /// Store a run of a workflow for workers to run; prints its id
    #[command(after_help = "Examples:\n  orx workflow submit nightly.toml\n  ./generate | orx workflow submit -")]
    Submit {
        /// The file, TOML or JSON; - for standard input
        file: String,
    },
    /// List runs, newest first
    #[command(visible_alias = "ls", after_help = "Example:\n  orx workflow list --state failed")]
    List {
        /// In this state only
        #[arg(long)]
        state: Option<State>,
        /// With this name only
        #[arg(long)]
        name: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Wait until a run has ended; says which tasks start and end
    #[command(after_help = "\
Examples:
  orx workflow wait $(orx workflow submit nightly.toml)
  orx workflow wait last --timeout 2h

Exit code: 0 all is done, 1 the run failed, 130 it was cancelled, 75 when --timeout passes and the run goes on.")]
    Wait {
        #[command(flatten)]
        run: OneRun,
        /// No longer than this
        #[arg(long, value_name = "DURATION")]
        timeout: Option<Span>,
    },
    /// Draw the tasks of a run and what needs what
    #[command(after_help = "Example:\n  orx workflow show last\n  orx workflow show last -o json | jq .workflow")]
    Show {
        #[command(flatten)]
        run: OneRun,
    },
    /// Print what became of the tasks of a run: a table, JSON, or JUnit XML for CI systems
    #[command(after_help = "Example:\n  orx workflow report last -o junit > report.xml")]
    Report {
        #[command(flatten)]
        run: OneRun,
    },
    /// Do a run again, or a part of it, as a new run
    #[command(
        after_help = "Examples:\n  orx workflow replay last --failed --reason 'the disk was full'\n  orx workflow replay 0198a5d2-7c1e --from deploy"
    )]
    Replay {
        #[command(flatten)]
        run: OneRun,
        /// Only this task and those that need it
        #[arg(long, value_name = "TASK")]
        from: Option<String>,
        /// Only what was not done, and what needs it
        #[arg(long)]
        failed: bool,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End a run; its always tasks run still, unless it is cancelled a second time
    #[command(after_help = "Example:\n  orx workflow cancel last --reason 'wrong branch'")]
    Cancel {
        /// Its id, the start of it, or last
        #[arg(value_name = "RUN", required = true, add = run_candidates())]
        runs: Vec<RunName>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// A run named on the command line.
#[derive(Args)]
struct OneRun {
    /// Its id, the start of it, or last
    #[arg(value_name = "RUN", add = run_candidates())]
    run: RunName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// Something of it has not ended
    Running,
    /// All its tasks are done
    Done,
    /// A task failed, or it took too long
    Failed,
    /// Somebody ended it
    Cancelled,
}

impl From<State> for RunState {
    fn from(state: State) -> Self {
        match state {
            State::Running => RunState::Running,
            State::Done => RunState::Done,
            State::Failed => RunState::Failed,
            State::Cancelled => RunState::Cancelled,
        }
    }
}

impl WorkflowCommand {
    pub(super) fn makes_store(&self) -> bool {
        matches!(self.command, WorkflowSubcommand::Submit { .. })
    }

    /// Whether it prints JUnit XML.
    pub(super) fn prints_junit(&self) -> bool {
        matches!(self.command, WorkflowSubcommand::Report { .. })
    }

    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        match self.command {
            WorkflowSubcommand::Submit { file } => {
                let (given, _) = read(&file)?;
                let started = submit(context, given).await?;
                let here = std::env::current_dir().ok();
                entering::warn(context, None, here.as_deref().and_then(Path::to_str)).await;
                context.view()?.started(&started)?;
            }
            WorkflowSubcommand::List { state, name, limit } => {
                let filter = RunFilter { state: state.map(Into::into), name, ..RunFilter::default() };
                let runs = context.queue()?.call(ListRuns { filter, limit: limit.into() }).await?;
                if runs.is_empty() {
                    ui::note(context, "no run; 'orx workflow submit FILE' stores one");
                }
                context.view()?.rows(&runs)?;
            }
            WorkflowSubcommand::Wait { run, timeout } => return run_workflow::wait(context, run.run, timeout).await,
            WorkflowSubcommand::Show { run } => {
                let run = get(context, run.run, true).await?;
                context.view()?.one(&run, |view| runs::draw(view, &run))?;
            }
            WorkflowSubcommand::Report { run } => {
                let run = get(context, run.run, false).await?;
                let view = context.view()?;
                match view.format() {
                    OutputFormat::Junit => view::raw(junit::report(&run).as_bytes())?,
                    _ => view.one(&run, |view| runs::report(view, &run))?,
                }
            }
            WorkflowSubcommand::Replay { run, from, failed, reason } => {
                let id = RunId::new(context.clock.now(), chance());
                let started = context.queue()?.call(ReplayRun { id, run: run.run, from, failed, reason }).await?;
                say_started(context, &started);
                context.view()?.started(&started)?;
            }
            WorkflowSubcommand::Cancel { runs, reason } => {
                let mut replies = Vec::with_capacity(runs.len());
                for run in runs {
                    let op = CancelRun { run, reason: reason.clone(), how: CancelRequest::default() };
                    replies.push(context.queue()?.call(op).await?);
                }
                context.view()?.rows(&replies)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn get(context: &Context, run: RunName, options: bool) -> Result<RunView> {
    context.queue()?.call(GetRun { run, options }).await
}

/// Reads a workflow: as it was given, and what it means.
pub(super) fn read(file: &str) -> Result<(JsonText, Workflow)> {
    read_as(file, workflow_file::parse)
}

/// As [`read`], for a schedule.
pub(super) fn read_scheduled(file: &str) -> Result<(JsonText, Workflow)> {
    read_as(file, workflow_file::parse_scheduled)
}

fn read_as(file: &str, parse: fn(&str) -> Result<(JsonText, Workflow)>) -> Result<(JsonText, Workflow)> {
    let mut text = String::new();
    let limit = MAX_FILE as u64 + 1;
    let done = match file {
        "-" => std::io::stdin().lock().take(limit).read_to_string(&mut text),
        file => std::fs::File::open(file).and_then(|f| f.take(limit).read_to_string(&mut text)),
    };
    done.map_err(|e| Error::usage(format!("cannot read {file}")).source(e))?;
    parse(&text).map_err(|e| e.context(if file == "-" { "standard input" } else { file }))
}

/// Stores a run and says so.
pub(super) async fn submit(context: &Context, workflow: JsonText) -> Result<Started> {
    let id = RunId::new(context.clock.now(), chance());
    let captured = Arc::new(captured(context, std::iter::empty(), None)?);
    let queue = super::enqueue::open(context)?;
    let started = queue.call(SubmitRun { id, workflow, captured, behind: None }).await?;
    say_started(context, &started);
    Ok(started)
}

pub(super) fn say_started(context: &Context, started: &Started) {
    ui::note(context, &format!("run of {} with {}", started.name, ui::count(started.jobs as u64, "task")));
}

/// Completes runs: the newest ones.
fn run_candidates() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let runs =
            super::select::ask(|queue| async move { queue.call(ListRuns { limit: 100, ..ListRuns::default() }).await });
        let offer = |(order, run): (usize, crate::ops::runs::view::RunLine)| {
            let help = format!("{} {}", run.state, run.name);
            CompletionCandidate::new(run.id.to_string()).help(Some(help.into())).display_order(Some(order))
        };
        runs.unwrap_or_default().into_iter().enumerate().map(offer).collect()
    })
}
