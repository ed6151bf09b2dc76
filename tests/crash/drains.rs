//! C9: workers are drained in turn while jobs run: a deploy burns no attempt.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::chance::Chance;
use super::client::{Client, Load};
use super::fleet::Fleet;
use super::table::Table;
use super::verdict::{Copies, judge, wait_all_ended};
use super::world::{LIMIT, World, full, now, seed};

const WORKERS: usize = 3;
/// Some jobs take longer than a drain, so that some are interrupted; the lease is long, so that nothing can be lost by time.
const ARGS: [&str; 7] = ["-q", "--slots", "4", "--lease", "60s", "--drain-timeout", "150ms"];
/// How long a worker may take to end beyond its drain timeout.
const SLACK: f64 = 2.0;

#[test]
fn c9_rolling_drains_burn_no_attempt() {
    let (jobs, drains) = if full() { (5_000, 90) } else { (500, 9) };
    let begun = Instant::now();
    let world = World::new();
    let kind = world.kind();
    let mut table = Table::new(format!("C9 rolling drains, {jobs} jobs × {drains} drains, {kind}, seed {}", seed()));
    let mut client = Client::new(&world, Load { jobs, kills: 0, least: 50, most: 400 }, Chance::new(seed(), 1));
    let mut fleet = Fleet::start(&world, WORKERS, &ARGS);
    let drained = std::thread::scope(|scope| {
        let client = scope.spawn(|| client.store_all(&usize::MAX.into()));
        let drained = drain(&world, &mut fleet, drains);
        client.join().unwrap();
        drained
    });
    wait_all_ended(&world, LIMIT);
    table.none("workers that failed", &fleet.stop());
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    table.fact("drains", drains);
    table.at_least("of these with jobs running", drained.iter().filter(|d| d.running > 0).count(), drains * 95 / 100);
    table.times("from SIGTERM to the end of a worker", drained.iter().map(|d| d.took).collect());
    let slowest = drained.iter().map(|d| d.took).max().unwrap_or_default() as f64 / 1000.0;
    table.at_most("slowest drain in seconds", slowest, 0.15 + SLACK);
    client.judge(&mut table);
    burned(&world, &mut table);
    judge(&world, &client.told, Copies::Never, &mut table);
    table.finish();
}

struct Drained {
    running: usize,
    /// Milliseconds.
    took: i64,
}

/// Drains one worker after the other, and starts each again when it has ended.
fn drain(world: &World, fleet: &mut Fleet, drains: usize) -> Vec<Drained> {
    let mut chance = Chance::new(seed(), 2);
    let mut drained = Vec::new();
    for n in 0..drains {
        chance.pause(Duration::from_millis(50), Duration::from_millis(400));
        let (name, process) = &mut fleet.workers[n % WORKERS];
        let name = name.clone();
        let pid = process.pid();
        super::world::eventually("work in flight", LIMIT, || running(world, pid) > 0);
        let running = running(world, pid);
        let at = now();
        process.signal(Signal::TERM);
        let status = process.wait(LIMIT);
        assert!(status.success(), "{name}: {status}\n{}", process.stderr());
        drained.push(Drained { running, took: now() - at });
        fleet.replace(&name, true);
    }
    drained
}

fn running(world: &World, pid: u32) -> usize {
    let rows = world.workers();
    rows.iter().find(|w| w["pid"] == pid).map_or(0, |w| w["running"].as_array().unwrap().len())
}

fn burned(world: &World, table: &mut Table) {
    let listed = world.json(&["list", "--limit", "0"]);
    let jobs = listed.as_array().unwrap();
    let sum = |what: &str| jobs.iter().map(|j| j[what].as_u64().unwrap()).sum::<u64>();
    let burned = |what: &str| {
        let all = jobs.iter().filter(|j| j[what] != 0);
        all.map(|j| format!("{} of job {}: {}", what, j["number"], j[what])).collect::<Vec<_>>()
    };
    table.none("failures counted", &burned("failures"));
    table.none("losses counted", &burned("losses"));
    table.at_least("interruptions counted", sum("interruptions"), 1);
}
