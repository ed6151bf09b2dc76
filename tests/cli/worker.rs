//! `orx worker` and `orx workers`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::support::*;

#[test]
fn burst_runs_what_is_runnable_and_ends() {
    let orx = Orx::new();
    for _ in 0..5 {
        orx.add(&["--", "true"]);
    }
    orx.add(&["--delay", "1h", "--", "true"]);
    orx.run(&["worker", "--burst", "--slots", "2"]).expect(0, &["ready"]);
    assert_eq!(orx.states(), "done done done done done scheduled");
    orx.run(&["worker", "--burst"]).expect(0, &[]);
    assert!(orx.json(&["workers"]).as_array().unwrap().is_empty());
}

#[test]
fn s6_burst_leaves_services_alone() {
    let orx = Orx::new();
    orx.add(&["--restart", "always", "--", "sleep", "300"]);
    orx.burst();
    assert_eq!(orx.state("1"), "pending");
}

#[test]
fn s6_a_service_starts_again_until_it_is_cancelled() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    orx.sh(&["--restart", "always", "--backoff", "10ms..20ms"], "echo up >> starts; exit $(($(wc -l < starts) % 2))");
    eventually("four starts", || orx.read("starts").lines().count() >= 4);
    orx.ok(&["cancel", "1"]);
    orx.run(&["wait", "1"]).expect(130, &[]);
    assert_eq!(orx.job("1")["failures"], 0);
}

#[test]
fn an_idle_worker_ends_after_its_idle_timeout() {
    let orx = Orx::new();
    orx.sh(&[], "sleep 0.5");
    let started = Instant::now();
    orx.run(&["worker", "--idle-timeout", "300ms"]).expect(0, &[]);
    assert!(started.elapsed() >= Duration::from_millis(800), "{:?}", started.elapsed());
    assert_eq!(orx.state("1"), "done");
}

#[test]
fn what_a_worker_serves_is_named_as_jobs_name_it() {
    let orx = Orx::new();
    let refuse = |option: &str, value: &str, why: &str| {
        orx.run(&["worker", "--burst", option, value]).expect(2, &[why]);
    };
    refuse("--queues", "f*", "queues \"f*\" may have letters, digits");
    refuse("--queues", "", "queues is empty");
    refuse("--queues", "a,,b", "a worker that names none serves all");
    refuse("--labels", "a b=c", "labels \"a b\"");
    refuse("--labels", "a=\u{1b}[2J", "labels has a control character");
    refuse("--name", "a/b", "no name for a worker");
    orx.write(".config/orx/config.toml", "[worker]\nqueues = ['f*']\n");
    orx.run(&["worker", "--burst"]).expect(2, &["f*"]);
    orx.write(".config/orx/config.toml", "[handlers.'x y']\ncommand = ['true']\n");
    orx.run(&["worker", "--burst"]).expect(2, &["x y"]);
    assert!(orx.json(&["workers"]).as_array().unwrap().is_empty());
}

#[test]
fn a_worker_serves_its_queues_only() {
    let orx = Orx::new();
    for queue in ["a", "b", "c"] {
        orx.add(&["--queue", queue, "--", "true"]);
    }
    orx.ok(&["-q", "worker", "--burst", "--queues", "a,c"]);
    assert_eq!(orx.states(), "done pending done");
}

#[test]
fn a_waiting_worker_starts_a_job_as_soon_as_it_is_stored() {
    let orx = Orx::new();
    let _worker = orx.worker(&["--name", "w"]);
    orx.run(&["enqueue", "--wait", "--", "true"]).expect(0, &[]);
    let job = orx.job("1");
    let ms = |field: &str| job[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let waited = ms("started_at") - ms("created_at");
    assert!(waited < 900, "{waited} ms: a poll, not a wake-up");
}

#[test]
fn s8_a_name_that_a_live_worker_has_is_a_conflict() {
    let orx = Orx::new();
    let worker = orx.worker(&["--name", "w"]);
    let out = orx.run(&["worker", "--name", "w", "--burst"]);
    out.expect(5, &["a worker named w runs on this machine", "hint: choose another --name"]);
    worker.kill();
    orx.run(&["worker", "--name", "w", "--burst"]).expect(0, &[]);
}

#[test]
fn s8_workers_without_a_name_get_different_ones() {
    let orx = Orx::new();
    let _workers = [orx.worker(&[]), orx.worker(&[])];
    let names = orx.ok(&["workers", "--format", "{{name}} {{host}}"]);
    let names: Vec<(&str, &str)> = names.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let host = names[0].1;
    let names: BTreeSet<&str> = names.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, BTreeSet::from([host, &format!("{host}-2")]));
}

#[test]
fn wrong_options_of_a_worker_are_usage_errors() {
    let orx = Orx::new();
    for args in [
        ["--slots", "0"],
        ["--slots", "many"],
        ["--lease", "10ms"],
        ["--name", "a/b"],
        ["--name", ".."],
        ["--labels", "x"],
        ["--log-format", "xml"],
        ["--idle-timeout", "soon"],
    ] {
        let out = orx.run(&["worker", args[0], args[1]]);
        assert_eq!(out.code, Some(2), "{args:?}\n{out}");
    }
}

#[test]
fn the_log_is_json_with_job_and_trace_where_that_was_asked_for() {
    let orx = Orx::new();
    let id = orx.ok(&["enqueue", "--", "true"]);
    let out = orx.run(&["worker", "--burst", "--log-format", "json"]);
    let lines = lines_of_json(&out.stderr());
    let leased = lines.iter().find(|line| line["message"] == "leased").unwrap();
    let job = orx.job("1");
    let text = leased.to_string();
    assert!(text.contains(id.trim()) && text.contains(job["trace_id"].as_str().unwrap()), "{text}");
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
}

#[test]
fn workers_can_be_told_to_drain() {
    let orx = Orx::new();
    let worker = orx.worker(&["--name", "w"]);
    orx.sh(&[], &format!("echo up > up; {UNTIL_GO}"));
    orx.wait_line("up");
    orx.run(&["workers", "drain", "nobody"]).expect(3, &["no worker nobody", "orx workers"]);
    orx.run(&["workers", "drain", "w"]).expect(0, &["w drains; it runs 1 job"]);
    worker.wait_stderr("draining");
    orx.add(&["--", "true"]);
    orx.write("go", "");
    worker.wait().expect(0, &[]);
    assert_eq!(orx.states(), "done pending");
}

#[test]
fn every_job_runs_exactly_once_with_two_workers() {
    let orx = Orx::new();
    // Long enough for the second worker to be there before the first has done them all.
    let line = "{\"command\":[\"sh\",\"-c\",\"sleep 0.02; echo $ORX_JOB_ID >> ran\"]}\n";
    let ids = orx.call(&["-q", "-o", "id", "enqueue", "--from", "-"]).stdin(line.repeat(200)).run().stdout();
    let workers = ["a", "b"].map(|name| orx.spawn(&["-q", "worker", "--burst", "--slots", "4", "--name", name]));
    for worker in workers {
        worker.wait().expect(0, &[]);
    }
    let ran = orx.read("ran");
    assert_eq!(sorted(&ran), sorted(&ids));
    let listed = orx.json(&["list", "--limit", "0"]);
    assert!(listed.as_array().unwrap().iter().all(|job| job["attempt"] == 1 && job["state"] == "done"));
    let who: BTreeSet<&str> = listed.as_array().unwrap().iter().map(|job| job["worker"].as_str().unwrap()).collect();
    assert_eq!(who, BTreeSet::from(["a", "b"]), "both had their share");
}

/// How often the threads of a process have gone to sleep.
fn rests(worker: &Running) -> u64 {
    let count = |status: String| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |n| n.trim().parse().unwrap())
    };
    let threads = std::fs::read_dir(format!("/proc/{}/task", worker.pid())).unwrap();
    let statuses = threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("status")));
    statuses.flatten().map(count).sum() // a thread may have ended meanwhile
}

/// Workers that hear each other's heartbeats must not answer them.
#[test]
fn idle_workers_come_to_rest() {
    const WINDOW: Duration = Duration::from_secs(1);
    let orx = Orx::file();
    orx.sh(&[], "true");
    let workers = [orx.worker(&["--name", "a"]), orx.worker(&["--name", "b"])];
    orx.wait_state("1", "done");
    eventually("both workers to rest", || {
        let before: Vec<u64> = workers.iter().map(rests).collect();
        std::thread::sleep(WINDOW); // what happens in it is measured
        let woken: Vec<u64> = workers.iter().zip(before).map(|(worker, before)| rests(worker) - before).collect();
        println!("woken in {WINDOW:?}: {woken:?}");
        woken.iter().all(|n| *n <= 12)
    });
}
