//! INT, TERM and HUP on `orx run` (S33).

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::*;

const TREE: &str = "echo $$ > leader; sleep 300 & echo $! > child; setsid sh -c 'echo $$ > daemon; sleep 300' & wait";
const STUBBORN: &str = "trap '' TERM; echo $$ > leader; while :; do sleep 0.05; done";

fn wait_tree(orx: &Orx) -> [i32; 3] {
    ["leader", "child", "daemon"].map(|file| orx.wait_pid(file))
}

#[test]
fn s33_one_int_cancels_and_the_process_tree_is_gone() {
    for signal in [Signal::INT, Signal::TERM] {
        let orx = Orx::new();
        let run = orx.spawn(&["run", "--", "sh", "-c", TREE]);
        let tree = wait_tree(&orx);
        run.signal(signal);
        let out = run.wait();
        out.expect(130, &["cancelling; again to kill"]);
        assert!(tree.iter().all(|pid| !is_alive(*pid)), "{tree:?}");
        let job = orx.job("last");
        assert_eq!((&job["state"], &job["reason"]), (&"cancelled".into(), &"interrupted".into()));
    }
}

#[test]
fn s33_timeout_of_gnu_which_signals_twice_asks_once() {
    let orx = Orx::new();
    let script = "trap 'echo cleaned; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let args = ["0.5", env!("CARGO_BIN_EXE_orx"), "run", "--kill-grace", "10s", "--", "sh", "-c", script];
    for _ in 0..4 {
        let out = orx.program("timeout", &args).own_group().run();
        assert!(out.stdout().contains("cleaned") && !out.stderr().contains("killing"), "{out}");
    }
}

#[test]
fn s33_two_ints_kill_a_job_that_ignores_term() {
    let orx = Orx::new();
    let run = orx.spawn(&["run", "--kill-grace", "1h", "--", "sh", "-c", STUBBORN]);
    let leader = orx.wait_pid("leader");
    run.signal(Signal::INT);
    run.wait_stderr("again to kill");
    assert!(is_alive(leader));
    let asked = Instant::now();
    run.signal(Signal::INT);
    run.wait().expect(130, &["killing"]);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert!(!is_alive(leader));
    assert_eq!(orx.job("last")["signal"], 9);
}

#[test]
fn s3_a_job_that_succeeds_after_the_signal_is_cancelled_all_the_same() {
    let orx = Orx::new();
    let script = "trap 'echo bye; exit 0' TERM; echo $$ > leader; while :; do sleep 0.02; done";
    let run = orx.spawn(&["run", "--max-attempts", "3", "--backoff", "0s", "--", "sh", "-c", script]);
    orx.wait_pid("leader");
    run.signal(Signal::INT);
    let out = run.wait();
    assert_eq!((out.code, out.stdout()), (Some(130), "bye\n".into()), "{out}");
    assert_eq!(orx.job("last")["attempt"], 1, "a cancel is never a retry");
}

#[test]
fn s33_hup_cancels_where_no_worker_runs_the_job() {
    let orx = Orx::new();
    let run = orx.spawn(&["run", "--", "sh", "-c", TREE]);
    let tree = wait_tree(&orx);
    run.signal(Signal::HUP);
    run.wait().expect(130, &[]);
    assert!(tree.iter().all(|pid| !is_alive(*pid)), "{tree:?}");
    assert_eq!(orx.state("last"), "cancelled");
}

#[test]
fn s33_hup_detaches_where_a_worker_runs_the_job() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    let run = orx.spawn(&["run", "--", "sh", "-c", &format!("echo up > up; {UNTIL_GO}; exit 4")]);
    orx.wait_line("up");
    run.signal(Signal::HUP);
    run.wait().expect(129, &["job 1 goes on"]);
    assert_eq!(orx.state("1"), "running");
    orx.write("go", "");
    orx.run(&["wait", "1"]).expect(4, &[]);
}

#[test]
fn s33_int_cancels_a_job_that_a_worker_runs() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    let run = orx.spawn(&["run", "--", "sh", "-c", TREE]);
    let tree = wait_tree(&orx);
    run.signal(Signal::INT);
    run.wait().expect(130, &[]);
    assert!(tree.iter().all(|pid| !is_alive(*pid)), "{tree:?}");
}

#[test]
fn int_before_the_job_starts_cancels_it_at_once() {
    let orx = Orx::new();
    let run = orx.spawn(&["run", "--delay", "1h", "--", "true"]);
    eventually("the job to be stored", || orx.states() == "scheduled");
    run.signal(Signal::INT);
    run.wait().expect(130, &[]);
    assert_eq!(orx.story("1"), "enqueued cancelled");
}

#[test]
fn s33_signals_that_whoever_started_run_ignores_cancel_nothing() {
    for (name, signal) in [("HUP", Signal::HUP), ("INT", Signal::INT)] {
        let orx = Orx::new();
        let script = format!("echo up > up; {UNTIL_GO}; exit 3");
        let started = "trap '' $1; shift; exec \"$@\"";
        let run = [env!("CARGO_BIN_EXE_orx"), "run", "--", "sh", "-c", &script];
        let run = orx.program("sh", &[&["-c", started, "sh", name], &run[..]].concat()).spawn();
        orx.wait_line("up");
        let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        assert_eq!(ignored >> (signal.as_raw() - 1) & 1, 1, "{name} is listened for");
        run.signal(signal);
        orx.write("go", "");
        run.wait().expect(3, &[]);
    }
}

#[test]
fn s33_hup_leaves_a_job_to_the_worker_that_has_it_though_run_has_one_too() {
    let orx = Orx::new();
    let script = format!("[ $ORX_ATTEMPT = 1 ] && exit 1; echo $ORX_WORKER > who; {UNTIL_GO}");
    let run = orx.spawn(&["run", "--max-attempts", "2", "--backoff", "3s", "--", "sh", "-c", &script]);
    orx.wait_state("1", "scheduled");
    // The worker of `orx run` is there, and another one is first.
    run.signal(Signal::STOP);
    let _other = orx.worker(&["--name", "other"]);
    assert_eq!(orx.wait_line("who"), "other");
    run.signal(Signal::CONT);
    run.signal(Signal::HUP);
    run.wait().expect(129, &["job 1 goes on"]);
    assert_eq!(orx.state("1"), "running");
    orx.write("go", "");
    orx.run(&["wait", "1"]).expect(0, &[]);
}

#[test]
fn s33_run_does_not_wait_for_a_worker_that_is_dead() {
    let orx = Orx::new();
    orx.worker(&["--name", "dead", "--lease", "1h"]).kill();
    let started = Instant::now();
    assert_eq!(orx.ok(&["run", "--", "echo", "mine"]), "mine\n");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

/// The store takes no writes until this is dropped.
fn blocked(orx: &Orx) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(orx.store()).unwrap();
    eventually("the lock of the store", || conn.execute_batch("BEGIN IMMEDIATE").is_ok());
    conn
}

#[test]
fn s33_a_signal_ends_run_before_the_store_has_answered() {
    let orx = Orx::file();
    orx.ok(&["run", "--", "true"]);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let store = blocked(&orx);
        let run = orx.spawn(&["run", "--", "true"]);
        // It listens for signals, or dies of one: either way it ends.
        eventually("it to have the store open", || {
            let files = std::fs::read_dir(format!("/proc/{}/fd", run.pid())).unwrap().flatten();
            files.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|file| file == orx.store())
        });
        let asked = Instant::now();
        run.signal(signal);
        let out = run.wait();
        assert!(out.code != Some(0) && asked.elapsed() < Duration::from_secs(8), "{:?} {out}", asked.elapsed());
        drop(store);
    }
}

#[test]
fn s33_an_interrupted_run_ends_its_job_though_the_store_does_not_answer() {
    let orx = Orx::file();
    let run = orx.spawn(&["run", "--", "sh", "-c", TREE]);
    let tree = wait_tree(&orx);
    let store = blocked(&orx);
    let asked = Instant::now();
    run.signal(Signal::INT);
    eventually("the processes to be gone", || tree.iter().all(|pid| !is_alive(*pid)));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    drop(store);
    run.wait().expect(130, &["cancelling"]);
    assert_eq!(orx.state("1"), "cancelled");
}
