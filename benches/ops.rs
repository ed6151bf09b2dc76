//! How many Ops a second: `cargo bench`. A store of its own in a temporary directory, `synchronous=FULL`; and one in a
//! schema of its own on the PostgreSQL server that `ORX_BENCH_POSTGRES` names, beside that server's own `pgbench`.
//!
//! Each row is the median of several rounds; the slowest and fastest stand beside it, because machines are noisy. First
//! on an empty store, then after as many finished jobs as `ORX_BENCH_FINISHED` says, one number or several with commas
//! (10000 by default; 1000000 takes minutes): they are made by whole lives through the Ops, with a line of output each,
//! and the rows that they left are counted. `ORX_BENCH_SCHEDULES` is the number of schedules (10000).

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use orx::job::lanes::Offer;
use orx::job::output::{Chunk, Stream};
use orx::job::plan::{CatchUp, Overlap};
use orx::job::state::{Cause, Ending};
use orx::job::{Definition, JobId, JobSpec, ScheduleId, State, Submission, Target, WorkerKey};
use orx::ops::Caller;
use orx::ops::enqueue::Enqueue;
use orx::ops::events::{MAX_EVENTS, ReadEvents};
use orx::ops::jobs::ListJobs;
use orx::ops::lease::{Lease, Leased};
use orx::ops::metrics::Measure;
use orx::ops::output::ReadOutput;
use orx::ops::register::Register;
use orx::ops::schedules::change::AddSchedule;
use orx::ops::schedules::tick::{NextTick, Tick};
use orx::ops::settle::Report;
use orx::ops::status::Status;
use orx::ops::turn::Turn;
use orx::queue::Queue;
use orx::store::{Filter, Location, NewWorker};
use orx::time::{Span, SystemClock, Timestamp};
use uuid::Uuid;

const ROUNDS: usize = 7;
/// Jobs that live their lives at once.
const LIVES: usize = 64;
const TTL: Span = Span::from_secs(3600);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    println!("SQLite");
    measure(&Location::File(dir.path().join("orx.db"))).await;
    match std::env::var("ORX_BENCH_POSTGRES") {
        Ok(server) => {
            println!("\nPostgreSQL");
            bare(&server);
            measure(&format!("{server}?schema=bench_{}", Uuid::now_v7().simple()).parse().unwrap()).await;
        }
        Err(_) => {
            println!("\nPostgreSQL: skipped, as ORX_BENCH_POSTGRES names no server (tests/postgres start --durable)")
        }
    }
}

/// What the server itself does: one client of `pgbench` that leases and settles a row of a bare table, a commit for each.
fn bare(server: &str) {
    let run = |tool: &str, args: &[&str]| {
        let path = tools().map(|dir| dir.join(tool)).find(|path| path.exists())?;
        let ran = Command::new(path).args(args).output().unwrap();
        assert!(ran.status.success(), "{tool}: {}", String::from_utf8_lossy(&ran.stderr));
        Some(String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    let count = 2000 * ROUNDS;
    let make = format!(
        "DROP TABLE IF EXISTS orx_bare; CREATE TABLE orx_bare (number bigint PRIMARY KEY, state text NOT NULL);
         CREATE INDEX ON orx_bare (number) WHERE state = 'pending';
         INSERT INTO orx_bare SELECT n, 'pending' FROM generate_series(1, {count}) n; ANALYZE orx_bare"
    );
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&script, include_str!("bare.sql")).unwrap();
    let script = script.path().to_str().unwrap();
    if run("psql", &["-qc", &make, server]).is_none() {
        return println!("pgbench: skipped, as psql and pgbench are not there");
    }
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let args = ["-n", "-M", "prepared", "-c", "1", "-t", "2000", "-f", script, server];
        let Some(said) = run("pgbench", &args) else { return println!("pgbench: skipped, as it is not there") };
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")).unwrap();
        rates.push(rate.split(' ').next().unwrap().parse().unwrap());
    }
    show("pgbench, a bare row", rates);
    run("psql", &["-qc", "DROP TABLE orx_bare", server]);
}

/// Where the server's tools may be.
fn tools() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter().chain(packaged.map(|dir| dir.path().join("bin")))
}

async fn measure(location: &Location) {
    let queue = Queue::open(location, Caller::local("bench"), Arc::new(SystemClock)).unwrap();
    assert_ne!(queue.durable().await.unwrap(), Some(false), "PRAGMA synchronous is not FULL");
    let worker = &orx::worker::new_key().unwrap();
    register(&queue, worker).await;
    rows(&queue, worker).await;
    for finished in finished() {
        live(&queue, worker, finished).await;
        rows(&queue, worker).await;
    }
    ticks(&queue).await;
}

/// How many finished jobs there are to be, ascending.
fn finished() -> Vec<usize> {
    let text = std::env::var("ORX_BENCH_FINISHED").unwrap_or_else(|_| "10000".into());
    let mut counts: Vec<usize> = text.split(',').map(|n| n.trim().parse().unwrap()).collect();
    counts.sort_unstable();
    counts
}

/// Whole lives of jobs until so many are done: stored, leased, settled with output.
async fn live(queue: &Queue, worker: &WorkerKey, finished: usize) {
    let done = async || -> usize {
        let queues = queue.call(Status {}).await.unwrap().queues;
        queues.iter().map(|q| usize::try_from(q.counts[&State::Done]).unwrap()).sum()
    };
    let begun = Instant::now();
    // What the rows before left pending first.
    let mut pending: usize = {
        let queues = queue.call(Status {}).await.unwrap().queues;
        queues.iter().map(|q| usize::try_from(q.counts[&State::Pending]).unwrap()).sum()
    };
    let mut missing = finished.saturating_sub(done().await);
    while missing > 0 {
        if pending < LIVES {
            queue.call(Enqueue { jobs: jobs(LIVES) }).await.unwrap();
            pending += LIVES;
        }
        let held = turn(queue, worker, LIVES as u32, Vec::new()).await;
        let reports = held.into_iter().map(report).collect();
        queue.call(Turn { worker: worker.clone(), reports, lease: None, pass_over: false }).await.unwrap();
        (pending, missing) = (pending - LIVES, missing.saturating_sub(LIVES));
    }
    let mut trail = (0, 0);
    loop {
        let page = queue.call(ReadEvents { after: trail.0, limit: MAX_EVENTS }).await.unwrap();
        let Some(last) = page.last() else { break };
        trail = (last.seq, trail.1 + page.len());
    }
    let filter = Filter { states: vec![State::Done], ..Filter::default() };
    let newest = queue.call(ListJobs { limit: 1, filter, ..ListJobs::default() }).await.unwrap();
    let job = newest.jobs.first().unwrap();
    let number = job.number;
    let output = queue.call(ReadOutput { number, attempt: None, after: None }).await.unwrap();
    assert_eq!((job.attempt, output.chunks.len()), (1, 1), "a finished job has an attempt and its output");
    let bytes = queue.call(Measure {}).await.unwrap().store_bytes;
    println!(
        "\n{} finished jobs, {} events, an attempt and an output each, {} MiB (made in {:.0} s)",
        done().await,
        trail.1,
        bytes >> 20,
        begun.elapsed().as_secs_f64()
    );
}

/// A round of the clock beside many schedules of which none is due.
async fn ticks(queue: &Queue) {
    let count: usize = std::env::var("ORX_BENCH_SCHEDULES").map_or(10_000, |n| n.parse().unwrap());
    let adding = (0..count).map(|n| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let (id, name) = (ScheduleId(Uuid::now_v7()), format!("bench-{n}"));
            queue.call(AddSchedule { id, name, definition: yearly() }).await.unwrap()
        })
    });
    for added in adding.collect::<Vec<_>>() {
        added.await.unwrap();
    }
    println!("\n{count} schedules");
    row("tick, nothing is due", 100, async || {
        for _ in 0..100 {
            queue.call(NextTick {}).await.unwrap();
            queue.call(Tick { epoch: None }).await.unwrap();
        }
    })
    .await;
}

fn yearly() -> Definition {
    let rule = serde_json::json!({
        "kind": "cron", "expression": "0 0 1 1 *", "tz": "UTC", "created_at": "1970-01-01T00:00:00Z"
    });
    Definition {
        rule: serde_json::from_value(rule).unwrap(),
        overlap: Overlap::Allow,
        catch_up: CatchUp::Last,
        jitter: Span::ZERO,
        target: Target::Job(serde_json::from_str(r#"{"command":["true"]}"#).unwrap()),
        captured: Arc::default(),
    }
}

async fn rows(queue: &Queue, worker: &WorkerKey) {
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
                held = turn(queue, worker, batch as u32, std::mem::take(&mut held)).await;
            }
        })
        .await;
        let reports = held.into_iter().map(report).collect();
        queue.call(Turn { worker: worker.clone(), reports, lease: None, pass_over: false }).await.unwrap();
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
    show(name, rates);
}

fn show(name: &str, mut rates: Vec<f64>) {
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

async fn register(queue: &Queue, key: &WorkerKey) {
    let worker = NewWorker {
        id: key.id,
        name: "bench".into(),
        host: "here".into(),
        pid: std::process::id(),
        offer: Offer::default(),
        slots: 64,
        version: "0".into(),
        solo: false,
    };
    let secret = key.secret.clone();
    queue.call(Register { worker, secret, ttl: TTL, succeeds: Vec::new(), doubt: None, jitter: 0.5 }).await.unwrap();
}

/// Settles what is held and leases as many, as a worker does it.
async fn turn(queue: &Queue, worker: &WorkerKey, slots: u32, held: Vec<Leased>) -> Vec<Leased> {
    let worker = worker.clone();
    let lease =
        Lease { worker: worker.clone(), name: "bench".into(), offer: Offer::default(), slots, ttl: TTL, only: None };
    let reports = held.into_iter().map(report).collect();
    let turn = Turn { worker, reports, lease: Some(lease), pass_over: false };
    let leased = queue.call(turn).await.unwrap().leased.unwrap().jobs;
    assert_eq!(leased.len(), slots as usize);
    leased
}

fn report(job: Leased) -> Report {
    let chunk =
        Chunk { seq: 0, stream: Stream::Stdout, at: Timestamp(0), place: 0, bytes: b"a line of output\n".to_vec() };
    Report {
        fence: job.fence,
        ending: Ending { cause: Cause::Itself, exit_code: Some(0), signal: None, error: None },
        started: None,
        ran: Span::from_secs(1),
        after: Span::MAX,
        output: vec![chunk],
        jitter: 0.5,
        in_run: false,
    }
}
