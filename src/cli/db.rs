//! `orx db`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::ui;
use crate::error::Result;

/// Look after the store
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx db check
  orx db backup /var/backups/orx-$(date +%F).db")]
pub(super) struct Db {
    #[command(subcommand)]
    command: DbSubcommand,
}

#[derive(Subcommand)]
enum DbSubcommand {
    /// Check that the files are whole and that no row contradicts another; exit code 1 if so
    #[command(after_help = "Example:\n  orx db check && echo sound")]
    Check,
    /// Copy the store to a new file while others go on using it, and check the copy
    #[command(after_help = "Example:\n  orx db backup orx-backup.db")]
    Backup {
        /// The new file; output goes to FILE-output beside it
        file: PathBuf,
    },
}

impl Db {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let queue = context.queue()?;
        match self.command {
            DbSubcommand::Check => {
                let findings = queue.check().await?;
                if findings.is_empty() {
                    ui::say(context, &format!("{} is sound", queue.location()));
                    return Ok(ExitCode::SUCCESS);
                }
                context.view()?.rows(&findings)?;
                Ok(ExitCode::FAILURE)
            }
            DbSubcommand::Backup { file } => {
                queue.backup(file.clone()).await?;
                ui::say(context, &format!("copied to {}, and checked", file.display()));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
