//! `orx run`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::context::Context;
use super::enqueue::store;
use super::job_options::{JobOptions, StartOptions, submission};
use super::{exit, tail, ui, worker};
use crate::daemon::{self, Upkeep};
use crate::error::{Error, Result};
use crate::job::lanes::Needs;
use crate::job::{JobSpec, Number, State};
use crate::ops::cancel::Cancel;
use crate::ops::jobs::GetJobs;
use crate::ops::lease::Only;
use crate::ops::workers::ListWorkers;
use crate::queue::Queue;
use crate::store::{CancelRequest, Worker, WorkerState};
use crate::time::Span;
use crate::worker::{Config, Stop};

/// The exit code of orx's own errors: the small numbers are the job's.
pub(super) const OWN_ERROR: u8 = 125;
/// Ended by SIGHUP, as a shell says it: the job lives on.
const DETACHED: u8 = 128 + 1;
/// How often it is looked whether somebody else runs the job.
const LOOK: Duration = Duration::from_secs(2);

/// Run a job now: store it, print its output, exit with its code
///
/// Where no live worker serves the queue, the job runs in this process, with all its retries.
/// Interrupt once to cancel it, twice to kill it.
#[derive(Args)]
#[command(
    override_usage = "orx run [OPTIONS] -- CMD [ARG]...",
    after_help = "\
Examples:
  orx run -- make test
  orx run --timeout 5m --max-attempts 3 --backoff 5s -- ./flaky.sh
  orx run --name deploy -- ./deploy.sh      refused while another 'deploy' is unfinished

Exit code: the job's own; 124 timed out; 125 orx failed, or the job expired or was skipped;
126 cannot be executed; 127 not found; 128+N ended by signal N; 130 cancelled."
)]
pub(super) struct Run {
    #[command(flatten)]
    options: JobOptions,

    #[command(flatten)]
    start: StartOptions,

    /// The program and its arguments, after --
    #[arg(value_name = "CMD", trailing_var_arg = true, help_heading = "Arguments")]
    command: Vec<String>,
}

impl Run {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let captured = self.options.captured()?;
        let at = self.start.instant(context)?;
        let spec = JobSpec { at, ..self.options.spec(self.command)? };
        spec.check()?;
        let mut signals = Signals::new()?;
        let job = store(context, submission(context, spec.clone(), captured)).await?;
        let mut host = Host::new(context, job.number, &spec)?;
        let mut followed = std::pin::pin!(tail::follow(context, job.number));
        let mut asked = 0;
        let ended = loop {
            tokio::select! {
                ended = &mut followed => break ended,
                result = host.look_after() => result?,
                hung_up = signals.next() => {
                    if hung_up && host.runs_elsewhere().await? {
                        ui::say(context, &format!("job {} goes on", job.number));
                        return Ok(ExitCode::from(DETACHED));
                    }
                    asked += 1;
                    cancel(context, job.number, asked).await?;
                }
            }
        };
        host.stop().await;
        let ended = ended?;
        let code = exit::exit_code(&ended);
        if let Some(why) = exit::explain(&ended) {
            ui::say(context, &why);
        }
        Ok(ExitCode::from(code))
    }
}

/// The first time: the job's own grace. Then: SIGKILL.
async fn cancel(context: &Context, number: Number, asked: u32) -> Result<()> {
    let how = match asked {
        1 => CancelRequest::default(),
        _ => CancelRequest { signal: Some(libc::SIGKILL), grace: Some(Span::ZERO) },
    };
    ui::say(context, if asked == 1 { "cancelling; again to kill" } else { "killing" });
    let op = Cancel { numbers: vec![number], reason: Some("interrupted".into()), how };
    context.queue()?.call(op).await.map(|_| ())
}

struct Signals {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal; true for SIGHUP.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.int.recv() => false,
            _ = self.term.recv() => false,
            _ = self.hup.recv() => true,
        }
    }
}

/// Runs the job in this process where nobody else does (S33).
struct Host {
    queue: Queue,
    config: Config,
    clock: std::sync::Arc<dyn crate::time::Clock>,
    number: Number,
    queue_name: String,
    needs: Needs,
    own: Option<Own>,
    looked: bool,
}

struct Own {
    stop: watch::Sender<Stop>,
    worker: JoinHandle<Result<()>>,
    upkeep: Upkeep,
}

impl Host {
    fn new(context: &Context, number: Number, spec: &JobSpec) -> Result<Self> {
        let queue = context.queue()?.clone();
        let mut config = worker::config(context, String::new())?;
        config.only = Some(Only::Job(number));
        config.offer.labels.clone_from(&spec.require); // it is this machine that was meant
        Ok(Self {
            queue,
            config,
            clock: context.clock.clone(),
            number,
            queue_name: spec.queue().into(),
            needs: Needs::of(spec),
            own: None,
            looked: false,
        })
    }

    /// Looks from time to time whether the job has a worker, and becomes it if not. Returns when it should be called again.
    async fn look_after(&mut self) -> Result<()> {
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
            ended.map_err(|e| Error::failed("the worker failed").source(e))??;
        }
        if !self.is_served().await? {
            self.own = Some(self.start()?);
        }
        Ok(())
    }

    async fn is_served(&self) -> Result<bool> {
        let workers = self.queue.call(ListWorkers {}).await?;
        Ok(workers.iter().any(|w| !w.solo && w.state == WorkerState::Active && self.serves(w)))
    }

    fn serves(&self, worker: &Worker) -> bool {
        let offer = crate::job::lanes::Offer {
            queues: worker.queues.clone(),
            labels: worker.labels.clone(),
            handlers: worker.handlers.clone(),
            no_services: false,
        };
        offer.serves(&self.queue_name, &self.needs)
    }

    fn start(&self) -> Result<Own> {
        let claimed = daemon::claim_name(&self.queue, None)?;
        let after_a_death = claimed.lock.after_a_death;
        let config = Config { name: claimed.name.clone(), owns_name: true, after_a_death, ..self.config.clone() };
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

    /// Whether another process runs the job.
    async fn runs_elsewhere(&self) -> Result<bool> {
        if self.own.is_some() {
            return Ok(false);
        }
        let jobs = self.queue.call(GetJobs { numbers: vec![self.number], detail: false }).await?;
        Ok(jobs.iter().any(|job| job.state == State::Running))
    }

    async fn stop(&mut self) {
        if let Some(own) = self.own.take() {
            let _ = own.stop.send(Stop::Interrupt); // it has nothing left to run
            let _ = own.worker.await;
            own.upkeep.end().await;
        }
    }
}
