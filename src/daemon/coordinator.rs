//! A coordinator as a process: it keeps the clock of a store, and hands over when it ends.

use std::os::fd::FromRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use uuid::Uuid;

use super::peers::{Gossip, Gossiping, Shown};
use super::signals::{CoordinatorSignals, insist, next};
use super::systemd::{self, Figures, notify};
use super::{Upkeep, host, load};
use crate::beat::on_beat;
use crate::error::{Error, Result};
use crate::http::{App, Doors, Policy, Routes, Server, Source};
use crate::ops::nodes::{Announce, Retire};
use crate::ops::sweep::LastSign;
use crate::queue::Queue;
use crate::store::{NewNode, Topics};
use crate::time::{Clock, Span};
use crate::worker::{self, Config, Slots, Stop, affordable_slots, raise_limit};

/// How long a word of a coordinator holds.
const TTL: Span = Span::from_secs(15);
/// How often it is said again.
const BEAT: Duration = Duration::from_secs(5);
/// How long saying good-bye may take.
const RETIRE_LIMIT: Duration = Duration::from_secs(2);

/// What a coordinator is told.
pub struct Coordinator {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub doors: Doors,
    /// The names that clients may ask it under.
    pub policy: Policy,
    /// A worker beside it.
    pub worker: Option<Config>,
    /// How it gossips with peers.
    pub gossip: Option<Gossip>,
}

/// Runs a coordinator until a signal or `orx nodes drain` ends it.
///
/// # Errors
/// When it cannot listen, signals cannot be received, or the store cannot be listened to.
pub async fn run_coordinator(
    queue: Queue,
    config: Coordinator,
    clock: Arc<dyn Clock>,
    signals: CoordinatorSignals,
) -> Result<()> {
    let Queue::Local(engine) = &queue else {
        return Err(Error::usage("a coordinator needs the store itself, not another coordinator")
            .hint("name the store's place with --store"));
    };
    let Coordinator { name, doors, mut policy, worker, gossip } = config;
    let id = Uuid::now_v7();
    let CoordinatorSignals { mut term, mut int, mut hup } = signals;
    raise_limit();
    // Workers that come through this door could not renew while it was shut: since the last sign of anybody, at most.
    let away = queue.call(LastSign {}).await.unwrap_or_default().unwrap_or(Span::MAX);
    let server = Arc::new(open(doors).await?);
    let url = server.url();
    let worker = worker.map(|config| {
        let slots = Slots::new(affordable_slots(config.slots));
        (Arc::clone(&slots), Config { slots: slots.total(), ..config })
    });
    let mut gossiping = match gossip {
        Some(how) => {
            let worker = worker.as_ref().map(|(slots, config)| (config, slots));
            Some(Gossiping::start(queue.clone(), &name, &url, how, Arc::clone(&clock), worker).await?)
        }
        None => None,
    };
    if let Some(gossiping) = &gossiping {
        policy.nodes = Some(gossiping.nodes());
        policy.hosts.extend(gossiping.url().parse::<Uri>().ok().and_then(|url| url.host().map(str::to_owned)));
    }
    let (close, closed) = watch::channel(false);
    let counting = Arc::clone(&server);
    let mut sources: Vec<Source> = vec![Box::new(move |text| counting.figures(text))];
    sources.extend(gossiping.as_ref().map(Gossiping::figures));
    let app = App::new(Arc::clone(engine), Arc::clone(&clock), policy, Routes::all(), sources, closed.clone());
    let (door, router) = (Arc::clone(&server), app.router());
    let note = |error: Option<&Error>| app.note_writing(error);
    let serving = tokio::spawn(async move { door.serve(router, closed).await });
    let mut changes = queue.subscribe(Topics::CONTROL)?;
    let (stop, stopped) = watch::channel(Stop::Run);
    let (mut shown, deaths) = match &gossiping {
        Some(gossiping) => (gossiping.shown.clone(), gossiping.deaths.clone()),
        None => (watch::channel(Shown::default()).1, watch::channel(None).1),
    };
    let mut asked = announce(&queue, id, &name, &url, &mut shown, note).await?;
    let upkeep = Upkeep::start_with(queue.clone(), name.clone(), Duration::ZERO, Some(away), deaths);
    let slots = worker.as_ref().map(|(slots, _)| Arc::clone(slots));
    let figures = Figures::of_coordinator(&queue, slots, upkeep.leads(), stopped);
    let watchdog = tokio::spawn(systemd::tell(std::future::ready(true), figures));
    let (stop_worker, worker_stopped) = watch::channel(Stop::Run);
    let mut working = worker.map(|(slots, config)| {
        if let Some(gossiping) = &mut gossiping {
            gossiping.help(config.clone(), Arc::clone(&slots), Arc::clone(&clock), worker_stopped.clone());
        }
        tokio::spawn(worker::run_at(slots.own(), queue.clone(), config, clock, worker_stopped, || ()))
    });
    info!(node = %name, store = %queue.location(), %url, "ready");
    let mut worked = Ok(());
    while !asked {
        let wanted = tokio::select! {
            ended = join(&mut working) => {
                info!("the worker has ended"); // it was told to drain, or it failed: then all ends, and is started again
                worked = ended;
                worked.is_err()
            }
            _ = term.recv() => true,
            () = next(&mut int) => true,
            _ = hup.recv() => {
                systemd::reload(|| {
                    server.reload();
                    gossiping.iter().for_each(Gossiping::reload);
                });
                false
            }
            Ok(()) = shown.changed() => false,
            _ = changes.changed(Some(on_beat(tokio::time::Instant::now() + BEAT, BEAT))) => false,
        };
        if let Err(e) = queue.in_place().await
            && e.is_lasting()
        {
            warn!("{e}: this coordinator ends");
            worked = Err(e);
            break;
        }
        asked = wanted
            || announce(&queue, id, &name, &url, &mut shown, note).await.unwrap_or_else(|e| {
                queue.outage().say("cannot say that this coordinator is there", &e);
                false
            });
    }
    info!("ending");
    gossiping.iter().for_each(Gossiping::drain);
    let _ = stop.send(Stop::Drain); // for systemd's eyes only
    stop_worker.send_replace(Stop::Drain);
    while working.is_some() {
        tokio::select! {
            ended = join(&mut working) => worked = worked.and(ended),
            _ = term.recv() => insist(&stop_worker),
            () = next(&mut int) => insist(&stop_worker),
        }
    }
    if let Some(gossiping) = &mut gossiping {
        gossiping.end_helping().await;
    }
    // Last, because jobs that drain may be asked for by people and their output read.
    let _ = close.send(true); // it listens until here
    let _ = serving.await; // its own time limit ends it
    if let Some(gossiping) = gossiping {
        gossiping.end().await;
    }
    upkeep.end().await;
    if let Ok(Err(e)) = tokio::time::timeout(RETIRE_LIMIT, queue.call(Retire { id })).await {
        warn!("could not say good-bye: {e}");
    }
    watchdog.abort();
    notify(&[NotifyState::Stopping]);
    worked
}

/// Waits for the end of the worker, if there is one.
async fn join(working: &mut Option<JoinHandle<Result<()>>>) -> Result<()> {
    let Some(task) = working else { return std::future::pending().await };
    let ended = task.await;
    *working = None;
    ended.map_err(|e| Error::failed("the worker failed").source(e))?
}

/// The socket that systemd listens on for us, or else one of our own.
async fn open(doors: Doors) -> Result<Server> {
    let given = sd_notify::listen_fds().ok().and_then(|mut fds| fds.next());
    match given {
        // SAFETY: systemd passes this descriptor to us alone, and it is taken once.
        Some(fd) => Server::from_listener(unsafe { std::net::TcpListener::from_raw_fd(fd) }, doors),
        None => Server::open(doors).await,
    }
}

/// Says that the coordinator is there; true when it is asked to end. An error: it never can.
async fn announce(
    queue: &Queue,
    id: Uuid,
    name: &str,
    url: &str,
    shown: &mut watch::Receiver<Shown>,
    note: impl Fn(Option<&Error>),
) -> Result<bool> {
    let Shown { peers, homes } = shown.borrow_and_update().clone();
    let node = NewNode {
        id,
        name: name.into(),
        host: host(),
        pid: std::process::id(),
        address: Some(url.into()),
        version: env!("CARGO_PKG_VERSION").into(),
        load: load(),
        draining: false,
        peers,
        homes,
    };
    let said = queue.call(Announce { node, ttl: TTL }).await;
    note(said.as_ref().err());
    match said {
        Err(e) if !e.is_lasting() => {
            queue.outage().say("cannot say that this coordinator is there", &e);
            Ok(false)
        }
        said => said,
    }
}
