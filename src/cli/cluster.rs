//! `orx cluster`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::ui;
use crate::error::{Error, Result};
use crate::gossip::{ClusterKey, KeyRing};

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx cluster key /etc/orx/cluster.key
  orx cluster rotate /etc/orx/cluster.key
  orx cluster ban front-3")]
pub(super) struct Cluster {
    #[command(subcommand)]
    command: ClusterSubcommand,
}

#[derive(Subcommand)]
enum ClusterSubcommand {
    /// Make a key file for all coordinators of a cluster
    ///
    /// Who has the file is a member: it is readable for its owner alone, and never overwritten.
    #[command(after_help = "Example:\n  orx cluster key /etc/orx/cluster.key")]
    Key {
        /// The new file [default: cluster.key in the directory of the configuration]
        file: Option<PathBuf>,
    },
    /// Put a new key before the present one, which stays good until the next rotation
    ///
    /// Copy the file to all coordinators and send each SIGHUP, one after the other; those with the new key and those with
    /// the old one understand each other meanwhile. Rotating again drops the old key.
    #[command(after_help = "Example:\n  orx cluster rotate /etc/orx/cluster.key")]
    Rotate {
        /// The key file
        file: PathBuf,
    },
    /// Keep nodes out though they hold a key
    ///
    /// The ban is a line in the key file: copy the file to all coordinators and send each SIGHUP. A node that holds the key
    /// can come back under another name; rotate the key twice to be rid of it for good.
    #[command(after_help = "Example:\n  orx cluster ban --file /etc/orx/cluster.key front-3")]
    Ban(Nodes),
    /// Let banned nodes in again
    #[command(after_help = "Example:\n  orx cluster unban --file /etc/orx/cluster.key front-3")]
    Unban(Nodes),
}

#[derive(Args)]
struct Nodes {
    /// The nodes' names, as 'orx nodes' shows them
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// The key file [default: cluster.key in the directory of the configuration]
    #[arg(long)]
    file: Option<PathBuf>,
}

impl Cluster {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        match self.command {
            ClusterSubcommand::Key { file } => {
                let file = file.map_or_else(default_file, Ok)?;
                let key = ClusterKey::generate()?;
                KeyRing::of(key.clone()).create(&file)?;
                ui::say(context, &format!("key {} is in {}", key.fingerprint(), file.display()));
            }
            ClusterSubcommand::Rotate { file } => {
                let old = KeyRing::read(&file)?;
                let new = old.rotated(ClusterKey::generate()?);
                new.replace(&file)?;
                let (now, before) = (new.current().fingerprint(), old.current().fingerprint());
                ui::say(context, &format!("key {now} is the first in {}, {before} stays good", file.display()));
                for dropped in old.keys().iter().filter(|key| !new.keys().contains(key)) {
                    ui::say(context, &format!("key {} is good no more", dropped.fingerprint()));
                }
            }
            ClusterSubcommand::Ban(nodes) => nodes.each(context, |ring, node| {
                let new = ring.ban(node)?;
                Ok(format!("{node} is banned{}", if new { "" } else { " already" }))
            })?,
            ClusterSubcommand::Unban(nodes) => nodes.each(context, |ring, node| match ring.unban(node) {
                true => Ok(format!("{node} is banned no more")),
                false => Err(Error::not_found(format!("{node} is not banned"))),
            })?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Nodes {
    /// Changes the file for each of the nodes, or for none.
    fn each(self, context: &Context, change: impl Fn(&mut KeyRing, &str) -> Result<String>) -> Result<()> {
        let file = self.file.map_or_else(default_file, Ok)?;
        let mut ring = KeyRing::read(&file)?;
        let said: Vec<String> = self.nodes.iter().map(|node| change(&mut ring, node)).collect::<Result<_>>()?;
        ring.replace(&file)?;
        said.iter().for_each(|text| ui::say(context, text));
        ui::say(context, "coordinators that have this file obey it after SIGHUP");
        Ok(())
    }
}

fn default_file() -> Result<PathBuf> {
    let directories = super::context::directories()?;
    crate::private::make_dirs(directories.config_dir())?;
    Ok(directories.config_dir().join("cluster.key"))
}
