//! `orx db quarantine`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::ui;
use super::view::{Text, Tone};
use crate::error::Result;
use crate::ops::quarantine::{GetQuarantine, ResumeQuarantine};

/// Show how many jobs were put aside because no orx can read them, or let it go on
///
/// A job whose stored text is damaged is made a dead letter with the reason 'unreadable', so that it stops nobody. After 100
/// of them the leader waits for --go-on: so many may mean that it is orx that is wrong. 'orx db check' says what is wrong
/// with each, and 'orx dlq list --reason unreadable' shows those that were put aside.
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx db quarantine
  orx db quarantine --go-on")]
pub(super) struct Quarantine {
    /// Let the leader put aside as many once more
    #[arg(long)]
    go_on: bool,
}

impl Quarantine {
    /// Whether something is to be changed, and not only shown.
    pub(super) fn changes(&self) -> bool {
        self.go_on
    }

    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let queue = context.queue()?;
        if self.go_on {
            queue.call(ResumeQuarantine {}).await?;
            let found = queue.call(GetQuarantine {}).await?;
            ui::say(context, &format!("up to {} more are put aside", ui::count(u64::from(found.most), "job")));
            return Ok(ExitCode::SUCCESS);
        }
        let found = queue.call(GetQuarantine {}).await?;
        let view = context.view()?;
        view.value(&found, |view| {
            let tone = if found.is_stopped() { Tone::Bad } else { Tone::Plain };
            view.facts(vec![
                ("put_aside", Text::toned(found.put_aside.to_string(), tone)),
                ("most", Text::new(found.most.to_string())),
                ("waiting", Text::new(found.waiting.to_string())),
            ])
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
