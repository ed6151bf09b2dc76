//! Tenants: one with very many pending jobs, and at its limit, makes no other wait longer for a lease (S14).

use std::time::{Duration, Instant};

use orx::job::lanes::Offer;
use orx::job::state::{Cause, Ending};
use orx::job::{Fence, JobId, Submission, WorkerKey};
use orx::ops::enqueue::{Enqueue, MAX_BATCH};
use orx::ops::lease::Lease;
use orx::ops::policies::{LimitChange, SetTenant};
use orx::ops::register::Register;
use orx::ops::settle::{Report, Settle};
use orx::queue::Queue;
use orx::store::NewWorker;
use orx::time::Span;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::table::Table;
use super::world::{World, full};

const TTL: Span = Span::from_secs(3600);
/// How much longer a lease may take beside the crowd; on a busy machine, where tests are not the only work, more.
const PROMISED: f64 = 1.3;
const BUSY: f64 = 2.0;
/// A busy machine may disturb one measurement, but not each.
const TRIES: usize = 5;

#[test]
fn tenants_with_very_many_pending_jobs_do_not_slow_the_leases_of_others_on_postgres() {
    measure(&World::on_postgres());
}

#[test]
fn tenants_with_very_many_pending_jobs_do_not_slow_the_leases_of_others_on_sqlite() {
    measure(&World::on_file());
}

fn measure(world: &World) {
    let (crowd, rounds) = if full() { (1_000_000, 500) } else { (20_000, 100) };
    let title = format!("Leases of a tenant beside one with {crowd} pending jobs at its limit, {}", world.kind());
    let mut table = Table::new(title);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let queue = world.queue();
        let worker = register(&queue).await;
        measure_one(&queue, &worker, rounds).await; // warm
        let empty = best(&queue, &worker, rounds).await;

        let begun = Instant::now();
        let change = LimitChange { max_running: Some(1), max_queued: None, ..LimitChange::default() };
        queue.call(SetTenant { tenant: "big".into(), change }).await.unwrap();
        let mut left = crowd;
        while left > 0 {
            let jobs = (0..left.min(MAX_BATCH)).map(|_| job("big")).collect::<Vec<_>>();
            left -= jobs.len();
            queue.call(Enqueue { jobs }).await.unwrap();
        }
        table.fact("stored a second", format!("{:.0}", crowd as f64 / begun.elapsed().as_secs_f64()));
        let running = lease(&queue, &worker, 8).await;
        assert_eq!(running.len(), 1, "one of them runs, and one may");

        let beside = best(&queue, &worker, rounds).await;
        let factor = beside.as_secs_f64() / empty.as_secs_f64();
        table.fact("a lease in an empty store", format!("{} µs", empty.as_micros()));
        table.fact("a lease beside the crowd", format!("{} µs", beside.as_micros()));
        table.at_most("factor", (factor * 100.0).round() / 100.0, if full() { PROMISED } else { BUSY });
    });
    table.finish();
}

/// The least of some medians.
async fn best(queue: &Queue, worker: &WorkerKey, rounds: usize) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        best = best.min(measure_one(queue, worker, rounds).await);
    }
    best
}

/// The median time to lease the only job of a small tenant.
async fn measure_one(queue: &Queue, worker: &WorkerKey, rounds: usize) -> Duration {
    let mut took = Vec::new();
    for _ in 0..rounds {
        let stored = queue.call(Enqueue { jobs: vec![job("small")] }).await.unwrap()[0].number;
        let begun = Instant::now();
        let got = lease(queue, worker, 1).await;
        took.push(begun.elapsed());
        assert_eq!(got.iter().map(|fence| fence.number).collect::<Vec<_>>(), [stored]);
        settle(queue, worker, got[0]).await;
    }
    took.sort_unstable();
    took[took.len() / 2]
}

fn job(tenant: &str) -> Submission {
    let spec = serde_json::from_str(&format!(r#"{{"command":["true"],"tenant":"{tenant}"}}"#)).unwrap();
    let id = JobId(Uuid::now_v7());
    Submission { id, spec, captured: Default::default(), origin: Default::default(), line: None }
}

async fn register(queue: &Queue) -> WorkerKey {
    let key = orx::worker::new_key().unwrap();
    let worker = NewWorker {
        id: key.id,
        name: "w".into(),
        host: "here".into(),
        pid: std::process::id(),
        offer: Offer::default(),
        slots: 8,
        version: "0".into(),
        solo: false,
    };
    let secret = key.secret.clone();
    queue.call(Register { worker, secret, ttl: TTL, succeeds: Vec::new(), doubt: None, jitter: 0.5 }).await.unwrap();
    key
}

async fn lease(queue: &Queue, worker: &WorkerKey, slots: u32) -> Vec<Fence> {
    let worker = worker.clone();
    let op = Lease { worker, name: "w".into(), offer: Offer::default(), slots, ttl: TTL, only: None };
    queue.call(op).await.unwrap().jobs.iter().map(|job| job.fence).collect()
}

async fn settle(queue: &Queue, worker: &WorkerKey, fence: Fence) {
    let ending = Ending { cause: Cause::Itself, exit_code: Some(0), signal: None, error: None };
    let ran = Span::from_millis(1);
    let report =
        Report { fence, ending, started: None, ran, after: Span::MAX, output: vec![], jitter: 0.5, in_run: false };
    queue.call(Settle { worker: worker.clone(), reports: vec![report] }).await.unwrap();
}
