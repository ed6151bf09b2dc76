//! The life of one attempt, on one page: start, capture, watch, stop, report.

use std::io;
use std::os::fd::AsFd as _;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::cgroup::Cgroup;
use super::exit::{self, Exit};
use super::heard::Heard;
use super::live::{Fate, Live};
use super::mask::Mask;
use super::program::{self, Files};
use super::pump::{self, pump};
use super::results::{self, Results};
use super::secrets::{Missing, Secrets};
use super::sending::Sending;
use super::socket::prefix;
use super::spawn::{Child, Program, SpawnError};
use super::sweep::{self, Swept};
use super::tree::Tree;
use super::{NOT_STARTED, SWEEP_LIMIT, Shared};
use crate::job::output::Chunk;
use crate::job::retry::SNOOZE_CODE;
use crate::job::state::{Cause, Ending};
use crate::ops::lease::Leased;
use crate::ops::settle::{Report, Started};
use crate::private;
use crate::store::CancelRequest;
use crate::time::Span;

/// How long an order waits for a program that is being started.
const SLOW_START: Duration = Duration::from_secs(1);

/// What a worker tells an attempt that runs.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Somebody asked for its end.
    Cancel(CancelRequest),
    /// The worker drains.
    Interrupt,
    /// The worker does not wait for it any more: end at once, and be run again.
    End,
    /// The lease cannot be renewed: be ended at this instant.
    Lose(Instant),
    /// The lease is lost: end at once, nothing of it counts.
    Kill,
}

/// A program that can be started, and what it needs for as long as it runs.
struct Ready {
    program: Program,
    cgroup: Option<Cgroup>,
    _files: (Option<tempfile::TempPath>, Results, Secrets),
}

/// One attempt.
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) job: Leased,
    pub(super) slot: u32,
    /// An instant before which it was not leased.
    pub(super) leased_at: Instant,
    /// Woken when the job says something.
    pub(super) alive: Arc<Notify>,
    /// Set when the process runs.
    pub(super) started: Arc<OnceLock<Started>>,
    /// Set before the process runs.
    pub(super) mask: Arc<OnceLock<Mask>>,
}

impl Attempt {
    /// Runs the job by the orders that come meanwhile, and says how it ended.
    pub(super) async fn run(self, orders: mpsc::Receiver<Order>) -> Report {
        self.run_through(orders).await.unwrap_or_else(|never_begun| *never_begun)
    }

    async fn run_through(&self, mut orders: mpsc::Receiver<Order>) -> Result<Report, Box<Report>> {
        // Before its program runs there is nothing to stop, so any order is one not to begin.
        let Ready { program, cgroup, _files } = tokio::select! {
            ready = self.prepare() => ready?,
            Some(order) = orders.recv() => return Err(self.not_begun(&order)),
        };
        let (child, early) = self.spawn(program, &mut orders).await?;
        let begun = Instant::now();
        let _ = self.started.set(Started { pid: child.pid, at: self.shared.clock.now() });
        self.shared.starts.started(self.job.fence.number);
        debug!(job = %self.job.id, pid = child.pid, "started");
        let (end, ended, output) = self.watch(child, cgroup, begun, early, orders).await;
        let after = span(ended.duration_since(self.leased_at));
        Ok(Report { after, ..self.report(end, span(ended.duration_since(begun)), output) })
    }

    /// All that the program needs.
    async fn prepare(&self) -> Result<Ready, Box<Report>> {
        self.end_lost_ones().await;
        if let Some(unread) = &self.job.unread {
            // A newer coordinator handed it out: later, a worker may come that knows it (S29).
            return Err(self.not_started(SNOOZE_CODE, unread.to_string()));
        }
        // The same payload fits no better next time.
        self.shared.config.schemas.check(&self.job.spec).map_err(|e| self.refused(format!("the {e}")))?;
        if self.job.spec.heartbeat_timeout.is_some() && self.shared.socket.is_none() {
            let why = "it must say that it lives, and this worker could make no socket for that (see its log)";
            return Err(self.not_started(125, why.into()));
        }
        let secrets = self.read_secrets().await.map_err(|missing| self.missing(missing))?;
        let payload = self.write_payload();
        let payload = payload.map_err(|e| self.missing(Missing::of("cannot write the payload", &e)))?;
        let results = results::write(&self.shared, &self.job).await;
        let results = results.map_err(|e| self.missing(results::missing(&e)))?;
        let files =
            Files { payload: payload.as_ref().map(tempfile::TempPath::as_ref), results: &results, secrets: &secrets };
        let cgroup = self.shared.cgroups.as_ref().and_then(|cgroups| cgroups.make(self.job.fence));
        let enter = cgroup.as_ref().map(|cgroup| cgroup.path().to_owned());
        let program = program::program(&self.shared, &self.job, self.slot, &files, enter);
        let program = program.map_err(|message| self.not_started(127, message))?;
        Ok(Ready { program, cgroup, _files: (payload, results, secrets) })
    }

    /// Starts the program; an order that comes meanwhile waits for it, but not for ever: the place of a program may be on
    /// a network file system that is away.
    async fn spawn(
        &self,
        program: Program,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(Child, Option<Order>), Box<Report>> {
        let mut spawning = pin!(self.shared.spawner.spawn(program));
        let (spawned, early) = tokio::select! {
            biased;
            spawned = &mut spawning => (spawned, None),
            Some(order) = orders.recv() => match tokio::time::timeout(SLOW_START, spawning).await {
                Ok(spawned) => (spawned, Some(order)),
                Err(_) => return Err(self.not_begun(&order)), // it is killed if it starts all the same
            },
        };
        match spawned {
            Ok(child) => Ok((child, early)),
            Err(error @ SpawnError::System { .. }) => Err(self.unstarted(error.to_string())),
            Err(error) => Err(self.not_started(error.exit_code(), error.to_string())),
        }
    }

    fn not_begun(&self, order: &Order) -> Box<Report> {
        let cause = match order {
            Order::Cancel(_) => Cause::Cancel,
            Order::Interrupt | Order::End => Cause::Drain,
            Order::Lose(_) | Order::Kill => Cause::Lost,
        };
        Box::new(self.report(ending(cause, None, None), Span::ZERO, Vec::new()))
    }

    /// Ends what a lost attempt of this job left on this machine: two of them must not run at once.
    async fn end_lost_ones(&self) {
        if !self.job.lost {
            return;
        }
        let prefix = program::job_prefix(&self.shared.config, self.job.fence.number);
        let limit = std::time::Instant::now() + SWEEP_LIMIT;
        let swept = tokio::task::spawn_blocking(move || sweep::sweep(vec![prefix.into_bytes()], limit)).await;
        if let Ok(Swept { found: processes @ 1.., .. }) = swept {
            warn!(processes, "ended what a lost attempt of this job left behind");
        }
    }

    fn write_payload(&self) -> io::Result<Option<tempfile::TempPath>> {
        let Some(payload) = &self.job.spec.payload else { return Ok(None) };
        let mut file = private::temp_file(&format!("{}payload-", prefix(&self.shared.config)), ".json")?;
        io::Write::write_all(&mut file, payload.to_string().as_bytes())?;
        Ok(Some(file.into_temp_path()))
    }

    fn not_started(&self, code: i32, message: String) -> Box<Report> {
        let error = format!("{NOT_STARTED}: {message}");
        let end = ending(Cause::Itself, Some(Exit::Code(code)), Some(error));
        Box::new(self.report(end, Span::ZERO, Vec::new()))
    }

    /// By no fault of the job: it is tried again (S36).
    fn unstarted(&self, why: String) -> Box<Report> {
        Box::new(self.report(ending(Cause::NotStarted, None, Some(why)), Span::ZERO, Vec::new()))
    }

    fn missing(&self, Missing { message, shortage }: Missing) -> Box<Report> {
        if shortage { self.unstarted(message) } else { self.not_started(125, message) }
    }

    fn refused(&self, message: String) -> Box<Report> {
        let error = format!("{NOT_STARTED}: {message}");
        let end = ending(Cause::Refused, Some(Exit::Code(125)), Some(error));
        Box::new(self.report(end, Span::ZERO, Vec::new()))
    }

    async fn read_secrets(&self) -> Result<Secrets, Missing> {
        let spec = &self.job.spec;
        if !spec.has_secrets() {
            return Ok(Secrets::default());
        }
        let (places, spec) = (self.shared.config.secrets.clone(), spec.clone());
        let read = tokio::task::spawn_blocking(move || Secrets::read(&places, &spec)).await;
        let secrets = read.map_err(|e| format!("secrets cannot be read: {e}"))??;
        let _ = self.mask.set(secrets.mask.clone()); // set once only
        Ok(secrets)
    }

    fn report(&self, ending: Ending, ran: Span, output: Vec<Chunk>) -> Report {
        Report {
            fence: self.job.fence,
            ending,
            started: self.started.get().copied(),
            ran,
            after: span(self.leased_at.elapsed()),
            output,
            jitter: super::chance(),
            in_run: self.job.origin.run_id.is_some() || self.job.unread.is_some(),
        }
    }

    /// Watches the process until it and all its descendants have ended and its output is read.
    async fn watch(
        &self,
        child: Child,
        cgroup: Option<Cgroup>,
        begun: Instant,
        early: Option<Order>,
        mut orders: mpsc::Receiver<Order>,
    ) -> (Ending, Instant, Vec<Chunk>) {
        let Child { pid, pidfd, stdout, stderr } = child;
        // From here on nothing is opened: the program runs, and must not be given up for want of a descriptor.
        let pidfd = Arc::new(pidfd);
        let marker = program::marker(&self.shared, self.job.fence).into_bytes();
        let mut tree = Tree::new(pid, Arc::clone(&pidfd), marker);
        tree.cgroup = cgroup;
        let (cap, mask) = (self.shared.config.max_output, self.mask.get().cloned().unwrap_or_default());
        let mouth = self.shared.config.tee.as_ref().map(|tee| tee.begin(self.job.fence));
        let heard = Arc::new(Heard::new(cap, mask, mouth));
        let (tell_ended, hear_ended) = oneshot::channel::<()>();
        let leader_ended = async {
            let _ = hear_ended.await;
        };
        // The pump's own progress wakes nobody: without this, output would lie here until the leader ends.
        let news = tokio::sync::Notify::new();
        let take = |stream, bytes: &[u8]| {
            heard.push(stream, self.shared.clock.now(), bytes);
            news.notify_one();
        };
        let room = || heard.room();
        let mut pump = pin!(pump(stdout, stderr, leader_ended, pump::DEFAULT_DRAIN, room, take));
        let mut pumped = false;
        let mut sending = Sending::new(Arc::clone(&self.shared), self.job.fence, Arc::clone(&heard));
        let timeout_at = self.job.spec.timeout.map(|t| begun + t.duration());
        let grace = self.job.spec.kill_grace().duration();
        let patience = self.job.spec.heartbeat_timeout.map(crate::time::Span::duration);
        let mut live = Live::new(pidfd, tree, grace, timeout_at, patience, tell_ended);
        let mut orders_open = true;
        early.into_iter().for_each(|order| live.order(order));
        // What it wrote may have to wait for the store after that.
        let mut ended: Option<Instant> = None;
        let ended = loop {
            if live.clean && pumped {
                let ended = *ended.get_or_insert_with(Instant::now);
                if sending.is_idle() {
                    break ended;
                }
            }
            tokio::select! {
                order = orders.recv(), if orders_open => match order {
                    Some(order) => live.order(order),
                    None => orders_open = false,
                },
                () = self.alive.notified() => live.heard(),
                result = exit::ended(live.pidfd.as_fd()), if !live.exited => live.leader_ended(result),
                result = &mut pump, if !pumped => {
                    pumped = true;
                    if let Err(e) = result {
                        warn!(job = %self.job.id, "reading output failed: {e}");
                    }
                }
                () = news.notified(), if !pumped && sending.is_idle() => {} // what it means is decided below
                () = until(live.next_timer()), if live.next_timer().is_some() => live.timer(),
                done = join(&mut live.killing), if live.killing.is_some() => live.killed(done),
                is_current = sending.next() => if !is_current {
                    live.order(Order::Kill); // its fence is old
                },
            }
            sending.plan();
        };
        let fate = live.reap().await;
        let (rest, last_line) = heard.finish();
        let output = sending.finish(rest).await;
        let ending = match fate {
            Ok((Cause::Itself, Fate::NeverRan)) => {
                ending(Cause::NotStarted, None, Some("it was killed before its program ran".into()))
            }
            Ok((cause, Fate::NeverRan)) => ending(cause, None, None),
            Ok((cause, Fate::Ended(exit))) => {
                let spec = &self.job.spec;
                let error = match (cause, exit) {
                    (Cause::Timeout, _) if live.silent => spec.heartbeat_timeout.map(|t| format!("silent for {t}")),
                    (Cause::Timeout, _) => spec.timeout.map(|t| format!("timed out after {t}")),
                    (_, Exit::Code(0)) => None,
                    _ => last_line,
                };
                ending(cause, Some(exit), error)
            }
            Err(e) => ending(Cause::Itself, None, Some(format!("nobody knows how it ended: {e}"))),
        };
        (ending, ended, output)
    }
}

fn span(time: Duration) -> Span {
    Span::from_millis(time.as_millis().try_into().unwrap_or(i64::MAX))
}

fn ending(cause: Cause, exit: Option<Exit>, error: Option<String>) -> Ending {
    let (exit_code, signal) = exit.map_or((None, None), Exit::parts);
    Ending { cause, exit_code, signal, error }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn join<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    match task {
        Some(task) => task.await.ok(),
        None => std::future::pending().await,
    }
}
