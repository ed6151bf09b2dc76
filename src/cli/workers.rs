//! `orx workers`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::ui;
use crate::error::Result;
use crate::ops::workers::{DrainWorker, ListWorkers};

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx workers
  orx workers drain build-3")]
pub(super) struct Workers {
    #[command(subcommand)]
    command: Option<WorkersSubcommand>,
}

#[derive(Subcommand)]
enum WorkersSubcommand {
    /// Have a worker take no more jobs, and end when its jobs have
    #[command(after_help = "Example:\n  orx workers drain build-3")]
    Drain {
        /// Its name or id
        worker: String,
    },
}

impl Workers {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        match self.command {
            None => {
                let workers = context.queue()?.call(ListWorkers {}).await?;
                if workers.is_empty() {
                    ui::note(context, "no worker runs; 'orx worker' starts one");
                }
                context.view()?.rows(&workers)?;
                for (worker, trouble) in workers.iter().filter_map(|worker| Some((worker, worker.trouble.as_ref()?))) {
                    ui::say(context, &format!("{} {trouble}", worker.name));
                }
            }
            Some(WorkersSubcommand::Drain { worker }) => {
                let found = context.queue()?.call(DrainWorker { worker }).await?;
                for worker in found {
                    ui::say(
                        context,
                        &format!("{} drains; it runs {}", worker.name, ui::count(worker.running.len() as u64, "job")),
                    );
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
