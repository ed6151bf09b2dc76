//! `orx db restore`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use uuid::Uuid;

use super::context::{Context, user};
use super::ui;
use super::view::{Row, Text};
use crate::error::{Error, Result};
use crate::ops::restore::{Abandon, Restore, Restored};
use crate::queue::Queue;
use crate::store::Location;
use crate::store::restore::{Renewal, renew};
use crate::time::Timestamp;
use crate::worker::chance;

/// Make a store of a backup, so that nobody who worked for the store of before can write to it
///
/// The store is the one that --store names: a file, or an empty place on a PostgreSQL server. It gets an id of its own.
/// Jobs that ran when the backup was made count as lost and run again, workers and coordinators are forgotten, and
/// attempts, jobs, events and epochs of leaders go on with numbers far above those of the backup. What happened after the
/// backup is not known to it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx db restore orx-backup.db
  orx db restore --replace orx-backup.db
  orx --store 'postgres://orx@db.example/jobs' db restore orx-backup.db
  orx --store 'postgres://orx@db.example/jobs' db restore --in-place")]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(required_unless_present = "in_place", conflicts_with = "in_place")]
    file: Option<PathBuf>,

    /// Put it in the place of the store that is there, which is lost; refused while anybody has that open
    #[arg(long, conflicts_with = "in_place")]
    replace: bool,

    /// The store is there already, put back by other means: pg_restore, or a snapshot of the disk. Do the rest
    #[arg(long)]
    in_place: bool,
}

impl Row for Restored {
    const HEADERS: &'static [&'static str] = &["STORE", "LOST", "ATTEMPTS ABOVE", "JOBS ABOVE", "EPOCHS ABOVE"];

    fn id(&self) -> String {
        self.renewed.store.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let renewed = &self.renewed;
        vec![
            Text::new(renewed.store.clone()),
            Text::new(self.lost.to_string()),
            Text::new(renewed.attempts.to_string()),
            Text::new(renewed.jobs.to_string()),
            Text::new(renewed.epochs.to_string()),
        ]
    }
}

/// A new id for the store that becomes another one by `by`.
pub(super) fn renewal(context: &Context, by: &'static str) -> Renewal {
    Renewal { id: Uuid::now_v7(), at: context.clock.now(), by, actor: user() }
}

impl RestoreArgs {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let location = context.location()?;
        let restored = match self.file {
            Some(file) => from_backup(context, file, location.clone(), self.replace).await?,
            None => in_place(context, location.clone()).await?,
        };
        if !context.view()?.is_for_people() {
            context.view()?.rows(std::slice::from_ref(&restored))?;
        }
        let lost = match restored.lost {
            0 => String::new(),
            n => format!("; {} that ran in it counted as lost", ui::count(n as u64, "job")),
        };
        let place = context.store_setting().map(|(store, _)| crate::store::shown(&store))?;
        ui::say(context, &format!("{place} is restored{lost}; new jobs begin above {}", restored.renewed.jobs));
        Ok(ExitCode::SUCCESS)
    }
}

async fn from_backup(context: &Context, backup: PathBuf, target: Location, replace: bool) -> Result<Restored> {
    let (clock, renewal) = (Arc::clone(&context.clock), renewal(context, "restore"));
    let restoring = tokio::task::spawn_blocking(move || {
        let restore = Restore { backup: &backup, target: &target, replace, renewal, jitter: chance() };
        restore.run(clock)
    });
    restoring.await.map_err(|_| Error::failed("restoring hit a bug in orx"))?
}

async fn in_place(context: &Context, location: Location) -> Result<Restored> {
    let queue: &Queue = context.queue()?;
    if !matches!(location, Location::File(_) | Location::Server(_)) {
        return Err(crate::store::restore::nowhere());
    }
    let mut lost = 0;
    loop {
        let done = queue.call(Abandon { despite_workers: false, jitter: chance() }).await?;
        lost += done.lost.len();
        if !done.more {
            break;
        }
    }
    let renewal = renewal(context, "in_place");
    let renewing = tokio::task::spawn_blocking(move || renew(&location, &renewal));
    let renewed = renewing.await.map_err(|_| Error::failed("restoring hit a bug in orx"))??;
    Ok(Restored { renewed, lost })
}
