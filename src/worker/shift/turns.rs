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

/// How many turns may be under way.
const MAX_TURNS: usize = 2;
/// How many turns later than the oldest one under way another may be.
const MAX_AHEAD: u64 = 64;
/// How long a guest may keep slots that it only asks jobs for.
const GUEST_LIMIT: Duration = Duration::from_secs(2);

impl Worker {
    /// Reports what ended, and asks for jobs where there are free slots and hope; both share one commit.
    pub(super) fn turn(&mut self) {
        if !self.may_turn() {
            return;
        }
        // A guest settles first: no slot of others waits for a home that does not answer.
        let settles_only = self.seat.is_guest() && !self.ended.is_empty();
        let slots = if self.hopes() && !settles_only { self.seat.take() } else { 0 };
        if slots == 0 && self.ended.is_empty() {
            return;
        }
        (self.asked, self.announced) = (self.asked + 1, false);
        self.turning.push(self.asked);
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
        let asked = Asked { number: self.asked, settling, slots, at: Instant::now() };
        let shared = Arc::clone(&self.shared);
        let limit = self.seat.is_guest().then_some(GUEST_LIMIT);
        self.tasks.spawn(async move {
            let reply = shared.turn(Turn { reports, lease }, limit).await;
            Back::Turned(asked, reply)
        });
    }

    /// What ends during a turn shares the next one with whatever ends until then; where nothing runs any more that could,
    /// it does not wait.
    fn may_turn(&self) -> bool {
        let Some(oldest) = self.turning.first() else { return true };
        let alone = self.running.is_empty() && !self.ended.is_empty() && !self.is_guest();
        alone && self.turning.len() < MAX_TURNS && self.asked - oldest < MAX_AHEAD
    }

    pub(super) fn turned(&mut self, asked: Asked, reply: Result<TurnReply>) -> Result<()> {
        self.turning.retain(|number| *number != asked.number);
        let before = self.running.len();
        let result = self.understood(&asked, reply);
        self.settling.retain(|fence, _| !asked.settling.contains(fence));
        self.settled.extend(asked.settling.iter().map(|fence| (*fence, self.asked)));
        let oldest = self.turning.first().copied().unwrap_or(u64::MAX);
        self.settled.retain(|_, asked| *asked >= oldest);
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
            Some(leased) => self.leased(asked, leased),
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

    fn leased(&mut self, asked: &Asked, reply: LeaseReply) {
        if asked.number > self.answered {
            self.answered = asked.number;
            self.dry = (reply.jobs.len() as u32) < asked.slots && !self.announced;
            // At once again: after a commit of unknown outcome the answer may be less than there is.
            self.blind = reply.next_timer == Some(Span::ZERO);
            // The millisecond more is for the store's clock, which counts whole ones.
            self.ask_at = reply.next_timer.map(|after| Instant::now() + after.duration() + Duration::from_millis(1));
        }
        for job in reply.jobs {
            if !self.knows(job.fence) {
                self.start(job, asked.at);
            }
        }
    }

    /// After a commit of unknown outcome the answer is all that we hold: also what runs or has ended here.
    fn knows(&self, fence: Fence) -> bool {
        self.running.contains_key(&fence)
            || self.settling.contains_key(&fence)
            || self.settled.contains_key(&fence)
            || self.ended.iter().any(|report| report.fence == fence)
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
    use crate::job::lanes::Offer;
    use crate::job::schemas::Schemas;
    use crate::job::state::Cause;
    use crate::job::{Captured, JobId, JobSpec, Origin, State, WorkerId};
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
        let asked = |number| Asked { number, settling: Vec::new(), slots: 2, at: Instant::now() };
        let mut worker = worker();
        worker.turn();
        worker.turned(asked(1), Ok(nothing())).unwrap();
        assert!(!worker.hopes(), "there was nothing, and nothing was heard of since");
        worker.hear(Topics::WORK);
        worker.turn();
        worker.hear(Topics::WORK); // stored after the lease looked, and heard of before its answer
        worker.turned(asked(2), Ok(nothing())).unwrap();
        assert!(worker.hopes(), "what was announced would wait for the next look");
        worker.turn();
        worker.turned(asked(3), Ok(nothing())).unwrap();
        assert!(!worker.hopes());
    }

    fn report(fence: Fence) -> Report {
        let ending = Ending { cause: Cause::Itself, exit_code: Some(0), signal: None, error: None };
        let ran = Span::from_millis(1);
        Report { fence, ending, started: None, ran, output: vec![], jitter: 0.5, in_run: false }
    }

    fn leased(fence: Fence) -> Leased {
        let spec = JobSpec { command: Some(vec!["true".into()]), ..JobSpec::default() };
        Leased {
            fence,
            id: JobId(uuid::Uuid::now_v7()),
            queue: "default".into(),
            tenant: "default".into(),
            spec,
            captured: Captured::default(),
            origin: Origin::default(),
            lost: false,
            results: vec![],
        }
    }

    /// The worker runs both jobs after this, and turn 1 has been answered.
    fn two_jobs(worker: &mut Worker) -> [Fence; 2] {
        let fences = [1, 2].map(|number| Fence { number, attempt: 1 });
        worker.turn();
        let lease = LeaseReply { jobs: fences.map(leased).into(), next_timer: None };
        let asked = Asked { number: 1, settling: vec![], slots: 2, at: Instant::now() };
        worker.turned(asked, Ok(TurnReply { settled: vec![], leased: Some(lease) })).unwrap();
        assert_eq!(worker.running.len(), 2);
        fences
    }

    #[tokio::test]
    async fn what_ends_during_a_turn_shares_the_next_one_unless_nothing_runs_any_more() {
        let mut worker = worker();
        let [first, second] = two_jobs(&mut worker);
        worker.ended(report(first));
        worker.turn();
        worker.turn();
        assert_eq!((worker.turning.as_slice(), worker.ended.len()), ([2].as_slice(), 0), "nothing else to say");
        worker.ended(report(second));
        worker.turn();
        assert_eq!(worker.turning, [2, 3], "nothing else could share it");
        worker.ended(report(Fence { number: 3, attempt: 1 }));
        worker.turn();
        assert_eq!((worker.turning.as_slice(), worker.ended.len()), ([2, 3].as_slice(), 1), "two at most");
    }

    #[tokio::test]
    async fn an_older_turn_whose_answer_is_late_starts_nothing_again_and_tells_nothing_new() {
        let mut worker = worker();
        let [first, second] = two_jobs(&mut worker);
        worker.ended(report(first));
        worker.turn();
        worker.ended(report(second));
        worker.turn();
        let answer = |number, settled: Fence, jobs: Vec<Leased>| {
            let asked = Asked { number, settling: vec![settled], slots: 1, at: Instant::now() };
            let leased = Some(LeaseReply { jobs, next_timer: None });
            (asked, Ok(TurnReply { settled: vec![Settled::Accepted(State::Done)], leased }))
        };
        let third = Fence { number: 3, attempt: 1 };
        let (asked, reply) = answer(3, second, vec![leased(third)]);
        worker.turned(asked, reply).unwrap();
        assert!(worker.hopes() && worker.running.contains_key(&third), "it got what it asked for");
        let (asked, reply) = answer(2, first, vec![]);
        // Its commit was of unknown outcome, so it names whatever the store says that this worker holds.
        let reply = reply.map(|reply| TurnReply {
            leased: Some(LeaseReply { jobs: vec![leased(second)], next_timer: None }),
            ..reply
        });
        worker.turned(asked, reply).unwrap();
        assert_eq!(worker.running.keys().collect::<Vec<_>>(), [&third], "the second job was settled already");
        assert!(worker.settled.is_empty(), "no answer can name them any more");
        let (asked, reply) = answer(1, first, vec![]);
        worker.turned(asked, reply).unwrap();
        assert!(worker.hopes(), "what an older turn did not find may be there by now");
    }
}
