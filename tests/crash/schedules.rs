//! C10: kill -9 of the leader every two seconds with schedules due each second: no instant is lost, none fires twice.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::chance::Chance;
use super::table::Table;
use super::witness;
use super::world::{LIMIT, Process, World, eventually, full, now, seed};

/// How often the leader is killed.
const PERIOD: Duration = Duration::from_secs(2);
const SWAY: Duration = Duration::from_millis(700);
const WORKERS: usize = 3;
/// How each schedule meets its own runs, and what it makes up for.
const SCHEDULES: [(&str, &str, &str); 4] =
    [("allow", "allow", "all"), ("skip", "skip", "last"), ("queue", "queue", "all"), ("cancel", "cancel", "all")];
/// An instant is this late at most while nobody kills: takeover and a busy machine included.
const SECOND: i64 = 1000;
/// So often each schedule must have fired, or little was tried.
const FIRED: usize = 5;

#[test]
fn c10_kill_9_of_the_leader_loses_no_instant_and_fires_none_twice() {
    run(&World::new(), Duration::from_secs(if full() { 120 } else { 12 }), seed());
}

#[test]
fn c10_postgres_kill_9_of_the_leader_loses_no_instant_and_fires_none_twice() {
    run(&World::on_postgres(), Duration::from_secs(if full() { 120 } else { 12 }), seed());
}

fn run(world: &World, length: Duration, seed: u64) {
    let title = format!("C10 kill -9 of the leader every {PERIOD:?} for {length:?}, {}, seed {seed}", world.kind());
    let mut table = Table::new(title);
    let witness = world.witness();
    let command = ["--", witness::helper(), witness.to_str().unwrap(), "50"];
    for (name, overlap, catch_up) in SCHEDULES {
        let rule = ["schedule", "add", name, "--every", "1s", "--overlap", overlap, "--catch-up", catch_up];
        world.ok(&[&["-q"], &rule[..], &command[..]].concat());
    }
    let mut names = 0;
    let mut start = |world: &World| {
        names += 1;
        let name = format!("w{names}");
        let process = world.worker(&name, &["-q", "--slots", "4", "--lease", "3s"]);
        (name, process)
    };
    let mut workers: Vec<(String, Process)> = (0..WORKERS).map(|_| start(world)).collect();
    let begun = Instant::now();
    let (mut kills, mut chance) = (0, Chance::new(seed, 10));
    // A run whose worker was killed goes on until its lease is over, and so long a schedule that skips does not fire.
    let fired = |name| {
        let rows = world.json(&["schedule", "history", name, "--limit", "0"]);
        rows.as_array().unwrap().iter().filter(|row| row["state"] == "fired").count()
    };
    while begun.elapsed() < length || SCHEDULES.iter().any(|(name, ..)| fired(name) < FIRED) {
        assert!(begun.elapsed() < length + LIMIT, "a schedule hardly fires");
        // Not always at the same part of a second.
        chance.pause(PERIOD - SWAY, PERIOD + SWAY);
        let mut place = None;
        eventually("a living leader", LIMIT, || {
            let leader = world.json(&["status"])["leader"]["name"].as_str().unwrap_or_default().to_owned();
            place = workers.iter().position(|(name, process)| *name == leader && process.is_alive());
            place.is_some()
        });
        let place = place.unwrap();
        assert!(workers[place].1.kill(), "the leader had ended by itself: {}", workers[place].1.stderr());
        kills += 1;
        workers[place] = start(world);
    }
    let names: Vec<&str> = SCHEDULES.iter().map(|(name, ..)| *name).collect();
    let paused = now(); // what is due while they are paused one after the other may be in a row or not
    world.ok(&[&["-q", "schedule", "pause"], &names[..]].concat());
    eventually("all runs to end", LIMIT, || world.count(&["pending", "scheduled", "blocked", "running"]) == 0);
    workers.into_iter().for_each(|(_, worker)| worker.stop());
    table.at_least("kills of the leader", kills, (length.as_secs() / PERIOD.as_secs()) as usize / 2);
    let leaders = world.events().into_iter().filter(|e| e["kind"] == "leader_elected").count();
    table.fact("leaders elected", leaders);
    let starts = starts(world);
    for name in names {
        judge(world, name, (SECOND, paused), 1, &starts, &mut table);
    }
    lateness(world, &mut table);
    let (code, breaches, said) = world.run(&["audit"]);
    let breaches = if code == Some(0) { Vec::new() } else { vec![format!("{breaches}{said}")] };
    table.none("breaches found by orx audit", &breaches);
    let (code, findings, said) = world.run(&["db", "check"]);
    let findings = if code == Some(0) { Vec::new() } else { vec![format!("{findings}{said}")] };
    table.none("findings of orx db check", &findings);
    table.finish();
}

fn time(text: &Value) -> i64 {
    text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// How often each job started for the first time.
pub fn starts(world: &World) -> HashMap<String, usize> {
    let mut starts = HashMap::new();
    for line in world.lines().into_iter().filter(|l| l.mark == witness::Mark::Start && l.attempt == 1) {
        *starts.entry(line.job).or_default() += 1;
    }
    starts
}

/// `history` must be every instant (one each `step` ms) from the first to the last before `end`, each once; and what fired,
/// so many jobs.
pub fn judge(
    world: &World,
    name: &str,
    (step, end): (i64, i64),
    size: usize,
    starts: &HashMap<String, usize>,
    table: &mut Table,
) {
    let show = world.json(&["schedule", "show", name]);
    let mut rows = world.json(&["schedule", "history", name, "--limit", "0"]).as_array().unwrap().clone();
    rows.sort_by_key(|row| time(&row["due_at"]));
    let (mut gaps, mut doubles) = (Vec::new(), Vec::new());
    let mut expected = time(&show["created_at"]) + step;
    let mut instants = 0;
    for row in &rows {
        let (from, to, count) = (time(&row["due_at"]), time(&row["until"]), row["count"].as_i64().unwrap());
        instants += count;
        match from - expected {
            0 => {}
            1.. => gaps.push(format!("{name}: nothing for {} ms before {row}", from - expected)),
            _ => doubles.push(format!("{name}: {row}")),
        }
        if to - from != (count - 1) * step {
            gaps.push(format!("{name}: {count} instants in {row}"));
        }
        expected = to + step;
    }
    if end - expected > 0 {
        gaps.push(format!("{name}: nothing for the last {} ms", end - expected));
    }
    let jobs = world.json(&["list", "--label", &format!("schedule={name}"), "--limit", "0"]);
    let jobs = jobs.as_array().unwrap();
    let fired: HashSet<&str> =
        rows.iter().filter(|r| r["state"] == "fired").map(|r| r["run_id"].as_str().unwrap()).collect();
    let runs: HashSet<&str> = jobs.iter().map(|job| job["run_id"].as_str().unwrap()).collect();
    doubles.extend(
        (jobs.len() != runs.len() * size).then(|| format!("{name}: {} jobs of {} runs", jobs.len(), runs.len())),
    );
    gaps.extend(fired.difference(&runs).map(|run| format!("{name}: run {run} has no job")));
    doubles.extend(runs.difference(&fired).map(|run| format!("{name}: run {run} has no row")));
    let twice = jobs.iter().map(|job| job["id"].as_str().unwrap()).filter(|id| starts.get(*id).is_some_and(|n| *n > 1));
    doubles.extend(twice.map(|id| format!("{name}: the first attempt of {id} started twice")));
    let why =
        |reason: &str| rows.iter().filter(|r| r["reason"] == reason).map(|r| r["count"].as_i64().unwrap()).sum::<i64>();
    let counts = format!("{} fired, overlap {}, missed {}", fired.len(), why("overlap"), why("missed"));
    table.fact(&format!("instants of {name}"), format!("{instants}: {counts}"));
    table.at_least(&format!("rows of {name} that fired"), fired.len(), FIRED);
    table.none(&format!("instants of {name} in no row"), &gaps);
    table.none(&format!("instants of {name} in two rows"), &doubles);
}

/// How long after its instant each occurrence fired.
fn lateness(world: &World, table: &mut Table) {
    let fired = world.events().into_iter().filter(|e| e["kind"] == "occurrence_fired");
    let late: Vec<i64> = fired.map(|e| time(&e["at"]) - time(&e["data"]["due_at"])).collect();
    table.times("from instant to firing, takeovers included", late);
}
