//! `orx cluster`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::ui;
use crate::error::Result;
use crate::gossip::{ClusterKey, KeyRing};

/// Make the keys by which coordinators that gossip know each other
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx cluster key /etc/orx/cluster.key
  orx cluster rotate /etc/orx/cluster.key")]
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
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn default_file() -> Result<PathBuf> {
    let directories = super::context::directories()?;
    std::fs::create_dir_all(directories.config_dir())?;
    Ok(directories.config_dir().join("cluster.key"))
}
