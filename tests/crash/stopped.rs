//! C2: a worker is stopped past its leases, and goes on as if nothing had happened.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::table::Table;
use super::verdict::{Copies, Told, judge, wait_all_ended};
use super::witness::{Line, Mark};
use super::world::{LIMIT, Process, World, eventually, full, is_alive, seed};

const LEASE: Duration = Duration::from_secs(3);
/// A leader that is silent for so long may be deposed although it holds the lock (S30).
const SILENT: Duration = Duration::from_secs(15);
/// How late a sweep may come, and how long a busy machine may take for what follows.
const SLACK: Duration = Duration::from_secs(2);
/// A lost job is killed, not asked: this is for the worker to hear of it.
const HEAR: Duration = Duration::from_secs(5);

const ARGS: [&str; 5] = ["-q", "--lease", "3s", "--slots", "3"];

#[test]
fn c2_the_late_settle_of_a_stopped_worker_is_rejected() {
    for round in 0..if full() { 5 } else { 1 } {
        run(false, round);
    }
}

#[test]
fn c2_a_stopped_leader_is_deposed_and_its_jobs_move() {
    for round in 0..if full() { 2 } else { 1 } {
        run(true, round);
    }
}

fn run(leads: bool, round: usize) {
    let begun = Instant::now();
    let world = World::new();
    let who = if leads { "the leader" } else { "a worker" };
    let mut table = Table::new(format!("C2 SIGSTOP of {who} for 3 leases, round {}, seed {}", round + 1, seed()));
    let (stopped, other) = workers(&world, leads);
    // The first attempt of one ends while its worker is stopped, that of the other would never end.
    let short = world.add(&["--require", "role=any"], &["1000", "50"]);
    let long = world.add(&["--require", "role=any"], &["300000", "50"]);
    // Nobody runs it again, and so nobody but its own worker ends it.
    let once = world.add(&["--require", "role=any", "--max-losses", "0"], &["300000"]);
    let first = [&long, &once].map(|job| wait_line(&world, Mark::Start, job, 1).pid);
    wait_line(&world, Mark::Start, &short, 1);
    stopped.signal(Signal::STOP);
    let since = Instant::now();
    table.fact("jobs held when it was stopped", running(&world, &stopped));
    let release = world.worker("b2", &[&ARGS[..], &["--labels", "role=any"]].concat());
    for job in [&short, &long] {
        wait_line(&world, Mark::End, job, 2);
    }
    let moved = since.elapsed();
    let most = if leads { SILENT } else { Duration::ZERO } + LEASE + SLACK;
    table.at_most("seconds until its jobs had run elsewhere", moved.as_secs_f64(), most.as_secs_f64());
    wait_line(&world, Mark::End, &short, 1);
    table.at_least("jobs that run on while it is stopped", first.iter().filter(|p| is_alive(**p)).count(), 1);
    std::thread::sleep((LEASE * 3).saturating_sub(since.elapsed())); // how long it is stopped is the scenario
    stopped.signal(Signal::CONT);
    let rejected = |job: &str, op: Option<&str>| {
        let of = |e: &Value| e["job_id"] == *job && e["attempt"] == 1 && op.is_none_or(|op| e["data"]["op"] == op);
        world.events().iter().filter(|e| e["kind"] == "rejected_stale" && of(e)).count()
    };
    eventually("the late settle to be rejected", HEAR, || rejected(&short, Some("settle")) > 0);
    eventually("the lost jobs to be ended", HEAR, || !first.iter().any(|pid| is_alive(*pid)));
    eventually("its renewal to be rejected", HEAR, || rejected(&once, Some("renew")) > 0);
    table.fact("late writes rejected of the job that had ended", rejected(&short, None));
    table.fact("late writes rejected of the jobs that ran on", rejected(&long, None) + rejected(&once, None));
    let wrong = [&short, &long].into_iter().filter_map(|job| wrong(&world, job));
    table.none("results that are not those of the second attempt", &wrong.collect::<Vec<_>>());
    // It must be of use again.
    let after = world.add(&["--require", "who=stopped"], &["50"]);
    wait_line(&world, Mark::End, &after, 1);
    wait_all_ended(&world, LIMIT);
    [stopped, other, release].into_iter().for_each(Process::stop);
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    let told = Told { given_up: vec![once], ..Told::of(vec![short, long, after]) };
    judge(&world, &told, Copies::MayOverlap, &mut table);
    table.finish();
}

/// The worker that is to be stopped, and the one that leads in the end.
fn workers(world: &World, leads: bool) -> (Process, Process) {
    let stopped = |world: &World| world.ready_worker("a", &[&ARGS[..], &["--labels", "role=any,who=stopped"]].concat());
    // It serves nothing of what is stored here, so that the jobs start where they are to be stopped.
    let other = |world: &World| world.ready_worker("b", &[&ARGS[..], &["--queues", "other"]].concat());
    let first = |name: &str| {
        eventually("a leader", LIMIT, || world.json(&["status"])["leader"]["name"] == *name);
    };
    match leads {
        true => {
            let a = stopped(world);
            first("a");
            (a, other(world))
        }
        false => {
            let b = other(world);
            first("b");
            (stopped(world), b)
        }
    }
}

fn running(world: &World, worker: &Process) -> usize {
    let rows = world.workers();
    let row = rows.iter().find(|w| w["pid"] == worker.pid());
    row.map_or(0, |w| w["running"].as_array().unwrap().len())
}

fn wait_line(world: &World, mark: Mark, job: &str, attempt: u64) -> Line {
    let find = || world.lines().into_iter().find(|l| l.mark == mark && l.job == *job && l.attempt == attempt);
    eventually(&format!("{mark:?} of attempt {attempt} of {job}"), LIMIT, || find().is_some());
    find().unwrap()
}

/// What is wrong with the result of a job, which must be that of attempt 2.
fn wrong(world: &World, job: &str) -> Option<String> {
    let status = world.json(&["status", job]);
    let outcomes: Vec<&str> = status["attempts"].as_array()?.iter().filter_map(|a| a["outcome"].as_str()).collect();
    let said = world.ok(&["tail", job]);
    let fine = status["state"] == "done"
        && status["attempt"] == 2
        && status["worker"] == "b2"
        && outcomes == ["lost", "done"]
        && said.ends_with("attempt 2\n");
    (!fine).then(|| format!("{said:?} of {status}"))
}
