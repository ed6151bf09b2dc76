//! C11: kill -9 of every process of orx in the middle of a catch-up and of workflows; then a worker alone completes both.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::chance::Chance;
use super::clock::Clock;
use super::schedules::{judge, starts};
use super::table::Table;
use super::witness;
use super::world::{LIMIT, Process, World, eventually, full, now, seed};

/// How long nobody was there, in seconds.
const DOWNTIME: i64 = 600;
/// For how long instants are due yet when all have been killed, in seconds.
const AFTER: i64 = 3;
/// The tasks of the workflow that a schedule runs.
const TASKS: usize = 3;
/// What is killed: a worker with its name, and those that come and go.
const KINDS: usize = 3;

#[test]
fn c11_kill_9_of_every_process_in_a_catch_up_and_in_workflows_leaves_work_that_one_worker_completes() {
    let (kills, seconds) = if full() { (60, 40) } else { (8, 5) };
    run(kills, seconds, seed());
}

/// A workflow whose tasks write to the witness.
fn workflow(world: &World, name: &str, tasks: &[(&str, &str, &[&str])]) -> String {
    let witness = world.witness();
    let task = |(task, millis, needs): &(&str, &str, &[&str])| json!({ "name": task, "needs": needs, "command": [witness::helper(), witness.to_str().unwrap(), millis] });
    // Nothing here may end because its worker died often.
    let defaults = json!({ "max_losses": 1000, "kill_grace": "1s" });
    let all = json!({ "name": name, "defaults": defaults, "task": tasks.iter().map(task).collect::<Vec<_>>() });
    let file = world.path(&format!("{name}.json"));
    std::fs::write(&file, all.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

fn run(kills: usize, seconds: i64, seed: u64) {
    let world = World::on_file();
    let clock = Clock::new(world.path("clock"));
    let world = world.with_clock(&clock);
    let mut table = Table::new(format!("C11 kill -9 of every process, {kills} kills, then one worker, seed {seed}"));
    let flow = workflow(&world, "flow", &[("a", "20", &[]), ("b", "20", &["a"]), ("c", "20", &["a"])]);
    let slow = ("slow", "t60000", &[][..]);
    let doomed = workflow(
        &world,
        "doomed",
        &[("first", "400", &[]), slow, ("slower", "t60000", &[]), ("fails", "f50", &["first"])],
    );
    let other = workflow(&world, "other", &[("x", "300", &[]), ("y", "100", &["x"])]);
    let last = now() + (DOWNTIME + seconds + AFTER) * 1000;
    let end = jiff::Timestamp::from_millisecond(last).unwrap().to_string();
    let rule = |name, every| ["-q", "schedule", "add", name, "--every", every, "--end", &end, "--overlap", "allow"];
    let witness = world.witness();
    let command = ["--max-losses", "1000", "--", witness::helper(), witness.to_str().unwrap(), "20"];
    world.ok(&[&rule("jobs", "1s")[..], &["--catch-up", "60"], &command].concat());
    world.ok(&[&rule("runs", "5s")[..], &["--catch-up", "all", "--workflow", &flow]].concat());
    clock.set(DOWNTIME);
    let first = world.ok(&["-q", "workflow", "submit", &doomed]).trim().to_owned();
    let start = |kind: usize| match kind {
        0 => world.worker("w", &["-q", "--slots", "6", "--lease", "3s"]),
        1 => world.spawn(&["coordinator", "--name", "c", "--listen", "127.0.0.1:0"]),
        _ => world.spawn(&["-q", "run", "--workflow", &other]),
    };
    let mut processes: Vec<Process> = (0..KINDS).map(start).collect();
    let (begun, mut chance) = (Instant::now(), Chance::new(seed, 11));
    let mut struck = [0; KINDS];
    while struck.iter().sum::<usize>() < kills || begun.elapsed() < Duration::from_secs(seconds as u64) {
        chance.pause(Duration::from_millis(50), Duration::from_millis(900));
        let kind = (chance.draw() % KINDS as u64) as usize;
        struck[kind] += usize::from(processes[kind].kill());
        processes[kind] = start(kind);
    }
    let second = world.ok(&["-q", "workflow", "submit", &doomed]).trim().to_owned();
    eventually("a task to run", LIMIT, || !world.job_processes().is_empty() && world.count(&["running"]) > 0);
    let open = world.count(&["pending", "scheduled", "blocked", "running"]);
    let recorded = instants(&world);
    for process in &mut processes {
        process.kill();
    }
    drop(processes);
    table.at_least("kills", struck.iter().sum(), kills);
    table.fact("of workers, coordinators, clients", format!("{struck:?}"));
    table.at_least("jobs open when all were killed", open as usize, 1);
    table.fact("instants recorded then", recorded);
    let worker = world.worker("w", &["-q", "--slots", "6", "--lease", "3s"]);
    let took = eventually("the worker to complete everything", LIMIT, || {
        let ended = |name| world.json(&["schedule", "show", name])["state"] == "ended";
        ended("jobs") && ended("runs") && world.count(&["pending", "scheduled", "blocked", "running"]) == 0
    });
    table.fact("one worker completed the rest in", format!("{:.1} s", took.as_secs_f64()));
    let left = |world: &World| world.job_processes().iter().map(|pid| format!("process {pid}")).collect::<Vec<_>>();
    eventually("the processes of tasks to end", LIMIT, || left(&world).is_empty());
    table.none("processes of tasks left in /proc", &left(&world));
    worker.stop();
    for run in [first, second] {
        judge_doomed(&world, &run, &mut table);
    }
    let starts = starts(&world);
    judge(&world, "jobs", (1000, last + 1), 1, &starts, &mut table);
    judge(&world, "runs", (5000, last + 1), TASKS, &starts, &mut table);
    let runs = world.json(&["workflow", "list", "--limit", "1000"]);
    let unlike = |(name, state): (&str, &str)| {
        let odd = runs.as_array().unwrap().iter().filter(move |r| r["name"] == name && r["state"] != state);
        odd.map(|r| r.to_string()).collect::<Vec<_>>()
    };
    table.none("runs that are not done", &[unlike(("flow", "done")), unlike(("other", "done"))].concat());
    for check in [["audit", ""], ["db", "check"]] {
        let args: Vec<&str> = check.into_iter().filter(|arg| !arg.is_empty()).collect();
        let (code, found, said) = world.run(&args);
        let found = if code == Some(0) { Vec::new() } else { vec![format!("{found}{said}")] };
        table.none(&format!("found by orx {}", args.join(" ")), &found);
    }
    table.finish();
}

/// How many instants are recorded.
fn instants(world: &World) -> i64 {
    let rows = ["jobs", "runs"].map(|name| world.json(&["schedule", "history", name, "--limit", "0"]));
    rows.iter().flat_map(|rows| rows.as_array().unwrap()).map(|row| row["count"].as_i64().unwrap()).sum()
}

/// The task that failed failed the run, and ended those that ran.
fn judge_doomed(world: &World, run: &str, table: &mut Table) {
    let report = world.json(&["workflow", "report", run]);
    let state = |task: &str| {
        let tasks = report["tasks"].as_array().unwrap();
        tasks.iter().find(|t| t["task"] == task).map_or(Value::Null, |t| t["state"].clone())
    };
    let mut odd = Vec::new();
    odd.extend((report["state"] != "failed").then(|| report["state"].to_string()));
    let expected = [("first", "done"), ("fails", "failed"), ("slow", "cancelled"), ("slower", "cancelled")];
    for (task, wanted) in expected {
        let ended = state(task);
        // What had not begun when it failed is skipped.
        odd.extend(
            (ended != wanted && !(wanted == "cancelled" && ended == "skipped")).then(|| format!("{task} {ended}")),
        );
    }
    table.none("tasks of the fail-fast run that ended otherwise", &odd);
}
