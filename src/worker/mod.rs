//! Runs jobs: leases up to its free slots, spawns, captures, renews, settles. Knows only the queue.

mod attempt;
pub mod capture;
mod census;
mod cgroup;
mod clone;
pub mod exit;
mod files;
mod heard;
mod kill;
mod kin;
mod leaders;
mod live;
mod mask;
mod orphans;
pub mod program;
pub mod pump;
mod resolve;
mod results;
pub mod secrets;
mod sending;
mod shift;
mod slots;
pub mod socket;
pub mod spawn;
mod starts;
pub mod succession;
pub mod sweep;
pub mod tee;
#[cfg(test)]
mod testing;
pub mod tree;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use self::cgroup::Cgroups;
pub(crate) use self::files::{affordable_slots, raise_limit};
use self::secrets::Places;
use self::shift::Worker;
pub use self::slots::{Seat, SlotChanges, Slots};
use self::socket::{Socket, Talkers};
use self::spawn::Spawner;
use self::starts::Starts;
use self::sweep::Swept;
use self::tee::Tee;
use crate::error::{Error, Kind, Result};
use crate::job::lanes::Offer;
use crate::job::output::DEFAULT_OUTPUT_CAP;
use crate::job::schemas::Schemas;
use crate::job::{WorkerId, WorkerKey, WorkerSecret};
use crate::mutant::{Mutant, planted};
use crate::ops::Op;
use crate::ops::lease::Only;
use crate::ops::turn::{Turn, TurnReply};
use crate::queue::{Queue, Request};
use crate::store::{CancelRequest, NewWorker, Topics};
use crate::time::{Clock, Span};

/// What a worker is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The id of this life of it, and its secret.
    pub key: WorkerKey,
    /// Its name, unique on its host.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// A short text that tells this store from others on the machine.
    pub store_id: String,
    /// What it serves.
    pub offer: Offer,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// How long its leases last.
    pub ttl: Span,
    /// How long jobs may run on when it drains.
    pub drain_timeout: Span,
    /// Bytes of output kept of an attempt.
    pub max_output: u64,
    /// Commands by the name that jobs ask for.
    pub handlers: BTreeMap<String, Vec<String>>,
    /// What payloads must look like.
    pub schemas: Schemas,
    /// Where secrets are that jobs refer to.
    pub secrets: Places,
    /// End when nothing is runnable.
    pub burst: bool,
    /// With `burst`: end when nothing is left, neither, that comes to be runnable within this time.
    pub until_done: Option<Span>,
    /// End after so long without a job.
    pub idle_timeout: Option<Span>,
    /// Jobs run on when their leases cannot be renewed in time; otherwise they end before another worker gets them (S2).
    pub finish_when_lost: bool,
    /// Run this only.
    pub only: Option<Only>,
    /// How all its jobs are to be ended, once somebody in this process has asked for that; also where the store does not answer.
    pub cancel: Option<watch::Receiver<Option<CancelRequest>>>,
    /// Somebody in this process is given all that its attempts write.
    pub tee: Option<Tee>,
    /// Its cgroup is its own to divide, though nothing marks it as that.
    pub delegated: bool,
    /// It owns the lock on its name.
    pub owns_name: bool,
    /// Who owned that before and died without letting go: they may have left processes, and jobs that move at once (S8).
    pub predecessors: Vec<WorkerKey>,
}

impl Config {
    /// The lease time unless told otherwise.
    pub const DEFAULT_TTL: Span = Span::from_secs(15);
    /// The drain time unless told otherwise.
    pub const DEFAULT_DRAIN: Span = Span::from_secs(30);
    /// The output kept unless told otherwise.
    pub const DEFAULT_OUTPUT: u64 = DEFAULT_OUTPUT_CAP;

    fn introduction(&self) -> NewWorker {
        NewWorker {
            id: self.key.id,
            name: self.name.clone(),
            host: self.host.clone(),
            pid: std::process::id(),
            offer: self.offer.clone(),
            slots: self.slots,
            version: env!("CARGO_PKG_VERSION").into(),
            solo: self.only.is_some(),
        }
    }
}

/// How far a worker is asked to end; only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Go on.
    #[default]
    Run,
    /// Take no more jobs; interrupt those that run longer than the drain timeout.
    Drain,
    /// Interrupt running jobs now.
    Interrupt,
    /// Kill what does not end.
    Kill,
}

/// What all attempts of a worker share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) queue: Queue,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spawner: Spawner,
    starts: Starts,
    /// What makes the marks of attempts, so that no job can speak for another.
    pub(crate) secret: [u8; 16],
    /// Absent where none could be made; jobs run all the same.
    socket: Option<Socket>,
    talkers: Talkers,
    /// Absent where none is delegated.
    cgroups: Option<Cgroups>,
}

/// The target of the log's lines about each job.
pub const JOBS_LOG: &str = "orx::jobs";
/// What the error of an attempt begins with when its program never ran.
pub const NOT_STARTED: &str = "cannot start";
/// The longest pause between two tries to write to a store that cannot be written.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// How long a worker takes to say good-bye; one for another node, or one whose store failed it, takes less.
const GOODBYE_LIMIT: Duration = Duration::from_secs(10);
const SHORT_GOODBYE: Duration = Duration::from_secs(2);
/// How long ending the leftovers of a dead worker may take.
const SWEEP_LIMIT: Duration = Duration::from_secs(15);
/// How long ending orphans may take that no attempt has ended.
const ORPHAN_LIMIT: Duration = Duration::from_secs(2);

impl Shared {
    /// Calls an Op until the store takes it: a full disk or a lock must lose no outcome.
    async fn persist<O: Op + Clone>(&self, op: &O) -> Result<O::Reply> {
        self.call_until(op, |_, _| false).await.map(|(_, reply)| reply)
    }

    /// The same, but ends with an error that lasts: there is nothing to lose yet. A worker that ends when nothing is left
    /// to do does not wait for a server that only reads to be another one either.
    async fn begin<O: Op + Clone>(&self, op: &O) -> Result<O::Reply> {
        self.call_until(op, |e, _| e.is_lasting() || (self.config.burst && e.is_only_reads()))
            .await
            .map(|(_, reply)| reply)
    }

    /// Calls an Op until the store takes it, or `ends` with an error; it is told whether the Op may have been done.
    async fn call_until<O: Op + Clone>(
        &self,
        op: &O,
        ends: impl Fn(&Error, bool) -> bool,
    ) -> Result<(Instant, O::Reply)> {
        let mut pause = Duration::from_millis(50);
        let mut request = Request::new();
        loop {
            match self.queue.call_since(op.clone(), request).await {
                Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                    if e.kind() == Kind::Unknown {
                        request = request.again();
                    }
                    if ends(&e, request.is_again()) {
                        return Err(e);
                    }
                    self.queue.outage().say(format_args!("{} waits", O::NAME), &e);
                    tokio::time::sleep(pause.mul_f64(0.5 + chance() / 2.0)).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                result => return result,
            }
        }
    }
}

impl Shared {
    /// One turn. What it settles is never given up, nor is what it may have leased: nobody else could run that. What it
    /// did not lease is asked for once.
    ///
    /// What takes too long is tried again without the jobs that somebody has locked: they hold up no others.
    ///
    /// Gives also an instant before which nothing of it was done: the leases that it brings are younger.
    async fn turn(&self, op: &mut Turn) -> Result<(Instant, TurnReply)> {
        let only_leases = op.reports.is_empty();
        loop {
            let may_end = only_leases || !op.pass_over;
            match self.call_until(op, |_, unknown| may_end && !unknown).await {
                // Not registered any more, so it gets nothing; what it reports is looked at all the same.
                Err(e) if e.kind() == Kind::Conflict && op.lease.is_some() => {
                    warn!("cannot lease: {e}");
                    if only_leases {
                        return Ok((Instant::now(), TurnReply { settled: Vec::new(), leased: None }));
                    }
                    op.lease = None;
                }
                Err(e) if e.kind() == Kind::Unavailable && !only_leases => {
                    self.queue.outage().say(format_args!("{} waits", Turn::NAME), &e);
                    op.pass_over = true;
                }
                turned => return turned,
            }
        }
    }
}

/// The key of a new worker.
///
/// # Errors
/// When the kernel gives no chance.
pub fn new_key() -> Result<WorkerKey> {
    let mut chance = [0; 32];
    rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    Ok(WorkerKey { id: WorkerId(uuid::Uuid::now_v7()), secret: WorkerSecret::new(chance) })
}

/// Chance in 0..1.
pub(crate) fn chance() -> f64 {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}

/// Runs jobs until `stop` rises or its work is done.
///
/// # Errors
/// When it cannot register, or the queue answers with something that waiting does not mend.
pub async fn run(queue: Queue, config: Config, clock: Arc<dyn Clock>, stop: watch::Receiver<Stop>) -> Result<()> {
    let slots = Slots::new(affordable_slots(config.slots));
    let config = Config { slots: slots.total(), ..config };
    run_at(slots.own(), queue, config, clock, stop, || ()).await
}

/// As [`run`], with a place at slots that other workers of this process share; says when it is registered.
///
/// # Errors
/// As [`run`].
pub async fn run_at(
    seat: Seat,
    queue: Queue,
    config: Config,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<Stop>,
    registered: impl FnOnce() + Send,
) -> Result<()> {
    tree::become_subreaper()?;
    let (cgroups, doubt) = sweep_predecessor(&config).await?;
    // What others run is what this one may wait for.
    let ends = if config.until_done.is_some() { Topics::JOBS } else { Topics::NONE };
    let changes = queue.subscribe(Topics::WORK | Topics::CONTROL | ends)?;
    let talkers = Talkers::default();
    let socket = Socket::open(queue.clone(), talkers.clone(), &config)
        .inspect_err(|e| warn!("jobs cannot talk to this worker: {e}"))
        .ok();
    let (spawner, secret) = (Spawner::of_process()?, uuid::Uuid::new_v4().into_bytes());
    let starts = Starts::new(config.slots);
    let shared = Arc::new(Shared { queue, clock, spawner, starts, config, secret, socket, talkers, cgroups });
    let mut worker = Worker::new(shared, seat, stop.clone());
    let is_there = tokio::select! {
        there = worker.register(doubt) => there.map(|()| true)?,
        _ = stop.wait_for(|stop| *stop >= Stop::Drain) => false,
    };
    if !is_there {
        info!("stopped before it could register");
        // It may have done so just now. It has no jobs: what the store says is of no use to anybody.
        let _ = tokio::time::timeout(SHORT_GOODBYE, worker.say_goodbye()).await;
        return Ok(());
    }
    registered();
    let reaper = tokio::spawn(exit::keep_reaping());
    let result = worker.work(changes).await;
    if result.is_err() {
        worker.end_all().await; // this process may go on with other things
    }
    reaper.abort();
    end_orphans().await;
    // All is settled that can be: what is left is to be polite, and a store that is away forgets the worker by itself.
    let limit = if worker.is_guest() || result.is_err() { SHORT_GOODBYE } else { GOODBYE_LIMIT };
    let left = tokio::time::timeout(limit, worker.say_goodbye()).await.unwrap_or(Ok(()));
    result.and(left)
}

/// Ends what jobs left to this process, where none runs any more.
async fn end_orphans() {
    if !exit::has_adopted() {
        return;
    }
    let kill = || orphans::kill_left(std::time::Instant::now() + ORPHAN_LIMIT);
    if let Ok(processes @ 1..) = tokio::task::spawn_blocking(kill).await {
        warn!(processes, "ended what jobs left behind");
    }
}

/// Ends what a dead worker of this name left running, and takes the cgroup that is delegated to this one.
///
/// Gives also how young a process is that may be left, see [`Swept::doubt`].
async fn sweep_predecessor(config: &Config) -> Result<(Option<Cgroups>, Option<Span>)> {
    let config = config.clone();
    let sweep = move || {
        let limit = std::time::Instant::now() + SWEEP_LIMIT;
        // First, as it is certain; then those who had no cgroup, or left it.
        let cgroups = Cgroups::take(&config, limit);
        if planted(Mutant::NoSweep) {
            return (cgroups, None);
        }
        // Without a death it would be a walk through /proc for nothing.
        let swept = match config.predecessors.is_empty() {
            true => Swept::default(),
            false => sweep::sweep(program::predecessors_markers(&config), limit),
        };
        if swept.found > 0 {
            info!(processes = swept.found, "ended what a dead worker of this name left behind");
        }
        (cgroups, swept.doubt)
    };
    tokio::task::spawn_blocking(sweep).await.map_err(|e| Error::failed("a sweep failed").source(e))
}
