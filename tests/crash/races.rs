//! Races: what limits, keys and names promise when many ask at once, and what many workers are worth together.
//!
//! Most of it are engines in this process, each with connections of its own, because they meet more often than processes
//! do; then the same once more with processes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use orx::error::{Error, Kind};
use orx::job::lanes::Offer;
use orx::job::state::{Cause, Ending};
use orx::job::{EventKind, Fence, JobId, Number, Submission, WorkerKey};
use orx::ops::enqueue::{Enqueue, Enqueued};
use orx::ops::events::ReadEvents;
use orx::ops::lease::Lease;
use orx::ops::policies::{LimitChange, SetQueue, SetTenant};
use orx::ops::register::Register;
use orx::ops::settle::{Report, Settled};
use orx::ops::turn::Turn;
use orx::queue::Queue;
use orx::store::{NewWorker, Topics};
use orx::time::Span;
use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::chance::Chance;
use super::table::Table;
use super::verdict::wait_all_ended;
use super::world::{LIMIT, Process, World, eventually, full, seed};
use crate::server::Cluster;

const WORKERS: usize = 8;
const SLOTS: u32 = 32;
/// Who asks at the same moment.
const CLIENTS: usize = 16;
/// No lease may run out here: what is looked for are races, not deaths.
const TTL: Span = Span::from_secs(3600);

fn worlds() -> [World; 2] {
    [World::on_postgres(), World::on_file()]
}

/// What limits some of the jobs.
#[derive(Clone, Copy, Debug)]
enum Limited {
    Key,
    Queue,
    Tenant,
}

#[test]
fn races_running_jobs_never_exceed_a_named_limit_and_reach_it() {
    for world in worlds() {
        run_limited(&world, Limited::Key, if full() { 20_000 } else { 600 }, 7);
    }
}

#[test]
fn races_running_jobs_never_exceed_the_limit_of_a_queue_and_reach_it() {
    for world in worlds() {
        run_limited(&world, Limited::Queue, if full() { 4_000 } else { 200 }, 5);
    }
}

#[test]
fn races_running_jobs_never_exceed_the_limit_of_a_tenant_and_reach_it() {
    for world in worlds() {
        run_limited(&world, Limited::Tenant, if full() { 4_000 } else { 200 }, 3);
    }
}

/// Eight workers with 32 slots each: `jobs` share a limit of `max`, a quarter as many do not.
fn run_limited(world: &World, by: Limited, jobs: usize, max: u32) {
    let begun = Instant::now();
    let title = format!("{WORKERS} workers × {SLOTS} slots, {jobs} jobs, at most {max} by {by:?}");
    let mut table = Table::new(format!("{title}, {}, seed {}", world.kind(), seed()));
    let runtime = Runtime::new().unwrap();
    let limited = runtime.block_on(async {
        let first = world.queue();
        let change = LimitChange { max_running: Some(max), max_queued: None, ..LimitChange::default() };
        let word = match by {
            Limited::Key => format!(r#","limit":"db={max}""#),
            Limited::Queue => {
                first.call(SetQueue { queue: "narrow".into(), change }).await.unwrap();
                r#","queue":"narrow""#.into()
            }
            Limited::Tenant => {
                first.call(SetTenant { tenant: "small".into(), change }).await.unwrap();
                r#","tenant":"small""#.into()
            }
        };
        let limited = store(&first, jobs, &word).await;
        store(&first, jobs / 4, "").await;
        let left = Arc::new(AtomicUsize::new(jobs + jobs / 4));
        let mut crew = JoinSet::new();
        for n in 0..WORKERS {
            crew.spawn(work(world.queue(), format!("w{n}"), Chance::new(seed(), n as u64), Arc::clone(&left)));
        }
        let shares = crew.join_all().await;
        table.fact("attempts by worker", format!("{shares:?}"));
        limited
    });
    let numbers: HashSet<Number> = limited.iter().map(|job| job.number).collect();
    let queue = world.queue();
    let events = runtime.block_on(events(&queue));
    let peak = peak(events.iter().filter(|(number, _)| numbers.contains(number)).map(|(_, kind)| *kind));
    let attempts = events.iter().filter(|(_, kind)| *kind == EventKind::Leased).count();
    judge_peak(&mut table, peak, max, attempts, jobs + jobs / 4);
    sound(world, &mut table);
    let took = begun.elapsed().as_secs_f64();
    table.fact("wall time", format!("{took:.1} s, {:.0} attempts a second", attempts as f64 / took));
    table.finish();
}

fn judge_peak(table: &mut Table, peak: usize, max: u32, attempts: usize, jobs: usize) {
    // Every third is tried twice.
    table.exactly("the most that ran at once", peak, max as usize);
    table.at_least("attempts, retries included", attempts, jobs + jobs / 4);
}

/// The real thing: processes, commands, wake-ups.
#[test]
fn races_real_workers_never_exceed_a_limit_and_reach_it() {
    let (jobs, max) = if full() { (20_000, 7) } else { (150, 7) };
    for world in worlds() {
        let begun = Instant::now();
        let title = format!("{WORKERS} processes × {SLOTS} slots, {jobs} jobs, at most {max} by key");
        let mut table = Table::new(format!("{title}, {}, seed {}", world.kind(), seed()));
        // Every third fails once.
        let line = |n: usize| {
            let fails = if n.is_multiple_of(3) { 2 } else { 1 };
            let command = format!(r#"["sh","-c","exit $((ORX_ATTEMPT < {fails}))"]"#);
            format!("{{\"command\":{command},\"limit\":\"db={max}\",\"max_attempts\":2,\"backoff\":\"10ms..10ms\"}}\n")
        };
        let file = world.path("jobs.ndjson");
        std::fs::write(&file, (0..jobs).map(line).collect::<String>()).unwrap();
        world.ok(&["-q", "enqueue", "--from", file.to_str().unwrap()]);
        let slots = SLOTS.to_string();
        let args = ["-q", "--slots", &slots, "--lease", "1m"];
        let workers: Vec<Process> = (0..WORKERS).map(|n| world.worker(&format!("w{n}"), &args)).collect();
        wait_all_ended(&world, LIMIT * if full() { 10 } else { 1 });
        eventually("all workers to be there", LIMIT, || world.workers().len() == WORKERS); // few jobs: some come late
        workers.into_iter().for_each(Process::stop);
        let events = world.events();
        let kinds = events.iter().filter_map(|event| EventKind::parse(event["kind"].as_str()?));
        let kinds: Vec<EventKind> = kinds.collect();
        let attempts = kinds.iter().filter(|kind| **kind == EventKind::Leased).count();
        judge_peak(&mut table, peak(kinds.into_iter()), max, attempts, jobs);
        table.exactly("jobs that are done", world.count(&["done"]), jobs as i64);
        sound(&world, &mut table);
        let took = begun.elapsed().as_secs_f64();
        table.fact("wall time", format!("{took:.1} s, {:.0} attempts a second", attempts as f64 / took));
        table.finish();
    }
}

#[test]
fn races_a_limit_on_what_is_queued_admits_exactly_as_many() {
    const MOST: usize = 20;
    for world in worlds() {
        let rounds = if full() { 100 } else { 4 };
        let title = format!("{CLIENTS} clients store jobs where {MOST} may be queued, {rounds} rounds");
        let mut table = Table::new(format!("{title}, {}", world.kind()));
        let runtime = Runtime::new().unwrap();
        let wrong = runtime.block_on(async {
            let clients: Vec<Queue> = (0..CLIENTS).map(|_| world.queue()).collect();
            let mut wrong = Vec::new();
            for round in 0..rounds {
                let change = LimitChange { max_running: None, max_queued: Some(MOST as u32), ..LimitChange::default() };
                let word = match round % 2 {
                    0 => {
                        clients[0].call(SetQueue { queue: format!("q{round}"), change }).await.unwrap();
                        format!(r#","queue":"q{round}""#)
                    }
                    _ => {
                        clients[0].call(SetTenant { tenant: format!("t{round}"), change }).await.unwrap();
                        format!(r#","tenant":"t{round}""#)
                    }
                };
                let answers = at_once(&clients, 4, |_| word.clone()).await;
                let admitted = answers.iter().filter(|a| a.is_ok()).count();
                let others = answers.iter().filter_map(|a| a.as_ref().err()).find(|e| e.kind() != Kind::Limit);
                if admitted != MOST || others.is_some() {
                    wrong.push(format!("{word}: {admitted} admitted, {others:?}"));
                }
            }
            wrong
        });
        table.none("rounds that admitted another number", &wrong);
        world.ok(&["-q", "queue", "set", "narrow", "--max-queued", "5"]);
        let codes: Vec<_> = processes(&world, &["--queue", "narrow"]).into_iter().map(|(code, _)| code).collect();
        let expected = [vec![Some(0); 5], vec![Some(8); CLIENTS - 5]].concat();
        table.none("processes that ended with another code than 5 × 0, 11 × 8", &unlike(&codes, &expected));
        sound(&world, &mut table);
        table.finish();
    }
}

#[test]
fn races_a_key_makes_one_job_and_a_name_is_had_by_one() {
    for world in worlds() {
        let rounds = if full() { 200 } else { 8 };
        let mut table = Table::new(format!("{CLIENTS} clients, one key or name, {rounds} rounds, {}", world.kind()));
        let runtime = Runtime::new().unwrap();
        let (doubled, shared) = runtime.block_on(async {
            let clients: Vec<Queue> = (0..CLIENTS).map(|_| world.queue()).collect();
            let (mut doubled, mut shared) = (Vec::new(), Vec::new());
            for round in 0..rounds {
                let answers = at_once(&clients, 1, |_| format!(r#","idempotency_key":"k{round}""#)).await;
                let numbers: HashSet<Option<Number>> =
                    answers.iter().map(|a| a.as_ref().ok().map(|job| job.number)).collect();
                let new = answers.iter().flatten().filter(|job| !job.existing).count();
                if numbers.len() != 1 || numbers.contains(&None) || new != 1 {
                    doubled.push(format!("key {round}: {new} new, {answers:?}"));
                }
                let answers = at_once(&clients, 1, |_| format!(r#","name":"n{round}""#)).await;
                let conflicts =
                    answers.iter().filter(|a| a.as_ref().is_err_and(|e| e.kind() == Kind::Conflict)).count();
                if conflicts != CLIENTS - 1 || answers.iter().flatten().count() != 1 {
                    shared.push(format!("name {round}: {conflicts} conflicts, {answers:?}"));
                }
            }
            (doubled, shared)
        });
        table.none("keys that made another number of jobs than one", &doubled);
        table.none("names that were not had by one", &shared);
        let answers = processes(&world, &["--idempotency-key", "k"]);
        let ids: HashSet<&String> = answers.iter().map(|(_, id)| id).collect();
        table.exactly("ids that processes were told for one key", ids.len(), 1);
        let codes: Vec<_> = answers.iter().map(|(code, _)| *code).collect();
        table.none("processes with the key that failed", &unlike(&codes, &[Some(0); CLIENTS]));
        let codes: Vec<_> = processes(&world, &["--name", "n"]).into_iter().map(|(code, _)| code).collect();
        let expected = [vec![Some(0)], vec![Some(5); CLIENTS - 1]].concat();
        table.none("processes that ended with another code than 1 × 0, 15 × 5", &unlike(&codes, &expected));
        sound(&world, &mut table);
        table.finish();
    }
}

#[test]
fn races_eight_workers_lease_faster_than_one() {
    let jobs = if full() { 4_000 } else { 300 };
    // A server that writes to its disk, as one would be: what many share there are its commits.
    let cluster = full().then(|| Cluster::start(&[]));
    let [on_server, on_file] = worlds();
    let on_server = match &cluster {
        Some(cluster) => World::on_file().with_store(format!("{}?schema=races", cluster.url())),
        None => on_server,
    };
    for world in [on_server, on_file] {
        let mut table = Table::new(format!("{jobs} jobs leased and settled, {}", world.kind()));
        let runtime = Runtime::new().unwrap();
        for slots in [1, SLOTS] {
            let mut rates = Vec::new();
            for workers in [1, WORKERS] {
                let (leased, rate) = runtime.block_on(lease_all(&world, jobs, workers, slots));
                table.exactly(&format!("leases by {workers} workers, {slots} at a time"), leased, jobs);
                rates.push(rate);
            }
            let [alone, together] = rates[..] else { unreachable!() };
            let factor = together / alone;
            let said = format!("{alone:.0} by one, {together:.0} by {WORKERS}: {factor:.2} ×");
            table.fact(&format!("a second, {slots} at a time"), said);
            // Only where it was measured long enough; SQLite has one writer.
            if full() && slots == 1 && world.kind() == "PostgreSQL" {
                table.at_least("factor, one at a time", (factor * 100.0).round() / 100.0, 1.0);
            }
        }
        sound(&world, &mut table);
        table.finish();
    }
}

/// How many leases some workers got in all, and how many a second.
async fn lease_all(world: &World, jobs: usize, workers: usize, slots: u32) -> (usize, f64) {
    store(&world.queue(), jobs, "").await;
    let barrier = Arc::new(Barrier::new(workers + 1));
    let mut crew = JoinSet::new();
    for n in 0..workers {
        let (queue, barrier) = (world.queue(), Arc::clone(&barrier));
        crew.spawn(async move {
            let worker = Registered::new(&queue, &format!("{workers}x{slots}-{n}")).await;
            barrier.wait().await;
            let (mut held, mut count) = (Vec::new(), 0);
            loop {
                let reports = held.drain(..).map(|fence| report(fence, 0)).collect::<Vec<_>>();
                let idle = reports.is_empty();
                held = worker.turn(&queue, reports, slots).await;
                count += held.len();
                if held.is_empty() && (idle || count == 0) {
                    return count;
                }
            }
        });
    }
    barrier.wait().await;
    let begun = Instant::now();
    let leased: usize = crew.join_all().await.into_iter().sum();
    (leased, leased as f64 / begun.elapsed().as_secs_f64())
}

/// A worker that starts no processes.
struct Registered {
    key: WorkerKey,
    name: String,
}

impl Registered {
    async fn new(queue: &Queue, name: &str) -> Self {
        let (key, name) = (orx::worker::new_key().unwrap(), name.to_owned());
        let worker = NewWorker {
            id: key.id,
            name: name.clone(),
            host: "here".into(),
            pid: std::process::id(),
            offer: Offer::default(),
            slots: SLOTS,
            version: "0".into(),
            solo: false,
        };
        let (secret, succeeds) = (key.secret.clone(), Vec::new());
        queue.call(Register { worker, secret, ttl: TTL, succeeds, doubt: None, jitter: 0.5 }).await.unwrap();
        Self { key, name }
    }

    async fn turn(&self, queue: &Queue, reports: Vec<Report>, slots: u32) -> Vec<Fence> {
        let (worker, name, offer) = (self.key.clone(), self.name.clone(), Offer::default());
        let lease = (slots > 0).then_some(Lease { worker, name, offer, slots, ttl: TTL, only: None });
        let reply = queue.call(Turn { worker: self.key.clone(), reports, lease, pass_over: false }).await.unwrap();
        assert!(!reply.settled.contains(&Settled::Stale), "a lease was lost: {:?}", reply.settled);
        reply.leased.into_iter().flat_map(|leased| leased.jobs).map(|job| job.fence).collect()
    }
}

fn report(fence: Fence, code: i32) -> Report {
    let ending = Ending { cause: Cause::Itself, exit_code: Some(code), signal: None, error: None };
    Report {
        fence,
        ending,
        started: None,
        ran: Span::from_secs(1),
        after: Span::MAX,
        output: vec![],
        jitter: 0.5,
        in_run: false,
    }
}

/// Works until none are left; gives how many attempts it had.
async fn work(queue: Queue, name: String, mut chance: Chance, left: Arc<AtomicUsize>) -> usize {
    let worker = Registered::new(&queue, &name).await;
    let mut changes = queue.subscribe(Topics::WORK).unwrap();
    let (mut held, mut attempts) = (Vec::<Fence>::new(), 0);
    while left.load(Ordering::Relaxed) > 0 {
        // Some end and others run on, so that slots become free one by one.
        let ends: Vec<Fence> = held.extract_if(.., |_| chance.one_in(2)).collect();
        // Every third fails once.
        let fails = |fence: &Fence| fence.attempt == 1 && fence.number % 3 == 0;
        let ended = ends.iter().filter(|fence| !fails(fence)).count();
        let reports = ends.iter().map(|fence| report(*fence, i32::from(fails(fence)))).collect();
        // Who gives slots back does not always take them again at once, so that all of them race for each.
        let slots = if chance.one_in(2) { 0 } else { SLOTS - held.len() as u32 };
        let got = worker.turn(&queue, reports, slots).await;
        left.fetch_sub(ended, Ordering::Relaxed);
        attempts += got.len();
        held.extend(got);
        // What it holds takes a while, in which others race for the slots that became free.
        let pause = Duration::from_micros(chance.between(500, 5_000));
        changes.changed(Some(tokio::time::Instant::now() + pause)).await;
    }
    attempts
}

async fn store(queue: &Queue, count: usize, more: &str) -> Vec<Enqueued> {
    let mut stored = Vec::new();
    while stored.len() < count {
        let batch = (count - stored.len()).min(1000);
        let retried = format!(r#","max_attempts":2,"backoff":"10ms..10ms"{more}"#);
        let jobs = (0..batch).map(|_| submission(&retried)).collect();
        stored.extend(queue.call(Enqueue { jobs }).await.unwrap());
    }
    stored
}

fn submission(more: &str) -> Submission {
    let spec = serde_json::from_str(&format!(r#"{{"command":["true"]{more}}}"#)).unwrap();
    Submission { id: JobId(Uuid::now_v7()), spec, captured: Default::default(), origin: Default::default(), line: None }
}

/// Every client stores `each` jobs, one after the other, and all begin at one moment.
async fn at_once(clients: &[Queue], each: usize, more: impl Fn(usize) -> String) -> Vec<Result<Enqueued, Error>> {
    let barrier = Arc::new(Barrier::new(clients.len()));
    let mut asked = JoinSet::new();
    for (n, queue) in clients.iter().enumerate() {
        let (queue, barrier, more) = (queue.clone(), Arc::clone(&barrier), more(n));
        asked.spawn(async move {
            barrier.wait().await;
            let mut answers = Vec::new();
            for _ in 0..each {
                let stored = queue.call(Enqueue { jobs: vec![submission(&more)] }).await;
                answers.push(stored.map(|mut jobs| jobs.remove(0)));
            }
            answers
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// As many processes at once; their codes and what they printed.
fn processes(world: &World, options: &[&str]) -> Vec<(Option<i32>, String)> {
    let args = [&["-q", "enqueue"], options, &["--", "true"]].concat();
    let running: Vec<Process> = (0..CLIENTS).map(|_| world.spawn(&args)).collect();
    let ended = running.into_iter().map(|mut process| (process.wait(LIMIT).code(), process.stdout()));
    ended.collect()
}

/// The codes, if they are not the expected ones in some order.
fn unlike(codes: &[Option<i32>], expected: &[Option<i32>]) -> Vec<String> {
    let mut codes = codes.to_vec();
    codes.sort_unstable();
    if codes == expected { Vec::new() } else { vec![format!("{codes:?}")] }
}

/// Leases and ends of attempts, in the order of the trail.
async fn events(queue: &Queue) -> Vec<(Number, EventKind)> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = queue.call(ReadEvents { after, limit: 10_000 }).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = last.seq;
        all.extend(page.iter().filter_map(|event| Some((event.number?, event.kind))));
    }
}

/// The most attempts between lease and end at any place in the trail.
fn peak(kinds: impl Iterator<Item = EventKind>) -> usize {
    let (mut running, mut most) = (0usize, 0);
    for kind in kinds {
        match kind {
            EventKind::Leased => running += 1,
            EventKind::Settled => running -= 1,
            _ => {}
        }
        most = most.max(running);
    }
    most
}

/// The audit and the check find nothing.
fn sound(world: &World, table: &mut Table) {
    for command in [&["audit"][..], &["db", "check"]] {
        let (code, found, said) = world.run(command);
        let found = if code == Some(0) { Vec::new() } else { vec![format!("{found}{said}")] };
        table.none(&format!("found by orx {}", command.join(" ")), &found);
    }
}
