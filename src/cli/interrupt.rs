//! Commands that go on until somebody interrupts them.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::view::printed;
use crate::error::Result;

/// Runs `work` until it ends, or is interrupted (SIGINT, Ctrl-C): that is how it is meant to end, and no failure.
///
/// One listener for all of it: with one for each wait, an interrupt between two waits is nobody's, and the signal does
/// not end the process by itself any more either.
pub(super) async fn until_interrupted(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        done = work => done,
        () = next(&mut interrupt) => {
            printed().await;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A listener for a signal; none where whoever started us ignores it, as nohup does and shells for what they run aside.
///
/// Read before the first listener for it: that one takes the place of ignoring it.
pub(super) fn listen(kind: SignalKind) -> Result<Option<Signal>> {
    match is_ignored(kind) {
        true => Ok(None),
        false => Ok(Some(signal(kind)?)),
    }
}

/// Waits for the next signal; for ever for one that is ignored.
pub(super) async fn next(signal: &mut Option<Signal>) {
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
