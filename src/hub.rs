//! Tells the tasks of a process what changed.

use tokio::sync::watch;
use tokio::time::Instant;

use crate::store::Topics;

/// How often each topic was touched.
type Counts = [u64; Topics::ALL.0.count_ones() as usize];

/// Tells the tasks of this process what changed.
pub(crate) struct Hub(watch::Sender<Counts>);

impl Hub {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Counts::default()))
    }

    pub(crate) fn tell(&self, topics: Topics) {
        self.0.send_modify(|counts| {
            for (bit, count) in counts.iter_mut().enumerate() {
                *count += u64::from(topics.0 >> bit & 1);
            }
        });
    }

    pub(crate) fn subscribe(&self, topics: Topics) -> Subscription {
        let receiver = self.0.subscribe();
        let seen = *receiver.borrow();
        Subscription { receiver, topics, seen }
    }
}

/// Hears of changes.
pub struct Subscription {
    receiver: watch::Receiver<Counts>,
    topics: Topics,
    seen: Counts,
}

impl Subscription {
    /// Returns when one of the topics changed since the last return, or at `deadline`; gives what changed.
    pub async fn changed(&mut self, deadline: Option<Instant>) -> Topics {
        loop {
            let now = *self.receiver.borrow_and_update();
            let mut changed = 0;
            for (bit, (now, seen)) in now.iter().zip(&self.seen).enumerate() {
                changed |= u8::from(now != seen) << bit;
            }
            self.seen = now;
            let changed = Topics(changed & self.topics.0);
            if changed != Topics::NONE {
                return changed;
            }
            let next = self.receiver.changed();
            match deadline {
                Some(at) => match tokio::time::timeout_at(at, next).await {
                    Ok(Ok(())) => {}
                    _ => return Topics::NONE,
                },
                None => {
                    if next.await.is_err() {
                        return Topics::NONE;
                    }
                }
            }
        }
    }
}
