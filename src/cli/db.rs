//! `orx db`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;

use super::context::Context;
use super::copy::Copy;
use super::quarantine::Quarantine;
use super::restore::RestoreArgs;
use super::retention::Retention;
use super::ui;
use super::view::{Row, Text, Tone};
use crate::error::{Error, Kind, Result};
use crate::ops::prune::{DropOutput, Prunable, Prune, PruneKeys, PruneLedger};
use crate::queue::Queue;
use crate::store::restore::{self, Counted};
use crate::store::{self, Step};
use crate::time::{Span, Timestamp};

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
    ///
    /// Of a backup also that it is as it was made: its manifest has the number of rows of each table, and a checksum.
    #[command(after_help = "Examples:\n  orx db check && echo sound\n  orx db check orx-backup.db")]
    Check {
        /// A backup; else the store is checked
        file: Option<PathBuf>,
    },
    /// Forget finished jobs with their output and history, old rows of schedules, and shrink the files
    ///
    /// Never a job that has not finished or that an unfinished job waits for; dead letters only with --dead. Of a schedule's
    /// history the last row stays, and nothing fires again because its row is gone.
    #[command(after_help = "Example:\n  orx db prune --older-than 30d --yes")]
    Prune {
        /// Finished longer ago than this
        #[arg(long, value_name = "DURATION")]
        older_than: Span,

        /// Dead letters too
        #[arg(long)]
        dead: bool,

        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    Retention(Retention),
    Quarantine(Quarantine),
    /// Copy the store to one new file while others go on using it, and check the copy
    ///
    /// The file has all that is stored, output included, and a manifest that 'orx db check FILE' compares with it. It is
    /// no store: 'orx db restore FILE' makes one of it. On PostgreSQL use pg_dump.
    #[command(after_help = "Example:\n  orx db backup orx-backup.db")]
    Backup {
        /// The new file
        file: PathBuf,
    },
    Restore(RestoreArgs),
    Copy(Copy),
    /// Bring the schema up to date, and show the steps
    ///
    /// Every command does so by itself where it may. On PostgreSQL only the owner of the schema may (see roles.sql).
    #[command(after_help = "Examples:\n  orx db migrate --dry-run\n  orx db migrate")]
    Migrate {
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

impl Db {
    pub(super) fn makes_store(&self) -> bool {
        match &self.command {
            DbSubcommand::Migrate { .. } => true,
            DbSubcommand::Retention(retention) => retention.changes(),
            DbSubcommand::Quarantine(quarantine) => quarantine.changes(),
            _ => false,
        }
    }

    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        match self.command {
            DbSubcommand::Check { file } => check(context, file).await,
            DbSubcommand::Prune { older_than, dead, yes } => prune(context, older_than, dead, yes).await,
            DbSubcommand::Retention(retention) => retention.run(context).await,
            DbSubcommand::Quarantine(quarantine) => quarantine.run(context).await,
            DbSubcommand::Backup { file } => {
                let counted = context.queue()?.backup(file.clone()).await?;
                let view = context.view()?;
                if !view.is_for_people() {
                    view.rows(&counted)?;
                }
                let jobs = counted.iter().find(|c| c.table == "jobs").map_or(0, |c| c.rows);
                ui::say(context, &format!("{} copied to {}, and checked", ui::count(jobs, "job"), file.display()));
                Ok(ExitCode::SUCCESS)
            }
            DbSubcommand::Restore(restore) => restore.run(context).await,
            DbSubcommand::Copy(copy) => copy.run(context).await,
            DbSubcommand::Migrate { dry_run } => migrate(context, dry_run),
        }
    }
}

async fn check(context: &Context, backup: Option<PathBuf>) -> Result<ExitCode> {
    let (what, findings) = match backup {
        Some(file) => {
            let shown = file.display().to_string();
            let checking = tokio::task::spawn_blocking(move || restore::check(&file));
            (shown, checking.await.map_err(|_| Error::failed("checking hit a bug in orx"))??)
        }
        None => (context.queue()?.location(), context.queue()?.check().await?),
    };
    let view = context.view()?;
    if !(view.is_for_people() && findings.is_empty()) {
        view.rows(&findings)?;
    }
    if findings.is_empty() {
        ui::say(context, &format!("{what} is sound"));
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

impl Row for Counted {
    const HEADERS: &'static [&'static str] = &["TABLE", "ROWS", "CHECKSUM"];

    fn id(&self) -> String {
        self.table.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        vec![Text::new(self.table.clone()), Text::new(self.rows.to_string()), Text::new(self.checksum.clone())]
    }
}

impl Row for Step {
    const HEADERS: &'static [&'static str] = &["STEP", "STATE"];

    fn id(&self) -> String {
        self.step.into()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let state = if self.applied { Text::dim("applied") } else { Text::toned("missing", Tone::Waiting) };
        vec![Text::new(self.step), state]
    }
}

fn migrate(context: &Context, dry_run: bool) -> Result<ExitCode> {
    let location = context.location()?;
    let before = store::steps(&location)?;
    let missing = before.iter().filter(|step| !step.applied).count() as u64;
    if dry_run {
        context.view()?.rows(&before)?;
        ui::say(context, &format!("{} would be made", ui::count(missing, "step")));
        return Ok(ExitCode::SUCCESS);
    }
    let location_text = context.queue()?.location(); // opening it makes what is missing
    context.view()?.rows(&store::steps(&location)?)?;
    match missing {
        0 => ui::say(context, &format!("{location_text} is up to date")),
        n => ui::say(context, &format!("{location_text}: {} made", ui::count(n, "step"))),
    }
    Ok(ExitCode::SUCCESS)
}

async fn prune(context: &Context, older_than: Span, dead: bool, yes: bool) -> Result<ExitCode> {
    let queue = context.queue()?;
    let before = Timestamp(context.clock.now().0.saturating_sub(older_than.as_millis()));
    ui::confirm(&format!("Forget all jobs that finished before {before}?"), yes)?;
    let bar = ui::progress(context, 0, "forgotten");
    let (mut count, mut rows) = (0, 0);
    let pruned = match prune_all(queue, before, dead, (&mut count, &mut rows), &bar, Room::Plenty).await {
        // On a full disk even forgetting needs room: what was kept for this is given away now.
        Err(e) if e.kind() == Kind::Unavailable && queue.ballast(false).await.unwrap_or_default() => {
            prune_all(queue, before, dead, (&mut count, &mut rows), &bar, Room::Little).await
        }
        pruned => pruned,
    };
    bar.finish_and_clear();
    pruned.map_err(|e| match count {
        0 => e,
        n => e.hint(format!("{} forgotten before that; the rest is there", ui::count(n as u64, "job"))),
    })?;
    if let Err(e) = queue.shrink().await {
        ui::say(context, &format!("the store stays as large as it is: {e}")); // they are forgotten all the same
    }
    // Without it the next full disk is worse, and nothing else.
    let _ = queue.ballast(true).await;
    let rows = match rows {
        0 => String::new(),
        n => format!(" and {} of schedules", ui::count(n as u64, "row")),
    };
    ui::say(context, &format!("{}{rows} forgotten", ui::count(count as u64, "job")));
    Ok(ExitCode::SUCCESS)
}

/// How much room there is for the log of what is forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Plenty,
    Little,
}

/// How many jobs are forgotten at once where there is little room.
const FEW: usize = 50;

async fn prune_all(
    queue: &Queue,
    before: Timestamp,
    dead: bool,
    (count, rows): (&mut usize, &mut usize),
    bar: &ProgressBar,
    room: Room,
) -> Result<()> {
    while queue.call(PruneKeys { epoch: None }).await? > 0 {}
    let mut after = 0;
    loop {
        let numbers = queue.call(Prunable { after, before, dead }).await?;
        let Some(last) = numbers.last() else { break };
        after = *last;
        let at_once = if room == Room::Little { FEW } else { numbers.len() };
        for numbers in numbers.chunks(at_once) {
            let numbers = numbers.to_vec();
            // Output first: what is interrupted in between leaves a job without output, not output without a job.
            queue.call(DropOutput { numbers: numbers.clone(), before, dead, epoch: None }).await?;
            *count += queue.call(Prune { numbers, before, dead, epoch: None }).await?;
            bar.set_position(*count as u64);
            if room == Room::Little {
                queue.shrink().await?; // what became free is room for the next
            }
        }
    }
    loop {
        match queue.call(PruneLedger { before, epoch: None }).await? {
            0 => return Ok(()),
            n => *rows += n,
        }
    }
}
