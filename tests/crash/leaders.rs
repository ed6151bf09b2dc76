//! Who leads: a planned stop hands over at once, a dead leader is followed in time, and the fleet does its work all the while.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::chance::Chance;
use super::client::{Client, Load};
use super::fleet::{Fleet, Hit, choose};
use super::losses::{self, losses};
use super::pace::{Over, Pauses};
use super::table::Table;
use super::verdict::{Copies, judge};
use super::world::{LIMIT, Process, World, eventually, full, now, seed};
use crate::server;

/// What a planned hand-over takes, and what it may take on a busy machine, in milliseconds.
const HAND_OVER: i64 = 200;
const BUSY: i64 = 2_000;
/// How long a leader may be silent, and the look after that.
const FOLLOWED: i64 = 15_000 + 2_000;
const LEASE: i64 = 3_000;
const ARGS: [&str; 5] = ["-q", "--slots", "4", "--lease", "3s"];

/// How a leader ends.
const ENDS: [&str; 3] = ["SIGTERM", "orx nodes drain", "kill -9"];

#[test]
fn leaders_hand_over_at_once_when_they_stop_and_are_followed_when_they_die() {
    let world = World::on_postgres();
    let mut table = Table::new(format!("Leaders: two coordinators, {}, seed {}", world.kind(), seed()));
    world.ok(&["-q", "db", "migrate"]);
    let mut nodes = vec![coordinator(&world, "front-1")];
    eventually("a leader", LIMIT, || leader(&world).is_some());
    nodes.push(coordinator(&world, "front-2"));
    eventually("two nodes", LIMIT, || world.json(&["nodes"]).as_array().unwrap().len() == 2);
    shown(&world, &mut table);
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..if full() { 20 } else { 3 } {
        for (how, took) in ENDS.into_iter().zip(&mut took) {
            let (name, epoch) = leader(&world).unwrap();
            let place = nodes.iter().position(|(node, _)| *node == name).unwrap();
            let (_, mut process) = nodes.remove(place);
            let at = now();
            match how {
                "SIGTERM" => process.signal(Signal::TERM),
                "kill -9" => assert!(process.kill(), "{name} had ended: {}", process.stderr()),
                _ => _ = world.ok(&["-q", "nodes", "drain", &name]),
            }
            eventually("the other to lead", LIMIT, || leader(&world).is_some_and(|(_, next)| next > epoch));
            took.push(elected_at(&world, epoch + 1) - at);
            if how != "kill -9" {
                let status = process.wait(LIMIT);
                assert!(status.success(), "{name}: {status}: {}", process.stderr());
            }
            let next = format!("front-{round}-{}", how.rsplit(' ').next().unwrap());
            nodes.push(coordinator(&world, &next));
            eventually("it to be there", LIMIT, || {
                world.json(&["nodes"]).as_array().unwrap().iter().any(|node| node["name"] == *next)
            });
        }
    }
    for (how, took) in ENDS.into_iter().zip(took) {
        let slowest = took.iter().max().copied().unwrap_or_default();
        if how != "kill -9" {
            let quick = took.iter().filter(|ms| **ms < HAND_OVER).count();
            table.fact(&format!("handed over within {HAND_OVER} ms of {how}"), format!("{quick} of {}", took.len()));
        }
        table.times(&format!("from {how} to the next leader"), took);
        table.at_most("the slowest, in milliseconds", slowest, if how == "kill -9" { FOLLOWED } else { BUSY });
    }
    nodes.into_iter().for_each(|(_, node)| node.stop());
    table.none("breaches found by orx audit", &breaches(&world));
    table.finish();
}

/// Two of them share a machine here, so each takes a port of its own.
fn coordinator(world: &World, name: &str) -> (String, Process) {
    (name.to_owned(), world.spawn(&["coordinator", "--name", name, "--listen", "127.0.0.1:0"]))
}

/// The leader's name and epoch.
fn leader(world: &World) -> Option<(String, i64)> {
    let nodes = world.json(&["nodes"]);
    let leads = nodes.as_array().unwrap().iter().find(|node| node["role"] == "leader")?;
    Some((leads["name"].as_str()?.to_owned(), leads["epoch"].as_i64()?))
}

/// When an epoch began, by the clock of the server, which is this machine's.
fn elected_at(world: &World, epoch: i64) -> i64 {
    let events = world.events();
    let of = |e: &&Value| e["kind"] == "leader_elected" && e["data"]["epoch"] == epoch;
    let at = events.iter().find(of).unwrap()["at"].as_str().unwrap();
    at.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// What people see of it.
fn shown(world: &World, table: &mut Table) {
    let said = world.ok(&["nodes"]);
    let words = ["ROLE", "EPOCH", "AGE", "LOAD", "leader", "follower", "front-1", "front-2"];
    let missing: Vec<&str> = words.into_iter().filter(|word| !said.contains(word)).collect();
    table.none("words missing in orx nodes", &missing);
}

fn breaches(world: &World) -> Vec<String> {
    let (code, breaches, said) = world.run(&["audit"]);
    if code == Some(0) { Vec::new() } else { vec![format!("{breaches}{said}")] }
}

#[test]
fn leaders_two_coordinators_and_three_workers_lose_nothing_to_kills_at_random() {
    let (jobs, kills) = if full() { (10_000, 100) } else { (600, 12) };
    let begun = Instant::now();
    let world = World::on_postgres();
    let title = format!("Two coordinators, three workers, {jobs} jobs × {kills} kills, {}", world.kind());
    let mut table = Table::new(format!("{title}, seed {}", seed()));
    let mut client = Client::new(&world, Load { jobs, kills: kills / 2, least: 50, most: 200 }, Chance::new(seed(), 1));
    let allowed = AtomicUsize::new(jobs / kills);
    let mut nodes = vec![coordinator(&world, "front-1"), coordinator(&world, "front-2")];
    let mut fleet = Fleet::start(&world, 3, &ARGS);
    let ended = AtomicBool::new(false);
    let (mut hits, mut leaders): (Vec<Hit>, _) = (Vec::new(), 0);
    let pauses = std::thread::scope(|scope| {
        let pauses = scope.spawn(|| Pauses::watch(world.path("pace"), &ended));
        let over = Over(&ended);
        let client = scope.spawn(|| client.store_all(&allowed));
        let mut chance = Chance::new(seed(), 2);
        for kill in 1..=kills {
            chance.pause(Duration::from_millis(20), Duration::from_millis(800));
            // Every third time whoever leads, if that is a coordinator; else anybody who works.
            let name = leader(&world).map(|(name, _)| name).filter(|_| kill % 3 == 0);
            match nodes.iter_mut().find(|(node, _)| Some(node) == name.as_ref()) {
                Some((name, process)) => {
                    assert!(process.kill(), "{name} had ended: {}", process.stderr());
                    *process = coordinator(&world, name).1;
                    leaders += 1;
                }
                None => hit_worker(&mut fleet, &allowed, &mut chance, &mut hits, || client.is_finished()),
            }
            allowed.fetch_max(jobs * (kill + 1) / kills, Ordering::Relaxed);
        }
        allowed.store(usize::MAX, Ordering::Relaxed);
        client.join().unwrap();
        eventually("all jobs to end", LIMIT, || {
            fleet.revive();
            world.count(&["pending", "scheduled", "blocked", "running"]) == 0
        });
        drop(over);
        pauses.join().unwrap()
    });
    table.none("workers that failed", &fleet.stop());
    nodes.into_iter().for_each(|(_, node)| node.stop());
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    table.at_least("kills of workers", hits.len(), kills / 3);
    table.at_least("kills of a coordinator that led", leaders, usize::from(full()));
    losses::judge(&hits.iter().collect::<Vec<_>>(), &losses(&world.events()), &pauses, LEASE, &mut table);
    client.judge(&mut table);
    judge(&world, &client.told, Copies::Never, &mut table);
    table.finish();
}

/// Kills a worker that has something to do, and starts it again; nobody if there is nothing left to do.
fn hit_worker(
    fleet: &mut Fleet,
    allowed: &AtomicUsize,
    chance: &mut Chance,
    hits: &mut Vec<Hit>,
    over: impl Fn() -> bool,
) {
    let begun = Instant::now();
    loop {
        let last = over();
        fleet.revive();
        let busy = fleet.busy();
        if !busy.is_empty() {
            let victim = choose(&busy, chance);
            hits.push(fleet.kill(victim));
            return fleet.replace(&victim.name, !chance.one_in(4));
        }
        if last {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "no worker gets any work");
        allowed.fetch_add(5, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn leaders_aside_a_listener_that_is_ended_listens_again() {
    let store = server::schema();
    // Nothing but a notification can be the reason why a job starts.
    let world = World::on_file().with_store(format!("{store}&poll=10m"));
    let worker = world.ready_worker("w", &["-q", "--lease", "10m"]);
    let of = format!("query = 'LISTEN orx_{}' AND state = 'idle'", store.split_once("?schema=").unwrap().1);
    let listeners = |what: &str| {
        let found = server::sql(&store, &format!("SELECT {what} FROM pg_stat_activity WHERE {of}"));
        found.trim().to_owned()
    };
    for _ in 0..3 {
        eventually("a listener", LIMIT, || listeners("count(*)") != "0");
        let before = listeners("array_agg(pid ORDER BY pid)");
        listeners("count(pg_terminate_backend(pid))");
        eventually("another listener", LIMIT, || {
            listeners("count(*)") != "0" && listeners("array_agg(pid ORDER BY pid)") != before
        });
        let begun = Instant::now();
        world.add(&[], &["10"]);
        eventually("the job to end", Duration::from_secs(30), || {
            world.count(&["done"]) > 0 && world.count(&["pending", "running"]) == 0
        });
        println!("a job ended {} ms after it was stored", begun.elapsed().as_millis());
    }
    worker.stop();
    server::drop_schema(&store);
}
