//! The upkeep of a store: done by whichever long-lived process leads, handed over when that one ends (S30).

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::retention::keep_small;
use super::ticker::keep_time;
use crate::beat::on_beat;
use crate::error::{Kind, Result};
use crate::hub::Subscription;
use crate::ops::lead::{Lead, MayLead, Resign, Right};
use crate::ops::sweep::{Due, Sweep, SweepDue, Swept};
use crate::queue::Queue;
use crate::store::{Claim, Topics};
use crate::time::Span;
use crate::worker::chance;

/// How often the leader looks whether there is something to do, and the others whether there is a leader.
const LOOK: Duration = Duration::from_secs(1);
/// How often the leader says that it lives, though there was nothing to do, and looks though nothing can be due; more often
/// where a shorter silence would cost it the lead.
const SAY: Duration = Duration::from_secs(5);
/// For so long it may be held up, whatever the silence is that would cost it the lead.
const STALL: Duration = Duration::from_secs(2);
/// How long after a death of a peer leases are looked at more often: its leases end within that time.
const CLOSELY: Duration = Duration::from_secs(20);
/// And how much more often.
const CLOSER: u32 = 10;
/// How long holders of expired leases have to renew them after the store was seen to take writes (S2).
const PATIENCE: Duration = Duration::from_millis(600);
/// How long letting go of the lead may take.
const RESIGN_LIMIT: Duration = Duration::from_secs(2);

/// Does the upkeep whenever this process leads, which `leads` hears, and takes over when nobody does; lets go when `stop` becomes true.
///
/// `away`: so long holders of leases could not reach the store until now. After the instants of `deaths` it looks more
/// often at leases, which end no sooner by that.
pub async fn upkeep(
    queue: Queue,
    name: String,
    mut away: Option<Span>,
    deaths: watch::Receiver<Option<Instant>>,
    leads: &watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut changes = queue.subscribe(Topics::CONTROL).inspect_err(|e| warn!("upkeep cannot listen: {e}")).ok();
    while !*stop.borrow() {
        let led = lead(&queue, &name, away, &deaths, leads, &mut stop).await;
        leads.send_if_modified(std::mem::take);
        match led {
            Ok(()) => away = None,
            Err(e) if e.kind() == Kind::Unavailable => {
                away = Some(Span::MAX);
                queue.outage().say("upkeep waits", &e);
            }
            Err(e) => queue.outage().say("upkeep failed", &e),
        }
        // A leader that ends says so.
        tokio::select! {
            () = change(&mut changes) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Waits for a word from others, or until it is time to look.
async fn change(changes: &mut Option<Subscription>) {
    match changes {
        Some(changes) => {
            changes.changed(Some(Instant::now() + LOOK)).await;
        }
        None => tokio::time::sleep(LOOK).await,
    }
}

/// Leads for as long as it may; returns at once when another process does.
///
/// Leases are given the time back for which their holders were `away`.
async fn lead(
    queue: &Queue,
    name: &str,
    away: Option<Span>,
    deaths: &watch::Receiver<Option<Instant>>,
    leads: &watch::Sender<bool>,
    stop: &mut watch::Receiver<bool>,
) -> Result<()> {
    let claim = queue.claim_lead().await?;
    let right = match claim {
        Claim::Lock(_) => Right::Lock,
        Claim::Taken => Right::Silence,
    };
    let may = right == Right::Lock || queue.call(MayLead { right }).await?;
    if !may {
        return Ok(());
    }
    let Some(epoch) = queue.call(Lead { name: name.into(), right }).await? else { return Ok(()) };
    info!(epoch, "leading: this process does the upkeep");
    leads.send_replace(true);
    if let Err(e) = queue.ballast(true).await {
        debug!("no room is kept for a full disk: {e}");
    }
    // Apart from the rounds: a round may wait for a while, and no instant may.
    let (clock, broom) = (stop.clone(), stop.clone());
    let led = tokio::select! {
        led = keep_up(queue, epoch, away, deaths, stop) => led,
        led = keep_time(queue, epoch, clock) => led,
        led = keep_small(queue, epoch, broom) => led,
    };
    let _ = tokio::task::spawn_blocking(move || drop(claim)).await; // it may take a word to the server
    if *stop.borrow() {
        // Only to be quicker: without it the others wait until the silence is long enough.
        let resigned = tokio::time::timeout(RESIGN_LIMIT, queue.call(Resign { epoch })).await;
        debug!(epoch, in_time = resigned.is_ok(), "let go of the lead");
    }
    led
}

/// The rounds of one leader, until it is deposed or told to stop.
async fn keep_up(
    queue: &Queue,
    epoch: i64,
    mut away: Option<Span>,
    deaths: &watch::Receiver<Option<Instant>>,
    stop: &mut watch::Receiver<bool>,
) -> Result<()> {
    let mut changes = queue.subscribe(Topics::WORK)?;
    let (mut say, mut more) = (Saying::new(SAY), false);
    while !*stop.borrow() {
        let closely = deaths.borrow().is_some_and(|at| at.elapsed() < CLOSELY);
        let is_due = more || Instant::now() >= say.at;
        let mut quiet = false;
        match round(queue, epoch, is_due, away).await {
            Ok(Round::Swept(Swept::Deposed)) => {
                warn!("another process leads now");
                return Ok(());
            }
            Ok(Round::Swept(Swept::Done { more: again, due, .. })) => {
                (away, more, quiet) = (None, again, due.quiet);
                say = Saying::new(often(due));
                if more {
                    continue;
                }
            }
            Ok(Round::Nothing(due)) => {
                quiet = due.quiet;
                say.hurry(often(due));
            }
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                away = Some(Span::MAX);
                queue.outage().say("upkeep waits", &e);
            }
            Err(e) => return Err(e),
        }
        let rest = async {
            // What changes meanwhile is looked at as late as it is otherwise.
            if !quiet || changes.changed(Some(say.at)).await != Topics::NONE {
                tokio::time::sleep(if closely { LOOK / CLOSER } else { LOOK.min(say.every) }).await;
            }
        };
        tokio::select! {
            () = rest => {}
            _ = stop.changed() => {}
        }
    }
    Ok(())
}

/// How often the leader says that it lives, so that a stall costs it nothing.
fn often(due: Due) -> Duration {
    due.silence.map_or(SAY, |silence| (silence.duration().saturating_sub(STALL) / 2).min(SAY))
}

/// When the leader says next that it lives.
struct Saying {
    at: Instant,
    every: Duration,
}

impl Saying {
    fn new(every: Duration) -> Self {
        Self { at: on_beat(Instant::now() + every, every), every }
    }

    /// From now on it is to be said so often.
    fn hurry(&mut self, every: Duration) {
        let next = Self::new(every);
        self.at = self.at.min(next.at);
        self.every = every;
    }
}

/// What came of a round.
enum Round {
    /// Nothing was to be done.
    Nothing(Due),
    /// What was to be done was done.
    Swept(Swept),
}

/// One round, where something is to be done or it is time to say that the leader lives.
async fn round(queue: &Queue, epoch: i64, say: bool, away: Option<Span>) -> Result<Round> {
    if !say && away.is_none() {
        let due = queue.call(SweepDue {}).await?;
        if !due.any() {
            return Ok(Round::Nothing(due));
        }
    }
    // The heartbeat of this process's worker is due at the same moment: after it, they share a commit.
    tokio::task::yield_now().await;
    let swept = sweep(queue, epoch, Sweep { away, reap: false, ..Sweep::of(epoch, chance()) }).await?;
    if !matches!(swept, Swept::Done { due: Due { expired: true, .. }, .. }) {
        return Ok(Round::Swept(swept));
    }
    if away.is_none() {
        // Leases may have run out because nobody could write for a moment. A write that succeeds tells that it is over,
        // and who is alive renews now.
        tokio::time::sleep(PATIENCE).await;
    }
    sweep(queue, epoch, Sweep::of(epoch, chance())).await.map(Round::Swept)
}

async fn sweep(queue: &Queue, epoch: i64, op: Sweep) -> Result<Swept> {
    let swept = queue.call(op).await?;
    if let Swept::Done { reaped, quarantined, .. } = &swept {
        if !reaped.is_empty() {
            info!(epoch, jobs = ?reaped, "took back jobs whose leases had expired");
        }
        if !quarantined.is_empty() {
            warn!(epoch, jobs = ?quarantined, "put aside jobs that no orx can read: 'orx db check' says why");
        }
    }
    Ok(swept)
}
