//! `orx events`

use std::process::ExitCode;

use clap::Args;

use super::OutputFormat;
use super::context::Context;
use super::interrupt::until_interrupted;
use super::view::{ndjson, raw_aside};
use crate::error::Result;
use crate::job::{Event, EventKind};
use crate::ops::events::{MAX_EVENTS, ReadEvents};
use crate::store::Topics;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx events | jq -r 'select(.number == 42) | .kind'
  orx events -f --from 1000")]
pub(super) struct Events {
    /// Go on with each new event, until interrupted
    #[arg(short, long)]
    follow: bool,

    /// From this event on
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: i64,
}

impl Events {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        match self.follow {
            true => until_interrupted(self.print(context)).await,
            false => self.print(context).await,
        }
    }

    async fn print(&self, context: &Context) -> Result<ExitCode> {
        let view = context.view()?;
        // The trail is made for programs; a table only where it was asked for by name.
        let as_rows = context.globals.format.is_some() || context.globals.output == Some(OutputFormat::Table);
        let queue = context.queue()?;
        let mut changes = queue.subscribe(Topics::ALL)?;
        let mut after = self.from.saturating_sub(1);
        loop {
            let events = queue.call(ReadEvents { after, limit: MAX_EVENTS }).await?;
            if let Some(last) = events.last() {
                after = last.seq;
                let seen: Vec<Event> = events.into_iter().filter(|e| e.kind != EventKind::Hidden).collect();
                raw_aside(if as_rows { view.text(&seen)? } else { ndjson(&seen)? }).await?;
                continue;
            }
            if !self.follow {
                return Ok(ExitCode::SUCCESS);
            }
            changes.changed(None).await;
        }
    }
}
