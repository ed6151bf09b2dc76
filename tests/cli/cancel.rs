//! `orx cancel`.

use std::time::{Duration, Instant};

use super::support::*;

#[test]
fn a_job_that_waits_is_cancelled_at_once_with_the_reason() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    orx.add(&["--delay", "1h", "--", "true"]);
    orx.add(&["--after", "2", "--", "true"]);
    snapshot!(orx.run(&["cancel", "1", "--reason", "wrong branch"]), @r"
    exit 0
    -- stdout
    JOB  STATE  DID
    1  cancelled  cancelled
    ");
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["reason"]), (&"cancelled".into(), &"wrong branch".into()));
    orx.ok(&["cancel", "3", "2"]);
    assert_eq!(orx.states(), "cancelled cancelled cancelled");
    assert_eq!(orx.story("2"), "enqueued cancelled");
}

#[test]
fn a_running_job_is_ended_with_all_its_processes() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    let script = "echo $$ > leader; sleep 300 & echo $! > child; setsid sh -c 'echo $$ > daemon; sleep 300' & wait";
    orx.sh(&["--max-attempts", "5"], script);
    let tree = ["leader", "child", "daemon"].map(|file| orx.wait_pid(file));
    snapshot!(orx.run(&["cancel", "1"]), @r"
    exit 0
    -- stdout
    JOB  STATE  DID
    1  running  its worker has been asked to end it
    ");
    orx.run(&["wait", "1"]).expect(130, &[]);
    assert!(tree.iter().all(|pid| !is_alive(*pid)), "{tree:?}");
    let job = orx.job("1");
    assert_eq!(
        (&job["state"], &job["outcome"], &job["signal"]),
        (&"cancelled".into(), &"cancelled".into(), &15.into())
    );
    assert!(job["cancel_requested_at"].is_string());
    // The start is told with the next heartbeat, so its place is not fixed.
    assert_eq!(sorted(&orx.story("1")), ["cancel_requested", "enqueued", "leased", "settled", "started"]);
}

#[test]
fn the_signal_and_the_grace_can_be_chosen() {
    let orx = Orx::new();
    let _worker = orx.worker(&["--slots", "2"]);
    orx.sh(&[], "trap 'echo got INT; exit 1' INT; echo up > up1; while :; do sleep 0.02; done");
    orx.sh(&["--kill-grace", "1h"], "trap '' TERM; echo up > up2; while :; do sleep 0.02; done");
    orx.wait_line("up1");
    orx.wait_line("up2");
    orx.ok(&["cancel", "1", "--signal", "sigint"]);
    orx.run(&["wait", "1"]).expect(130, &[]);
    assert_eq!(orx.ok(&["tail", "1"]), "got INT\n");
    let asked = Instant::now();
    orx.ok(&["cancel", "2", "--grace", "100ms"]);
    orx.run(&["wait", "2"]).expect(130, &[]);
    assert_eq!(orx.job("2")["signal"], 9);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
}

#[test]
fn a_signal_that_does_not_exist_is_a_usage_error() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    for signal in ["BOGUS", "0", "99", "", "-9"] {
        orx.run(&["cancel", "1", &format!("--signal={signal}")]).expect(2, &["signal"]);
    }
    orx.run(&["cancel", "1", "--grace", "soon"]).expect(2, &["soon"]);
    assert_eq!(orx.states(), "pending");
}

#[test]
fn a_job_that_has_ended_is_a_conflict_and_the_others_are_cancelled() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    orx.burst();
    orx.add(&["--", "true"]);
    orx.run(&["cancel", "1"]).expect(5, &["job 1 is done already"]);
    orx.run(&["cancel", "1", "2"]).expect(5, &["job 1 is done already"]);
    assert_eq!(orx.states(), "done cancelled");
    orx.run(&["cancel", "2"]).expect(0, &[]);
    // A range chooses, so what has ended is left out.
    orx.add(&["--", "true"]);
    orx.run(&["cancel", "1-3"]).expect(0, &[]);
    assert_eq!(orx.states(), "done cancelled cancelled");
}

/// What is chosen among others may end between the choice and the cancel: then all is as it was wanted.
#[test]
fn cancelling_all_beside_a_worker_is_no_conflict() {
    let orx = Orx::new();
    let _worker = orx.worker(&["--slots", "4"]);
    for _ in 0..5 {
        orx.call(&["-q", "enqueue", "--from", "-"])
            .stdin("{\"command\":[\"true\"]}\n".repeat(300))
            .run()
            .expect(0, &[]);
        orx.run(&["-q", "cancel", "--all", "--yes"]).expect(0, &[]);
    }
}

#[test]
fn cancelling_by_label_cancels_all_of_it() {
    let orx = Orx::new();
    for team in ["web", "db", "web"] {
        orx.add(&["--label", &format!("team={team}"), "--", "true"]);
    }
    orx.run(&["cancel", "@team=web"]).expect(2, &["Cancel", "--yes"]);
    orx.ok(&["cancel", "@team=web", "--yes"]);
    assert_eq!(orx.states(), "cancelled pending cancelled");
}

#[test]
fn what_was_cancelled_and_retried_is_named_by_its_id_for_programs() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    let id = orx.job("1")["id"].as_str().unwrap().to_owned();
    for command in ["cancel", "retry"] {
        assert_eq!(orx.ok(&[command, "1", "-o", "id"]).trim(), id);
    }
    for command in ["cancel", "retry"] {
        let replies = orx.json(&[command, "1"]);
        assert_eq!((&replies[0]["id"], &replies[0]["number"]), (&id.as_str().into(), &1.into()), "{replies}");
    }
}
