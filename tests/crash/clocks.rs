//! C6: wall clocks jump by a day while jobs run: leases are measured by a clock that does not (S1).

use std::time::{Duration, Instant};

use serde_json::Value;

use super::clock::Clock;
use super::table::Table;
use super::verdict::{Copies, Told, judge, wait_all_ended};
use super::witness::{Line, Mark};
use super::world::{LIMIT, Process, World, eventually, now, seed, within};

const DAY: i64 = 24 * 3600;
const LEASE: i64 = 3_000;
/// How late a sweep may come, and how long a busy machine may take for what follows.
const SLACK: i64 = 2_000;
/// Runs across the jump for three leases, so that each lease is renewed on both sides of it.
const LONG: &str = "9000";
const ARGS: [&str; 5] = ["-q", "--slots", "8", "--lease", "3s"];
const EACH: usize = 3;

/// Whose clock jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    All,
    Leader,
    Worker,
    /// Theirs differ from the start: nothing jumps.
    TheyDiffer,
}

/// They run side by side: each is idle for most of its time.
#[test]
fn c6_a_clock_that_jumps_by_a_day_loses_no_lease_and_freezes_none() {
    let cases = [
        (Whose::All, DAY),
        (Whose::All, -DAY),
        (Whose::Leader, DAY),
        (Whose::Leader, -DAY),
        (Whose::Worker, DAY),
        (Whose::Worker, -DAY),
        (Whose::TheyDiffer, DAY),
    ];
    let results = std::thread::scope(|scope| {
        let runs = cases.map(|(whose, by)| scope.spawn(move || run(whose, by)));
        runs.map(|run| run.join())
    });
    let failed = results.into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(failed.is_empty(), "{} of the cases failed", failed.len());
}

/// The clocks of one case; who has none of its own runs by `all`.
struct Clocks {
    all: Clock,
    leader: Clock,
    worker: Clock,
}

impl Clocks {
    fn new(world: &World, whose: Whose) -> Self {
        let clock = |name: &str| Clock::new(world.path(name));
        let clocks = Self { all: clock("clock-all"), leader: clock("clock-a"), worker: clock("clock-b") };
        if whose == Whose::TheyDiffer {
            clocks.leader.set(-DAY);
            clocks.worker.set(DAY);
        }
        clocks
    }

    fn jump(&self, whose: Whose, by: i64) {
        let jumping: &[&Clock] = match whose {
            Whose::All => &[&self.all, &self.leader, &self.worker],
            Whose::Leader => &[&self.leader],
            Whose::Worker => &[&self.worker],
            Whose::TheyDiffer => &[],
        };
        jumping.iter().for_each(|clock| clock.set(by));
    }
}

fn work(queue: &str) -> Vec<&str> {
    [&ARGS[..], &["--queues", queue]].concat()
}

fn run(whose: Whose, by: i64) {
    let begun = Instant::now();
    let world = World::on_file();
    let clocks = Clocks::new(&world, whose);
    let world = world.with_clock(&clocks.all);
    let mut table = Table::new(format!("C6 clocks of {whose:?} by {:+} h, seed {}", by / 3600, seed()));
    let mut told = Told::default();
    let leader = world.ready_worker_by(&clocks.leader, "a", &work("a"));
    eventually("a leader", LIMIT, || world.json(&["status"])["leader"]["name"] == "a");
    let worker = world.ready_worker_by(&clocks.worker, "b", &work("b"));
    let mut victim = world.ready_worker("victim", &work("dead"));
    let mut add = |queue: &str, millis: &[&str]| {
        let id = world.add(&["--queue", queue], millis);
        told.acknowledged.push(id.clone());
        id
    };
    let live: Vec<String> = (0..2 * EACH).map(|n| add(["a", "b"][n % 2], &[LONG])).collect();
    let dead = add("dead", &["300000", "50"]);
    // Delays are judged where one clock is right for all, as it is on one machine.
    let early = (whose == Whose::All).then(|| Waiting::add(&world, "20s"));
    eventually("work in flight", LIMIT, || {
        live.iter().chain([&dead]).all(|job| line(&world, Mark::Start, job, 1).is_some())
            && early.as_ref().is_none_or(|_| world.count(&["scheduled"]) == 2)
    });

    let killed = now();
    victim.kill();
    clocks.jump(whose, by);
    let heir = world.worker("heir", &work("dead"));
    let late = (whose == Whose::All).then(|| Waiting::add(&world, "2s"));
    within(Duration::from_secs(20), || line(&world, Mark::Start, &dead, 2).is_some());
    let again = line(&world, Mark::Start, &dead, 2).map_or(f64::INFINITY, |l| (l.at - killed) as f64 / 1000.0);
    table.at_most("seconds until the job of the killed worker ran elsewhere", again, (LEASE + SLACK) as f64 / 1000.0);
    within(Duration::from_secs(20), || live.iter().all(|job| line(&world, Mark::End, job, 1).is_some()));
    for (jobs, delay, jump) in [(&early, 20_000, by), (&late, 2_000, 0)] {
        if let Some(jobs) = jobs {
            let done = jobs.judge(&world, delay, jump, &mut table);
            told.unheard += 2 - done.len(); // they are cancelled
            told.acknowledged.extend(done);
        }
    }
    if again.is_finite() {
        wait_all_ended(&world, LIMIT);
    }
    let events = world.events();
    let lost = events.iter().filter(|e| e["data"]["outcome"] == "lost" && e["worker"] != "victim");
    table.none("losses of leases that were renewed", &lost.cloned().collect::<Vec<_>>());
    let off = |e: &&Value| {
        let at: jiff::Timestamp = e["at"].as_str().unwrap().parse().unwrap();
        (at.as_millisecond() - now()).abs() > (DAY - 3600) * 1000
    };
    let off = events.iter().filter(|e| e["kind"] == "settled").filter(off).count();
    table.at_least("ends of attempts told with a clock that is a day off", off, EACH);
    [leader, worker, heir].into_iter().for_each(Process::stop);
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    judge(&world, &told, Copies::Never, &mut table);
    table.finish();
}

/// Two jobs that wait: one for its delay, the other fails first and waits for its retry.
struct Waiting {
    stored: i64,
    delayed: String,
    retried: String,
}

impl Waiting {
    fn add(world: &World, delay: &str) -> Self {
        let stored = now();
        let backoff = format!("{delay}..{delay}");
        let retry = ["--queue", "a", "--max-attempts", "2", "--backoff", &backoff];
        let delayed = world.add(&["--queue", "a", "--delay", delay], &["50"]);
        Self { stored, delayed, retried: world.add(&retry, &["f50", "50"]) }
    }

    /// How long each waited, in milliseconds; for ever while it waits.
    fn waited(&self, world: &World) -> [i64; 2] {
        let at = |mark, job, attempt| line(world, mark, job, attempt).map(|l| l.at);
        let failed = at(Mark::End, &self.retried, 1).unwrap_or(self.stored);
        let began = [(&self.delayed, 1, self.stored), (&self.retried, 2, failed)];
        began.map(|(job, attempt, since)| at(Mark::Start, job, attempt).map_or(i64::MAX, |at| at - since))
    }

    /// Gives those that must be done in the end; `jump` is that of the clock while they waited.
    ///
    /// A delay is stored as the instant when it is over: a clock that is set forward ends the wait at once, one that is set
    /// back keeps the job waiting until it shows that instant.
    fn judge(&self, world: &World, delay: i64, jump: i64, table: &mut Table) -> Vec<String> {
        if jump < 0 {
            let waiting = self.waited(world).into_iter().filter(|waited| *waited == i64::MAX).count();
            table.fact("jobs delayed before a jump back that wait for the clock", waiting);
            world.ok(&["cancel", "--yes", &self.delayed, &self.retried]);
            return Vec::new();
        }
        within(Duration::from_secs(30), || self.waited(world).iter().all(|waited| *waited < i64::MAX));
        let [one, other] = self.waited(world);
        let during = if jump > 0 { "across a jump forward" } else { "after the jump" };
        table.at_most(&format!("longest of the waits for {delay} ms {during}"), one.max(other), delay + 2 * SLACK);
        if jump == 0 {
            table.at_least(&format!("shortest of the waits for {delay} ms {during}"), one.min(other), delay - 2);
        }
        vec![self.delayed.clone(), self.retried.clone()]
    }
}

fn line(world: &World, mark: Mark, job: &str, attempt: u64) -> Option<Line> {
    world.lines().into_iter().find(|l| l.mark == mark && l.job == *job && l.attempt == attempt)
}
