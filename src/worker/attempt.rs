//! The life of one attempt, on one page: start, capture, watch, stop, report.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::Shared;
use super::capture::Capture;
use super::exit::{self, Exit};
use super::program;
use super::pump::{self, pump};
use super::spawn::{Child, SpawnError};
use super::tree::Tree;
use crate::job::output::{Chunk, INLINE_OUTPUT, Stream};
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
/// How often leftovers of an ended leader are looked at until they have ended too.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// How long killing may take before the attempt is reported anyway.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// The longest error taken from standard error, in bytes.
const MAX_ERROR: usize = 400;

/// What a worker tells an attempt that runs.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Somebody asked for its end.
    Cancel(CancelRequest),
    /// The worker drains.
    Interrupt,
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
}

impl Attempt {
    /// Runs the job, and says how it ended.
    pub(super) async fn run(mut self) -> Report {
        let payload = match self.write_payload() {
            Ok(path) => path,
            Err(e) => return self.not_started(125, format!("cannot write the payload: {e}")),
        };
        let file = payload.as_ref().map(tempfile::TempPath::as_ref);
        let program = match program::program(&self.shared.config, &self.job, self.slot, file) {
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
        let (end, output) = self.watch(child, begun).await;
        let ran = Span::from_millis(begun.elapsed().as_millis().try_into().unwrap_or(i64::MAX));
        self.report(end, ran, output)
    }

    fn write_payload(&self) -> io::Result<Option<tempfile::TempPath>> {
        if !program::wants_payload_file(&self.job.spec) {
            return Ok(None);
        }
        let payload = self.job.spec.payload.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut file = tempfile::Builder::new().prefix("orx-payload-").suffix(".json").tempfile()?; // mode 0600
        io::Write::write_all(&mut file, payload.as_bytes())?;
        Ok(Some(file.into_temp_path()))
    }

    fn not_started(&self, code: i32, message: String) -> Report {
        self.report(ending(Cause::Itself, Some(Exit::Code(code)), Some(message)), Span::ZERO, Vec::new())
    }

    fn report(&self, ending: Ending, ran: Span, output: Vec<Chunk>) -> Report {
        Report {
            fence: self.job.fence,
            ending,
            started: self.started.get().copied(),
            ran,
            output,
            jitter: super::chance(),
        }
    }

    /// Watches the process until it and all its descendants have ended and its output is read.
    async fn watch(&mut self, child: Child, begun: Instant) -> (Ending, Vec<Chunk>) {
        let Child { pid, pidfd, stdout, stderr } = child;
        let tree = match pidfd.try_clone() {
            Ok(fd) => Tree::new(pid, fd, program::marker(&self.shared.config, self.job.fence).into_bytes()),
            Err(e) => return (ending(Cause::Drain, None, Some(format!("cannot watch the process: {e}"))), Vec::new()),
        };
        let heard = Arc::new(Heard::new(self.shared.config.max_output));
        let (tell_ended, hear_ended) = oneshot::channel::<()>();
        let leader_ended = async {
            let _ = hear_ended.await;
        };
        let take = |stream, bytes: &[u8]| heard.push(stream, self.shared.clock.now(), bytes);
        let mut pump = pin!(pump(stdout, stderr, leader_ended, pump::DEFAULT_DRAIN, take));
        let mut pumped = false;
        let mut flush: Option<JoinHandle<bool>> = None;
        let mut flush_at: Option<Instant> = None;
        let mut live = Live {
            pidfd,
            tree: Some(tree),
            killing: None,
            cause: Cause::Itself,
            grace: self.job.spec.kill_grace().duration(),
            timeout_at: self.job.spec.timeout.map(|t| begun + t.duration()),
            kill_at: None,
            look_at: None,
            exited: false,
            clean: false,
            tell_ended: Some(tell_ended),
        };
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
            (Cause::Timeout, _) => self.job.spec.timeout.map(|t| format!("timed out after {t}")),
            (_, Some(Exit::Code(0))) => None,
            _ => last_line,
        };
        (ending(live.cause, exit, error), output)
    }

    /// Stores output while the job runs; false when the fence is old.
    fn flush(&self, chunks: Vec<Chunk>) -> JoinHandle<bool> {
        let (shared, fence) = (Arc::clone(&self.shared), self.job.fence);
        tokio::spawn(async move {
            for part in parts(chunks) {
                match shared.persist(AppendOutput { fence, chunks: part }).await {
                    Ok(Appended::Stale) => return false,
                    Ok(Appended::Stored) => {}
                    Err(e) => warn!("output of job {} is lost: {e}", fence.number),
                }
            }
            true
        })
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

/// A process tree that is watched.
struct Live {
    pidfd: OwnedFd,
    /// Absent while it is being killed.
    tree: Option<Tree>,
    killing: Option<JoinHandle<Tree>>,
    cause: Cause,
    grace: Duration,
    timeout_at: Option<Instant>,
    kill_at: Option<Instant>,
    look_at: Option<Instant>,
    exited: bool,
    /// The leader has ended and nobody is left.
    clean: bool,
    tell_ended: Option<oneshot::Sender<()>>,
}

impl Live {
    fn order(&mut self, order: Order) {
        match order {
            Order::Kill => {
                self.set_cause(Cause::Lost);
                self.kill();
            }
            Order::Interrupt => self.stop(Cause::Drain, Signal::TERM, self.grace),
            Order::Cancel(how) => {
                let signal = how.signal.and_then(Signal::from_named_raw).unwrap_or(Signal::TERM);
                let grace = how.grace.map_or(self.grace, Span::duration);
                self.stop(Cause::Cancel, signal, grace);
            }
        }
    }

    /// Only a process that still runs can be ended by us (S3).
    fn set_cause(&mut self, cause: Cause) {
        if !self.exited && self.cause == Cause::Itself && !has_ended(&self.pidfd) {
            self.cause = cause;
        }
    }

    fn stop(&mut self, cause: Cause, signal: Signal, grace: Duration) {
        let again = self.cause != Cause::Itself;
        self.set_cause(cause);
        self.timeout_at = None;
        if let Some(tree) = &mut self.tree
            && let Err(e) = tree.signal(signal)
        {
            warn!("signalling failed: {e}");
        }
        let at = Instant::now() + grace;
        self.kill_at = Some(match self.kill_at {
            Some(before) if again => before.min(at),
            _ => at,
        });
    }

    fn kill(&mut self) {
        self.kill_at = None;
        self.timeout_at = None;
        if let Some(mut tree) = self.tree.take() {
            // It reads /proc and waits, so it belongs on a thread of its own.
            self.killing = Some(tokio::task::spawn_blocking(move || {
                tree.kill_all(std::time::Instant::now() + KILL_LIMIT);
                tree
            }));
        }
    }

    fn killed(&mut self, tree: Option<Tree>) {
        self.killing = None;
        self.tree = tree;
        self.exited |= has_ended(&self.pidfd);
        // A process in an uninterruptible call outlives SIGKILL; the attempt must not hang with it.
        self.clean = true;
        self.look_at = None;
        self.tell();
    }

    fn leader_ended(&mut self, result: io::Result<()>) {
        if let Err(e) = result {
            warn!("watching a process failed: {e}");
        }
        self.exited = true;
        self.timeout_at = None;
        if self.killing.is_some() {
            return;
        }
        if self.cause == Cause::Itself && !exit::has_adopted() {
            self.clean = true; // nobody outlived the leader
            self.tell();
            return;
        }
        if self.look() {
            self.stop(self.cause, Signal::TERM, self.grace);
        }
    }

    /// Looks whether anybody outlived the leader; true when so.
    fn look(&mut self) -> bool {
        let left = match &mut self.tree {
            Some(tree) => tree.members().is_ok_and(|members| !members.is_empty()),
            None => return true,
        };
        let _ = exit::reap_orphans();
        self.clean = !left;
        self.look_at = left.then(|| Instant::now() + LOOK_AGAIN);
        if !left {
            self.tell();
        }
        left
    }

    /// From now on the pipes are read for a short time only.
    fn tell(&mut self) {
        if let Some(tell) = self.tell_ended.take() {
            let _ = tell.send(()); // the pipes may have ended before
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        [self.timeout_at, self.kill_at, self.look_at].into_iter().flatten().min()
    }

    fn timer(&mut self) {
        let now = Instant::now();
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.kill_at) {
            self.kill();
        } else if passed(self.timeout_at) {
            self.stop(Cause::Timeout, Signal::TERM, self.grace);
        } else if passed(self.look_at) {
            self.look();
        }
        if self.clean {
            self.kill_at = None;
        }
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
}

/// What the job wrote.
struct Heard(Mutex<(Option<Capture>, Vec<u8>)>);

impl Heard {
    fn new(cap: u64) -> Self {
        Self(Mutex::new((Some(Capture::new(cap)), Vec::new())))
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Capture>, Vec<u8>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, stream: Stream, at: crate::time::Timestamp, bytes: &[u8]) {
        let (capture, errors) = &mut *self.lock();
        if let Some(capture) = capture {
            capture.push(stream, at, bytes);
        }
        if stream == Stream::Stderr {
            errors.extend_from_slice(&bytes[bytes.len().saturating_sub(MAX_ERROR)..]);
            let old = errors.len().saturating_sub(MAX_ERROR);
            errors.drain(..old);
        }
    }

    fn unsent(&self) -> usize {
        self.lock().0.as_ref().map_or(0, Capture::unsent_bytes)
    }

    fn take_live(&self) -> Vec<Chunk> {
        self.lock().0.as_mut().map(Capture::take_live).unwrap_or_default()
    }

    /// What has not been sent, and the last line of standard error.
    fn finish(&self) -> (Vec<Chunk>, Option<String>) {
        let (capture, errors) = &mut *self.lock();
        let chunks = capture.take().map(Capture::finish).unwrap_or_default();
        let text = String::from_utf8_lossy(errors);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        (chunks, line.map(|l| l.chars().filter(|c| !c.is_control()).collect()))
    }
}
