use std::collections::BTreeMap;

use tokio::sync::watch;

use super::*;
use crate::error::Error;
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
use crate::worker::starts::Starts;
use crate::worker::{Config, Shared, Slots, Stop};

fn worker() -> Worker {
    worker_of(Queue::open(&Location::Memory, Caller::local("test"), Arc::new(SystemClock)).unwrap())
}

fn worker_of(queue: Queue) -> Worker {
    let config = Config {
        key: crate::worker::new_key().unwrap(),
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
        until_done: None,
        idle_timeout: None,
        finish_when_lost: false,
        only: None,
        cancel: None,
        tee: None,
        delegated: false,
        owns_name: false,
        predecessors: Vec::new(),
    };
    let shared = Shared {
        queue,
        clock: Arc::new(SystemClock),
        spawner: Spawner::of_process().unwrap(),
        starts: Starts::new(2),
        config,
        secret: [0; 16],
        socket: None,
        talkers: Talkers::default(),
        cgroups: None,
    };
    Worker::new(Arc::new(shared), Slots::new(2).own(), watch::channel(Stop::Run).1)
}

#[tokio::test]
async fn work_that_is_announced_during_a_turn_is_asked_for_after_it() {
    let nothing = || TurnReply {
        settled: Vec::new(),
        leased: Some(LeaseReply { jobs: Vec::new(), next_timer: None, held_up: false }),
    };
    let asked = |number| Asked { number, settling: Vec::new(), slots: 2, busy: Vec::new() };
    let mut worker = worker();
    worker.turn();
    worker.turned(asked(1), Ok((Instant::now(), nothing()))).unwrap();
    assert!(!worker.hopes(), "there was nothing, and nothing was heard of since");
    worker.hear(Topics::WORK);
    worker.turn();
    worker.hear(Topics::WORK); // stored after the lease looked, and heard of before its answer
    worker.turned(asked(2), Ok((Instant::now(), nothing()))).unwrap();
    assert!(worker.hopes(), "what was announced would wait for the next look");
    worker.turn();
    worker.turned(asked(3), Ok((Instant::now(), nothing()))).unwrap();
    assert!(!worker.hopes());
}

fn report(fence: Fence) -> Report {
    let ending = Ending { cause: Cause::Itself, exit_code: Some(0), signal: None, error: None };
    let ran = Span::from_millis(1);
    Report { fence, ending, started: None, ran, after: Span::MAX, output: vec![], jitter: 0.5, in_run: false }
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
        unread: None,
    }
}

/// The worker runs both jobs after this, and turn 1 has been answered.
fn two_jobs(worker: &mut Worker) -> [Fence; 2] {
    let fences = [1, 2].map(|number| Fence { number, attempt: 1 });
    worker.turn();
    let lease = LeaseReply { jobs: fences.map(leased).into(), next_timer: None, held_up: false };
    let asked = Asked { number: 1, settling: vec![], slots: 2, busy: Vec::new() };
    worker.turned(asked, Ok((Instant::now(), TurnReply { settled: vec![], leased: Some(lease) }))).unwrap();
    assert_eq!(worker.running.len(), 2);
    fences
}

fn under_way(worker: &Worker) -> Vec<u64> {
    worker.turning.iter().map(|turn| turn.number).collect()
}

fn answer(number: u64, settled: &[Fence], jobs: Vec<Leased>) -> (Asked, Result<(Instant, TurnReply)>) {
    let asked = Asked { number, settling: settled.into(), slots: 1, busy: Vec::new() };
    let leased = Some(LeaseReply { jobs, next_timer: None, held_up: false });
    let settled = settled.iter().map(|_| Settled::Accepted(State::Done)).collect();
    (asked, Ok((Instant::now(), TurnReply { settled, leased })))
}

#[tokio::test]
async fn what_ends_during_a_turn_shares_the_next_one_unless_nothing_runs_any_more() {
    let mut worker = worker();
    let [first, second] = two_jobs(&mut worker);
    worker.ended(report(first));
    worker.turn();
    worker.turn();
    assert_eq!((under_way(&worker), worker.ended.len()), (vec![2], 0), "nothing else to say");
    worker.ended(report(second));
    worker.turn();
    assert_eq!(under_way(&worker), [2, 3], "nothing else could share it");
    worker.ended(report(Fence { number: 3, attempt: 1 }));
    worker.turn();
    assert_eq!((under_way(&worker), worker.ended.len()), (vec![2, 3], 1), "two at most");
}

#[tokio::test]
async fn a_turn_beside_another_starts_nothing_again_and_does_not_know_that_there_is_no_more() {
    let mut worker = worker();
    let [first, second] = two_jobs(&mut worker);
    worker.ended(report(first));
    worker.turn();
    worker.ended(report(second));
    worker.turn();
    let third = Fence { number: 3, attempt: 1 };
    let (asked, reply) = answer(3, &[second], vec![leased(third)]);
    worker.turned(asked, reply).unwrap();
    assert!(worker.running.contains_key(&third), "it got what it asked for");
    // The commit of the older one was of unknown outcome: it names all that the store says this worker holds.
    let (asked, reply) = answer(2, &[first], vec![leased(second)]);
    worker.turned(asked, reply).unwrap();
    assert_eq!(worker.running.keys().collect::<Vec<_>>(), [&third], "the second job was settled already");
    assert!(worker.settled.is_empty(), "no answer can name them any more");
    worker.turn(); // for the free slot
    worker.ended(report(third));
    worker.turn();
    for (number, settled) in [(4, &[][..]), (5, &[third][..])] {
        let (asked, reply) = answer(number, settled, vec![]);
        worker.turned(asked, reply).unwrap();
        assert!(worker.hopes(), "what one of them freed the other may have missed");
    }
    worker.turn();
    let (asked, reply) = answer(6, &[], vec![]);
    worker.turned(asked, reply).unwrap();
    assert!(!worker.hopes(), "alone it knows");
}

#[tokio::test]
async fn a_job_that_an_interrupted_worker_gets_all_the_same_is_interrupted_too() {
    let mut worker = worker();
    worker.turn();
    (worker.draining, worker.interrupted) = (Some(Instant::now()), true);
    let mut job = leased(Fence { number: 1, attempt: 1 });
    job.spec.command = Some(["sleep", "300"].map(String::from).into());
    let (asked, reply) = answer(1, &[], vec![job]);
    worker.turned(asked, reply).unwrap();
    let ended = async {
        loop {
            if let Some(Ok(Back::Ended(report))) = worker.tasks.join_next().await {
                return report.ending.cause;
            }
        }
    };
    let cause = tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
    assert_eq!(cause, Cause::Drain);
}

#[tokio::test]
async fn a_home_that_does_not_answer_keeps_no_slots_and_what_it_gave_is_begun_later() {
    let slots = Slots::new(2);
    let own = slots.own();
    own.hope(false);
    let guest = WorkerId(uuid::Uuid::now_v7());
    let mut worker = Worker { seat: slots.guest(guest), ..worker() };
    slots.give_turn(guest);
    worker.turn();
    assert_eq!(slots.free(), 0);
    worker.turning[0].gives_back_at = Some(Instant::now());
    worker.give_up_slots();
    assert_eq!((slots.free(), worker.hopes()), (2, false));
    worker.ended(report(Fence { number: 7, attempt: 1 }));
    worker.turn();
    assert_eq!(under_way(&worker), [1, 2], "what ended does not wait for that answer");
    let (asked, reply) = answer(1, &[], vec![leased(Fence { number: 1, attempt: 1 })]);
    worker.turned(asked, reply).unwrap();
    assert_eq!((slots.free(), worker.running.len()), (1, 1), "nobody else could run it");
}

#[tokio::test]
async fn a_worker_that_was_idle_for_long_enough_and_may_not_end_sleeps() {
    let mut worker = worker();
    worker.renew_at = Instant::now() + Duration::from_secs(60);
    worker.beat_at = worker.renew_at;
    Arc::get_mut(&mut worker.shared).unwrap().config.idle_timeout = Some(Span::from_millis(1));
    worker.idle_since = Instant::now() - Duration::from_secs(1);
    assert!(worker.wake_at(Instant::now()) > Instant::now() + Duration::from_secs(1));
}

#[tokio::test]
async fn a_job_whose_lease_is_old_when_it_comes_starts_when_that_is_renewed() {
    let mut worker = worker();
    let fences = [1, 2].map(|number| Fence { number, attempt: 1 });
    worker.turn();
    let lease = LeaseReply { jobs: fences.map(leased).into(), next_timer: None, held_up: false };
    let asked = Asked { number: 1, settling: vec![], slots: 2, busy: Vec::new() };
    let long_ago = Instant::now() - Config::DEFAULT_TTL.duration();
    worker.turned(asked, Ok((long_ago, TurnReply { settled: vec![], leased: Some(lease) }))).unwrap();
    worker.give_up_late_ones();
    assert!(worker.running.is_empty() && worker.renew_at <= Instant::now() && worker.seat.take(u32::MAX) == 0);
    let now = Instant::now();
    worker.renewed(&fences, now, Ok((now, vec![Renewed::Busy, Renewed::Stale]))).unwrap();
    assert!(worker.running.is_empty() && worker.seat.take(u32::MAX) == 1, "the slot of the one that is lost is free");
    worker.renewed(&fences[..1], now, Ok((now, vec![Renewed::Held]))).unwrap();
    assert!(worker.running.contains_key(&fences[0]) && worker.unsure.is_empty());
}

#[tokio::test]
async fn s2_a_job_is_kept_while_nobody_could_take_it_and_no_longer() {
    let mut worker = worker_of(Queue::connect("http://127.0.0.1:1", None).unwrap()); // never called
    let [first, second] = two_jobs(&mut worker);
    let lease = Config::DEFAULT_TTL.duration();
    let age = |worker: &mut Worker| {
        for job in worker.running.values_mut() {
            (job.renewed, job.busy_until) = (Instant::now() - lease, None);
        }
    };
    let late = |worker: &mut Worker, fence| {
        worker.give_up_late_ones();
        std::mem::take(&mut worker.running.get_mut(&fence).unwrap().late)
    };
    let down = || Error::unavailable("the disk is full");
    let now = Instant::now();
    age(&mut worker);
    worker.renewed(&[first, second], now, Err(down().for_everyone())).unwrap();
    assert!(!late(&mut worker, first) && !late(&mut worker, second), "nobody can write");
    worker.renewed(&[first, second], now, Ok((now, vec![Renewed::Busy, Renewed::Held]))).unwrap();
    assert!(!late(&mut worker, first) && !late(&mut worker, second), "it was kept before, and somebody has it locked");
    age(&mut worker);
    worker.renewed(&[first, second], now, Ok((now, vec![Renewed::Busy, Renewed::Held]))).unwrap();
    assert!(!late(&mut worker, first), "nobody else can take what somebody has locked");
    worker.running.get_mut(&first).unwrap().busy_until = Some(now);
    assert!(late(&mut worker, first), "nothing was heard for too long");
    age(&mut worker);
    worker.renewed(&[first, second], now, Err(down())).unwrap();
    assert!(late(&mut worker, first) && late(&mut worker, second), "others may be able to write");
}
