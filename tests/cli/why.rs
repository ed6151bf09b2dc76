//! `orx why` and `orx metrics`.

use rustix::process::Signal;

use super::support::*;

#[test]
fn a_person_is_told_what_to_do_and_a_program_the_cause() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    orx.add(&["--after", "1", "--", "true"]);
    orx.ok(&["queue", "pause", "default"]);
    snapshot!(orx.run(&["why", "1", "2"]), @r"
    exit 0
    -- stdout
    1 is pending
      queue default is paused
      orx queue resume default
      no worker runs
      orx worker
    2 is blocked
      it waits for job 1 (pending) to be done
      orx why 1
      queue default is paused
      orx queue resume default
      no worker runs
      orx worker
    ");
    let why = orx.json(&["why", "2"]);
    assert_eq!((&why["what"], &why["causes"][0]["kind"]), (&"2".into(), &"blocked".into()));
    assert_eq!(keys(&why["causes"][0]), ["jobs", "kind", "message", "remedy", "until"]);
    orx.run(&["why", "9"]).expect(3, &["no job 9"]);
    orx.ok(&["schedule", "add", "nightly", "--every", "1h", "--", "true"]);
    assert!(orx.ok(&["why", "--schedule", "nightly"]).starts_with("nightly is active\n"));
    orx.run(&["why", "--schedule", "none"]).expect(3, &["no schedule none"]);
}

#[test]
fn why_says_what_is_wrong_with_a_job_that_runs() {
    let orx = Orx::file();
    let worker = orx.worker(&["--name", "w", "--lease", "1s"]);
    orx.sh(&[], "trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    let pid = orx.wait_pid("pid");
    let kinds = || {
        let why = orx.json(&["why", "1"]);
        why["causes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cause| cause["kind"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(), ["running"]);
    assert!(orx.ok(&["status", "1"]).contains(&format!("{pid}\n")), "{}", orx.ok(&["status", "1"]));
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(process, Signal::STOP).unwrap();
    eventually("it to be stopped", || kinds() == ["stopped", "running"]);
    assert!(orx.ok(&["why", "1"]).contains(&format!("kill -CONT {pid}")));
    rustix::process::kill_process(process, Signal::CONT).unwrap();
    orx.ok(&["cancel", "1", "--grace", "1h"]);
    assert_eq!(kinds(), ["cancelling", "running"]);
    worker.signal(Signal::STOP);
    eventually("the worker to be taken for lost", || kinds().first().is_some_and(|kind| kind == "worker_lost"));
    worker.signal(Signal::CONT);
}

#[test]
fn why_says_how_a_failed_job_ended() {
    let orx = Orx::new();
    orx.run(&["run", "--", "sh", "-c", "echo no such host >&2; exit 7"]).expect(7, &[]);
    let why = orx.ok(&["why", "1"]);
    assert!(why.contains("it is failed: attempts used up; the last attempt: exit code 7: no such host"), "{why}");
}

#[test]
fn figures_for_prometheus_without_a_server() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    orx.burst();
    let text = orx.ok(&["metrics"]);
    for line in [
        "orx_jobs{queue=\"default\",state=\"done\"} 1",
        "orx_attempts_total{outcome=\"done\"} 1",
        "# TYPE orx_jobs gauge",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert_eq!(orx.json(&["metrics"])["attempts"]["done"], 1);
}

#[test]
fn why_prints_in_every_format() {
    let orx = Orx::new();
    for _ in 0..2 {
        orx.add(&["--", "true"]);
    }
    orx.ok(&["schedule", "add", "nightly", "--every", "1h", "--", "true"]);
    let lines = lines_of_json(&orx.ok(&["why", "1", "2", "-o", "ndjson"]));
    assert_eq!(lines.iter().map(|why| why["what"].as_str().unwrap()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(orx.ok(&["why", "1", "2", "--format", "{{what}} {{state}}"]), "1 pending\n2 pending\n");
    for words in [&["1"][..], &["1", "2"]] {
        let ids: String = words.iter().map(|job| orx.job(job)["id"].as_str().unwrap().to_owned() + "\n").collect();
        assert_eq!(orx.ok(&[&["why", "-o", "id"], words].concat()), ids);
    }
    let id = orx.json(&["schedule", "show", "nightly"])["id"].as_str().unwrap().to_owned();
    assert_eq!(orx.ok(&["why", "-o", "id", "--schedule", "nightly"]).trim(), id);
}
