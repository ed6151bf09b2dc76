//! C1: kill -9 at random of workers, of the leader and of clients that store jobs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::chance::Chance;
use super::client::{Client, Load};
use super::fleet::{Fleet, Hit, choose};
use super::table::Table;
use super::verdict::{Copies, judge, wait_all_ended};
use super::witness::Mark;
use super::world::{LIMIT, World, full, seed};

const WORKERS: usize = 3;
const ARGS: [&str; 5] = ["-q", "--slots", "4", "--lease", "3s"];

#[test]
fn c1_kill_9_at_random_loses_nothing_and_doubles_nothing_without_a_lost_lease() {
    let (jobs, kills) = if full() { (10_000, 200) } else { (1_000, 20) };
    run(jobs, kills, seed());
}

fn run(jobs: usize, kills: usize, seed: u64) {
    let begun = Instant::now();
    let world = World::new();
    let mut table = Table::new(format!("C1 kill -9 at random, {jobs} jobs × {kills} kills, seed {seed}"));
    let load = Load { jobs, kills: kills / 2, least: 50, most: 200 };
    let mut client = Client::new(&world, load, Chance::new(seed, 1));
    let allowed = AtomicUsize::new(jobs / kills);
    let mut fleet = Fleet::start(&world, WORKERS, &ARGS);
    let mut hits = Vec::new();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| client.store_all(&allowed));
        hits = hurt(&mut fleet, jobs, kills, &allowed, Chance::new(seed, 2));
        allowed.store(usize::MAX, Ordering::Relaxed);
        client.join().unwrap();
    });
    let calm = wait_all_ended(&world, LIMIT);
    fleet.stop();
    table.fact("wall time", format!("{:.1} s, of it {:.1} s after the last kill", secs(begun.elapsed()), secs(calm)));
    count(&world, &hits, &mut table);
    table.at_least("kills of clients", client.killed, kills / 4);
    table.fact("of these had stored and could not say so", client.stored_unheard);
    judge(&world, &client.told, Copies::Never, &mut table);
    table.finish();
}

fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// A kill, and whether the same name came back at once.
struct Blow {
    hit: Hit,
    same: bool,
}

fn hurt(fleet: &mut Fleet, jobs: usize, kills: usize, allowed: &AtomicUsize, mut chance: Chance) -> Vec<Blow> {
    let mut blows = Vec::new();
    while blows.len() < kills {
        chance.pause(Duration::from_millis(20), Duration::from_millis(800));
        // Now and then all of them at once: then nobody is left who could take over.
        let all = chance.one_in(8);
        let busy = wait_busy(fleet, allowed);
        let chosen = choose(&busy, &mut chance);
        let victims: Vec<_> = busy.iter().filter(|v| all || v.name == chosen.name).collect();
        let same: Vec<bool> = victims.iter().map(|_| !chance.one_in(4)).collect();
        let hits: Vec<Hit> = victims.iter().map(|victim| fleet.kill(victim)).collect();
        for ((victim, hit), same) in victims.iter().zip(hits).zip(same) {
            fleet.replace(&victim.name, same);
            blows.push(Blow { hit, same });
        }
        allowed.store(jobs * (blows.len() + 1) / kills, Ordering::Relaxed);
    }
    blows
}

/// Work must be in flight when it hurts: more is let in until it is.
fn wait_busy(fleet: &Fleet, allowed: &AtomicUsize) -> Vec<super::fleet::Victim> {
    let begun = Instant::now();
    loop {
        let busy = fleet.busy();
        if !busy.is_empty() {
            return busy;
        }
        assert!(begun.elapsed() < LIMIT, "no worker gets any work");
        if begun.elapsed() > Duration::from_millis(300) {
            allowed.fetch_add(5, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn count(world: &World, blows: &[Blow], table: &mut Table) {
    let held = blows.iter().filter(|b| !b.hit.held.is_empty()).count();
    table.fact("kills of workers", blows.len());
    table.fact("of these of the leader", blows.iter().filter(|b| b.hit.led).count());
    table.at_least("of these with leases held", held, (blows.len() * 95).div_ceil(100));
    table.fact("leases held at kills", blows.iter().map(|b| b.hit.held.len()).sum::<usize>());
    beyond(world, blows, table);
    let listed = world.json(&["list", "--limit", "0"]);
    let id = |j: &serde_json::Value| (j["number"].as_u64().unwrap(), j["id"].as_str().unwrap().to_owned());
    let ids: HashMap<u64, String> = listed.as_array().unwrap().iter().map(id).collect();
    let mut starts: HashMap<String, Vec<i64>> = HashMap::new();
    for line in world.lines().into_iter().filter(|l| l.mark == Mark::Start) {
        starts.entry(line.job).or_default().push(line.at);
    }
    let recovery = |same: bool| {
        let lost = blows.iter().filter(move |b| b.same == same).flat_map(|b| b.hit.held.iter().map(|n| (n, b.hit.at)));
        let again = lost.filter_map(|(number, at)| starts.get(&ids[number])?.iter().find(|s| **s > at).map(|s| s - at));
        again.collect::<Vec<i64>>()
    };
    table.times("from kill to running again, same name restarted", recovery(true));
    table.times("from kill to running again, another name started", recovery(false));
}

/// Losses of leases that no killed worker was seen to hold: shown, as a starved worker may lose one honestly.
fn beyond(world: &World, blows: &[Blow], table: &mut Table) {
    let mut held: HashMap<u64, usize> = HashMap::new();
    for number in blows.iter().flat_map(|b| &b.hit.held) {
        *held.entry(*number).or_default() += 1;
    }
    let lost = world.events().into_iter().filter(|e| e["kind"] == "settled" && e["data"]["outcome"] == "lost");
    let more = lost.filter(|e| match held.get_mut(&e["number"].as_u64().unwrap()) {
        Some(left @ 1..) => {
            *left -= 1;
            false
        }
        _ => true,
    });
    let more: Vec<String> =
        more.map(|e| format!("{} attempt {} of {}", e["number"], e["attempt"], e["worker"])).collect();
    table.fact("losses beyond the leases held at kills", format!("{} {}", more.len(), more.join(", ")));
}
