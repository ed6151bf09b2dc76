//! Latency: how soon an idle worker starts a job. Nothing that looks now and then may carry it, so leases last ten minutes
//! and PostgreSQL is polled every minute; SQLite is looked at every second, which would show as half a second in the middle.

use std::time::Duration;

use orx::job::{JobId, State, Submission};
use orx::ops::enqueue::Enqueue;
use orx::ops::jobs::GetJobs;
use orx::queue::Queue;
use orx::store::Topics;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use uuid::Uuid;

use super::chance::Chance;
use super::table::Table;
use super::world::{LIMIT, World, full, now, seed};
use crate::server;

const ARGS: [&str; 5] = ["-q", "--slots", "4", "--lease", "10m"];
/// What a quiet machine keeps easily, and a busy one too; in milliseconds.
const USUAL: i64 = 250;
const WORST: i64 = 5_000;
/// What the issue asks of a quiet machine.
const PROMISED: i64 = 20;

#[test]
fn latency_of_a_start_on_postgres_is_that_of_a_notification() {
    let store = format!("{}&poll=60s", server::schema());
    measure(World::on_file().with_store(store.as_str()));
    server::drop_schema(&store);
}

#[test]
fn latency_of_a_start_on_sqlite_is_that_of_a_datagram() {
    measure(World::on_file());
}

fn measure(world: World) {
    let jobs = if full() { 1_000 } else { 60 };
    let title = format!("{jobs} jobs for an idle worker, one after the other, leases of 10 min");
    let mut table = Table::new(format!("{title}, {}, seed {}", world.kind(), seed()));
    let worker = world.ready_worker("w", &ARGS);
    let mut chance = Chance::new(seed(), 1);
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    let runtime = Runtime::new().unwrap();
    let queue = world.queue();
    for _ in 0..jobs {
        let (start, end) = runtime.block_on(one(&queue));
        starts.push(start);
        ends.push(end);
        // At any point between two looks of whoever looks now and then.
        chance.pause(Duration::from_millis(1), Duration::from_millis(30));
    }
    worker.stop();
    starts.sort_unstable();
    let at = |part: usize| starts[(starts.len() - 1) * part / 100];
    table.at_most("p50 from enqueue to start, in milliseconds", at(50), USUAL);
    table.at_most("p99 from enqueue to start, in milliseconds", at(99), WORST);
    let quick = starts.iter().filter(|ms| **ms <= PROMISED).count();
    table.fact(&format!("started within {PROMISED} ms"), format!("{quick} of {jobs}"));
    table.times("from enqueue to start", starts.clone());
    table.times("from enqueue until its end is known here", ends);
    table.finish();
}

/// Stores a job and waits for its end; the milliseconds until its process started, and until its end was heard of.
async fn one(queue: &Queue) -> (i64, i64) {
    let spec = serde_json::from_str(r#"{"command":["true"]}"#).unwrap();
    let id = JobId(Uuid::now_v7());
    let job = Submission { id, spec, captured: Default::default(), origin: Default::default(), line: None };
    let begun = now();
    let number = queue.call(Enqueue { jobs: vec![job] }).await.unwrap()[0].number;
    let op = GetJobs { numbers: vec![number], detail: true };
    let deadline = Some(Instant::now() + LIMIT);
    let ended = |jobs: &Vec<orx::job::Job>| jobs[0].state.is_terminal();
    let jobs = queue.call_until(op, Topics::JOBS, deadline, ended).await.unwrap();
    let heard = now();
    assert_eq!(jobs[0].state, State::Done, "{:?}", jobs[0]);
    let attempts = jobs[0].attempts.as_deref().unwrap_or_default();
    (attempts[0].started_at.unwrap().0 - begun, heard - begun)
}
