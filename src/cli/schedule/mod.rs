//! `orx schedule`

mod change;
mod look;
mod operate;
mod rule;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub(super) use self::look::Instant;
use super::context::Context;
use crate::error::Result;
use crate::ops::schedules::Named;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx schedule add nightly --cron '0 2 * * *' --tz Europe/Berlin -- ./backup.sh
  orx schedule add poll --every 5m --overlap skip --timeout 4m -- ./poll.sh
  orx schedule list
  orx schedule history nightly

Schedules fire while an orx worker or an orx coordinator runs; what was missed is made up for as --catch-up says.")]
pub(super) struct Schedule {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Add(change::Add),
    List(look::List),
    Show(look::Show),
    Preview(look::Preview),
    History(look::History),
    Pause(operate::Pause),
    Resume(operate::Resume),
    Trigger(operate::Trigger),
    Backfill(operate::Backfill),
    Update(change::Update),
    Remove(operate::Remove),
}

/// One schedule named on the command line.
#[derive(Args, Clone, Debug)]
struct One {
    /// The schedule's name or id
    #[arg(value_name = "SCHEDULE", add = super::select::schedule_candidates())]
    schedule: String,

    /// Who it belongs to [default: default]
    #[arg(long)]
    tenant: Option<String>,
}

impl One {
    fn named(&self) -> Named {
        Named { tenant: self.tenant.clone(), name: self.schedule.clone() }
    }
}

/// Schedules named on the command line.
#[derive(Args, Clone, Debug)]
struct Many {
    /// The schedules' names or ids
    #[arg(value_name = "SCHEDULE", required = true, add = super::select::schedule_candidates())]
    schedules: Vec<String>,

    /// Who they belong to [default: default]
    #[arg(long)]
    tenant: Option<String>,
}

impl Many {
    fn named(&self) -> impl Iterator<Item = Named> {
        self.schedules.iter().map(|name| Named { tenant: self.tenant.clone(), name: name.clone() })
    }
}

impl Schedule {
    pub(super) fn makes_store(&self) -> bool {
        matches!(self.command, Command::Add(_))
    }

    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        match self.command {
            Command::Add(c) => c.run(context).await,
            Command::List(c) => c.run(context).await,
            Command::Show(c) => c.run(context).await,
            Command::Preview(c) => c.run(context).await,
            Command::History(c) => c.run(context).await,
            Command::Pause(c) => c.run(context).await,
            Command::Resume(c) => c.run(context).await,
            Command::Trigger(c) => c.run(context).await,
            Command::Backfill(c) => c.run(context).await,
            Command::Update(c) => c.run(context).await,
            Command::Remove(c) => c.run(context).await,
        }?;
        Ok(ExitCode::SUCCESS)
    }
}
