//! `orx retry`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::select::JobsOrAll;
use crate::error::Result;
use crate::job::State;
use crate::ops::retry;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx retry 42
  orx retry 5-8 @team=web               those of them that failed or were cancelled
  orx retry --all --queue build --yes   every failed job of the queue")]
pub(super) struct Retry {
    #[command(flatten)]
    jobs: JobsOrAll,

    /// Leave skipped what was skipped because of them
    #[arg(long)]
    only: bool,
}

impl Retry {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let found = self.jobs.find(context, "Retry", &[State::Failed, State::Cancelled], &[State::Failed]).await?;
        let numbers = found.iter().map(|job| job.number).collect();
        let replies = context.queue()?.call(retry::Retry { numbers, only: self.only }).await?;
        let view = context.view()?;
        if !(view.is_for_people() && (context.quiet() || replies.is_empty())) {
            view.rows(&replies)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
