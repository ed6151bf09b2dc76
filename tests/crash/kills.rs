//! C1: kill -9 at random of workers, of the leader and of clients that store jobs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::chance::Chance;
use super::client::{Client, Load};
use super::fleet::{Fleet, Hit, choose};
use super::losses::{self, Loss, losses, lost_by};
use super::pace::{Over, Pauses};
use super::table::Table;
use super::verdict::{Copies, judge};
use super::witness::Mark;
use super::world::{LIMIT, World, eventually, full, seed};

const WORKERS: usize = 3;
const LEASE: i64 = 3_000;
const ARGS: [&str; 5] = ["-q", "--slots", "4", "--lease", "3s"];

#[test]
fn c1_kill_9_at_random_loses_nothing_and_doubles_nothing_without_a_lost_lease() {
    let (jobs, kills) = if full() { (10_000, 200) } else { (600, 20) };
    run(&World::new(), jobs, kills, seed());
}

#[test]
fn c1_postgres_kill_9_at_random_loses_nothing_and_doubles_nothing_without_a_lost_lease() {
    let (jobs, kills) = if full() { (10_000, 200) } else { (600, 20) };
    run(&World::on_postgres(), jobs, kills, seed());
}

#[test]
fn c1_http_kill_9_of_workers_and_of_their_coordinator_loses_nothing_and_doubles_nothing() {
    let (jobs, kills) = if full() { (10_000, 200) } else { (200, 8) };
    run(&World::on_file().behind_http(), jobs, kills, seed());
}

#[test]
fn c1_http_postgres_kill_9_of_workers_and_of_their_coordinator_loses_nothing_and_doubles_nothing() {
    let (jobs, kills) = if full() { (10_000, 200) } else { (200, 8) };
    run(&World::on_postgres().behind_http(), jobs, kills, seed());
}

fn run(world: &World, jobs: usize, kills: usize, seed: u64) {
    let begun = Instant::now();
    let title = format!("C1 kill -9 at random, {jobs} jobs × {kills} kills, {}, seed {seed}", world.kind());
    let mut table = Table::new(title);
    let load = Load { jobs, kills: kills / 2, least: 50, most: 200 };
    let mut client = Client::new(world, load, Chance::new(seed, 1));
    let allowed = AtomicUsize::new(jobs / kills);
    let mut fleet = Fleet::start(world, WORKERS, &ARGS);
    let ended = AtomicBool::new(false);
    let (mut blows, calm, pauses) = std::thread::scope(|scope| {
        let pauses = scope.spawn(|| Pauses::watch(world.path("pace"), &ended));
        let over = Over(&ended);
        let client = scope.spawn(|| client.store_all(&allowed));
        let wanted = || !client.is_finished();
        let blows = hurt(world, &mut fleet, jobs, kills, &allowed, &wanted, Chance::new(seed, 2));
        allowed.store(usize::MAX, Ordering::Relaxed);
        client.join().unwrap();
        let calm = eventually("all jobs to end", LIMIT, || {
            fleet.revive();
            world.count(&["pending", "scheduled", "blocked", "running"]) == 0
        });
        drop(over);
        (blows, calm, pauses.join().unwrap())
    });
    table.none("workers that failed", &fleet.stop());
    table.fact("wall time", format!("{:.1} s, of it {:.1} s after the last kill", secs(begun.elapsed()), secs(calm)));
    if let Some(front) = world.front() {
        let events = world.events();
        let settled =
            blows.iter_mut().map(|blow| losses::allow_requests_on_their_way(&mut blow.hit, &events)).sum::<usize>();
        table.fact("outcomes that arrived after their worker's death", settled);
        table.at_least("kills of the coordinator", front.kills(), kills / 4);
        table.at_least("answers lost", front.lost(), kills);
    }
    count(world, &blows, kills, &pauses, &mut table);
    client.judge(&mut table);
    judge(world, &client.told, Copies::Never, &mut table);
    table.finish();
}

fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// A kill, whether the same name came back at once, and whether all who were busy were killed together.
struct Blow {
    hit: Hit,
    same: bool,
    all: bool,
}

fn hurt(
    world: &World,
    fleet: &mut Fleet,
    jobs: usize,
    kills: usize,
    allowed: &AtomicUsize,
    wanted: &impl Fn() -> bool,
    mut chance: Chance,
) -> Vec<Blow> {
    let (mut blows, mut front_kills): (Vec<Blow>, usize) = (Vec::new(), 0);
    while blows.len() < kills {
        chance.pause(Duration::from_millis(20), Duration::from_millis(800));
        // Now and then all of them at once: then nobody is left who could take over. None may be left out by chance.
        let all = chance.one_in(8) || (blows.len() > kills / 2 && !blows.iter().any(|b| b.all));
        let other = blows.len() > kills / 2 && blows.iter().all(|b| b.same);
        // Every third time, so that it is never left out.
        if let Some(front) = world.front().filter(|_| blows.len() / 3 >= front_kills) {
            front.kill(world);
            front_kills += 1;
        }
        let busy = wait_busy(fleet, allowed, wanted);
        if busy.is_empty() {
            break;
        }
        let chosen = choose(&busy, &mut chance);
        let victims: Vec<_> = busy.iter().filter(|v| all || v.name == chosen.name).collect();
        let same: Vec<bool> = victims.iter().map(|_| !chance.one_in(4) && !other).collect();
        let hits: Vec<Hit> = victims.iter().map(|victim| fleet.kill(victim)).collect();
        for ((victim, hit), same) in victims.iter().zip(hits).zip(same) {
            fleet.replace(&victim.name, same);
            blows.push(Blow { hit, same, all });
        }
        allowed.store(jobs * (blows.len() + 1) / kills, Ordering::Relaxed);
    }
    blows
}

/// Work must be in flight when it hurts: more is let in until it is. Nobody is busy when no more work is `wanted`.
fn wait_busy(fleet: &mut Fleet, allowed: &AtomicUsize, wanted: &impl Fn() -> bool) -> Vec<super::fleet::Victim> {
    let begun = Instant::now();
    loop {
        let over = !wanted();
        fleet.revive();
        let busy = fleet.busy();
        if !busy.is_empty() || over {
            return busy;
        }
        assert!(begun.elapsed() < LIMIT, "no worker gets any work");
        if begun.elapsed() > Duration::from_millis(300) {
            allowed.fetch_add(5, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn count(world: &World, blows: &[Blow], kills: usize, pauses: &Pauses, table: &mut Table) {
    let losses = losses(&world.events());
    let hits: Vec<&Hit> = blows.iter().map(|b| &b.hit).collect();
    let held: Vec<usize> = hits.iter().map(|hit| lost_by(hit, &losses).count()).collect();
    table.at_least("kills of workers", blows.len(), kills);
    // Behind a coordinator it is the coordinator that leads.
    let leads = usize::from(world.front().is_none());
    table.at_least("of these of the leader", hits.iter().filter(|h| h.led).count(), leads);
    table.at_least("of these all who were busy at once", blows.iter().filter(|b| b.all).count(), 1);
    table.at_least("of these with another name started", blows.iter().filter(|b| !b.same).count(), 1);
    let while_held = held.iter().filter(|leases| **leases > 0).count();
    // A short run has fewer of them to be unlucky with.
    let share = if world.front().is_some() || !full() { 75 } else { 95 };
    table.at_least("of these with leases held", while_held, (blows.len() * share).div_ceil(100));
    table.fact("leases held at kills", held.iter().sum::<usize>());
    losses::judge(&hits, &losses, pauses, LEASE, table);
    recovery(world, blows, &losses, table);
}

fn recovery(world: &World, blows: &[Blow], losses: &[Loss], table: &mut Table) {
    let listed = world.json(&["list", "--limit", "0"]);
    let id = |j: &serde_json::Value| (j["number"].as_u64().unwrap(), j["id"].as_str().unwrap().to_owned());
    let ids: HashMap<u64, String> = listed.as_array().unwrap().iter().map(id).collect();
    let mut starts: HashMap<String, Vec<i64>> = HashMap::new();
    for line in world.lines().into_iter().filter(|l| l.mark == Mark::Start) {
        starts.entry(line.job).or_default().push(line.at);
    }
    let recovery = |same: bool| {
        let blows = blows.iter().filter(move |b| b.same == same);
        let lost = blows.flat_map(|b| lost_by(&b.hit, losses).map(|loss| (loss.number, b.hit.at)));
        let again =
            lost.filter_map(|(number, at)| starts.get(&ids[&number])?.iter().find(|s| **s > at).map(|s| s - at));
        again.collect::<Vec<i64>>()
    };
    table.times("from kill to running again, same name restarted", recovery(true));
    table.times("from kill to running again, another name started", recovery(false));
}
