//! What schedules cost and how exactly they fire: `cargo bench --bench schedules`.
//!
//! A coordinator of its own on a store in a temporary directory, or in a new schema of `ORX_BENCH_POSTGRES`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orx::job::plan::{CatchUp, Overlap};
use orx::job::{Definition, EventKind, ScheduleId, Target};
use orx::ops::Caller;
use orx::ops::events::ReadEvents;
use orx::ops::schedules::change::AddSchedule;
use orx::ops::status::Status;
use orx::queue::Queue;
use orx::time::{Clock as _, Span, SystemClock, Timestamp};
use uuid::Uuid;

const LOADED: usize = 10_000;
const AT_ONCE: usize = 1_000;
const BEATS: usize = 20;
const IDLE: Duration = Duration::from_secs(20);
const BEATING: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let store = match std::env::var("ORX_BENCH_POSTGRES") {
        Ok(server) => format!("{server}?schema=bench_{}", Uuid::now_v7().simple()),
        Err(_) => dir.path().join("orx.db").to_str().unwrap().to_owned(),
    };
    let queue = Queue::open(&store.parse().unwrap(), Caller::local("bench"), Arc::new(SystemClock)).unwrap();
    let coordinator = Coordinator::start(&store, &queue).await;
    println!("an idle leader without schedules    {:.2} % of a core", coordinator.load().await);
    let begun = Instant::now();
    add(&queue, "idle", LOADED, || definition("cron", "0 0 1 1 *")).await;
    println!("{LOADED} schedules added              {:.1} s", begun.elapsed().as_secs_f64());
    println!("an idle leader with {LOADED} schedules {:.2} % of a core", coordinator.load().await);
    at_once(&queue).await;
    beats(&queue).await;
}

/// Many that are due at one instant.
async fn at_once(queue: &Queue) {
    let after = last_event(queue).await;
    let due = Timestamp((SystemClock.now().0 / 1000 + 10) * 1000);
    add(queue, "once", AT_ONCE, || definition("at", &due.to_string())).await;
    assert!(SystemClock.now() < due, "adding them took too long");
    let mut late = Vec::new();
    while late.len() < AT_ONCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
        late = lateness(queue, after).await;
    }
    let seen = SystemClock.now().since(due);
    println!("{AT_ONCE} due at one instant            all seen fired after {seen}, {}", shown(late));
}

/// Some that are due each second, beside all the others.
async fn beats(queue: &Queue) {
    let after = last_event(queue).await;
    add(queue, "beat", BEATS, || definition("every", "1s")).await;
    tokio::time::sleep(BEATING).await;
    let late = lateness(queue, after).await;
    assert!(late.len() > BEATS * 20, "{}", late.len());
    println!("{BEATS} due each second                {}", shown(late));
}

fn shown(mut late: Vec<i64>) -> String {
    late.sort_unstable();
    let at = |part: f64| late[((late.len() - 1) as f64 * part).round() as usize];
    format!("late by p50 {} ms, p99 {} ms, max {} ms of {}", at(0.5), at(0.99), at(1.0), late.len())
}

/// By how many milliseconds each occurrence after an event fired late.
async fn lateness(queue: &Queue, after: i64) -> Vec<i64> {
    let fired = events(queue, after).await.into_iter().filter(|e| e.kind == EventKind::OccurrenceFired);
    let due = |e: &orx::job::Event| serde_json::from_value::<Timestamp>(e.data["due_at"].clone()).unwrap();
    fired.map(|e| e.at.0 - due(&e).0).collect()
}

async fn last_event(queue: &Queue) -> i64 {
    events(queue, 0).await.last().map_or(0, |e| e.seq)
}

async fn events(queue: &Queue, mut after: i64) -> Vec<orx::job::Event> {
    let mut all: Vec<orx::job::Event> = Vec::new();
    loop {
        let page = queue.call(ReadEvents { after, limit: 1000 }).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = last.seq;
        all.extend(page);
    }
}

fn definition(kind: &str, expression: &str) -> Definition {
    let rule = serde_json::json!({
        "kind": kind, "expression": expression, "tz": "UTC", "created_at": "1970-01-01T00:00:00Z"
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

async fn add(queue: &Queue, name: &str, count: usize, definition: impl Fn() -> Definition) {
    let calls: Vec<_> = (0..count)
        .map(|n| {
            let op =
                AddSchedule { id: ScheduleId(Uuid::now_v7()), name: format!("{name}-{n}"), definition: definition() };
            let queue = queue.clone();
            tokio::spawn(async move { queue.call(op).await.unwrap() })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

/// A process that leads.
struct Coordinator(Child);

impl Coordinator {
    async fn start(store: &str, queue: &Queue) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orx"));
        command.args(["-q", "coordinator"]).env("ORX_STORE", store).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        while queue.call(Status {}).await.unwrap().leader.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self(child)
    }

    /// How much of a core it uses while nothing is due.
    async fn load(&self) -> f64 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = self.ticks();
        tokio::time::sleep(IDLE).await;
        (self.ticks() - before) as f64 / IDLE.as_secs_f64() // a tick is a hundredth of a second
    }

    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it has ended, or does so now
        let _ = self.0.wait();
    }
}
