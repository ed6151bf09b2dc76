//! `orx db retention`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::policies::bytes;
use super::ui;
use super::view::Text;
use crate::error::Result;
use crate::ops::retention::{self, GetRetention, Kept, SetRetention};
use crate::time::Span;

/// Say for how long finished jobs are kept, or show it
///
/// Whoever leads the store forgets the others by itself, with their output and history, as 'orx db prune' does: never a
/// job that has not finished or that an unfinished job or run needs, and never a dead letter. Idempotency keys hold for
/// their day all the same. Without an option it only shows what is in force.
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx db retention --done-older-than 7d --max-size 1G
  orx db retention --done-older-than none      keep all")]
pub(super) struct Retention {
    /// Forget what finished longer ago than this, or none [default: 30d]
    #[arg(long, value_name = "DURATION", value_parser = age)]
    done_older_than: Option<Age>,

    /// Forget the oldest finished jobs while the store uses more, such as 512M or 1G, or none [default: none]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_size: Option<u64>,
}

/// An age, or none.
#[derive(Clone, Copy, Debug)]
struct Age(Option<Span>);

fn age(text: &str) -> Result<Age, String> {
    match text {
        "none" => Ok(Age(None)),
        text => text.parse().map(|span| Age(Some(span))),
    }
}

impl Retention {
    /// Whether it is to be changed, and not only shown.
    pub(super) fn changes(&self) -> bool {
        self.done_older_than.is_some() || self.max_size.is_some()
    }

    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let queue = context.queue()?;
        let Kept { mut retention, .. } = queue.call(GetRetention {}).await?;
        if self.changes() {
            if let Some(Age(age)) = self.done_older_than {
                retention.done_older_than = age;
            }
            if let Some(size) = self.max_size {
                retention.max_size = (size > 0).then_some(size);
            }
            queue.call(SetRetention { retention }).await?;
            ui::say(context, &told(&retention));
            return Ok(ExitCode::SUCCESS);
        }
        let kept = queue.call(GetRetention {}).await?;
        let view = context.view()?;
        view.value(&kept, |_| {
            let age = kept.retention.done_older_than.map_or("none".into(), |age| age.to_string());
            let size = |bytes: Option<u64>| bytes.map_or("none".into(), shown);
            let used = kept.used.and_then(|used| u64::try_from(used).ok());
            view.facts(vec![
                ("done_older_than", Text::new(age)),
                ("max_size", Text::new(size(kept.retention.max_size))),
                ("used", Text::new(used.map_or("unknown".into(), shown))),
            ])
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn told(retention: &retention::Retention) -> String {
    match (retention.done_older_than, retention.max_size) {
        (None, None) => "nothing is forgotten by itself".into(),
        (Some(age), None) => format!("finished jobs are kept for {age}"),
        (None, Some(size)) => format!("the oldest finished jobs are forgotten beyond {}", shown(size)),
        (Some(age), Some(size)) => format!("finished jobs are kept for {age}, the oldest not beyond {}", shown(size)),
    }
}

/// Bytes for people.
fn shown(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
