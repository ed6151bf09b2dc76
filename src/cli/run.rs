//! `orx run`

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tokio::task::JoinSet;

use super::context::Context;
use super::enqueue::store;
use super::follow::{Followed, Voice};
use super::host::{Host, KILL, PATIENCE, Signals, unanswered};
use super::job_options::{JobOptions, StartOptions, submission};
use super::{follow, run_workflow, ui};
use crate::error::{Error, Result};
use crate::job::{JobSpec, Number, State};
use crate::ops::cancel::Cancel;
use crate::ops::jobs::GetJobs;
use crate::ops::lease::Only;
use crate::store::CancelRequest;
use crate::time::Span;
use crate::worker::tee::Listener;

/// Ended by SIGHUP, as a shell says it: the job lives on.
const DETACHED: u8 = 128 + 1;

#[derive(Args)]
#[command(
    override_usage = "orx run [OPTIONS] -- CMD [ARG]...\n       orx run --workflow FILE",
    after_help = "\
Examples:
  orx run -- make test
  orx run --timeout 5m --max-attempts 3 --backoff 5s -- ./flaky.sh
  orx run --max-attempts 3 --attempt-output last -- pg_dump shop > shop.sql
  orx run --name deploy -- ./deploy.sh      refused while another 'deploy' is unfinished
  orx run --workflow nightly.toml           all tasks of a workflow; 0 done, 1 failed, 130 cancelled

Exit code: the job's own; 124 timed out; 125 orx failed, or the job expired or was skipped;
126 cannot be executed; 127 not found; 128+N ended by signal N; 130 cancelled."
)]
pub(super) struct Run {
    /// Run the tasks of this workflow instead, a TOML or JSON file (-: standard input), with a line for each
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    workflow: Option<String>,

    /// What to print of a job that is tried again: every attempt as it comes, or the last alone, at the end
    #[arg(long, value_name = "WHICH", default_value = "all", conflicts_with = "workflow")]
    attempt_output: AttemptOutput,

    #[command(flatten)]
    options: JobOptions,

    #[command(flatten)]
    start: StartOptions,

    /// Run the jobs of a store that belongs to another user, or that others may write to
    #[arg(long, help_heading = "Store")]
    pub(super) allow_foreign_store: bool,

    /// The program and its arguments, after --
    #[arg(value_name = "CMD", trailing_var_arg = true, help_heading = "Arguments")]
    command: Vec<String>,
}

/// Which attempts are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AttemptOutput {
    /// All, as they come
    All,
    /// The last one, when the job has ended
    Last,
}

impl Run {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        if let Some(file) = &self.workflow {
            let at = self.start.instant(context)?;
            let options = JobSpec { at, ..self.options.spec(Vec::new())? };
            if options != JobSpec::default() {
                return Err(Error::usage("options of jobs stand in the file of a workflow").hint("under defaults"));
            }
            return run_workflow::run(context, file).await;
        }
        let last_only = self.attempt_output == AttemptOutput::Last;
        let captured = self.options.captured(context)?;
        let at = self.start.instant(context)?;
        let spec = JobSpec { at, ..self.options.spec(self.command)? };
        spec.check()?;
        let submission = submission(context, spec.clone(), captured);
        context.queue()?; // which may take long, and is ended by a signal like any program
        let mut signals = Signals::new()?;
        let job = signals.outlast(store(context, submission)).await?;
        let stored = |e: Error| e.context(format_args!("stored as job {}", job.number));
        let mut host = Host::new(context, Only::Job(job.number), 1, [&spec]).map_err(stored)?;
        let voice = Voice::run(host.carries(&spec), last_only);
        let listener = host.listen();
        let ended = accompany(context, &mut host, &listener, signals, job.number, voice).await;
        drop(listener); // nothing waits for it any more
        host.stop(ended.is_err()).await;
        let ended = ended.map_err(stored)?;
        Ok(ExitCode::from(ended.map_or(DETACHED, |ended| ended.conclude(context))))
    }
}

/// Stays with the job to its end; gives none where a signal says to leave it to others.
async fn accompany(
    context: &Context,
    host: &mut Host,
    listener: &Listener,
    mut signals: Signals,
    number: Number,
    voice: Voice,
) -> Result<Option<Followed>> {
    let mut followed = std::pin::pin!(follow::follow(context, number, voice, Some(listener)));
    let (mut asked, mut cancelling) = (0, JoinSet::new());
    loop {
        tokio::select! {
            ended = &mut followed => return ended.map(Some),
            result = host.look_after(context) => result?,
            Some(told) = cancelling.join_next() => told.map_err(|e| Error::failed("a task failed").source(e))??,
            hung_up = signals.next() => {
                if hung_up && runs_elsewhere(context, host, number).await? {
                    ui::say(context, &format!("job {number} goes on"));
                    return Ok(None);
                }
                asked += 1;
                if asked > KILL && !cancelling.is_empty() {
                    return Err(unanswered());
                }
                // Nothing waits for the store: it may not answer.
                cancelling.spawn(cancel(context, host, number, asked));
            }
        }
    }
}

/// The first time: the job's own grace. Then: SIGKILL.
fn cancel(context: &Context, host: &Host, number: Number, asked: u32) -> impl Future<Output = Result<()>> + use<> {
    let how = match asked {
        1 => CancelRequest::default(),
        _ => CancelRequest { signal: Some(libc::SIGKILL), grace: Some(Span::ZERO) },
    };
    ui::say(context, if asked == 1 { "cancelling; again to kill" } else { "killing" });
    let op = Cancel { numbers: vec![number], reason: Some("interrupted".into()), how: how.clone() };
    host.cancel(op, Some(how))
}

/// Whether another process runs the job.
async fn runs_elsewhere(context: &Context, host: &Host, number: Number) -> Result<bool> {
    if host.is_own() {
        // Where the store does not answer, this process's own worker is told.
        let held = tokio::time::timeout(PATIENCE, host.is_held_elsewhere()).await;
        return held.unwrap_or(Ok(false));
    }
    let jobs = context.queue()?.call(GetJobs { numbers: vec![number], detail: false }).await?;
    Ok(jobs.iter().any(|job| job.state == State::Running))
}
