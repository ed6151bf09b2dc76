//! `orx enqueue`

use std::process::ExitCode;

use clap::Args;

use super::bulk::{Bulk, Source};
use super::context::Context;
use super::follow::{Followed, Voice};
use super::job_options::{JobOptions, StartOptions, submission};
use super::{entering, exit, follow, ui, wait};
use crate::error::{Error, Result};
use crate::job::JobSpec;
use crate::ops::enqueue::{self, Enqueued};
use crate::queue::Queue;
use crate::store::Location;

#[derive(Args)]
#[command(
    override_usage = "orx enqueue [OPTIONS] -- CMD [ARG]...\n       orx enqueue [OPTIONS] --each-line FILE -- CMD {}\n       orx enqueue [OPTIONS] --from FILE\n       orx enqueue [OPTIONS] --handler NAME [--payload JSON]",
    after_help = "\
Examples:
  orx enqueue -- make test
  orx enqueue --name nightly --max-attempts 3 --backoff 1m -- ./backup.sh
  orx enqueue --after 41 --timeout 10m -- ./deploy.sh
  orx enqueue --each-line hosts.txt -- ping -c1 {}
  jq -c '{command: [\"./build\", .name]}' list.json | orx enqueue --from -"
)]
pub(super) struct Enqueue {
    /// Store one job for each line of NDJSON in FILE (-: standard input)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["each_line", "command", "handler"])]
    from: Option<String>,

    /// Store the command once for each line of text in FILE, with {} replaced by the line (without {}: the line is the last argument)
    #[arg(long, value_name = "FILE")]
    each_line: Option<String>,

    /// The id of the load; the same id finishes an interrupted one without doubling a line
    #[arg(long, value_name = "ID")]
    batch: Option<uuid::Uuid>,

    /// Leave out lines that are not valid instead of storing none
    #[arg(long, requires = "from")]
    skip_invalid: bool,

    /// Wait until the job has ended, and exit as it did
    #[arg(long, conflicts_with_all = ["from", "each_line"])]
    wait: bool,

    /// Print its output as it comes, and exit as it did
    #[arg(long, conflicts_with_all = ["from", "each_line"])]
    follow: bool,

    #[command(flatten)]
    options: JobOptions,

    #[command(flatten)]
    start: StartOptions,

    /// The program and its arguments, after --
    #[arg(value_name = "CMD", trailing_var_arg = true, help_heading = "Arguments")]
    command: Vec<String>,
}

impl Enqueue {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        if context.location()? == Location::Memory {
            let error = Error::usage("a job in memory: would be gone with this command");
            return Err(error.hint("'orx run' stores it there and runs it"));
        }
        let source = match (self.from, self.each_line) {
            (Some(file), _) => Some((Source::Ndjson, file)),
            (None, Some(file)) => Some((Source::Lines, file)),
            (None, None) => None,
        };
        let captured = self.options.captured(context)?;
        let at = self.start.instant(context)?;
        let spec = JobSpec { at, ..self.options.spec(self.command)? };
        if let Some((source, file)) = source {
            let bulk =
                Bulk { source, file, batch: self.batch, skip_invalid: self.skip_invalid, defaults: spec, captured };
            return bulk.run(context).await;
        }
        if self.batch.is_some() || self.skip_invalid {
            return Err(Error::usage("--batch and --skip-invalid are for --from and --each-line"));
        }
        spec.check()?;
        let submission = submission(context, spec, captured);
        let dir = submission.spec.cwd.clone().or_else(|| submission.captured.cwd.clone());
        let job = store(context, submission).await?;
        entering::warn(context, Some(&job.queue), dir.as_deref()).await;
        let number = job.number;
        let stored = |e: Error| e.context(format_args!("stored as job {number}"));
        if !(self.follow || self.wait) {
            context.view()?.enqueued(&[job]).map_err(stored)?;
            return Ok(ExitCode::SUCCESS);
        }
        let ended = match self.follow {
            true => follow::follow(context, number, Voice::watcher(), None).await,
            false => wait::until_ended(context, number).await.map(Followed::unheard),
        };
        let code = match ended.map_err(stored) {
            Ok(ended) => ended.conclude(context),
            Err(e) => {
                ui::print_error(&e, context.manner());
                exit::own_error(e.kind()) // the small numbers are the job's
            }
        };
        Ok(ExitCode::from(code))
    }
}

/// The queue that jobs are to be stored in.
pub(super) fn open(context: &Context) -> Result<&Queue> {
    context.queue().map_err(|e| e.context("not stored"))
}

/// Stores one job and says so.
pub(super) async fn store(context: &Context, job: crate::job::Submission) -> Result<Enqueued> {
    let op = enqueue::Enqueue { jobs: vec![job] };
    let mut stored = open(context)?.call(op).await?;
    let job = stored.pop().ok_or_else(|| Error::failed("nothing was answered"))?;
    let was = if job.existing { " (it was there before)" } else { "" };
    ui::note(context, &format!("job {} {} in {}{was}", job.number, job.state, job.queue));
    Ok(job)
}
