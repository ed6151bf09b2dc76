//! `orx coordinator`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::worker::{LogFormat, check_name, start_log};
use crate::daemon;
use crate::error::Result;

/// Keep the clock of a store: take back jobs of dead workers, start what is due
///
/// Of all coordinators and workers on one store one leads and does this; the others take over when it ends. A worker
/// leads too where no coordinator runs, so a coordinator is needed only where no worker lives for long.
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx coordinator
  orx --store postgres://orx@db/jobs coordinator --name front-1")]
pub(super) struct Coordinator {
    /// Its name, unique on this machine [default: the machine's name]
    #[arg(long)]
    name: Option<String>,

    /// How to log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

impl Coordinator {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        start_log(context, self.log_format);
        let queue = context.queue()?.clone();
        if let Some(name) = &self.name {
            check_name(name, "coordinator")?;
        }
        let name = daemon::claim(&queue, "coordinator", self.name.as_deref())?;
        daemon::run_coordinator(queue, name.name).await?;
        drop(name.lock);
        Ok(ExitCode::SUCCESS)
    }
}
