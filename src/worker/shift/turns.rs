//! What a worker does between two jobs: it settles those that ended, asks for others and starts them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{Instrument as _, info, warn};

use super::{Asked, Back, MAX_REPORTS, ORDERS, Running, Worker};
use crate::error::{Kind, Result};
use crate::job::Fence;
use crate::job::state::Ending;
use crate::ops::lease::{Lease, LeaseReply, Leased};
use crate::ops::settle::{Report, Settled};
use crate::ops::turn::{Turn, TurnReply};
use crate::time::Span;
use crate::worker::attempt::Attempt;
use crate::worker::program;
use crate::worker::socket::Talker;

/// How long a guest may keep slots that it only asks jobs for.
const GUEST_LIMIT: Duration = Duration::from_secs(2);

impl Worker {
    /// Reports what ended, and asks for jobs where there are free slots and hope; both share one commit.
    pub(super) fn turn(&mut self) {
        if self.turning {
            return;
        }
        // A guest settles first: no slot of others waits for a home that does not answer.
        let settles_only = self.seat.is_guest() && !self.ended.is_empty();
        let slots = if self.hopes() && !settles_only { self.seat.take() } else { 0 };
        if slots == 0 && self.ended.is_empty() {
            return;
        }
        (self.turning, self.announced) = (true, false);
        let rest = self.ended.split_off(self.ended.len().min(MAX_REPORTS));
        let reports = std::mem::replace(&mut self.ended, rest);
        let settling: Vec<Fence> = reports.iter().map(|report| report.fence).collect();
        self.settling.extend(settling.iter().map(|fence| (*fence, Instant::now())));
        let config = self.config();
        let lease = (slots > 0).then(|| Lease {
            worker: config.id,
            name: config.name.clone(),
            offer: config.offer.clone(),
            slots,
            ttl: config.ttl,
            only: config.only,
        });
        let asked = Asked { settling, slots, at: Instant::now() };
        let shared = Arc::clone(&self.shared);
        let limit = self.seat.is_guest().then_some(GUEST_LIMIT);
        self.tasks.spawn(async move {
            let reply = shared.turn(Turn { reports, lease }, limit).await;
            Back::Turned(asked, reply)
        });
    }

    pub(super) fn turned(&mut self, asked: Asked, reply: Result<TurnReply>) -> Result<()> {
        self.turning = false;
        self.settling.retain(|fence, _| !asked.settling.contains(fence));
        let before = self.running.len();
        let result = self.understood(&asked, reply);
        let started = u32::try_from(self.running.len() - before).unwrap_or(u32::MAX);
        self.seat.filled(asked.slots, started);
        result
    }

    fn understood(&mut self, asked: &Asked, reply: Result<TurnReply>) -> Result<()> {
        let reply = match reply {
            Ok(reply) => reply,
            // Only to lease: settling waits until the store takes it.
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
                warn!("cannot lease: {e}");
                self.blind = true;
                self.dry = true; // until the next change or timer
                self.ask_at = Some(Instant::now() + Duration::from_secs(1));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        for (fence, settled) in asked.settling.iter().zip(&reply.settled) {
            let span = self.spans.remove(fence);
            if *settled == Settled::Stale {
                span.unwrap_or_else(tracing::Span::none).in_scope(|| warn!("settled too late: the lease was lost"));
            }
        }
        match reply.leased {
            Some(leased) => self.leased(asked.slots, asked.at, leased),
            // Removed as lost while this process was stopped: it registers again with the next heartbeat.
            None if asked.slots > 0 => {
                self.blind = true;
                self.dry = true;
                self.renew_at = Instant::now();
            }
            None => self.dry = false, // what was settled may have made room
        }
        Ok(())
    }

    fn leased(&mut self, asked: u32, at: Instant, reply: LeaseReply) {
        self.dry = (reply.jobs.len() as u32) < asked && !self.announced;
        // At once again: after a commit of unknown outcome the answer may be less than there is.
        self.blind = reply.next_timer == Some(Span::ZERO);
        // The millisecond more is for the store's clock, which counts whole ones.
        self.ask_at = reply.next_timer.map(|after| Instant::now() + after.duration() + Duration::from_millis(1));
        for job in reply.jobs {
            // After a commit of unknown outcome the answer is all that we hold: also what runs or has ended here.
            let fence = job.fence;
            let ended = || self.ended.iter().any(|report| report.fence == fence);
            if !self.running.contains_key(&fence) && !self.settling.contains_key(&fence) && !ended() {
                self.start(job, at);
            }
        }
    }

    fn start(&mut self, job: Leased, leased_at: Instant) {
        let slot = (1..).find(|n| self.running.values().all(|r| r.slot != *n)).unwrap_or(1);
        let (orders, receiver) = mpsc::channel(ORDERS);
        let started = Arc::new(OnceLock::new());
        let span = tracing::info_span!("job", id = %job.id, number = job.fence.number, attempt = job.fence.attempt,
            queue = %job.queue, trace = %job.captured.trace_id(job.id));
        span.in_scope(|| info!("leased"));
        let marker = program::marker(self.config(), job.fence);
        let mask = Arc::new(OnceLock::new());
        self.shared.talkers.add(&marker, Talker { fence: job.fence, orders: orders.clone(), mask: Arc::clone(&mask) });
        self.running.insert(
            job.fence,
            Running {
                span: span.clone(),
                slot,
                orders,
                started: Arc::clone(&started),
                told: false,
                service: job.spec.is_service(),
                grace: job.spec.kill_grace().duration(),
                renewed: leased_at,
                late: false,
                cancelling: None,
            },
        );
        let attempt = Attempt { shared: Arc::clone(&self.shared), job, slot, orders: receiver, started, mask };
        self.tasks.spawn(async move { Back::Ended(attempt.run().await) }.instrument(span));
    }

    /// Frees the slot; the next turn reports it and asks for another job.
    pub(super) fn ended(&mut self, mut report: Report) {
        let fence = report.fence;
        self.shared.talkers.remove(&program::marker(self.config(), fence));
        if let Some(job) = self.running.remove(&fence) {
            self.seat.give_back(1);
            let Ending { cause, exit_code, signal, .. } = &report.ending;
            job.span.in_scope(|| info!(by = cause.as_str(), exit_code, signal, "ended"));
            if job.told {
                report.started = None;
            }
            self.spans.insert(fence, job.span);
        }
        self.idle_since = Instant::now();
        self.dry = false; // a slot, and maybe room under a limit, is free
        self.ended.push(report);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::sync::watch;

    use super::*;
    use crate::job::WorkerId;
    use crate::job::lanes::Offer;
    use crate::job::schemas::Schemas;
    use crate::ops::Caller;
    use crate::queue::Queue;
    use crate::store::{Location, Topics};
    use crate::time::SystemClock;
    use crate::worker::secrets::Places;
    use crate::worker::socket::Talkers;
    use crate::worker::spawn::Spawner;
    use crate::worker::{Config, Shared, Slots, Stop};

    fn worker() -> Worker {
        let config = Config {
            id: WorkerId(uuid::Uuid::now_v7()),
            name: "w".into(),
            host: "h".into(),
            store_id: "s".into(),
            offer: Offer::default(),
            slots: 2,
            ttl: Config::DEFAULT_TTL,
            drain_timeout: Config::DEFAULT_DRAIN,
            max_output: Config::DEFAULT_OUTPUT,
            handlers: BTreeMap::new(),
            schemas: Schemas::default(),
            secrets: Places::default(),
            burst: false,
            idle_timeout: None,
            finish_when_lost: false,
            only: None,
            owns_name: false,
            after_a_death: false,
        };
        let clock = Arc::new(SystemClock);
        let shared = Shared {
            queue: Queue::open(&Location::Memory, Caller::local("test"), clock.clone()).unwrap(),
            clock,
            spawner: Spawner::start().unwrap(),
            config,
            socket: None,
            talkers: Talkers::default(),
            cgroups: None,
        };
        Worker::new(Arc::new(shared), Slots::new(2).own(), watch::channel(Stop::Run).1)
    }

    #[tokio::test]
    async fn work_that_is_announced_during_a_turn_is_asked_for_after_it() {
        let nothing =
            || TurnReply { settled: Vec::new(), leased: Some(LeaseReply { jobs: Vec::new(), next_timer: None }) };
        let asked = || Asked { settling: Vec::new(), slots: 2, at: Instant::now() };
        let mut worker = worker();
        worker.turn();
        worker.turned(asked(), Ok(nothing())).unwrap();
        assert!(!worker.hopes(), "there was nothing, and nothing was heard of since");
        worker.hear(Topics::WORK);
        worker.turn();
        worker.hear(Topics::WORK); // stored after the lease looked, and heard of before its answer
        worker.turned(asked(), Ok(nothing())).unwrap();
        assert!(worker.hopes(), "what was announced would wait for the next look");
        worker.turn();
        worker.turned(asked(), Ok(nothing())).unwrap();
        assert!(!worker.hopes());
    }
}
