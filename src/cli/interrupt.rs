//! Commands that go on until somebody interrupts them.

use std::process::ExitCode;

use tokio::signal::unix::SignalKind;

use super::view::printed;
use crate::daemon::signals::{listen, next};
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
