//! A worker as a process: its name, the upkeep of the store, signals, systemd.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::error::{Error, Kind, Result};
use crate::ops::lead::Lead;
use crate::ops::status::Status;
use crate::ops::sweep::{Sweep, SweepDue, Swept};
use crate::queue::Queue;
use crate::store::Ownership;
use crate::time::{Clock, Span};
use crate::worker::{self, Config, Stop, chance};

/// How often the leader looks whether there is something to do.
const LOOK: Duration = Duration::from_secs(1);
/// After how many looks the leader says that it lives, though there was nothing to do.
const SAY: u32 = 5;
/// A leader that has been silent for so long may be replaced though it holds the lock: it is stopped (S30).
const SILENT: Span = Span::from_secs(15);
/// How many names are tried: HOST, HOST-2, …
const MAX_NAMES: u32 = 1000;

/// A worker's name, and the lock that keeps others on this machine from it.
pub struct Name {
    /// The name.
    pub name: String,
    /// Held as long as the worker lives.
    pub lock: Ownership,
}

/// Claims `wanted`, or else the first free of HOST, HOST-2, … on this machine (S8).
///
/// # Errors
/// `Conflict` when a live worker of this machine has the name.
pub fn claim_name(queue: &Queue, wanted: Option<&str>) -> Result<Name> {
    let own = |name: &str| queue.own(&format!("workers/{name}"));
    if let Some(name) = wanted {
        return match own(name)? {
            Some(lock) => Ok(Name { name: name.into(), lock }),
            None => Err(Error::conflict(format!("a worker named {name} runs on this machine"))
                .hint("choose another --name, or leave it out")),
        };
    }
    let host = host();
    for n in 1..=MAX_NAMES {
        let name = if n == 1 { host.clone() } else { format!("{host}-{n}") };
        if let Some(lock) = own(&name)? {
            return Ok(Name { name, lock });
        }
    }
    Err(Error::conflict(format!("{MAX_NAMES} workers run on this machine already")))
}

/// The machine's name, made of the characters that names may have.
pub fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    if plain.is_empty() { "localhost".into() } else { plain }
}

/// A short text that tells the store at `location` from others on the machine.
pub fn store_id(location: &str) -> String {
    Sha256::digest(location.as_bytes())[..6].iter().map(|b| format!("{b:02x}")).collect()
}

/// Runs a worker with the upkeep of its store until its work is done or a signal ends it.
///
/// # Errors
/// What the worker says.
pub async fn run_worker(queue: Queue, config: Config, clock: Arc<dyn Clock>) -> Result<()> {
    let (stop, stopped) = watch::channel(Stop::Run);
    let signals = tokio::spawn(obey_signals(stop));
    let upkeep = tokio::spawn(upkeep(queue.clone(), config.name.clone()));
    let watchdog = tokio::spawn(systemd(stopped.clone()));
    info!(worker = %config.name, slots = config.slots, store = %queue.location(), "ready");
    let result = worker::run(queue, config, clock, stopped).await;
    signals.abort();
    upkeep.abort();
    watchdog.abort();
    notify(&[NotifyState::Stopping]);
    info!("ended");
    result
}

/// First SIGTERM or SIGINT: drain. Second: interrupt what runs.
async fn obey_signals(stop: watch::Sender<Stop>) -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        stop.send_modify(|stop| {
            *stop = match *stop {
                Stop::Run => Stop::Drain,
                Stop::Drain | Stop::Interrupt => Stop::Interrupt,
            };
        });
    }
}

/// Tells systemd that we are ready, alive, and later that we are stopping; nothing where there is none.
async fn systemd(mut stop: watch::Receiver<Stop>) {
    notify(&[NotifyState::Ready]);
    let beat = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let mut stopping = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(beat.unwrap_or(Duration::MAX)), if beat.is_some() => {
                notify(&[NotifyState::Watchdog]);
            }
            changed = stop.changed(), if !stopping => {
                if changed.is_err() || *stop.borrow() >= Stop::Drain {
                    stopping = true;
                    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
                }
            }
            else => return,
        }
    }
}

fn notify(state: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(state) {
        warn!("systemd cannot be told: {e}");
    }
}

/// Does the upkeep whenever this process leads, and takes over when nobody does (S30).
pub async fn upkeep(queue: Queue, name: String) {
    let mut gap = false;
    loop {
        match lead(&queue, &name, gap).await {
            Ok(()) => gap = false,
            Err(e) if e.kind() == Kind::Unavailable => {
                gap = true;
                warn!("upkeep waits: {e}");
            }
            Err(e) => warn!("upkeep failed: {e}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Leads for as long as it may; returns at once when another process does.
///
/// After a `gap` in which the store could not be written, leases are given their time anew.
async fn lead(queue: &Queue, name: &str, mut gap: bool) -> Result<()> {
    let lock = queue.own("leader")?;
    if lock.is_none() && !leader_is_silent(queue).await? {
        return Ok(());
    }
    let epoch = queue.call(Lead { name: name.into() }).await?;
    info!(epoch, "leading: this process does the upkeep");
    let mut looks = 0;
    loop {
        looks += 1;
        match sweep(queue, epoch, looks % SAY == 0, gap).await {
            Ok(Some(Swept::Deposed)) => {
                warn!("another process leads now");
                return Ok(());
            }
            Ok(Some(Swept::Done { more: true, .. })) => {
                gap = false;
                looks = SAY - 1; // the next round at once
                continue;
            }
            Ok(Some(_)) => gap = false,
            Ok(None) => {}
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                gap = true;
                warn!("upkeep waits: {e}");
            }
            Err(e) => return Err(e),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One round, where something is to be done or it is time to say that the leader lives.
async fn sweep(queue: &Queue, epoch: i64, say: bool, gap: bool) -> Result<Option<Swept>> {
    if !say && !gap && !queue.call(SweepDue {}).await? {
        return Ok(None);
    }
    let swept = queue.call(Sweep { epoch, gap, jitter: chance() }).await?;
    if let Swept::Done { reaped, .. } = &swept
        && !reaped.is_empty()
    {
        info!(jobs = ?reaped, "took back jobs whose leases had expired");
    }
    Ok(Some(swept))
}

async fn leader_is_silent(queue: &Queue) -> Result<bool> {
    let leader = queue.call(Status {}).await?.leader;
    Ok(leader.is_some_and(|l| l.age.is_none_or(|age| age > SILENT)))
}
