//! C2: a worker is stopped past its leases, and goes on as if nothing had happened.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use super::table::Table;
use super::verdict::{Copies, Told, judge, wait_all_ended};
use super::witness::{Line, Mark};
use super::world::{LIMIT, Process, World, eventually, full, is_alive, seed, within};

const LEASE: Duration = Duration::from_secs(3);
/// A leader that is silent for so long may be deposed although it holds the lock (S30).
const SILENT: Duration = Duration::from_secs(15);
/// How late a sweep may come, and how long a busy machine may take for what follows.
const SLACK: Duration = Duration::from_secs(2);
/// A lost job is killed, not asked: this is for the worker to hear of it.
const HEAR: Duration = Duration::from_secs(5);

/// A transaction of a process that goes on takes less.
const BRIEF: Duration = Duration::from_millis(500);

const ARGS: [&str; 5] = ["-q", "--lease", "3s", "--slots", "4"];

#[test]
fn c2_the_late_settle_of_a_stopped_worker_is_rejected() {
    for round in 0..if full() { 5 } else { 1 } {
        run(&World::new(), false, round);
    }
}

#[test]
fn c2_postgres_the_late_settle_of_a_stopped_worker_is_rejected() {
    for round in 0..if full() { 5 } else { 1 } {
        run(&World::on_postgres(), false, round);
    }
}

#[test]
fn c2_a_stopped_leader_is_deposed_and_its_jobs_move() {
    for round in 0..if full() { 2 } else { 1 } {
        run(&World::new(), true, round);
    }
}

#[test]
fn c2_postgres_a_stopped_leader_is_deposed_and_its_jobs_move() {
    for round in 0..if full() { 2 } else { 1 } {
        run(&World::on_postgres(), true, round);
    }
}

fn run(world: &World, leads: bool, round: usize) {
    let begun = Instant::now();
    let who = if leads { "the leader" } else { "a worker" };
    let title = format!("C2 SIGSTOP of {who} for 3 leases, {}, round {}, seed {}", world.kind(), round + 1, seed());
    let mut table = Table::new(title);
    let (stopped, other) = workers(world, leads);
    // The first attempts of two end while their worker is stopped: it hears that one's second attempt has ended by then,
    // and that the other's still runs. The first attempt of the third would never end.
    let short = world.add(&["--require", "role=any"], &["1000", "50"]);
    let late = world.add(&["--require", "role=any"], &["1000", "10000"]);
    let long = world.add(&["--require", "role=any"], &["300000", "50"]);
    // Nobody runs it again, and so nobody but its own worker ends it, and the daemon that it has.
    let once = world.add(&["--require", "role=any", "--max-losses", "0"], &["t300000"]);
    let first = [&long, &once].map(|job| wait_line(world, Mark::Start, job, 1).pid);
    let daemon = wait_line(world, Mark::Daemon, &once, 1).pid;
    for job in [&short, &late] {
        wait_line(world, Mark::Start, job, 1);
    }
    stop_between_transactions(world, &stopped);
    let since = Instant::now();
    table.fact("jobs held when it was stopped", running(world, &stopped));
    let release = world.worker("b2", &[&ARGS[..], &["--labels", "role=any,who=release"]].concat());
    for job in [&short, &long] {
        wait_line(world, Mark::End, job, 2);
    }
    let moved = since.elapsed();
    let most = if leads { SILENT } else { Duration::ZERO } + LEASE + SLACK;
    table.at_most("seconds until its jobs had run elsewhere", moved.as_secs_f64(), most.as_secs_f64());
    for job in [&short, &late] {
        wait_line(world, Mark::End, job, 1);
    }
    wait_line(world, Mark::Start, &late, 2);
    table.at_least("jobs that run on while it is stopped", first.iter().filter(|p| is_alive(**p)).count(), 1);
    std::thread::sleep((LEASE * 3).saturating_sub(since.elapsed())); // how long it is stopped is the scenario
    stopped.signal(Signal::CONT);
    let rejected = |job: &str, op: Option<&str>| {
        let of = |e: &Value| e["job_id"] == *job && e["attempt"] == 1 && op.is_none_or(|op| e["data"]["op"] == op);
        world.events().iter().filter(|e| e["kind"] == "rejected_stale" && of(e)).count()
    };
    let due = [(&short, "settle"), (&late, "settle"), (&once, "renew")];
    within(HEAR, || due.iter().all(|(job, op)| rejected(job, Some(op)) > 0));
    let accepted = due.iter().filter(|(job, op)| rejected(job, Some(op)) == 0);
    table.none("late writes not rejected", &accepted.map(|(job, op)| format!("{op} of {job}")).collect::<Vec<_>>());
    let lost = [first[0], first[1], daemon];
    within(HEAR, || !lost.iter().any(|pid| is_alive(*pid)));
    let alive = lost.iter().filter(|pid| is_alive(**pid)).map(|pid| format!("{pid} of {lost:?}"));
    table.none("processes of lost jobs not ended", &alive.collect::<Vec<_>>());
    table.fact("late writes rejected of the jobs that had ended", rejected(&short, None) + rejected(&late, None));
    table.fact("late writes rejected of the jobs that ran on", rejected(&long, None) + rejected(&once, None));
    // It must be of use again.
    let after = world.add(&["--require", "who=stopped"], &["50"]);
    wait_line(world, Mark::End, &after, 1);
    let mut told = Told { given_up: vec![once], ..Told::of(vec![short.clone(), late.clone(), long.clone(), after]) };
    wait_line(world, Mark::End, &late, 2);
    let mut again = vec![short, late, long];
    if leads {
        let moved = stop_the_new_leader(world, &other, &release, &mut table);
        told.acknowledged.push(moved.clone());
        again.push(moved);
    }
    wait_all_ended(world, LIMIT);
    let wrong = again.iter().filter_map(|job| wrong(world, job));
    table.none("results that are not those of the second attempt", &wrong.collect::<Vec<_>>());
    [stopped, other, release].into_iter().for_each(Process::stop);
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    judge(world, &told, Copies::MayOverlap, &mut table);
    table.finish();
}

/// Stops it, but not in the middle of a transaction: a file's lock would be held until it goes on, and nobody could write.
fn stop_between_transactions(world: &World, process: &Process) {
    eventually("a moment between two transactions", LIMIT, || {
        process.signal(Signal::STOP);
        let is_free = is_writable(world);
        if !is_free {
            process.signal(Signal::CONT);
        }
        is_free
    });
}

/// Whether nobody holds the lock of a store that is a file, or that of its output.
fn is_writable(world: &World) -> bool {
    let store = world.store().to_str().unwrap();
    let files = [store.to_owned(), format!("{store}-output")];
    let is_free = |file: &&String| {
        let conn = Connection::open(file).unwrap();
        conn.busy_timeout(BRIEF).unwrap();
        conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
    };
    store.starts_with("postgres") || files.iter().filter(|file| Path::new(file).exists()).all(|file| is_free(&file))
}

/// The one that was stopped is the only one left who could do the upkeep: it may do so only when it has been elected again.
///
/// Gives a job that it had to take from a worker that is stopped now.
fn stop_the_new_leader(world: &World, leader: &Process, worker: &Process, table: &mut Table) -> String {
    let job = world.add(&["--require", "who=release"], &["300000", "50"]);
    wait_line(world, Mark::Start, &job, 1);
    [leader, worker].into_iter().for_each(|process| stop_between_transactions(world, process));
    let since = Instant::now();
    eventually("the lease of a stopped worker to be reaped", SILENT + LEASE + SLACK, || {
        world.json(&["status", &job])["state"] == "pending"
    });
    table.fact("from the new leader's stop to a lease reaped", format!("{} ms", since.elapsed().as_millis()));
    let leads = world.json(&["status"])["leader"]["name"].as_str().unwrap_or_default().to_owned();
    let deposed = (leads != "a").then(|| format!("a reaped, and {leads} leads"));
    table.none("upkeep by a leader that was deposed", &Vec::from_iter(deposed));
    [leader, worker].into_iter().for_each(|process| process.signal(Signal::CONT));
    wait_line(world, Mark::End, &job, 2);
    job
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
