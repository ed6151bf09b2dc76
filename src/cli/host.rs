//! A worker in this process for what `orx run` submitted, where nobody else serves it (S33).

use std::sync::Arc;
use std::time::Duration;

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
use crate::ops::lease::Only;
use crate::ops::workers::ListWorkers;
use crate::queue::Queue;
use crate::store::{Worker, WorkerState};
use crate::time::Clock;
use crate::worker::{Config, Stop};

/// How often it is looked whether somebody else runs it.
const LOOK: Duration = Duration::from_secs(2);

/// Signals that ask for the end of `orx run`.
pub(super) struct Signals {
    int: Option<Signal>,
    term: Option<Signal>,
    hup: Option<Signal>,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            hup: listen(SignalKind::hangup())?,
        })
    }

    /// The next signal; true for SIGHUP.
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            () = next(&mut self.int) => false,
            () = next(&mut self.term) => false,
            () = next(&mut self.hup) => true,
        }
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
    stop: watch::Sender<Stop>,
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
        let mut wanted: Vec<(String, Needs)> = Vec::new();
        for spec in specs {
            // It is this machine that was meant.
            config.offer.labels.extend(spec.require.clone());
            let one = (spec.queue().to_owned(), Needs::of(spec));
            if !wanted.contains(&one) {
                wanted.push(one);
            }
        }
        let (queue, clock) = (context.queue()?.clone(), Arc::clone(&context.clock));
        Ok(Self { queue, config, clock, wanted, own: None, looked: false, barred: false })
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

    /// Whether this process runs them.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    async fn is_served(&self) -> Result<bool> {
        let workers = self.queue.call(ListWorkers {}).await?;
        let live: Vec<Offer> =
            workers.into_iter().filter(|w| !w.solo && w.state == WorkerState::Active).map(offer).collect();
        Ok(self.wanted.iter().all(|(queue, needs)| live.iter().any(|offer| offer.serves(queue, needs))))
    }

    fn start(&self) -> Result<Own> {
        let claimed = daemon::claim_name(&self.queue, None)?;
        let (id, predecessors) = (WorkerId(claimed.id), claimed.predecessors());
        let config = Config { id, name: claimed.name.clone(), owns_name: true, predecessors, ..self.config.clone() };
        let (stop, stopped) = watch::channel(Stop::Run);
        let (queue, clock) = (self.queue.clone(), self.clock.clone());
        let name = config.name.clone();
        let worker = tokio::spawn(async move {
            let result = crate::worker::run(queue, config, clock, stopped).await;
            drop(claimed.lock);
            result
        });
        let upkeep = Upkeep::start(self.queue.clone(), name, LOOK); // not for a job that is over at once
        Ok(Own { stop, worker, upkeep })
    }

    /// Ends the worker: it has nothing left to run.
    pub(super) async fn stop(&mut self) {
        if let Some(own) = self.own.take() {
            let _ = own.stop.send(Stop::Interrupt); // it may have ended
            let _ = own.worker.await;
            own.upkeep.end().await;
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
