//! A coordinator as a process: it keeps the clock of a store, and hands over when it ends.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Upkeep, host, notify, systemd};
use crate::error::Result;
use crate::ops::nodes::{Announce, Retire};
use crate::queue::Queue;
use crate::store::{NewNode, Topics};
use crate::time::Span;
use crate::worker::Stop;

/// How long a word of a coordinator holds.
const TTL: Span = Span::from_secs(15);
/// How often it is said again.
const BEAT: Duration = Duration::from_secs(5);
/// How long saying good-bye may take.
const RETIRE_LIMIT: Duration = Duration::from_secs(2);

/// Runs a coordinator under `name` until a signal or `orx nodes drain` ends it.
///
/// # Errors
/// When signals cannot be received or the store cannot be listened to.
pub async fn run_coordinator(queue: Queue, name: String) -> Result<()> {
    let id = Uuid::now_v7();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut changes = queue.subscribe(Topics::CONTROL)?;
    let (stop, stopped) = watch::channel(Stop::Run);
    let watchdog = tokio::spawn(systemd(stopped));
    let mut asked = announce(&queue, id, &name).await;
    let upkeep = Upkeep::start(queue.clone(), name.clone(), Duration::ZERO);
    info!(node = %name, store = %queue.location(), "ready");
    while !asked {
        let wanted = tokio::select! {
            _ = term.recv() => true,
            _ = int.recv() => true,
            _ = changes.changed(Some(tokio::time::Instant::now() + BEAT)) => false,
        };
        asked = wanted || announce(&queue, id, &name).await;
    }
    info!("ending");
    let _ = stop.send(Stop::Drain); // for systemd's eyes only
    upkeep.end().await;
    if let Ok(Err(e)) = tokio::time::timeout(RETIRE_LIMIT, queue.call(Retire { id })).await {
        warn!("could not say good-bye: {e}");
    }
    watchdog.abort();
    notify(&[NotifyState::Stopping]);
    Ok(())
}

/// Says that the coordinator is there; true when it is asked to end.
async fn announce(queue: &Queue, id: Uuid, name: &str) -> bool {
    let node = NewNode {
        id,
        name: name.into(),
        host: host(),
        pid: std::process::id(),
        address: None,
        version: env!("CARGO_PKG_VERSION").into(),
        load: load(),
        draining: false,
    };
    let said = queue.call(Announce { node, ttl: TTL }).await;
    said.inspect_err(|e| warn!("cannot say that this coordinator is there: {e}")).unwrap_or_default()
}

/// The machine's load over the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default()
}
