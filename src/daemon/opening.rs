//! The start of a process whose store may be away: it waits for it, as it would later.

use std::time::Duration;

use tokio::time::sleep;

use super::systemd;
use crate::error::{Error, Kind, Result};
use crate::ops::Access;
use crate::outage::Outage;
use crate::queue::Queue;

/// The waits between tries: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often systemd is told that one try takes its time.
const TELL: Duration = Duration::from_secs(5);

/// Opens a queue, again while its server is away; none: `end` came first.
///
/// A process with `burst`, which ends when nothing is left to do, waits for no server that only reads to become another.
///
/// # Errors
/// Those that waiting does not mend.
pub async fn open(
    open: impl Fn() -> Result<Queue> + Clone + Send + 'static,
    burst: bool,
    end: impl Future<Output = ()>,
) -> Result<Option<Queue>> {
    let mut end = std::pin::pin!(end);
    let (outage, mut pause) = (Outage::default(), PAUSES.0);
    loop {
        let mut opening = tokio::task::spawn_blocking(open.clone());
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened.map_err(|e| Error::failed("opening the store failed").source(e))?,
                () = &mut end => return Ok(None),
                () = sleep(TELL) => systemd::waits("its server does not answer"),
            }
        };
        outage.note(Access::Write, &opened);
        match opened {
            Err(e) if e.kind() == Kind::Unavailable && !e.is_lasting() && !(burst && e.is_only_reads()) => {
                outage.say("waiting for the store", &e);
                systemd::waits(&e.to_string());
            }
            opened => return opened.map(Some),
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = &mut end => return Ok(None),
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}
