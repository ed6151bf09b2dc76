//! `orx audit`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::ui;
use crate::error::Result;
use crate::job::EventKind;
use crate::job::audit::Auditor;
use crate::ops::events::{MAX_EVENTS, ReadEvents};

#[derive(Args)]
#[command(after_help = "Example:\n  orx audit && echo sound")]
pub(super) struct Audit {}

impl Audit {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let mut auditor = Auditor::default();
        let (mut after, mut count, mut unread) = (0, 0, 0);
        loop {
            let events = context.queue()?.call(ReadEvents { after, limit: MAX_EVENTS }).await?;
            events.iter().for_each(|event| auditor.event(event));
            count += events.len();
            unread += events.iter().filter(|event| event.kind == EventKind::Quarantined).count();
            match events.last() {
                Some(last) => after = last.seq,
                None => break,
            }
        }
        let breaches = auditor.finish();
        let view = context.view()?;
        if !(view.is_for_people() && breaches.is_empty()) {
            view.rows(&breaches)?;
        }
        if breaches.is_empty() {
            let aside = match unread {
                0 => String::new(),
                n => format!(", and {} put aside as unreadable", ui::count(n as u64, "job")),
            };
            ui::say(context, &format!("{}: nothing is wrong{aside}", ui::count(count as u64, "event")));
            return Ok(ExitCode::SUCCESS);
        }
        ui::say(
            context,
            &format!(
                "{}: {} of what must hold",
                ui::count(count as u64, "event"),
                ui::count(breaches.len() as u64, "break")
            ),
        );
        Ok(ExitCode::FAILURE)
    }
}
