//! How many Ops a second: `cargo bench`. A store of its own in a temporary directory, `synchronous=FULL`; and one in a
//! schema of its own on the PostgreSQL server that `ORX_BENCH_POSTGRES` names.
//!
//! Each row is the median of several rounds; the slowest and fastest stand beside it, because machines are noisy.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use orx::job::lanes::Offer;
use orx::job::state::{Cause, Ending};
use orx::job::{JobId, JobSpec, Submission, WorkerId};
use orx::ops::Caller;
use orx::ops::enqueue::Enqueue;
use orx::ops::jobs::ListJobs;
use orx::ops::lease::{Lease, Leased};
use orx::ops::register::Register;
use orx::ops::settle::Report;
use orx::ops::status::Status;
use orx::ops::turn::Turn;
use orx::queue::Queue;
use orx::store::{Location, NewWorker};
use orx::time::{Span, SystemClock};
use uuid::Uuid;

const ROUNDS: usize = 7;
const TTL: Span = Span::from_secs(3600);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    println!("SQLite");
    measure(&Location::File(dir.path().join("orx.db"))).await;
    match std::env::var("ORX_BENCH_POSTGRES") {
        Ok(server) => {
            println!("\nPostgreSQL");
            measure(&format!("{server}?schema=bench_{}", Uuid::now_v7().simple()).parse().unwrap()).await;
        }
        Err(_) => {
            println!("\nPostgreSQL: skipped, as ORX_BENCH_POSTGRES names no server (tests/postgres start --durable)")
        }
    }
}

async fn measure(location: &Location) {
    let queue = Queue::open(location, Caller::local("bench"), Arc::new(SystemClock)).unwrap();
    let worker = WorkerId(Uuid::now_v7());
    register(&queue, worker).await;
    for (batch, calls) in [(1, 300), (100, 30), (1000, 10)] {
        row(&format!("enqueue, {batch} a call"), batch * calls, async || {
            for _ in 0..calls {
                queue.call(Enqueue { jobs: jobs(batch) }).await.unwrap();
            }
        })
        .await;
    }
    for (batch, calls) in [(1, 300), (64, 30)] {
        let mut held = Vec::new();
        row(&format!("settle and lease, {batch} a call"), batch * calls, async || {
            for _ in 0..calls {
                held = turn(&queue, worker, batch as u32, std::mem::take(&mut held)).await;
            }
        })
        .await;
    }
    row("list, a page of 50", 100, async || {
        for _ in 0..100 {
            queue.call(ListJobs { limit: 50, ..ListJobs::default() }).await.unwrap();
        }
    })
    .await;
    row("status", 100, async || {
        for _ in 0..100 {
            queue.call(Status {}).await.unwrap();
        }
    })
    .await;
}

/// Times `round` and prints how many of its `count` things were done a second.
async fn row(name: &str, count: usize, mut round: impl AsyncFnMut()) {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        round().await;
        rates.push(count as f64 / begun.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let (least, median, most) = (rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1]);
    println!("{name:<28} {median:>10.0}/s   ({least:.0} to {most:.0})");
}

fn jobs(count: usize) -> Vec<Submission> {
    let spec: JobSpec = serde_json::from_str(r#"{"command":["true"]}"#).unwrap();
    let job = |_| Submission {
        id: JobId(Uuid::now_v7()),
        spec: spec.clone(),
        captured: Arc::default(),
        origin: Default::default(),
        line: None,
    };
    (0..count).map(job).collect()
}

async fn register(queue: &Queue, id: WorkerId) {
    let worker = NewWorker {
        id,
        name: "bench".into(),
        host: "here".into(),
        pid: std::process::id(),
        offer: Offer::default(),
        slots: 64,
        version: "0".into(),
        solo: false,
    };
    queue.call(Register { worker, ttl: TTL, succeeds: false, jitter: 0.5 }).await.unwrap();
}

/// Settles what is held and leases as many, as a worker does it.
async fn turn(queue: &Queue, worker: WorkerId, slots: u32, held: Vec<Leased>) -> Vec<Leased> {
    let lease = Lease { worker, name: "bench".into(), offer: Offer::default(), slots, ttl: TTL, only: None };
    let report = |job: Leased| Report {
        fence: job.fence,
        ending: Ending { cause: Cause::Itself, exit_code: Some(0), signal: None, error: None },
        started: None,
        ran: Span::from_secs(1),
        output: Vec::new(),
        jitter: 0.5,
        in_run: false,
    };
    let reports = held.into_iter().map(report).collect();
    let leased = queue.call(Turn { reports, lease: Some(lease) }).await.unwrap().leased.unwrap().jobs;
    assert_eq!(leased.len(), slots as usize);
    leased
}
