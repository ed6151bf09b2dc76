//! `orx nodes`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::ui;
use crate::error::Result;
use crate::ops::nodes::{DrainNode, ListNodes};

/// Show the coordinators, and who leads
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx nodes
  orx nodes drain front-1")]
pub(super) struct Nodes {
    #[command(subcommand)]
    command: Option<NodesSubcommand>,
}

#[derive(Subcommand)]
enum NodesSubcommand {
    /// Have a coordinator hand over and end
    #[command(after_help = "Example:\n  orx nodes drain front-1")]
    Drain {
        /// Its name or id
        node: String,
    },
}

impl Nodes {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        match self.command {
            None => {
                let nodes = context.queue()?.call(ListNodes {}).await?;
                if nodes.is_empty() {
                    ui::note(context, "nobody leads: no coordinator and no worker runs");
                }
                context.view()?.rows(&nodes)?;
            }
            Some(NodesSubcommand::Drain { node }) => {
                let name = context.queue()?.call(DrainNode { node }).await?;
                ui::say(context, &format!("{name} hands over and ends"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
