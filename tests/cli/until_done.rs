//! A worker that stays for what comes, and what one leaves that does not.

use std::time::{Duration, Instant};

use super::support::*;

#[test]
fn burst_says_what_it_leaves_and_when_that_comes() {
    let orx = Orx::new();
    orx.sh(&["--max-attempts", "2", "--backoff", "1h"], "exit 3");
    orx.add(&["--after", "1", "--", "true"]);
    orx.add(&["--queue", "held", "--", "true"]);
    orx.ok(&["queue", "pause", "held"]);
    orx.add(&["--restart", "always", "--", "sleep", "300"]);
    let out = orx.run(&["worker", "--burst"]);
    out.expect(
        0,
        &["left: 1 due later (the first in", "1 waiting for other jobs, 1 in paused queues (held), 1 service"],
    );
    out.expect(0, &["--until-done"]);
    // What it could not run is nothing that it leaves.
    let out = orx.run(&["worker", "--burst", "--queues", "none"]);
    assert!(!out.stderr().contains("left:"), "{out}");
    assert!(!orx.run(&["-q", "worker", "--burst"]).stderr().contains("left:"));
}

#[test]
fn s25_until_done_waits_for_retries_and_for_what_waits_for_them() {
    let orx = Orx::new();
    orx.sh(&["--max-attempts", "2", "--backoff", "2s..2s"], "test $ORX_ATTEMPT = 2");
    orx.add(&["--after", "1", "--", "true"]);
    orx.add(&["--delay", "1s", "--", "true"]);
    let started = Instant::now();
    orx.run(&["worker", "--until-done"]).expect(0, &[]);
    assert_eq!(orx.states(), "done done done");
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    // As in CI: nothing is left to wait for.
    orx.run(&["wait", "1-3"]).expect(0, &[]);
}

#[test]
fn s25_until_done_waits_for_what_another_worker_runs() {
    let orx = Orx::new();
    let other = orx.worker(&["--name", "other"]);
    let long = orx.sh(&[], &format!("echo up > up; {UNTIL_GO}; exit 1"));
    orx.wait_line("up");
    other.signal(rustix::process::Signal::TERM); // it takes no more
    orx.add(&["--after", &format!("{long}:ended"), "--", "sh", "-c", "echo $ORX_WORKER > who"]);
    let worker = orx.worker(&["--name", "stays", "--until-done"]);
    assert!(worker.is_alive());
    orx.write("go", "");
    worker.wait().expect(0, &[]);
    assert_eq!(orx.read("who").trim(), "stays");
    assert_eq!(orx.states(), "failed done");
}

#[test]
fn s25_until_done_leaves_what_does_not_come_and_says_so() {
    let orx = Orx::new();
    let left = |args: &[&str], words: &[&str]| {
        orx.run(&[&["-q", "worker", "--until-done"], args].concat())
            .expect(1, &[&["not all is done: "], words].concat());
    };
    let forget = |job: &str| _ = orx.ok(&["-q", "cancel", job]);
    let later = orx.add(&["--delay", "2h", "--", "true"]);
    left(&[], &["1 due later (the first in 1h59m"]);
    forget(&later);
    let service = orx.add(&["--restart", "always", "--", "sleep", "300"]);
    left(&[], &["1 service"]);
    forget(&service);
    orx.ok(&["queue", "pause", "held"]);
    let held = orx.add(&["--queue", "held", "--", "true"]);
    left(&[], &["1 in paused queues (held)"]);
    let behind = orx.add(&["--after", &held, "--", "true"]);
    left(&["--queues", "default"], &["1 waiting for other jobs"]);
    forget(&held);
    assert_eq!(orx.state(&behind), "skipped");
    orx.run(&["-q", "worker", "--until-done"]).expect(0, &[]);
    // The time is that of the option.
    orx.add(&["--delay", "3s", "--", "true"]);
    orx.run(&["-q", "worker", "--until-done=1s"]).expect(1, &["1 due later"]);
    orx.run(&["-q", "worker", "--until-done=10s"]).expect(0, &[]);
    orx.run(&["worker", "--until-done", "--burst"]).expect(2, &["cannot be used with"]);
}

#[test]
fn s25_a_worker_that_is_stopped_before_all_is_done_ends_as_any() {
    let orx = Orx::new();
    orx.add(&["--delay", "30m", "--", "true"]);
    let worker = orx.worker(&["--until-done"]);
    worker.stop().expect(0, &[]);
}
