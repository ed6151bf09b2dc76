//! The configuration file, and `orx config show`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::context::{self, Context};
use super::files::{self, SETTINGS};
use super::view::{Row, Text};
use super::worker::OnServerLost;
use super::{ColorChoice, OutputFormat};
use crate::error::{Error, Result};
use crate::job::schemas::Schemas;
use crate::store;
use crate::time::{Span, Timestamp};
use crate::worker;

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    pub(super) store: Option<String>,
    /// A file with the token for a coordinator.
    pub(super) token_file: Option<PathBuf>,
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
    pub(super) on_server_lost: Option<OnServerLost>,
    /// A directory with secrets.
    pub(super) secrets: Option<PathBuf>,
    /// Bytes of output kept of an attempt.
    pub(super) max_output: Option<u64>,
    /// Run jobs of a store that others can write to.
    pub(super) allow_foreign_store: Option<bool>,
}

/// `[handlers.NAME]`: a command that jobs may ask for by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Handler {
    pub(super) command: Vec<String>,
    /// A file with the JSON Schema of the payload; beside the configuration unless it is absolute.
    pub(super) schema: Option<PathBuf>,
}

impl Config {
    /// Reads the file at `path`, which must exist, or else the one of ORX_CONFIG or the default place.
    pub(super) fn load(path: Option<&Path>) -> Result<Self> {
        let named = path.map(Path::to_owned).or_else(|| context::env("ORX_CONFIG").map(PathBuf::from));
        let must_exist = named.is_some();
        let Some(path) = named.or_else(context::default_config) else {
            return Ok(Self::default());
        };
        let text = match files::text(&path, SETTINGS) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(Self::default()),
            Err(e) => return Err(Error::usage(format!("cannot read {}", path.display())).source(e)),
        };
        let config: Self = toml::from_str(&text)
            .map_err(|e| Error::usage(format!("{} is not understood", path.display())).source(e))?;
        for (name, handler) in &config.handlers {
            if handler.command.first().is_none_or(String::is_empty) {
                return Err(Error::usage(format!("{}: handler {name} has no command", path.display())));
            }
        }
        Ok(Self { path: Some(path), ..config })
    }

    /// The schemas of the handlers.
    ///
    /// # Errors
    /// `Usage` when one cannot be read.
    pub(super) fn schemas(&self) -> Result<Schemas> {
        let dir = self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
        let read = |(name, handler): (&String, &Handler)| {
            let path = dir.join(handler.schema.as_ref()?);
            let text = files::bytes(&path, SETTINGS);
            let text = text.map_err(|e| Error::usage(format!("cannot read {}", path.display())).source(e));
            let schema = text.and_then(|text| {
                serde_json::from_slice(&text)
                    .map_err(|e| Error::usage(format!("{} is not JSON", path.display())).source(e))
            });
            Some(schema.map(|schema| (name.clone(), schema)))
        };
        Schemas::new(self.handlers.iter().filter_map(read).collect::<Result<Vec<_>>>()?)
    }
}

#[derive(Args)]
#[command(after_help = "Example:\n  orx config show")]
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

/// A setting as it is in force.
#[derive(Serialize)]
struct Setting {
    name: String,
    value: Value,
    from: &'static str,
}

impl Row for Setting {
    const HEADERS: &'static [&'static str] = &["SETTING", "VALUE", "FROM"];

    fn id(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let value = match &self.value {
            Value::String(text) => text.clone(),
            Value::Null => "-".into(),
            other => other.to_string(),
        };
        vec![Text::new(&self.name), Text::new(value), Text::dim(self.from)]
    }
}

impl ConfigCommand {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        match self.command {
            ConfigSubcommand::Show => context.view()?.rows(&settings(context)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Every setting: flag beats environment beats file beats default.
fn settings(context: &Context) -> Result<Vec<Setting>> {
    let (globals, file) = (&context.globals, &context.config);
    let mut all = Vec::new();
    let mut add = |name: &str, value: Value, from| all.push(Setting { name: name.into(), value, from });
    let (store, from) = context.store_setting()?;
    add("store", json!(store::shown(&store)), from);
    add("token", json!(context.token_from().map(|_| "set")), context.token_from().unwrap_or("default"));
    add("token_file", json!(file.token_file), if file.token_file.is_some() { "file" } else { "default" });
    let from = match (&globals.config, context::env("ORX_CONFIG"), &file.path) {
        (Some(_), _, _) => "--config",
        (None, Some(_), _) => "ORX_CONFIG",
        _ => "default",
    };
    let place = file.path.clone().or_else(context::default_config);
    add("config", json!(place), from);
    let chosen = |flag: bool, option, in_file: bool| match (flag, in_file) {
        (true, _) => option,
        (_, true) => "file",
        _ => "default",
    };
    let output = globals.output.or(file.output).unwrap_or_default();
    add("output", json!(output), chosen(globals.output.is_some(), "--output", file.output.is_some()));
    add("color", json!(context.color()), chosen(globals.color.is_some(), "--color", file.color.is_some()));
    let w = &file.worker;
    let mut worker = |name: &str, value: Option<Value>, default: Value| {
        let from = if value.is_some() { "file" } else { "default" };
        add(&format!("worker.{name}"), value.unwrap_or(default), from);
    };
    worker("name", w.name.as_ref().map(|v| json!(v)), Value::Null);
    worker("slots", w.slots.map(|v| json!(v)), json!("cores"));
    worker("queues", w.queues.as_ref().map(|v| json!(v)), json!("all"));
    worker("labels", w.labels.as_ref().map(|v| json!(v)), json!({}));
    worker("lease", w.lease.map(|v| json!(v)), json!(worker::Config::DEFAULT_TTL));
    worker("drain_timeout", w.drain_timeout.map(|v| json!(v)), json!(worker::Config::DEFAULT_DRAIN));
    worker("on_server_lost", w.on_server_lost.map(|v| json!(v)), json!(OnServerLost::Stop));
    worker("max_output", w.max_output.map(|v| json!(v)), json!(worker::Config::DEFAULT_OUTPUT));
    worker("allow_foreign_store", w.allow_foreign_store.map(|v| json!(v)), json!(false));
    worker("secrets", w.secrets.as_ref().map(|v| json!(v)), Value::Null);
    for (name, handler) in &file.handlers {
        add(&format!("handlers.{name}.command"), json!(handler.command), "file");
        if let Some(schema) = &handler.schema {
            add(&format!("handlers.{name}.schema"), json!(schema), "file");
        }
    }
    Ok(all)
}
