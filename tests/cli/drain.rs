//! A planned stop burns no attempt.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::*;

#[test]
fn a_drain_lets_running_jobs_end_and_takes_no_more() {
    let orx = Orx::new();
    let worker = orx.worker(&["--slots", "2", "--drain-timeout", "1m"]);
    orx.sh(&[], &format!("echo up > up; {UNTIL_GO}; echo ended"));
    orx.wait_line("up");
    worker.signal(Signal::TERM);
    worker.wait_stderr("draining");
    orx.add(&["--", "true"]);
    orx.write("go", "");
    worker.wait().expect(0, &[]);
    assert_eq!(orx.states(), "done pending");
    assert_eq!(orx.ok(&["tail", "1"]), "ended\n");
}

#[test]
fn s33_a_worker_that_drains_says_so_and_run_does_not_wait_for_it() {
    let orx = Orx::new();
    let worker = orx.worker(&["--drain-timeout", "1h"]);
    orx.sh(&[], &format!("echo up > up; {UNTIL_GO}"));
    orx.wait_line("up");
    worker.signal(Signal::TERM);
    worker.wait_stderr("draining");
    eventually("it to be shown", || orx.json(&["workers"])[0]["state"] == "draining");
    assert_eq!(orx.ok(&["run", "--", "echo", "mine"]), "mine\n");
    orx.write("go", "");
    worker.wait().expect(0, &[]);
}

#[test]
fn a_job_that_outlasts_the_drain_is_given_back_uncounted_and_another_worker_finishes_it() {
    let orx = Orx::new();
    let worker = orx.worker(&["--drain-timeout", "200ms"]);
    let script = "echo $$ >> pids; [ $ORX_ATTEMPT = 2 ] && exit 0; sleep 300 & wait";
    orx.sh(&[], script);
    let pid = orx.wait_pid("pids");
    worker.stop().expect(0, &[]);
    assert!(!is_alive(pid));
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["interruptions"]), (&"pending".into(), &1.into()));
    assert_eq!((&job["failures"], &job["losses"]), (&0.into(), &0.into()));
    orx.burst();
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["attempt"], &job["failures"]), (&"done".into(), &2.into(), &0.into()));
    assert_eq!(job["attempts"][0]["outcome"], "interrupted");
}

#[test]
fn a_second_signal_gives_back_at_once() {
    let orx = Orx::new();
    let worker = orx.worker(&["--drain-timeout", "1h"]);
    orx.sh(&[], "echo up > up; sleep 300");
    orx.wait_line("up");
    worker.signal(Signal::INT);
    worker.wait_stderr("draining");
    assert_eq!(orx.state("1"), "running");
    let asked = Instant::now();
    worker.stop().expect(0, &[]);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_eq!(orx.state("1"), "pending");
}

#[test]
fn s6_a_service_is_interrupted_at_once() {
    let orx = Orx::new();
    let worker = orx.worker(&["--drain-timeout", "1h"]);
    orx.sh(&["--restart", "always"], "echo up > up; sleep 300");
    orx.wait_line("up");
    worker.stop().expect(0, &[]);
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["interruptions"]), (&"pending".into(), &1.into()), "{job}");
}

#[test]
fn s4_a_job_that_must_not_run_twice_is_dead_after_an_interruption() {
    let orx = Orx::new();
    let worker = orx.worker(&["--drain-timeout", "0s"]);
    orx.sh(&["--max-losses", "0"], "echo up > up; sleep 300");
    orx.wait_line("up");
    worker.stop().expect(0, &[]);
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["reason"]), (&"failed".into(), &"lost".into()));
    orx.run(&["wait", "1"]).expect(125, &[]);
}

#[test]
fn s33_hup_drains_a_worker_and_a_second_one_interrupts_nothing() {
    let orx = Orx::new();
    let worker = orx.worker(&["--drain-timeout", "1m"]);
    orx.sh(&[], &format!("trap '' HUP; echo up > up; {UNTIL_GO}"));
    orx.wait_line("up");
    worker.signal(Signal::HUP);
    worker.wait_stderr("draining");
    worker.signal(Signal::HUP); // of a terminal that is closed, the shell sends one and the kernel another
    orx.add(&["--", "true"]);
    eventually("it to be shown", || orx.json(&["workers"])[0]["state"] == "draining");
    orx.write("go", "");
    worker.wait().expect(0, &[]);
    assert_eq!(orx.states(), "done pending");
    assert_eq!(orx.job("1")["interruptions"], 0);
}

#[test]
fn signals_that_whoever_started_a_worker_ignores_do_not_end_it() {
    for signal in [Signal::HUP, Signal::INT] {
        let orx = Orx::new();
        let started = "trap '' HUP INT; exec \"$@\"";
        let worker = [env!("CARGO_BIN_EXE_orx"), "worker"];
        let worker = orx.program("sh", &[&["-c", started, "sh"], &worker[..]].concat()).spawn();
        worker.wait_stderr("ready");
        worker.signal(signal);
        orx.ok(&["wait", &orx.add(&["--", "true"])]);
        assert!(worker.is_alive() && !worker.stderr().contains("draining"), "{}", worker.stderr());
        worker.stop().expect(0, &[]);
    }
}

#[test]
fn a_third_signal_kills_what_does_not_end_and_gives_it_back() {
    let orx = Orx::new();
    let worker = orx.worker(&["--drain-timeout", "1h"]);
    orx.sh(&["--kill-grace", "1h"], "trap '' TERM; echo $$ > up; while :; do sleep 0.05; done");
    let job = orx.wait_pid("up");
    worker.signal(Signal::TERM);
    worker.wait_stderr("draining");
    worker.signal(Signal::TERM);
    worker.wait_stderr("interrupting");
    assert!(is_alive(job));
    let asked = Instant::now();
    worker.stop().expect(0, &[]);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert!(!is_alive(job));
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["interruptions"], &job["failures"]), (&"pending".into(), &1.into(), &0.into()));
}
