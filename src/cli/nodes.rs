//! `orx nodes`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::{ui, view};
use crate::error::Result;
use crate::ops::nodes::{DrainNode, ListNodes};

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
                let view = context.view()?;
                view.rows(&nodes)?;
                let peers: Vec<_> = nodes.into_iter().flat_map(|node| node.peers).collect();
                if view.is_for_people() && !peers.is_empty() {
                    view::line("")?;
                    view.rows(&peers)?;
                }
            }
            Some(NodesSubcommand::Drain { node }) => {
                let name = context.queue()?.call(DrainNode { node }).await?;
                ui::say(context, &format!("{name} hands over and ends"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
