//! The life of one attempt, on one page: start, capture, watch, stop, report.

use std::io;
use std::os::fd::AsFd as _;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument as _, debug, warn};

use super::cgroup::Cgroup;
use super::exit::{self, Exit};
use super::heard::Heard;
use super::live::Live;
use super::mask::Mask;
use super::program::{self, Files};
use super::pump::{self, pump};
use super::results;
use super::secrets::Secrets;
use super::spawn::{Child, SpawnError};
use super::tree::Tree;
use super::{NOT_STARTED, SWEEP_LIMIT, Shared, sweep};
use crate::job::output::{Chunk, INLINE_OUTPUT};
use crate::job::state::{Cause, Ending};
use crate::ops::append_output::{AppendOutput, Appended};
use crate::ops::lease::Leased;
use crate::ops::settle::{Report, Started};
use crate::store::CancelRequest;
use crate::time::Span;

/// How long output of a running job may wait before others can see it.
const FLUSH: Duration = Duration::from_millis(100);
/// How much output goes into one append, in bytes.
const APPEND: usize = 512 * 1024;

/// What a worker tells an attempt that runs.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Somebody asked for its end.
    Cancel(CancelRequest),
    /// The worker drains.
    Interrupt,
    /// The job said something.
    Alive,
    /// The lease cannot be renewed: be ended at this instant.
    Lose(Instant),
    /// The lease is lost: end at once, nothing of it counts.
    Kill,
}

/// One attempt.
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) job: Leased,
    pub(super) slot: u32,
    pub(super) orders: mpsc::Receiver<Order>,
    /// Set when the process runs.
    pub(super) started: Arc<OnceLock<Started>>,
    /// Set before the process runs.
    pub(super) mask: Arc<OnceLock<Mask>>,
}

impl Attempt {
    /// Runs the job, and says how it ended.
    pub(super) async fn run(mut self) -> Report {
        self.end_lost_ones().await;
        if let Err(e) = self.shared.config.schemas.check(&self.job.spec) {
            // The same payload fits no better next time.
            return self.refused(format!("the {e}"));
        }
        let secrets = match self.read_secrets().await {
            Ok(secrets) => secrets,
            Err(message) => return self.not_started(125, message),
        };
        let payload = match self.write_payload() {
            Ok(path) => path,
            Err(e) => return self.not_started(125, format!("cannot write the payload: {e}")),
        };
        let results = match results::write(&self.shared, &self.job).await {
            Ok(results) => results,
            Err(e) => return self.not_started(125, format!("the results of needed tasks cannot be had: {e}")),
        };
        let files =
            Files { payload: payload.as_ref().map(tempfile::TempPath::as_ref), results: &results, secrets: &secrets };
        let cgroup = self.shared.cgroups.as_ref().and_then(|cgroups| cgroups.make(self.job.fence));
        let enter = cgroup.as_ref().map(|cgroup| cgroup.path().to_owned());
        let program = match program::program(&self.shared, &self.job, self.slot, &files, enter) {
            Ok(program) => program,
            Err(message) => return self.not_started(127, message),
        };
        let child = match self.shared.spawner.spawn(program).await {
            Ok(child) => child,
            Err(error @ SpawnError::System { .. }) => {
                // The worker's fault: not counted, and not so often that it spins.
                tokio::time::sleep(Duration::from_secs(1)).await;
                return self.report(ending(Cause::Drain, None, Some(error.to_string())), Span::ZERO, Vec::new());
            }
            Err(error) => return self.not_started(error.exit_code(), error.to_string()),
        };
        let begun = Instant::now();
        let _ = self.started.set(Started { pid: child.pid, at: self.shared.clock.now() });
        debug!(job = %self.job.id, pid = child.pid, "started");
        let (end, output) = self.watch(child, cgroup, begun).await;
        let ran = Span::from_millis(begun.elapsed().as_millis().try_into().unwrap_or(i64::MAX));
        self.report(end, ran, output)
    }

    /// Ends what a lost attempt of this job left on this machine: two of them must not run at once.
    async fn end_lost_ones(&self) {
        if !self.job.lost {
            return;
        }
        let prefix = program::job_prefix(&self.shared.config, self.job.fence.number);
        let limit = std::time::Instant::now() + SWEEP_LIMIT;
        let swept = tokio::task::spawn_blocking(move || sweep::sweep(prefix.as_bytes(), limit)).await;
        if let Ok(processes @ 1..) = swept {
            warn!(processes, "ended what a lost attempt of this job left behind");
        }
    }

    fn write_payload(&self) -> io::Result<Option<tempfile::TempPath>> {
        let Some(payload) = &self.job.spec.payload else { return Ok(None) };
        let mut file = tempfile::Builder::new().prefix("orx-payload-").suffix(".json").tempfile()?; // mode 0600
        io::Write::write_all(&mut file, payload.to_string().as_bytes())?;
        Ok(Some(file.into_temp_path()))
    }

    fn not_started(&self, code: i32, message: String) -> Report {
        let error = format!("{NOT_STARTED}: {message}");
        self.report(ending(Cause::Itself, Some(Exit::Code(code)), Some(error)), Span::ZERO, Vec::new())
    }

    fn refused(&self, message: String) -> Report {
        let error = format!("{NOT_STARTED}: {message}");
        self.report(ending(Cause::Refused, Some(Exit::Code(125)), Some(error)), Span::ZERO, Vec::new())
    }

    async fn read_secrets(&self) -> Result<Secrets, String> {
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
            output,
            jitter: super::chance(),
            in_run: self.job.origin.run_id.is_some(),
        }
    }

    /// Watches the process until it and all its descendants have ended and its output is read.
    async fn watch(&mut self, child: Child, cgroup: Option<Cgroup>, begun: Instant) -> (Ending, Vec<Chunk>) {
        let Child { pid, pidfd, stdout, stderr } = child;
        let mut tree = match pidfd.try_clone() {
            Ok(fd) => Tree::new(pid, fd, program::marker(&self.shared.config, self.job.fence).into_bytes()),
            Err(e) => return (ending(Cause::Drain, None, Some(format!("cannot watch the process: {e}"))), Vec::new()),
        };
        tree.cgroup = cgroup;
        let heard = Arc::new(Heard::new(self.shared.config.max_output, self.mask.get().cloned().unwrap_or_default()));
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
        let mut pump = pin!(pump(stdout, stderr, leader_ended, pump::DEFAULT_DRAIN, take));
        let mut pumped = false;
        let mut flush: Option<JoinHandle<bool>> = None;
        let mut flush_at: Option<Instant> = None;
        let timeout_at = self.job.spec.timeout.map(|t| begun + t.duration());
        let grace = self.job.spec.kill_grace().duration();
        let patience = self.job.spec.heartbeat_timeout.map(crate::time::Span::duration);
        let mut live = Live::new(pidfd, tree, grace, timeout_at, patience, tell_ended);
        let mut orders_open = true;
        loop {
            if live.clean && pumped && flush.is_none() {
                break;
            }
            tokio::select! {
                order = self.orders.recv(), if orders_open => match order {
                    Some(order) => live.order(order),
                    None => orders_open = false,
                },
                result = exit::ended(live.pidfd.as_fd()), if !live.exited => live.leader_ended(result),
                result = &mut pump, if !pumped => {
                    pumped = true;
                    if let Err(e) = result {
                        warn!(job = %self.job.id, "reading output failed: {e}");
                    }
                }
                () = news.notified(), if !pumped && flush.is_none() => {} // what it means is decided below
                () = until(live.next_timer()), if live.next_timer().is_some() => live.timer(),
                done = join(&mut live.killing), if live.killing.is_some() => live.killed(done),
                stored = join(&mut flush), if flush.is_some() => {
                    flush = None;
                    flush_at = None;
                    if stored == Some(false) {
                        live.order(Order::Kill); // its fence is old
                    }
                }
                () = until(flush_at), if flush_at.is_some() && flush.is_none() => {
                    flush = Some(self.flush(heard.take_live()));
                }
            }
            if flush.is_none() && flush_at.is_none() && heard.unsent() > 0 {
                flush_at = Some(Instant::now() + FLUSH);
            }
            if flush.is_none() && heard.unsent() > APPEND {
                flush_at = Some(Instant::now());
            }
        }
        let exit = exit::reap(live.pidfd.as_fd()).ok().flatten();
        let (chunks, last_line) = heard.finish();
        let output = self.send_rest(chunks).await;
        let error = match (live.cause, exit) {
            (Cause::Timeout, _) if live.silent => self.job.spec.heartbeat_timeout.map(|t| format!("silent for {t}")),
            (Cause::Timeout, _) => self.job.spec.timeout.map(|t| format!("timed out after {t}")),
            (_, Some(Exit::Code(0))) => None,
            _ => last_line,
        };
        (ending(live.cause, exit, error), output)
    }

    /// Stores output while the job runs; false when the fence is old.
    fn flush(&self, chunks: Vec<Chunk>) -> JoinHandle<bool> {
        let (shared, fence) = (Arc::clone(&self.shared), self.job.fence);
        let flush = async move {
            for part in parts(chunks) {
                match shared.persist(&AppendOutput { fence, chunks: part }).await {
                    Ok(Appended::Stale) => return false,
                    Ok(Appended::Stored) => {}
                    Err(e) => warn!("output is lost: {e}"),
                }
            }
            true
        };
        tokio::spawn(flush.in_current_span())
    }

    /// What is left travels with the report, unless it is too much for that (S28).
    async fn send_rest(&self, chunks: Vec<Chunk>) -> Vec<Chunk> {
        let size: usize = chunks.iter().map(|c| c.bytes.len()).sum();
        if size <= INLINE_OUTPUT {
            return chunks;
        }
        let _ = self.flush(chunks).await;
        Vec::new()
    }
}

fn ending(cause: Cause, exit: Option<Exit>, error: Option<String>) -> Ending {
    let (exit_code, signal) = match exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    Ending { cause, exit_code, signal, error }
}

/// Splits chunks so that each part is about [`APPEND`] bytes.
fn parts(chunks: Vec<Chunk>) -> Vec<Vec<Chunk>> {
    let mut parts: Vec<Vec<Chunk>> = Vec::new();
    let mut room = 0;
    for chunk in chunks {
        match parts.last_mut() {
            Some(part) if room >= chunk.bytes.len() => {
                room -= chunk.bytes.len();
                part.push(chunk);
            }
            _ => {
                room = APPEND.saturating_sub(chunk.bytes.len());
                parts.push(vec![chunk]);
            }
        }
    }
    parts
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
