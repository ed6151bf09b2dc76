//! A worker in this process for what `orx run` submitted, where nobody else serves it (S33).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::context::Context;
use super::{ui, worker};
use crate::daemon::signals::{listen, next};
use crate::daemon::{self, Upkeep};
use crate::error::{Error, Kind, Result};
use crate::job::lanes::{Needs, Offer};
use crate::job::{JobSpec, WorkerId};
use crate::ops::Op;
use crate::ops::holdings::ListHoldings;
use crate::ops::lease::Only;
use crate::ops::workers::ListWorkers;
use crate::queue::Queue;
use crate::store::{CancelRequest, Worker, WorkerState};
use crate::time::Clock;
use crate::worker::tee::{Listener, tee};
use crate::worker::{Config, Stop, succession};

/// How often it is looked whether somebody else runs it.
const LOOK: Duration = Duration::from_secs(2);

/// How long the store has for an answer before this process goes by itself.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long the worker of this process has to end after an error.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// The signal that kills is the second; a third one waits for no answer of the store.
pub(super) const KILL: u32 = 2;

/// To ask for the end of what has ended meanwhile is no failure.
fn forgiving<T>(answer: Result<T>) -> Result<()> {
    match answer {
        Err(e) if e.kind() == Kind::Conflict => Ok(()),
        answer => answer.map(|_| ()),
    }
}

/// The store did not answer, and whoever waits for it does so no more.
pub(super) fn unanswered() -> Error {
    Error::unavailable("the store does not answer, and nobody knows whether the cancel is stored")
        .hint("what this process ran is ended; `orx status` tells when the store is back")
}

/// Signals that ask for the end of `orx run`.
pub(super) struct Signals {
    int: Option<Signal>,
    term: Option<Signal>,
    hup: Option<Signal>,
    /// One that came while the store was to answer, and is still to be obeyed.
    early: Option<bool>,
    /// When the last SIGTERM came.
    termed: Option<Instant>,
}

/// So soon after a SIGTERM another one is no second thought: `timeout` of GNU signals its child, and then its whole group.
const SAME: Duration = Duration::from_millis(100);

impl Signals {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            hup: listen(SignalKind::hangup())?,
            early: None,
            termed: None,
        })
    }

    /// The next signal; true for SIGHUP.
    pub(super) async fn next(&mut self) -> bool {
        if let Some(early) = self.early.take() {
            return early;
        }
        loop {
            tokio::select! {
                () = next(&mut self.int) => return false,
                () = next(&mut self.hup) => return true,
                () = next(&mut self.term) => {
                    let before = self.termed.replace(Instant::now());
                    if before.is_none_or(|before| before.elapsed() >= SAME) {
                        return false;
                    }
                }
            }
        }
    }
}

impl Signals {
    /// Waits until something is stored. A signal is obeyed once it is; a store that does not answer then has a moment more.
    pub(super) async fn outlast<T>(&mut self, storing: impl Future<Output = Result<T>>) -> Result<T> {
        let mut storing = std::pin::pin!(storing);
        let signal = tokio::select! {
            biased;
            stored = &mut storing => return stored,
            signal = self.next() => signal,
        };
        self.early = Some(signal);
        let answer = tokio::time::timeout(PATIENCE, storing).await;
        answer.unwrap_or_else(|_| {
            Err(Error::new(Kind::Unknown, "interrupted before the store answered: it may be stored or not")
                .hint("`orx list` tells when the store answers"))
        })
    }
}

/// Runs jobs in this process where nobody else does.
pub(super) struct Host {
    queue: Queue,
    config: Config,
    clock: Arc<dyn Clock>,
    /// What a worker must serve to run all of them.
    wanted: Vec<(String, Needs)>,
    own: Option<Own>,
    looked: bool,
    /// Who we are at a coordinator may not run jobs.
    barred: bool,
}

struct Own {
    id: WorkerId,
    stop: watch::Sender<Stop>,
    cancel: watch::Sender<Option<CancelRequest>>,
    worker: JoinHandle<Result<()>>,
    upkeep: Upkeep,
}

impl Host {
    /// A host for the jobs of these `specs`, and no others.
    pub(super) fn new<'a>(
        context: &Context,
        only: Only,
        slots: u32,
        specs: impl IntoIterator<Item = &'a JobSpec>,
    ) -> Result<Self> {
        let mut config = worker::config(context, String::new())?;
        config.only = Some(only);
        config.slots = slots;
        config.offer.labels = context.config.worker.labels.clone().unwrap_or_default();
        let mut wanted: Vec<(String, Needs)> = Vec::new();
        for spec in specs {
            let one = (spec.queue().to_owned(), Needs::of(spec));
            if !wanted.contains(&one) {
                wanted.push(one);
            }
        }
        let (queue, clock) = (context.queue()?.clone(), Arc::clone(&context.clock));
        Ok(Self { queue, config, clock, wanted, own: None, looked: false, barred: false })
    }

    /// Hears all that is written by what this process runs, from now on.
    pub(super) fn listen(&mut self) -> Listener {
        let (tee, listener) = tee();
        self.config.tee = Some(tee);
        listener
    }

    /// Looks from time to time whether there is a worker, and becomes it if not. Returns when it should be called again.
    pub(super) async fn look_after(&mut self, context: &Context) -> Result<()> {
        if self.looked {
            tokio::time::sleep(LOOK).await;
        }
        self.looked = true;
        if let Some(own) = &mut self.own {
            if !own.worker.is_finished() {
                return Ok(());
            }
            let ended = (&mut own.worker).await;
            if let Some(own) = self.own.take() {
                own.upkeep.end().await;
            }
            match ended.map_err(|e| Error::failed("the worker failed").source(e))? {
                Err(e) if e.kind() == Kind::Denied => {
                    self.barred = true;
                    ui::say(context, &format!("{e}; waiting for a worker that may"));
                }
                ended => ended?,
            }
        }
        if !self.barred && !self.is_served().await? {
            self.own = Some(self.start()?);
        }
        Ok(())
    }

    /// Whether this process has the labels that a job requires (S17).
    pub(super) fn carries(&self, spec: &JobSpec) -> bool {
        self.config.offer.carries(&spec.require)
    }

    /// Whether this process runs them.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Has a cancel stored, and where that takes long the worker of this process end its jobs by itself; none: it is not to.
    pub(super) fn cancel<O: Op>(&self, op: O, how: Option<CancelRequest>) -> impl Future<Output = Result<()>> + use<O> {
        let own = self.own.as_ref().map(|own| own.cancel.clone()).zip(how);
        let queue = self.queue.clone();
        async move {
            let mut stored = std::pin::pin!(queue.call(op));
            if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut stored).await {
                return forgiving(answer);
            }
            let Some((own, how)) = own else { return forgiving(stored.await) };
            let _ = own.send(Some(how)); // it may have ended
            match stored.await {
                // What its jobs come to is stored when the store is back.
                Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => Ok(()),
                answer => forgiving(answer),
            }
        }
    }

    /// Whether another worker than that of this process holds a job, though this one has a worker for it.
    pub(super) async fn is_held_elsewhere(&self) -> Result<bool> {
        let Some(own) = &self.own else { return Ok(false) };
        let op = ListHoldings { worker: own.id, offer: self.config.offer.clone(), only: self.config.only };
        Ok(!self.queue.call(op).await?.is_empty())
    }

    async fn is_served(&self) -> Result<bool> {
        let workers = self.queue.call(ListWorkers {}).await?;
        let is_meant = |worker: &Worker| {
            let offer = offer(worker.clone());
            self.wanted.iter().any(|(queue, needs)| offer.serves(queue, needs))
        };
        let mut live: Vec<Offer> = Vec::new();
        for worker in workers.into_iter().filter(|w| !w.solo && w.state == WorkerState::Active && is_meant(w)) {
            // One of this machine may be known to be dead though its heartbeat has not run out yet.
            let here = worker.host == self.config.host;
            if here && succession::succeed(&self.queue, &self.config, worker.id, &worker.name).await?.is_some() {
                continue;
            }
            live.push(offer(worker));
        }
        Ok(self.wanted.iter().all(|(queue, needs)| live.iter().any(|offer| offer.serves(queue, needs))))
    }

    fn start(&self) -> Result<Own> {
        let claimed = daemon::claim_name(&self.queue, None)?;
        let (key, predecessors) = (claimed.key.clone(), claimed.predecessors());
        let id = key.id;
        let config = Config { key, name: claimed.name.clone(), owns_name: true, predecessors, ..self.config.clone() };
        let (stop, stopped) = watch::channel(Stop::Run);
        let (cancel, cancelled) = watch::channel(None);
        let config = Config { cancel: Some(cancelled), ..config };
        let (queue, clock) = (self.queue.clone(), self.clock.clone());
        let name = config.name.clone();
        let worker = tokio::spawn(async move {
            let result = crate::worker::run(queue, config, clock, stopped).await;
            drop(claimed.lock);
            result
        });
        let upkeep = Upkeep::start(self.queue.clone(), name, LOOK); // not for a job that is over at once
        Ok(Own { id, stop, cancel, worker, upkeep })
    }

    /// Ends the worker: it has nothing left to run, or is not waited for long after an error.
    pub(super) async fn stop(&mut self, failed: bool) {
        let Some(own) = self.own.take() else { return };
        let _ = own.stop.send(Stop::Interrupt); // it may have ended
        let ended = async {
            let _ = own.worker.await;
            own.upkeep.end().await;
        };
        match failed {
            true => drop(tokio::time::timeout(STOP_LIMIT, ended).await), // what it could not store counts as lost
            false => ended.await,
        }
    }
}

fn offer(worker: Worker) -> Offer {
    Offer {
        queues: worker.queues,
        labels: worker.labels,
        handlers: worker.handlers,
        no_services: false,
        tenant: worker.tenant,
    }
}
