//! `orx db copy`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::restore::renewal;
use super::ui;
use super::view::{Row, Text, Tone};
use crate::error::{Error, Result};
use crate::store::Location;
use crate::store::copy::{Copied, copy};
use crate::time::Timestamp;

/// Move the queue to another, empty store with all its history, and compare the two
///
/// TO is a new file or a PostgreSQL server, as --store names them. No job may be running: end the workers first, and
/// whoever submits. Everything is read back and compared before TO can be used; an interrupted copy is refused for use,
/// and is made anew by the same command. What is copied stays where it was. TO is another store: new attempts, jobs and
/// leaders have numbers far above those of before, so that a worker of the old store can change nothing in it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx db copy 'postgres://orx@db.example/jobs?sslmode=verify-full'
  orx --store postgres://orx@db.example/jobs db copy orx.db")]
pub(super) struct Copy {
    /// The empty store
    to: String,
}

impl Row for Copied {
    const HEADERS: &'static [&'static str] = &["TABLE", "ROWS", "COPIED", "COMPARED"];

    fn id(&self) -> String {
        self.table.into()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let (word, tone) = if self.same { ("same", Tone::Good) } else { ("differs", Tone::Bad) };
        vec![
            Text::new(self.table),
            Text::new(self.rows.to_string()),
            Text::new(self.copied.to_string()),
            Text::toned(word, tone),
        ]
    }
}

impl Copy {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let (from, to): (Location, Location) = (context.location()?, self.to.parse()?);
        let bar = ui::progress(context, 0, "rows written or read back");
        let (shown, renewal) = (bar.clone(), renewal(context, "copy"));
        let copied = tokio::task::spawn_blocking(move || {
            copy(&from, &to, &renewal, &mut |done, total| {
                shown.set_length(total);
                shown.set_position(done);
            })
        });
        let copied = copied.await.map_err(|_| Error::failed("copying hit a bug in orx"))?;
        bar.finish_and_clear();
        let (copied, _) = copied?;
        context.view()?.rows(&copied)?;
        let rows = copied.iter().map(|table| table.copied).sum();
        ui::say(context, &format!("{} copied and compared; use the copy from now on", ui::count(rows, "row")));
        Ok(ExitCode::SUCCESS)
    }
}
