//! A worker that is no coordinator helps the peers of its store's coordinators too: they tell it whom, and lend it tokens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::sharing::Helper;
use crate::beat::on_beat;
use crate::ops::sharing::ListHomes;
use crate::queue::Queue;
use crate::store::Home;
use crate::time::Clock;
use crate::worker::{Config, Slots, Stop};

/// How often it is asked who needs help, while there are peers and slots for their jobs.
const OFTEN: Duration = Duration::from_secs(1);
/// And otherwise.
const SELDOM: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Helps until `stop` rises or the own worker begins to end; not at all where the worker is to end by itself.
pub(super) fn start(
    queue: Queue,
    config: &Config,
    slots: Arc<Slots>,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<Stop>,
) -> Option<JoinHandle<()>> {
    let lives_on = !config.burst && config.idle_timeout.is_none() && config.only.is_none();
    let (tell, homes) = watch::channel(Arc::default());
    let suffix = format!(".{}", config.name);
    let helper = Helper { suffix, counters: Arc::default(), slots: Arc::clone(&slots), config: config.clone(), clock };
    let helping = async move {
        tokio::select! {
            () = helper.help(homes, stop) => {}
            () = ask(queue, slots, tell) => {}
        }
    };
    lives_on.then(|| tokio::spawn(helping))
}

/// Asks for ever who needs help. What was said last holds while there is no answer: the tokens end by themselves.
async fn ask(queue: Queue, slots: Arc<Slots>, tell: watch::Sender<Arc<Vec<Home>>>) {
    let mut changes = slots.changes();
    loop {
        let next = on_beat(Instant::now() + SELDOM, SELDOM);
        match timeout(ANSWER_LIMIT, queue.call(ListHomes {})).await {
            Ok(Ok(homes)) => drop(tell.send_if_modified(|old| {
                let changed = **old != homes;
                *old = Arc::new(homes);
                changed
            })),
            Ok(Err(e)) => debug!("cannot ask who needs help: {e}"),
            Err(_) => debug!("nobody says in time who needs help"),
        }
        if !tell.borrow().is_empty() {
            sleep(OFTEN).await;
        }
        while Instant::now() < next && (tell.borrow().is_empty() || slots.spare() == 0) {
            tokio::select! {
                () = changes.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }
}
