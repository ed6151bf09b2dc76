//! `orx metrics`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::view;
use crate::error::Result;
use crate::ops::metrics::{Measure, text};

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx metrics > /var/lib/node_exporter/orx.prom
  orx metrics -o json | jq .dead_letters")]
pub(super) struct Metrics {}

impl Metrics {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let measured = context.queue()?.call(Measure {}).await?;
        context.view()?.value(&measured, |_| view::raw(text(&measured).finish().as_bytes()))?;
        Ok(ExitCode::SUCCESS)
    }
}
