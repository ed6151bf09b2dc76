//! Workers and coordinators as processes: their names, the upkeep of the store, signals, systemd.

mod aid;
mod choice;
mod coordinator;
mod homes;
mod neighbours;
mod offering;
mod opening;
mod peer_figures;
mod peers;
mod retention;
mod sharing;
pub mod signals;
mod systemd;
mod ticker;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use sha2::{Digest as _, Sha256};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

pub use self::coordinator::{Coordinator, run_coordinator};
pub use self::opening::open;
pub use self::peers::{Gossip, Share};
pub use self::signals::{CoordinatorSignals, WorkerSignals};
use self::systemd::{Figures, notify};

use crate::error::{Error, Result};
use crate::hex::hex;
use crate::job::WorkerKey;
use crate::queue::Queue;
use crate::store::{Ownership, Topics};
use crate::time::{Clock, Span};
use crate::worker::{self, Config, Slots, Stop, affordable_slots};

/// How long the upkeep may take to end: one round that has begun, and letting go.
const UPKEEP_LIMIT: Duration = Duration::from_secs(5);
/// How long another worker may have a name only to settle what its dead owner left (S8).
const SETTLING: Duration = Duration::from_secs(1);
/// How many names are tried: HOST, HOST-2, …
const MAX_NAMES: u32 = 1000;

/// A worker's name, and the lock that keeps others on this machine from it.
pub struct Name {
    /// The name.
    pub name: String,
    /// Who has it: the id of this life of it, and its secret.
    pub key: WorkerKey,
    /// Held as long as the worker lives.
    pub lock: Ownership,
}

impl Name {
    /// The workers of this name that died.
    pub fn predecessors(&self) -> Vec<WorkerKey> {
        self.lock.predecessors.clone()
    }
}

/// Claims `wanted`, or else the first free of HOST, HOST-2, … on this machine (S8).
///
/// # Errors
/// `Conflict` when a live worker of this machine has the name.
pub fn claim_name(queue: &Queue, wanted: Option<&str>) -> Result<Name> {
    claim(queue, "worker", wanted)
}

/// Claims a name for a process of `kind`.
///
/// # Errors
/// `Conflict` when a live process of this kind on this machine has the name.
pub fn claim(queue: &Queue, kind: &str, wanted: Option<&str>) -> Result<Name> {
    let key = worker::new_key()?;
    let own = |name: &str| queue.own(&format!("{kind}s/{name}"), &key);
    if let Some(name) = wanted {
        let started = Instant::now();
        loop {
            match own(name)? {
                Some(lock) => return Ok(Name { name: name.into(), key, lock }),
                None if started.elapsed() < SETTLING => std::thread::sleep(SETTLING / 50),
                None => {
                    return Err(Error::conflict(format!("a {kind} named {name} runs on this machine"))
                        .hint("choose another --name, or leave it out"));
                }
            }
        }
    }
    let host = host();
    for n in 1..=MAX_NAMES {
        let name = if n == 1 { host.clone() } else { format!("{host}-{n}") };
        if let Some(lock) = own(&name)? {
            return Ok(Name { name, key, lock });
        }
    }
    Err(Error::conflict(format!("{MAX_NAMES} {kind}s run on this machine already")))
}

/// The machine's name, made of the characters that names may have.
pub fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    if plain.is_empty() { "localhost".into() } else { plain }
}

/// The machine's load over the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// A short text that tells the store at `location` from others on the machine.
pub fn store_id(location: &str) -> String {
    hex(&Sha256::digest(location.as_bytes())[..6])
}

/// Runs a worker with the upkeep of its store until its work is done or a signal ends it. Says whether it was the former.
///
/// # Errors
/// What the worker says.
pub async fn run_worker(
    queue: Queue,
    mut config: Config,
    clock: Arc<dyn Clock>,
    signals: WorkerSignals,
) -> Result<bool> {
    config.slots = affordable_slots(config.slots);
    let WorkerSignals { stop: stopped, task: signals } = signals;
    let upkeep = Upkeep::start(queue.clone(), config.name.clone(), Duration::ZERO);
    let slots = Slots::new(config.slots);
    let (tell_registered, registered) = oneshot::channel();
    let figures = Figures::of_worker(&queue, Arc::clone(&slots), upkeep.leads(), stopped.clone());
    let watchdog = tokio::spawn(systemd::tell(async { registered.await.is_ok() }, figures));
    let (name, number, at) = (config.name.clone(), config.slots, queue.location());
    let ready = move || {
        info!(worker = %name, slots = number, store = %at, "ready");
        let _ = tell_registered.send(()); // it may have ended
    };
    let helping = aid::start(queue.clone(), &config, Arc::clone(&slots), Arc::clone(&clock), stopped.clone());
    let result = worker::run_at(slots.own(), queue, config, clock, stopped.clone(), ready).await;
    let is_done = *stopped.borrow() == Stop::Run;
    if let Some(helping) = helping {
        let _ = helping.await; // it ends with the own worker, and has a limit of its own
    }
    signals.abort();
    upkeep.end().await;
    watchdog.abort();
    notify(&[NotifyState::Stopping]);
    info!("ended");
    result.map(|()| is_done)
}

/// The upkeep beside what a process does otherwise.
pub struct Upkeep {
    stop: watch::Sender<bool>,
    leads: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Upkeep {
    /// Leads the store of `queue` under `name` whenever nobody else does, from `after` on.
    pub fn start(queue: Queue, name: String, after: Duration) -> Self {
        Self::start_with(queue, name, after, None, watch::channel(None).1)
    }

    /// As [`Upkeep::start`]; after the instants of `deaths` leases are looked at more often.
    ///
    /// Holders of leases are given the time back for which they were `away` from the store (S2).
    fn start_with(
        queue: Queue,
        name: String,
        after: Duration,
        away: Option<Span>,
        deaths: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let (lead, leads) = watch::channel(false);
        if !queue.is_remote() {
            // All that this process will want to hear of at once, so that one thread listens.
            let heard = queue.subscribe(Topics::WORK | Topics::CONTROL | Topics::SCHEDULES);
            heard.map(drop).unwrap_or_else(|e| warn!("upkeep cannot listen: {e}"));
        }
        let task = tokio::spawn(async move {
            if queue.is_remote() {
                return; // its coordinator does it
            }
            tokio::select! {
                () = tokio::time::sleep(after) => upkeep::upkeep(queue, name, away, deaths, &lead, stopped).await,
                _ = stopped.changed() => {}
            }
        });
        Self { stop, leads, task }
    }

    /// Whether this process leads.
    fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Lets go of the lead, so that another process takes it at once.
    pub async fn end(self) {
        let _ = self.stop.send(true); // it may have ended
        if tokio::time::timeout(UPKEEP_LIMIT, self.task).await.is_err() {
            warn!("the upkeep does not end");
        }
    }
}
