//! What systemd is told: that we are ready and alive, what we do, and that a start or a stop takes longer.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::queue::Queue;
use crate::worker::{SlotChanges, Slots, Stop};

/// For how much longer a start or a stop may take each time that we say so, in microseconds. After that we hang.
const EXTENSION: u32 = 30_000_000;
/// How often we say so.
const EXTEND: Duration = Duration::from_secs(5);
/// How soon it is said again what we do.
const SELDOM: Duration = Duration::from_secs(1);
/// The most of a reason that is said, in characters.
const MAX_REASON: usize = 300;

/// Tells systemd; nothing where there is none.
pub(super) fn notify(state: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(state) {
        warn!("systemd cannot be told: {e}");
    }
}

/// Says that the start takes longer because the store is away.
pub(super) fn waits(why: &str) {
    notify(&[NotifyState::Status(&waiting(why)), NotifyState::ExtendTimeoutUsec(EXTENSION)]);
}

/// Says that what was read at the start is being read again; systemd waits until we are ready once more.
pub(super) fn reload(read: impl FnOnce()) {
    let now = NotifyState::monotonic_usec_now();
    notify(&[NotifyState::Reloading].into_iter().chain(now).collect::<Vec<_>>());
    read();
    notify(&[NotifyState::Ready]);
}

fn waiting(why: &str) -> String {
    // What is one line to us may be several assignments to systemd.
    let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect();
    format!("waiting for the store: {why}")
}

/// What can be said of a process.
pub(super) struct Figures {
    slots: Option<(Arc<Slots>, SlotChanges)>,
    /// It does something beside running jobs, and does not end when it takes no more of them.
    serves: bool,
    leads: watch::Receiver<bool>,
    outage: watch::Receiver<Option<String>>,
    stop: watch::Receiver<Stop>,
}

impl Figures {
    /// Those of a worker.
    pub(super) fn of_worker(
        queue: &Queue,
        slots: Arc<Slots>,
        leads: watch::Receiver<bool>,
        stop: watch::Receiver<Stop>,
    ) -> Self {
        Self { serves: false, ..Self::of_coordinator(queue, Some(slots), leads, stop) }
    }

    /// Those of a coordinator, which may run jobs.
    pub(super) fn of_coordinator(
        queue: &Queue,
        slots: Option<Arc<Slots>>,
        leads: watch::Receiver<bool>,
        stop: watch::Receiver<Stop>,
    ) -> Self {
        let slots = slots.map(|slots| (Arc::clone(&slots), slots.changes()));
        Self { slots, serves: true, leads, outage: queue.outage().why(), stop }
    }

    fn is_stopping(&self) -> bool {
        let drained = !self.serves && self.slots.as_ref().is_some_and(|(slots, _)| slots.is_closed());
        *self.stop.borrow() >= Stop::Drain || drained
    }

    fn text(&self, phase: Phase) -> String {
        let mut parts = Vec::new();
        parts.extend(self.outage.borrow().as_deref().map(waiting));
        parts.extend(match phase {
            Phase::Starting => return parts.concat(),
            Phase::Running => self.serves.then(|| "serving".to_owned()),
            Phase::Stopping => Some("draining".to_owned()),
        });
        parts.extend(self.slots.as_ref().map(|(slots, _)| match (slots.running(), slots.total()) {
            (running, 1) => format!("{running} of 1 slot runs a job"),
            (running, total) => format!("{running} of {total} slots run jobs"),
        }));
        parts.extend(self.leads.borrow().then(|| "leading".to_owned()));
        parts.join("; ")
    }

    /// Waits until something of it changes.
    async fn changed(&mut self) {
        let slots = async {
            match &mut self.slots {
                Some((_, changes)) => changes.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = slots => {}
            () = change(&mut self.leads) => {}
            () = change(&mut self.outage) => {}
            () = change(&mut self.stop) => {}
        }
    }
}

/// The next change; none comes where nobody is left to make one.
async fn change<T>(of: &mut watch::Receiver<T>) {
    if of.changed().await.is_err() {
        std::future::pending().await
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Stopping,
}

/// Tells systemd all that there is to tell, from the start of a process to its end; `ready` returns true when it is.
pub(super) async fn tell(ready: impl Future<Output = bool> + Send, mut figures: Figures) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut ready = std::pin::pin!(ready);
    let alive = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let mut phase = Phase::Starting;
    let now = Instant::now();
    let (mut alive_at, mut extend_at, mut look_at) = (now, now + EXTEND, now);
    let mut said = String::new();
    loop {
        if phase == Phase::Running && figures.is_stopping() {
            phase = Phase::Stopping;
            extend_at = Instant::now();
            notify(&[NotifyState::Stopping]);
        }
        let now = Instant::now();
        if now >= look_at {
            let text = figures.text(phase);
            if text != said {
                notify(&[NotifyState::Status(&text)]);
                said = text;
            }
        }
        if phase != Phase::Running && now >= extend_at {
            notify(&[NotifyState::ExtendTimeoutUsec(EXTENSION)]);
            extend_at = now + EXTEND;
        }
        if let Some(every) = alive.filter(|_| phase != Phase::Starting && now >= alive_at) {
            notify(&[NotifyState::Watchdog]);
            alive_at = now + every;
        }
        tokio::select! {
            is_ready = &mut ready, if phase == Phase::Starting => match is_ready {
                true => {
                    phase = Phase::Running;
                    said = figures.text(phase);
                    notify(&[NotifyState::Ready, NotifyState::Status(&said)]);
                }
                false => return, // it never was, and ends
            },
            () = figures.changed(), if now >= look_at => look_at = Instant::now().max(look_at + SELDOM),
            () = sleep_until(look_at), if now < look_at => {}
            () = sleep_until(extend_at), if phase != Phase::Running => {}
            () = sleep_until(alive_at), if alive.is_some() && phase != Phase::Starting => {}
        }
    }
}
