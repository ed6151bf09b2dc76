//! Keeps a store small: whoever leads forgets what is older than was asked for, in bounded batches.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use crate::error::Result;
use crate::ops::metrics::Measure;
use crate::ops::prune::{DropOutput, Prune, PruneKeys, PruneLedger};
use crate::ops::retention::{Aged, FindAged, GetRetention, Kept, PruneEvents, Retention};
use crate::queue::Queue;
use crate::store::Topics;
use crate::time::Span;

/// How often it is looked for old jobs: after a part of their age, within these bounds.
const LOOKS: u32 = 20;
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(3600);
/// How often the size is looked at.
const MEASURE: Duration = Duration::from_secs(60);
/// How long others have the store for themselves after each batch.
const PAUSE: Duration = Duration::from_millis(20);
/// Room of so many jobs is given back to the file system; less is used again soon.
const GIVE_BACK: usize = 10_000;

/// Forgets what is to be forgotten until `stop` becomes true.
///
/// # Errors
/// When changes cannot be listened to.
pub(super) async fn keep_small(queue: &Queue, epoch: i64, mut stop: watch::Receiver<bool>) -> Result<()> {
    let mut changes = queue.subscribe(Topics::CONTROL)?;
    while !*stop.borrow() {
        let done = tokio::select! {
            done = pass(queue, epoch) => done,
            _ = stop.changed() => return Ok(()),
        };
        let kept = done.inspect_err(|e| queue.outage().say("old jobs are kept for now", e)).ok();
        let until = Instant::now() + pause(kept);
        // Until it is time, or something else is asked for: that is looked for now and then, whatever is asked in a crowd.
        while Instant::now() < until && !*stop.borrow() {
            let heard = async {
                if changes.changed(Some(until)).await != Topics::NONE {
                    sleep_until(until.min(Instant::now() + OFTEN)).await;
                }
            };
            tokio::select! {
                () = heard => {}
                _ = stop.changed() => return Ok(()),
            }
            if Instant::now() >= until {
                break;
            }
            let now = queue.call(GetRetention {}).await.map(|kept| kept.retention);
            if now.is_ok_and(|now| kept.is_some_and(|before| before != now)) {
                break;
            }
        }
    }
    Ok(())
}

/// How long nothing needs to be looked at.
fn pause(kept: Option<Retention>) -> Duration {
    let Some(Retention { done_older_than, max_size }) = kept else { return MEASURE };
    let age = done_older_than.map_or(SELDOM, |age| (age.duration() / LOOKS).clamp(OFTEN, SELDOM));
    if max_size.is_some() { age.min(MEASURE) } else { age }
}

/// Forgets what is too old, then what is too much.
async fn pass(queue: &Queue, epoch: i64) -> Result<Retention> {
    while queue.call(PruneKeys { epoch: Some(epoch) }).await? > 0 {
        sleep(PAUSE).await;
    }
    let Kept { retention, .. } = queue.call(GetRetention {}).await?;
    let mut count = 0;
    if let Some(age) = retention.done_older_than {
        count += forget(queue, epoch, age, None).await?;
        forget_history(queue, epoch, age).await?;
    }
    let mut too_large = false;
    if let Some(size) = retention.max_size {
        count += forget(queue, epoch, Span::ZERO, Some(size)).await?;
        let stored = queue.call(Measure {}).await?.store_bytes;
        too_large = u64::try_from(stored).is_ok_and(|stored| stored > size);
    }
    if count > 0 {
        info!(epoch, jobs = count, "forgot finished jobs, as 'orx db retention' says");
    }
    if count >= GIVE_BACK || too_large {
        queue.shrink().await?;
    }
    Ok(retention)
}

/// Forgets jobs that finished so long ago, the oldest first; with a `size`, only while more is used.
async fn forget(queue: &Queue, epoch: i64, older_than: Span, size: Option<u64>) -> Result<usize> {
    let (mut after, mut count) = (0, 0);
    loop {
        if let Some(size) = size {
            let used = queue.call(GetRetention {}).await?.used;
            if used.and_then(|used| u64::try_from(used).ok()).is_none_or(|used| used <= size) {
                return Ok(count);
            }
        }
        let Aged { numbers, before, next } = queue.call(FindAged { after, older_than }).await?;
        if !numbers.is_empty() {
            // Output first: what is interrupted in between leaves a job without output, not output without a job.
            let dead = false; // those stay
            let epoch = Some(epoch);
            queue.call(DropOutput { numbers: numbers.clone(), before, dead, epoch }).await?;
            count += queue.call(Prune { numbers, before, dead, epoch }).await?;
            sleep(PAUSE).await;
        }
        match next {
            Some(next) => after = next,
            None => return Ok(count),
        }
    }
}

/// Forgets old rows of ledgers, and old events that tell of no job.
async fn forget_history(queue: &Queue, epoch: i64, age: Span) -> Result<()> {
    let before = queue.call(FindAged { after: i64::MAX, older_than: age }).await?.before;
    while queue.call(PruneLedger { before, epoch: Some(epoch) }).await? > 0 {
        sleep(PAUSE).await;
    }
    let mut after = Some(0);
    while let Some(place) = after {
        after = queue.call(PruneEvents { after: place, before, epoch }).await?;
        sleep(PAUSE).await;
    }
    debug!(epoch, "the trail and the ledgers begin at {before}");
    Ok(())
}
