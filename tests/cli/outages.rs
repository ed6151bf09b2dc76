//! A store that cannot be used for a while: the log says so, not too often, and that it is over.

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;

use super::support::*;
use crate::server::Cluster;

/// The lines of a log in JSON about calls that could not be made, and about the end of that, with their instants in
/// milliseconds.
fn told(worker: &Running) -> Vec<(i64, String)> {
    let log = worker.stderr();
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let text = |line: &Value| line["message"].as_str().unwrap().to_owned();
    let is_about_calls = |line: &Value| {
        // A connection that only listens is no call.
        (line["level"] == "WARN" && !text(line).starts_with("the connection that listens"))
            || text(line).starts_with(OVER)
    };
    let lines = lines_of_json(whole).into_iter().filter(is_about_calls);
    let at = |line: &Value| line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    lines.map(|line| (at(&line).as_millisecond(), text(&line))).collect()
}

const OVER: &str = "the store can be used again, after ";

/// Waits for some lines of an outage, ends it, and looks at all of them.
fn expect_few_lines(worker: &Running, end: impl FnOnce()) {
    eventually("the outage to be told more than once", || told(worker).len() >= 3);
    end();
    worker.wait_stderr(OVER);
    let lines = told(worker);
    let (over, during) = lines.split_last().unwrap();
    assert!(over.1.starts_with(OVER), "{lines:?}");
    assert!(during.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 990), "more than a line a second: {lines:?}");
}

/// Short leases: they are renewed more often than once a second.
const WORKER: [&str; 5] = ["worker", "--log-format", "json", "--lease", "2s"];

/// A worker whose files can be kept from growing, as on a full disk.
fn worker_on_a_disk(orx: &Orx, args: &[&str]) -> Running {
    let script = ["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_orx")];
    let worker = orx.program("sh", &[&script[..], args].concat()).spawn();
    worker.wait_stderr("ready");
    worker
}

fn fill(worker: &Running, full: bool) {
    let current = full.then_some(0);
    prlimit(Pid::from_raw(worker.pid() as i32), Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
}

#[test]
fn a_full_disk_costs_a_line_a_second_at_most_and_its_end_is_told() {
    let orx = Orx::file();
    let worker = worker_on_a_disk(&orx, &WORKER);
    orx.sh(&[], &format!("echo up > up; {UNTIL_GO}"));
    orx.wait_line("up");
    fill(&worker, true);
    expect_few_lines(&worker, || fill(&worker, false));
    assert!(told(&worker)[0].1.contains("the disk "), "{:?}", told(&worker));
    orx.write("go", "");
    orx.ok(&["wait", "1"]);
    worker.stop().expect(0, &[]);
}

#[test]
fn a_server_that_is_away_costs_a_line_a_second_at_most_and_its_end_is_told() {
    let orx = Orx::file();
    let cluster = Cluster::start(&[]);
    let worker = orx.spawn(&[&["--store", cluster.url()], &WORKER[..]].concat());
    worker.wait_stderr("\"ready\"");
    cluster.ctl(&["stop", "-m", "fast"]).unwrap();
    expect_few_lines(&worker, || cluster.ctl(&["start"]).unwrap());
    worker.stop().expect(0, &[]);
}

/// From the lease of a job to its end, and to the event that tells of that, in milliseconds.
fn ended_after(orx: &Orx, store: &str) -> (i64, i64) {
    let at = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let job: Value = serde_json::from_str(&orx.ok(&["--store", store, "-o", "json", "status", "1"])).unwrap();
    let events = lines_of_json(&orx.ok(&["--store", store, "events", "--job", "1"]));
    let of = |kind: &str| at(&events.iter().find(|event| event["kind"] == kind).unwrap()["at"]);
    assert_eq!(job["finished_at"], job["attempts"][0]["finished_at"]);
    (at(&job["finished_at"]) - of("leased"), of("settled") - of("leased"))
}

/// Has a job that writes much end while the store is away for some lines of the log.
fn end_meanwhile(orx: &Orx, store: &str, worker: &Running, away: impl FnOnce(), back: impl FnOnce()) {
    let script = format!("echo up > up; {UNTIL_GO}; head -c 200000 /dev/zero; echo over > over");
    orx.ok(&["--store", store, "enqueue", "--", "sh", "-c", &script]);
    orx.wait_line("up");
    away();
    orx.write("go", "");
    orx.wait_line("over");
    expect_few_lines(worker, back);
    orx.ok(&["--store", store, "wait", "1"]);
    let (ended, stored) = ended_after(orx, store);
    assert!(stored - ended >= 1500, "it ended after {ended} ms, and that was stored after {stored} ms");
}

#[test]
fn s26_an_end_during_an_outage_is_stamped_when_it_happened() {
    let orx = Orx::file();
    let worker = worker_on_a_disk(&orx, &WORKER);
    let store = orx.url();
    end_meanwhile(&orx, &store, &worker, || fill(&worker, true), || fill(&worker, false));
    worker.stop().expect(0, &[]);
}

#[test]
fn s26_an_end_while_a_server_is_away_is_stamped_when_it_happened() {
    let orx = Orx::file();
    let cluster = Cluster::start(&[]);
    let store = cluster.url();
    let worker = orx.spawn(&["--store", store, "worker", "--log-format", "json"]);
    worker.wait_stderr("\"ready\"");
    let away = || cluster.ctl(&["stop", "-m", "fast"]).unwrap();
    end_meanwhile(&orx, store, &worker, away, || cluster.ctl(&["start"]).unwrap());
    worker.stop().expect(0, &[]);
}

/// What jobs say to their worker while the store cannot be used, and what they are told: the same, whatever the reason.
fn say_meanwhile(orx: &Orx, store: &str, away: impl FnOnce(), back: impl FnOnce()) {
    let bin = env!("CARGO_BIN_EXE_orx");
    let script = format!(
        "echo up > up; {UNTIL_GO}
         ({bin} progress 10 2> progress; echo $? >> progress) & ({bin} result good 2> result; echo $? >> result) & wait
         {bin} heartbeat 2> heartbeat; echo $? >> heartbeat
         echo over > over; until [ -e end ]; do sleep 0.02; done"
    );
    orx.write("good", "7");
    orx.ok(&["--store", store, "enqueue", "--", "sh", "-c", &script]);
    orx.wait_line("up");
    away();
    orx.write("go", "");
    orx.wait_line("over");
    back();
    for command in ["progress", "result"] {
        let said = orx.read(command);
        let told = said.starts_with("orx: the store cannot be used now: ")
            && said.contains("\nhint: this may not be recorded");
        assert!(told && said.ends_with("\n6\n"), "{command}: {said}");
    }
    assert_eq!(orx.read("heartbeat"), "0\n", "it needs no store");
    orx.write("end", "");
    orx.ok(&["--store", store, "wait", "1"]);
}

#[test]
fn s35_a_job_is_told_the_same_in_a_store_that_is_full() {
    let orx = Orx::file();
    let worker = worker_on_a_disk(&orx, &["worker"]);
    say_meanwhile(&orx, &orx.url(), || fill(&worker, true), || fill(&worker, false));
}

#[test]
fn s35_a_job_is_told_the_same_in_a_store_that_is_locked() {
    let orx = Orx::file();
    let _worker = orx.worker(&[]);
    let holder = rusqlite::Connection::open(orx.store()).unwrap();
    let run = |statement: &str| holder.execute_batch(statement).unwrap();
    say_meanwhile(&orx, &orx.url(), || run("BEGIN IMMEDIATE"), || run("ROLLBACK"));
}

#[test]
fn s35_a_job_is_told_the_same_while_the_server_is_away() {
    let orx = Orx::file();
    let cluster = Cluster::start(&[]);
    let worker = orx.spawn(&["--store", cluster.url(), "worker", "--lease", "1m"]);
    worker.wait_stderr("ready");
    let away = || cluster.ctl(&["stop", "-m", "fast"]).unwrap();
    say_meanwhile(&orx, cluster.url(), away, || cluster.ctl(&["start"]).unwrap());
}

#[test]
fn s35_a_job_is_told_the_same_while_the_coordinator_is_away() {
    let mut orx = Orx::file();
    orx.serve();
    let worker = orx.spawn(&["worker", "--lease", "1m"]);
    worker.wait_stderr("ready");
    let coordinator = Pid::from_raw(orx.coordinator().pid() as i32).unwrap();
    let signal = |signal| kill_process(coordinator, signal).unwrap();
    say_meanwhile(&orx, &orx.url(), || signal(Signal::STOP), || signal(Signal::CONT));
}
