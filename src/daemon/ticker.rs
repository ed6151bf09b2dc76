//! The clock of schedules, kept by whoever leads: it sleeps until the next instant is due.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::beat::on_beat;
use crate::error::Result;
use crate::hub::Subscription;
use crate::ops::schedules::tick::{NextTick, Tick, Ticked};
use crate::queue::Queue;
use crate::store::Topics;
use crate::time::Span;

/// How often it looks though nothing was said to be due: the wall clock may have been set.
const LOOK: Duration = Duration::from_secs(1);
/// How often it looks where there is no schedule that could be due.
const SELDOM: Duration = Duration::from_secs(30);

/// Fires what is due until another process leads or `stop` becomes true.
///
/// # Errors
/// When changes of schedules cannot be listened to.
pub(super) async fn keep_time(queue: &Queue, epoch: i64, mut stop: watch::Receiver<bool>) -> Result<()> {
    let mut changes = queue.subscribe(Topics::SCHEDULES)?;
    while !*stop.borrow() {
        let next = match tick(queue, epoch).await {
            Ok(Ticked::Deposed) => return Ok(()),
            Ok(Ticked::Done { next, .. }) => next,
            Err(e) => {
                queue.outage().say("schedules wait", &e);
                Some(Span::from_secs(1))
            }
        };
        sleep(next, &mut changes, &mut stop).await;
    }
    Ok(())
}

/// Until the next instant, a change of the schedules, or the next look.
async fn sleep(next: Option<Span>, changes: &mut Subscription, stop: &mut watch::Receiver<bool>) {
    let until = match next {
        Some(span) => Instant::now() + span.duration().min(LOOK),
        None => on_beat(Instant::now() + SELDOM, SELDOM),
    };
    tokio::select! {
        _ = changes.changed(Some(until)) => {}
        _ = stop.changed() => {}
    }
}

/// Fires what is due now; writes nothing where nothing is.
async fn tick(queue: &Queue, epoch: i64) -> Result<Ticked> {
    let next = queue.call(NextTick {}).await?;
    if next.is_none_or(|span| span > Span::ZERO) {
        return Ok(Ticked::Done { fired: 0, skipped: 0, unreadable: Vec::new(), next });
    }
    let ticked = queue.call(Tick { epoch: Some(epoch) }).await?;
    if let Ticked::Done { fired, skipped, unreadable, .. } = &ticked {
        debug!(epoch, fired, skipped, "schedules were due");
        for (schedule, why) in unreadable {
            warn!("schedule {schedule} cannot be read here, and waits: {why}");
        }
    }
    Ok(ticked)
}
