//! A store under load stays small: the leader forgets what is old while jobs come and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orx::daemon::Upkeep;
use orx::job::lanes::Offer;
use orx::job::output::{Chunk, Stream};
use orx::job::state::{Cause, Ending};
use orx::job::{State, WorkerKey};
use orx::ops::Caller;
use orx::ops::enqueue::Enqueue;
use orx::ops::events::ReadEvents;
use orx::ops::jobs::ListJobs;
use orx::ops::lease::{Lease, Leased};
use orx::ops::metrics::Measure;
use orx::ops::prune::Prune;
use orx::ops::register::Register;
use orx::ops::retention::{FindAged, PruneEvents, Retention, SetRetention};
use orx::ops::settle::Report;
use orx::ops::status::Status;
use orx::ops::turn::Turn;
use orx::queue::Queue;
use orx::store::NewWorker;
use orx::time::{Clock as _, Span, SystemClock, Timestamp};

use super::support::*;
use crate::server;

/// Jobs of one wave.
const WAVE: usize = 200;
/// What each writes.
const OUTPUT: usize = 400;
const AGE: Span = Span::from_secs(1);

/// Somebody who submits and runs jobs as fast as the store takes them.
struct Load {
    queue: Queue,
    worker: WorkerKey,
    made: usize,
}

impl Load {
    async fn start(store: &str) -> Self {
        let queue = Queue::open(&store.parse().unwrap(), Caller::local("soak"), Arc::new(SystemClock)).unwrap();
        let worker = orx::worker::new_key().unwrap();
        let row = NewWorker {
            id: worker.id,
            name: "soak".into(),
            host: "here".into(),
            pid: 1,
            offer: Offer::default(),
            slots: WAVE as u32,
            version: "0".into(),
            solo: false,
        };
        let (secret, succeeds) = (worker.secret.clone(), Vec::new());
        let op = Register { worker: row, secret, ttl: TTL, succeeds, doubt: None, jitter: 0.5 };
        queue.call(op).await.unwrap();
        Self { queue, worker, made: 0 }
    }

    /// Whole lives of some jobs: stored, leased, settled with output.
    async fn wave(&mut self) {
        let jobs = (0..WAVE).map(|_| submission(&command(r#""label":{"a":"b"}"#))).collect();
        self.queue.call(Enqueue { jobs }).await.unwrap();
        let lease = Lease {
            worker: self.worker.clone(),
            name: "soak".into(),
            offer: Offer::default(),
            slots: WAVE as u32,
            ttl: TTL,
            only: None,
        };
        let turn = |reports, lease| Turn { worker: self.worker.clone(), reports, lease, pass_over: false };
        let leased = self.queue.call(turn(Vec::new(), Some(lease))).await.unwrap();
        let leased = leased.leased.unwrap().jobs;
        assert_eq!(leased.len(), WAVE);
        let reports = leased.into_iter().map(report).collect();
        self.queue.call(turn(reports, None)).await.unwrap();
        self.made += WAVE;
    }

    /// Bytes of the store, whether in the file already or in the log.
    async fn bytes(&self) -> i64 {
        self.queue.call(Measure {}).await.unwrap().store_bytes
    }

    /// Jobs that are in the store.
    async fn kept(&self) -> i64 {
        let queues = self.queue.call(Status {}).await.unwrap().queues;
        queues.iter().flat_map(|queue| queue.counts.values()).sum()
    }
}

fn report(job: Leased) -> Report {
    let bytes = vec![b'x'; OUTPUT];
    Report {
        fence: job.fence,
        ending: Ending { cause: Cause::Itself, exit_code: Some(0), signal: None, error: None },
        started: None,
        ran: Span::from_secs(1),
        after: Span::MAX,
        output: vec![Chunk { seq: 0, stream: Stream::Stdout, at: Timestamp(0), place: 0, bytes }],
        jitter: 0.5,
        in_run: false,
    }
}

/// Loads the store until the leader has forgotten many times what is kept at once; gives the most jobs and bytes of the
/// first half and of the second.
async fn soak(store: &str) -> [(i64, i64); 2] {
    let mut load = Load::start(store).await;
    let retention = Retention { done_older_than: Some(AGE), max_size: None };
    load.queue.call(SetRetention { retention }).await.unwrap();
    let upkeep = Upkeep::start(load.queue.clone(), "soak".into(), Duration::ZERO);
    let mut halves = [(0, 0); 2];
    for half in &mut halves {
        let end = Instant::now() + Duration::from_millis(2700);
        while Instant::now() < end {
            load.wave().await;
            *half = (half.0.max(load.kept().await), half.1.max(load.bytes().await));
        }
    }
    // Whatever the machine's pace: in the end nothing is left.
    let deadline = Instant::now() + Duration::from_secs(20);
    while load.kept().await > 0 {
        assert!(Instant::now() < deadline, "{} of {} jobs are still there", load.kept().await, load.made);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let events = load.queue.call(ReadEvents { after: 0, limit: 1000 }).await.unwrap();
    assert!(events.len() < 100, "{} events are left of {} jobs", events.len(), load.made);
    upkeep.end().await;
    assert_eq!(load.queue.check().await.unwrap(), []);
    println!("{} jobs: {halves:?}", load.made);
    halves
}

#[tokio::test]
async fn a_file_stays_small_while_jobs_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orx.db");
    let halves = soak(path.to_str().unwrap()).await;
    let [first, second] = halves;
    assert!(second.1 as f64 <= first.1 as f64 * 1.6, "the file grows: {halves:?}");
    let log = std::fs::metadata(dir.path().join("orx.db-wal")).map_or(0, |m| m.len());
    assert!(log <= 32 << 20, "the log has {log} bytes");
}

#[tokio::test]
async fn a_schema_keeps_few_rows_while_jobs_come_and_go() {
    let [first, second] = soak(&server::schema()).await;
    assert!(second.0 as f64 <= first.0 as f64 * 1.6, "rows grow: {first:?} {second:?}");
}

/// Bytes of all files of a store.
fn files(dir: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().flatten();
    files
        .filter(|file| !file.file_name().to_string_lossy().contains("ballast"))
        .map(|f| f.metadata().unwrap().len())
        .sum()
}

#[tokio::test]
async fn the_oldest_jobs_go_while_a_store_is_larger_than_it_may_be() {
    const MOST: u64 = 2 << 20;
    let dir = tempfile::tempdir().unwrap();
    let mut load = Load::start(dir.path().join("orx.db").to_str().unwrap()).await;
    while load.bytes().await < MOST as i64 * 3 / 2 {
        load.wave().await;
    }
    let upkeep = Upkeep::start(load.queue.clone(), "soak".into(), Duration::ZERO);
    for round in 0..2 {
        // To say something else makes it look at once.
        let max_size = Some(MOST + round);
        load.queue.call(SetRetention { retention: Retention { done_older_than: None, max_size } }).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while files(dir.path()) > MOST + (1 << 20) {
            assert!(Instant::now() < deadline, "{} bytes are left, {} in use", files(dir.path()), load.bytes().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let jobs = load.queue.call(ListJobs { limit: 1, ..ListJobs::default() }).await.unwrap().jobs;
        assert_eq!(jobs[0].number, load.made as i64, "the newest stays");
        assert!(load.kept().await > 300, "no more go than must");
        println!("{} of {} jobs in {} bytes", load.kept().await, load.made, files(dir.path()));
        for _ in 0..5 {
            load.wave().await;
        }
    }
    upkeep.end().await;
    assert_eq!(load.queue.check().await.unwrap(), []);
}

on_every_store! {
    async fn only_what_is_old_final_and_needed_by_nobody_is_forgotten_by_itself(f: Fixture) {
        let (a, b) = (f.add("").await, f.add("").await);
        let waits = f.add(&format!(r#""after":["{b}:ended"]"#)).await;
        let failed = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 0).await;
        let running = w.take().await;
        w.exit(w.take().await, 1).await;
        f.sweep().await; // somebody leads
        let find = || f.queue.call(FindAged { after: 0, older_than: Span::from_secs(60) });
        assert_eq!(find().await.unwrap().numbers, [0; 0], "too young");
        f.clock.pass(Span::from_secs(61));
        let found = find().await.unwrap();
        assert_eq!((found.numbers.clone(), found.next), (vec![a], None), "not {b}, {waits}, {failed}");
        assert_eq!(f.state(failed).await, State::Failed, "a dead letter");
        // Who leads no more forgets nothing.
        let prune = |epoch| Prune { numbers: found.numbers.clone(), before: found.before, dead: false, epoch };
        assert_eq!(f.queue.call(prune(Some(7))).await.unwrap(), 0);
        assert_eq!(f.queue.call(prune(Some(1))).await.unwrap(), 1);
        w.exit(running, 0).await;
        assert_eq!(f.state(waits).await, State::Pending);
    }

    async fn old_events_of_no_job_are_forgotten_in_order_and_the_audit_holds(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        let number = f.add("").await;
        w.exit(w.take().await, 0).await;
        f.sweep().await;
        f.clock.pass(Span::from_secs(60));
        let before = Timestamp(f.clock.now().0 - 1000);
        let retention = Retention { done_older_than: Some(Span::from_secs(9)), max_size: None };
        f.queue.call(SetRetention { retention }).await.unwrap();
        let prune = |epoch| f.queue.call(PruneEvents { after: 0, before, epoch });
        assert_eq!(prune(7).await.unwrap(), None);
        let all = f.queue.call(ReadEvents { after: 0, limit: 100 }).await.unwrap();
        assert_eq!(prune(1).await.unwrap(), None);
        let left = f.queue.call(ReadEvents { after: 0, limit: 100 }).await.unwrap();
        let (young, old): (Vec<_>, Vec<_>) = left.iter().partition(|e| e.at >= before);
        assert!(!young.is_empty() && old.iter().all(|e| e.number == Some(number)), "{left:?}");
        assert!(left.len() < all.len());
        assert_eq!(f.audit().await, []);
    }

    async fn pages_of_jobs_that_stay_are_passed_over(f: Fixture) {
        let jobs = (0..600).map(|_| submission(&command(""))).collect();
        f.queue.call(Enqueue { jobs }).await.unwrap();
        f.clock.pass(Span::from_secs(61));
        let find = |after| f.queue.call(FindAged { after, older_than: Span::from_secs(60) });
        let found = find(0).await.unwrap();
        let last = found.next.expect("more follow");
        assert!(found.numbers.is_empty() && last >= 500);
        assert_eq!(find(last).await.unwrap().next, None);
        let all = f.queue.call(ListJobs { limit: 50, ..ListJobs::default() }).await.unwrap();
        assert_eq!(all.jobs.len(), 50);
    }
}
