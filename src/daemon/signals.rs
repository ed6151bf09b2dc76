//! What signals ask of a process that runs jobs.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::worker::Stop;

/// A listener for a signal; none where whoever started us ignores it, as nohup does and shells for what they run aside.
///
/// Read before the first listener for it: that one takes the place of ignoring it.
///
/// # Errors
/// When the runtime cannot receive signals.
pub fn listen(kind: SignalKind) -> Result<Option<Signal>> {
    match is_ignored(kind) {
        true => Ok(None),
        false => Ok(Some(signal(kind)?)),
    }
}

/// Waits for the next signal; for ever for one that is ignored.
pub async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

/// Has a write fail that would make a file larger than this process may write (`ulimit -f`), as on a full disk, instead of
/// ending it. Programs that it starts have the default action again.
pub fn survive_large_files() {
    // SAFETY: to ignore a signal runs no code of ours. It fails for signals only that cannot be ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// What signals ask of a worker, from its first moment on.
pub struct WorkerSignals {
    pub(super) stop: watch::Receiver<Stop>,
    pub(super) task: JoinHandle<Result<()>>,
}

impl WorkerSignals {
    /// Listens.
    pub fn listen() -> Self {
        let (stop, asked) = watch::channel(Stop::Run);
        Self { stop: asked, task: tokio::spawn(obey(stop)) }
    }

    /// Returns when one asks for its end.
    pub async fn end(&mut self) {
        if self.stop.wait_for(|stop| *stop >= Stop::Drain).await.is_err() {
            std::future::pending().await // nobody is left who could ask
        }
    }
}

/// The signals to a coordinator, from its first moment on.
pub struct CoordinatorSignals {
    pub(super) term: Signal,
    pub(super) int: Option<Signal>,
    pub(super) hup: Signal,
}

impl CoordinatorSignals {
    /// Listens.
    ///
    /// # Errors
    /// When the runtime cannot receive signals.
    pub fn listen() -> Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when one asks for its end. To read again what was not read yet is nothing to do.
    pub async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                () = next(&mut self.int) => return,
                _ = self.hup.recv() => {}
            }
        }
    }
}

/// First SIGTERM or SIGINT: drain. Second: interrupt what runs. Third: kill it. SIGHUP drains and never interrupts, for of a
/// terminal that is closed both the shell and the kernel send one.
///
/// # Errors
/// When the runtime cannot receive signals.
async fn obey(stop: watch::Sender<Stop>) -> Result<()> {
    let mut hup = listen(SignalKind::hangup())?;
    let mut int = listen(SignalKind::interrupt())?;
    // Also where it was ignored: a service manager has nothing else to end a worker with.
    let mut term = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = term.recv() => insist(&stop),
            () = next(&mut int) => insist(&stop),
            () = next(&mut hup) => stop.send_modify(|stop| *stop = Stop::Drain.max(*stop)),
        }
    }
}

/// Asks a worker for more than it was asked for before.
pub(super) fn insist(stop: &watch::Sender<Stop>) {
    stop.send_modify(|stop| {
        *stop = match *stop {
            Stop::Run => Stop::Drain,
            Stop::Drain => Stop::Interrupt,
            Stop::Interrupt | Stop::Kill => Stop::Kill,
        };
    });
}
