//! Workers that lose their coordinator for longer than a lease.

use rustix::process::Signal;

use super::support::*;
use crate::proxy::Proxy;

/// A job that says when it begins and ends, and goes on when it may.
const JOB: &str = "echo $$ > pid; echo begun >> ran; until [ -e go ]; do sleep 0.02; done; echo ended >> ran";

/// A home whose coordinator dies while a worker with a lease of a second runs [`JOB`]; gives where it listened.
fn orphaned(args: &[&str]) -> (Orx, Running, String) {
    let mut orx = served();
    let listen = address(&orx);
    orx.sh(&["--kill-grace", "100ms"], JOB);
    let worker = orx.worker(&[&["--lease", "1s"], args].concat());
    orx.wait_pid("pid");
    orx.coordinator().signal(Signal::KILL);
    eventually("the coordinator to be gone", || !orx.coordinator().is_alive());
    (orx, worker, listen)
}

#[test]
fn jobs_of_a_worker_whose_coordinator_is_away_longer_than_a_lease_finish_and_count() {
    let (mut orx, worker, listen) = orphaned(&["--on-server-lost", "finish"]);
    worker.wait_stderr("the job runs on, and counts if no other worker gets it");
    orx.serve_at(&listen, &[]);
    orx.write("go", "");
    orx.wait_state("1", "done");
    let job = orx.job("1");
    assert_eq!((&job["attempt"], &job["losses"]), (&1.into(), &0.into()), "{}", worker.stderr());
    assert_eq!(orx.read("ran"), "begun\nended\n");
    orx.ok(&["audit"]);
}

#[test]
fn an_outcome_of_the_time_without_coordinator_is_settled_when_it_is_back() {
    let (mut orx, worker, listen) = orphaned(&["--on-server-lost", "finish"]);
    worker.wait_stderr("the job runs on, and counts if no other worker gets it");
    orx.write("go", "");
    eventually("the job to end", || orx.read("ran").ends_with("ended\n"));
    worker.wait_stderr("ended");
    orx.serve_at(&listen, &[]);
    orx.wait_state("1", "done");
    assert_eq!(orx.job("1")["attempt"], 1);
    assert_eq!(orx.read("ran"), "begun\nended\n");
    worker.stop().expect(0, &[]);
    orx.ok(&["audit"]);
}

#[test]
fn a_worker_that_is_stopped_meanwhile_ends_and_names_what_is_not_stored() {
    let (mut orx, worker, listen) = orphaned(&["--on-server-lost", "finish", "--name", "w"]);
    orx.write("go", "");
    eventually("the job to end", || orx.read("ran").ends_with("ended\n"));
    worker.wait_stderr("ended by=");
    worker
        .stop()
        .expect(6, &["unknown whether the outcome of this attempt is stored: job 1 attempt 1", "orx status 1"]);
    orx.serve_at(&listen, &[]);
    let _next = orx.worker(&["--name", "w"]);
    orx.wait_state("1", "done");
    let job = orx.job("1");
    assert_eq!((&job["attempt"], &job["losses"], &job["failures"]), (&2.into(), &1.into(), &0.into()), "{job}");
    assert_eq!(orx.read("ran"), "begun\nended\nbegun\nended\n");
    orx.ok(&["audit"]);
}

#[test]
fn a_worker_that_never_reached_its_coordinator_ends_when_it_is_asked_to() {
    let orx = served();
    let proxy = Proxy::start(&address(&orx), 0);
    proxy.cut(true);
    let worker = orx.spawn(&["-v", "--store", proxy.url(), "worker"]);
    worker.wait_stderr("register is tried again");
    worker.stop().expect(0, &["stopped before it could register"]);
}

#[test]
fn jobs_that_are_to_stop_are_gone_before_another_worker_may_have_them() {
    let (mut orx, worker, listen) = orphaned(&[]);
    let pid = orx.wait_pid("pid");
    worker.wait_stderr("the lease could not be renewed: ending the job");
    eventually("the job to be gone", || !is_alive(pid));
    orx.write("go", "");
    orx.serve_at(&listen, &[]);
    orx.wait_state("1", "done");
    let job = orx.job("1");
    assert_eq!((&job["attempt"], &job["losses"]), (&2.into(), &1.into()), "{}", worker.stderr());
    assert_eq!(orx.read("ran"), "begun\nbegun\nended\n");
    orx.ok(&["audit"]);
}

/// A network that is cut, not a coordinator that died: another worker gets the job, and the first one's outcome is none.
#[test]
fn an_outcome_that_comes_after_another_worker_got_the_job_is_refused() {
    let orx = served();
    let proxy = Proxy::start(&address(&orx), 0);
    let away = orx.worker(&["--store", proxy.url(), "--name", "away", "--lease", "1s", "--on-server-lost", "finish"]);
    orx.sh(&[], "echo $ORX_WORKER; echo $$ > $ORX_WORKER.pid; until [ -e go-$ORX_WORKER ]; do sleep 0.02; done");
    let pid = orx.wait_pid("away.pid");
    proxy.cut(true);
    let here = orx.worker(&["--name", "here"]);
    orx.wait_pid("here.pid");
    assert!(is_alive(pid), "the first copy was ended: {}", away.stderr());
    orx.write("go-away", "");
    eventually("the first copy to end", || !is_alive(pid));
    proxy.cut(false);
    away.wait_stderr("settled too late: the lease was lost");
    assert_eq!(orx.state("1"), "running");
    orx.write("go-here", "");
    orx.wait_state("1", "done");
    let job = orx.job("1");
    assert_eq!((&job["attempt"], &job["losses"]), (&2.into(), &1.into()), "{}", away.stderr());
    assert_eq!(orx.ok(&["tail", "1"]), "here\n");
    here.stop().expect(0, &[]);
    orx.ok(&["audit"]);
}

/// Both own the name, each where it is: neither knows the other dead.
#[test]
fn a_worker_behind_a_coordinator_leaves_jobs_to_one_of_its_name_beside_the_store() {
    let orx = served();
    let beside = orx.store().to_str().unwrap().to_owned();
    let _worker = orx.worker(&["--store", &beside, "--name", "w", "--lease", "1h"]);
    let job = orx.sh(&[], "echo $$ > pid; until [ -e go ]; do sleep 0.05; done");
    orx.wait_pid("pid");
    orx.ok(&["-q", "worker", "--name", "w", "--burst"]);
    assert_eq!((orx.state(&job), orx.job(&job)["losses"].as_i64()), ("running".into(), Some(0)));
    orx.write("go", "");
    orx.wait_state(&job, "done");
}
