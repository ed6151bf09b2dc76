//! A crowd at one coordinator: readers of events, remote workers, and clients that submit, all at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use super::table::Table;
use super::world::{LIMIT, Process, World, eventually, full, now, seed};

/// How large the crowd is.
struct Size {
    readers: usize,
    workers: usize,
    /// Requests with one job each.
    singles: usize,
    /// Requests with so many jobs each.
    arrays: usize,
    array: usize,
    /// Clients that submit at the same time.
    clients: usize,
}

const CI: Size = Size { readers: 50, workers: 5, singles: 40, arrays: 2, array: 20, clients: 2 };
const FULL: Size = Size { readers: 1_000, workers: 50, singles: 500, arrays: 20, array: 100, clients: 8 };
/// A job of the crowd.
const JOB: &str = r#"{"command":["true"]}"#;

/// A connection that is kept for many requests.
struct Client {
    stream: BufReader<TcpStream>,
    address: String,
    token: Arc<str>,
}

impl Client {
    async fn connect(address: &str, token: &Arc<str>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), address: address.into(), token: Arc::clone(token) }
    }

    async fn send(&mut self, line: &str, body: &str) {
        let (address, token, length) = (&self.address, &self.token, body.len());
        let head = format!(
            "{line} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(head.as_bytes()).await.unwrap();
    }

    /// The status, and the length of the body if it is told.
    async fn head(&mut self) -> (u16, usize) {
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            assert!(self.stream.read_line(&mut line).await.unwrap() > 0, "the connection ended");
            let lower = line.trim().to_ascii_lowercase();
            if let Some(rest) = lower.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            if let Some(rest) = lower.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            }
            if lower.is_empty() {
                return (status, length);
            }
        }
    }

    async fn ask(&mut self, line: &str, body: &str) -> (u16, String) {
        self.send(line, body).await;
        let (status, length) = self.head().await;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

/// What all readers saw.
#[derive(Default)]
struct Seen {
    connected: AtomicUsize,
    events: AtomicUsize,
    /// Readers that saw an event out of order or twice.
    confused: AtomicUsize,
    /// The place of the last event that each has seen.
    last: Vec<AtomicI64>,
    /// From an event to its arrival, in milliseconds; of every 97th.
    delays: Mutex<Vec<i64>>,
}

async fn read_events(mut client: Client, n: usize, seen: Arc<Seen>) {
    client.send("GET /events", "").await;
    assert_eq!(client.head().await.0, 200);
    seen.connected.fetch_add(1, Ordering::Relaxed);
    let mut line = String::new();
    loop {
        line.clear();
        match client.stream.read_line(&mut line).await {
            Ok(1..) => {}
            _ => return, // the coordinator ended
        }
        if let Some(id) = line.strip_prefix("id: ") {
            let id: i64 = id.trim().parse().unwrap();
            if seen.last[n].swap(id, Ordering::Relaxed) >= id {
                seen.confused.fetch_add(1, Ordering::Relaxed);
            }
            seen.events.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let Some(data) =
            line.strip_prefix("data: ").filter(|_| (seen.last[n].load(Ordering::Relaxed) + n as i64) % 97 == 0)
        else {
            continue;
        };
        let event: Value = serde_json::from_str(data).unwrap();
        let at: jiff::Timestamp = event["at"].as_str().unwrap().parse().unwrap();
        seen.delays.lock().await.push(now() - at.as_millisecond());
    }
}

/// Requests of several clients at once: how long each took in microseconds, and all of them.
async fn submit(address: &str, token: &Arc<str>, clients: usize, requests: usize, body: &str) -> (Vec<i64>, Duration) {
    let left = Arc::new(AtomicI64::new(requests as i64));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let (mut client, left, body) = (Client::connect(address, token).await, Arc::clone(&left), body.to_owned());
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                let begun = Instant::now();
                let (status, said) = client.ask("POST /api/v1/jobs", &body).await;
                assert_eq!(status, 201, "{said}");
                took.push(begun.elapsed().as_micros() as i64);
            }
            took
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    (all, begun.elapsed())
}

fn rates(table: &mut Table, what: &str, jobs: usize, (mut took, all): (Vec<i64>, Duration)) {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 100] as f64 / 1000.0;
    let rate = took.len() as f64 / all.as_secs_f64();
    table.fact(&format!("{what}: requests a second"), format!("{rate:.0} ({:.0} jobs)", rate * jobs as f64));
    table.fact(&format!("{what}: p50 and p99 in milliseconds"), format!("{:.1} and {:.1}", at(50), at(99)));
}

/// A line of /proc/PID/status, in MiB.
fn memory(process: &Process, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn crowd_of_readers_and_remote_workers_at_one_coordinator() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let size = if full() { FULL } else { CI };
    let Size { readers, workers, singles, arrays, array, clients } = size;
    let world = World::new();
    let title =
        format!("{readers} readers, {workers} remote workers, {clients} clients, {}, seed {}", world.kind(), seed());
    let mut table = Table::new(title);
    let token: Arc<str> = world.ok(&["token", "create", "--admin"]).trim().into();
    let coordinator = world.spawn(&["coordinator", "--listen", "127.0.0.1:0"]);
    let mut address = String::new();
    eventually("the coordinator to be ready", LIMIT, || {
        let said = coordinator.stderr();
        let url = said.lines().find_map(|line| line.split_once("url=http://")).map(|(_, url)| url.trim().to_owned());
        address = url.unwrap_or_default();
        !address.is_empty()
    });
    table.fact("memory of the coordinator alone, in MiB", memory(&coordinator, "VmRSS"));
    let environment = [("ORX_STORE", format!("http://{address}")), ("ORX_TOKEN", token.to_string())];
    let names: Vec<String> = (1..=workers).map(|n| format!("w{n}")).collect();
    let spawn = |name: &String| world.spawn_with(&["worker", "-q", "--slots", "1", "--name", name], &environment);
    let fleet: Vec<Process> = names.iter().map(spawn).collect();
    let seen = Arc::new(Seen { last: (0..readers).map(|_| AtomicI64::new(0)).collect(), ..Seen::default() });
    let runtime = Runtime::new().unwrap();
    for n in 0..readers {
        let (address, token, seen) = (address.clone(), Arc::clone(&token), Arc::clone(&seen));
        runtime.spawn(async move { read_events(Client::connect(&address, &token).await, n, seen).await });
    }
    eventually("the readers to be there", LIMIT, || seen.connected.load(Ordering::Relaxed) == readers);
    eventually("the workers to be there", LIMIT, || {
        fleet.iter().for_each(|worker| assert!(worker.is_alive(), "{}", worker.stderr()));
        world.workers().len() == workers
    });
    let begun = Instant::now();
    let one = runtime.block_on(submit(&address, &token, clients, singles, JOB));
    rates(&mut table, "one by one", 1, one);
    let body = format!("[{}]", vec![JOB; array].join(","));
    let many = runtime.block_on(submit(&address, &token, clients, arrays, &body));
    rates(&mut table, &format!("in arrays of {array}"), array, many);
    let jobs = (singles + arrays * array) as i64;
    eventually("all jobs to be done", LIMIT * 3, || world.count(&["done"]) == jobs);
    table.fact("from the first submission to the last end, in seconds", begun.elapsed().as_secs());
    let last = world.events().last().unwrap()["seq"].as_i64().unwrap();
    let behind = || seen.last.iter().filter(|at| at.load(Ordering::Relaxed) < last).count();
    eventually("every reader to see the last event", LIMIT * 3, || behind() == 0);
    table.exactly("readers that saw an event twice or out of order", seen.confused.load(Ordering::Relaxed), 0);
    table.at_least("events that were read", seen.events.load(Ordering::Relaxed), readers * jobs as usize * 3);
    let delays = runtime.block_on(async { std::mem::take(&mut *seen.delays.lock().await) });
    table.times("from an event to its reader", delays);
    table.fact("memory of the coordinator, now and at most, in MiB", {
        format!("{} and {}", memory(&coordinator, "VmRSS"), memory(&coordinator, "VmHWM"))
    });
    let figures = runtime.block_on(async { Client::connect(&address, &token).await.ask("GET /metrics", "").await.1 });
    let streams = figures.lines().find_map(|line| line.strip_prefix("orx_http_streams{kind=\"sse\"} ")).unwrap();
    table.exactly("readers that the coordinator knows of", streams.parse::<usize>().unwrap(), readers);
    fleet.into_iter().for_each(Process::stop);
    coordinator.stop();
    table.exactly("exit code of orx audit", world.run(&["audit"]).0.unwrap_or(-1), 0);
    table.finish();
}
