//! `orx worker`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::context::{Context, env};
use super::job_options::at_least_a_second;
use super::log::{self, LogFormat};
use super::ui;
use super::view::words::relative;
use crate::daemon::{self, WorkerSignals};
use crate::error::{Error, Result};
use crate::job::lanes::Offer;
use crate::job::names;
use crate::ops::outstanding::{Backlog, Outstanding};
use crate::queue::Queue;
use crate::store::Ownership;
use crate::time::Span;
use crate::worker::Config;
use crate::worker::secrets::Places;

/// The longest name of a worker or a coordinator, in bytes.
const MAX_NAME: usize = 64;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx worker --slots 4
  orx worker --queues build,test --labels arch=arm64
  orx worker --burst                      run what there is, then end
  orx worker --until-done                 and what is due in the next hour, retries too
  systemctl enable --now orx-worker@4     see contrib/systemd")]
pub(super) struct Worker {
    /// Jobs at once [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    slots: Option<u32>,

    /// Serve these queues only [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',', add = super::select::queue_candidates())]
    queues: Vec<String>,

    /// What jobs may --require of this worker
    #[arg(long, value_name = "K=V", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,

    /// End when nothing is runnable
    #[arg(long)]
    burst: bool,

    /// End when nothing is left that comes to run: also wait for what is due within D [1h], runs elsewhere, or waits for
    /// such jobs; 1 if anything is left then
    #[arg(long, value_name = "D", num_args = 0..=1, require_equals = true, default_missing_value = "1h", conflicts_with = "burst")]
    until_done: Option<Span>,

    /// End after this long without a job
    #[arg(long, value_name = "DURATION")]
    idle_timeout: Option<Span>,

    /// How long jobs may run on when it drains [default: 30s]
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<Span>,

    /// Its name, unique on this machine [default: the machine's name]
    #[arg(long)]
    name: Option<String>,

    /// How long it may be silent before its jobs move [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = at_least_a_second)]
    lease: Option<Span>,

    /// A directory with a file for each secret that jobs refer to as secret://NAME; only its owner may read them
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,

    /// What its jobs do when their leases run out because the server is away [default: stop]
    #[arg(long, value_name = "WHAT")]
    on_server_lost: Option<OnServerLost>,

    /// Divide its cgroup between its jobs though nothing marks it as delegated: in a unit of a user, with Delegate=yes
    #[arg(long)]
    delegated: bool,

    /// Run the jobs of a store that belongs to another user, or that others may write to
    #[arg(long)]
    pub(super) allow_foreign_store: bool,

    /// How to log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// What jobs do when the lease runs out because the server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnServerLost {
    /// Run on, and count when it is back unless another worker got the job meanwhile
    Finish,
    /// End before another worker may get the job
    #[value(alias = "kill")]
    #[serde(alias = "kill")]
    Stop,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("use KEY=VALUE".into()),
    }
}

impl Worker {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let _log = log::start(context, self.log_format);
        let mut signals = WorkerSignals::listen();
        let Some(queue) = context.queue_in_time(self.burst || self.until_done.is_some(), signals.end()).await? else {
            return Ok(ExitCode::SUCCESS);
        };
        let file = &context.config.worker;
        let wanted = self.name.as_ref().or(file.name.as_ref());
        if let Some(name) = wanted {
            check_name(name, "worker")?;
        }
        let name = daemon::claim_name(&queue, wanted.map(String::as_str))?;
        let mut config = config(context, name.name.clone())?;
        let labels: BTreeMap<_, _> = self.labels.into_iter().collect();
        config.offer = Offer {
            queues: if self.queues.is_empty() { file.queues.clone().unwrap_or_default() } else { self.queues },
            labels: if labels.is_empty() { file.labels.clone().unwrap_or_default() } else { labels },
            handlers: config.handlers.keys().cloned().collect(),
            no_services: self.burst || self.until_done.is_some(),
            tenant: None,
        };
        config.offer.check()?;
        config.slots = self.slots.or(file.slots).unwrap_or_else(cores).max(1);
        config.ttl = self.lease.or(file.lease).unwrap_or(Config::DEFAULT_TTL).max(Span::from_secs(1));
        config.drain_timeout = self.drain_timeout.or(file.drain_timeout).unwrap_or(Config::DEFAULT_DRAIN);
        if let Some(what) = self.on_server_lost.or(file.on_server_lost) {
            config.finish_when_lost = what == OnServerLost::Finish;
        }
        if let Some(dir) = self.secrets {
            config.secrets.dir = Some(dir);
        }
        config.burst = self.burst || self.until_done.is_some();
        config.until_done = self.until_done;
        config.delegated = self.delegated;
        config.idle_timeout = self.idle_timeout;
        (config.key, config.owns_name, config.predecessors) = (name.key.clone(), true, name.predecessors());
        let (ends, until_done) = (config.burst, config.until_done);
        let op = Outstanding { offer: config.offer.clone(), within: until_done.unwrap_or(Span::ZERO) };
        let is_done = daemon::run_worker(queue.clone(), config, context.clock.clone(), signals).await?;
        drop(name.lock);
        match (ends && is_done, until_done) {
            (false, _) => {}
            (true, Some(_)) => {
                if let Some(left) = left(&queue.call(op).await?, context) {
                    return Err(Error::failed(format!("not all is done: {left}"))
                        .hint("`orx list` shows what, `orx why JOB` why"));
                }
            }
            // It has done what it was to do: that nobody can be asked is no failure.
            (true, None) => {
                if let Some(left) = queue.call(op).await.ok().and_then(|backlog| left(&backlog, context)) {
                    ui::say(context, &format!("left: {left}; 'orx worker --until-done' stays for what comes"));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a worker that ends by itself leaves, and when it comes.
fn left(backlog: &Backlog, context: &Context) -> Option<String> {
    let due = backlog.next_due.map(|at| format!(" (the first {}, at {at})", relative(at, context.clock.now())));
    let parts = [
        (backlog.pending, "pending".to_owned()),
        (backlog.running, "running elsewhere".to_owned()),
        (backlog.scheduled, format!("due later{}", due.unwrap_or_default())),
        (backlog.blocked, "waiting for other jobs".to_owned()),
        (backlog.paused, format!("in paused queues ({})", backlog.paused_queues.join(", "))),
    ];
    let mut words: Vec<String> =
        parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    match backlog.services {
        0 => {}
        1 => words.push("1 service".into()),
        n => words.push(format!("{n} services")),
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// A worker of this machine with one slot and the handlers of the configuration file.
pub(super) fn config(context: &Context, name: String) -> Result<Config> {
    let handlers = context.config.handlers.iter();
    let handlers: BTreeMap<_, _> = handlers.map(|(name, h)| (name.clone(), h.command.clone())).collect();
    let location = context.queue()?.location();
    Ok(Config {
        key: crate::worker::new_key()?,
        name,
        host: daemon::host(),
        store_id: daemon::store_id(&location),
        offer: Offer { handlers: handlers.keys().cloned().collect(), ..Offer::default() },
        slots: 1,
        ttl: Config::DEFAULT_TTL,
        drain_timeout: Config::DEFAULT_DRAIN,
        max_output: context.config.worker.max_output.unwrap_or(Config::DEFAULT_OUTPUT),
        handlers,
        schemas: context.config.schemas()?,
        secrets: Places {
            dir: context.config.worker.secrets.clone(),
            credentials: env("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        },
        burst: false,
        until_done: None,
        idle_timeout: None,
        finish_when_lost: false,
        only: None,
        cancel: None,
        tee: None,
        delegated: false,
        owns_name: false,
        predecessors: Vec::new(),
    })
}

/// A worker beside something else in this process, as the configuration file says, and the lock on its name.
pub(super) fn beside(context: &Context, queue: &Queue, slots: u32) -> Result<(Config, Ownership)> {
    let name = daemon::claim_name(queue, None)?;
    let predecessors = name.predecessors();
    let mut config = config(context, name.name)?;
    (config.key, config.owns_name, config.predecessors) = (name.key, true, predecessors);
    let file = &context.config.worker;
    config.offer.queues = file.queues.clone().unwrap_or_default();
    config.offer.labels = file.labels.clone().unwrap_or_default();
    config.offer.check()?;
    config.ttl = file.lease.unwrap_or(Config::DEFAULT_TTL).max(Span::from_secs(1));
    config.drain_timeout = file.drain_timeout.unwrap_or(Config::DEFAULT_DRAIN);
    config.slots = slots;
    Ok((config, name.lock))
}

pub(super) fn check_name(name: &str, what: &str) -> Result<()> {
    names::process(what, name, MAX_NAME)
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}
