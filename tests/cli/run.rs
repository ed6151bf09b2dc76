//! `orx run`: the exit codes CI relies on, and output as it was written.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::support::*;

#[test]
fn run_prints_what_the_job_prints_and_nothing_else() {
    let orx = Orx::new();
    snapshot!(orx.run(&["run", "--", "echo", "hello"]), @r"
    exit 0
    -- stdout
    hello
    ");
}

#[test]
fn run_exits_with_the_code_of_the_job() {
    let orx = Orx::new();
    for code in [0, 1, 7, 75, 255] {
        let script = format!("exit {code}");
        let out = orx.run(&["run", "--max-snoozes", "0", "--", "sh", "-c", &script]);
        assert_eq!(out.code, Some(code), "{out}");
    }
}

#[test]
fn run_exits_with_128_and_the_signal_that_ended_the_job() {
    let orx = Orx::new();
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let out = orx.run(&["run", "--", "sh", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(out.code, Some(code), "{out}");
    }
}

#[test]
fn run_exits_with_124_when_the_job_took_too_long() {
    let orx = Orx::new();
    orx.run(&["run", "--timeout", "200ms", "--", "sleep", "60"]).expect(124, &[]);
    let job = orx.job("last");
    assert_eq!((&job["outcome"], &job["error"]), (&"timed_out".into(), &"timed out after 200ms".into()));
}

#[test]
fn s3_an_exit_0_after_the_signal_of_the_timeout_is_124() {
    let orx = Orx::new();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.02; done";
    orx.run(&["run", "--timeout", "300ms", "--", "sh", "-c", script]).expect(124, &[]);
}

#[test]
fn a_tree_that_ignores_term_is_killed_when_its_grace_is_over() {
    let orx = Orx::new();
    let script = "trap '' TERM; echo $$ > leader
        (trap '' TERM; while :; do sleep 0.1; done) & echo $! > child
        setsid sh -c 'trap \"\" TERM; echo $$ > daemon; while :; do sleep 0.1; done' & wait";
    let out = orx.run(&["run", "--timeout", "500ms", "--kill-grace", "300ms", "--", "sh", "-c", script]);
    out.expect(124, &[]);
    for file in ["leader", "child", "daemon"] {
        assert!(!is_alive(orx.wait_pid(file)), "{file} lives");
    }
    assert_eq!(orx.job("last")["signal"], 9);
}

#[test]
fn s33_errors_of_orx_itself_are_125_usage_included() {
    let orx = Orx::file();
    orx.run(&["run", "--bogus", "--", "true"]).expect(125, &["--bogus"]);
    orx.run(&["run"]).expect(125, &["command is missing", "hint: put the command after --, as in: -- make test"]);
    orx.run(&["run", "--priority", "1000", "--", "true"]).expect(125, &["priority is not between -100 and 100"]);
    orx.run(&["run", "--stdin", "nowhere", "--", "cat"]).expect(125, &["cannot read nowhere"]);
    orx.run(&["--store", "/dev/null/x", "run", "--", "true"]).expect(125, &["/dev/null/x"]);
    orx.run(&["-o", "json", "--store=x.db", "run", "--bogus"]).expect(125, &["\"kind\":\"usage\""]);
    assert!(!orx.store().exists(), "nothing of this is stored");
}

#[test]
fn s33_an_expired_job_is_125_with_the_reason() {
    let orx = Orx::new();
    let out = orx.run(&["run", "--delay", "1h", "--deadline", "100ms", "--", "true"]);
    snapshot!(out, @r"
    exit 125
    -- stderr
    orx: job 1: cancelled: expired
    ");
}

#[test]
fn s33_a_skipped_job_is_125_with_the_reason() {
    let orx = Orx::new();
    orx.run(&["run", "--", "false"]).expect(1, &[]);
    snapshot!(orx.run(&["run", "--after", "1", "--", "true"]), @r"
    exit 125
    -- stderr
    orx: job 2: skipped: needs job 1, which is failed
    ");
}

#[test]
fn a_file_that_is_not_executable_is_126_and_says_so() {
    let orx = Orx::new();
    orx.write("script", "#!/bin/sh\n");
    orx.run(&["run", "--", "./script"]).expect(126, &["script", "ermission denied"]);
    std::fs::set_permissions(orx.path("script"), PermissionsExt::from_mode(0o755)).unwrap();
    orx.run(&["run", "--", "./script"]).expect(0, &[]);
    orx.run(&["run", "--", "/"]).expect(126, &[]);
}

#[test]
fn a_directory_that_is_not_there_is_126_and_says_so() {
    let orx = Orx::new();
    orx.run(&["run", "--cwd", "nowhere", "--", "true"]).expect(126, &["nowhere"]);
}

#[test]
fn a_program_that_is_not_there_is_127_and_says_so() {
    let orx = Orx::new();
    orx.run(&["run", "--", "no-such-program"]).expect(127, &["no-such-program"]);
    orx.run(&["run", "--", "./no-such-file"]).expect(127, &["no-such-file"]);
    let error = orx.job("1")["error"].clone();
    assert!(error.as_str().unwrap().contains("no-such-program"), "{error}");
}

#[test]
fn bytes_arrive_as_they_were_written_on_the_stream_they_were_written_to() {
    let orx = Orx::new();
    let out = orx.run(&["run", "--", "sh", "-c", r"printf '\377\376\000out\r\n\033[1m'; printf '\200err' >&2"]);
    assert_eq!(out.stdout, b"\xff\xfe\0out\r\n\x1b[1m");
    assert_eq!(out.stderr, b"\x80err");
    let tail = orx.run(&["tail", "last"]);
    assert_eq!((tail.stdout, tail.stderr), (out.stdout, out.stderr));
}

const THIRD_TIME: &str = "n=$(($(cat n 2>/dev/null || echo 0) + 1)); echo $n > n
    echo try $n; echo err $n >&2; [ $n -ge 3 ]";

#[test]
fn run_retries_and_prints_the_output_of_all_attempts() {
    let orx = Orx::new();
    let out = orx.run(&["run", "--max-attempts", "3", "--backoff", "0s", "--", "sh", "-c", THIRD_TIME]);
    snapshot!(out, @r"
    exit 0
    -- stdout
    try 1
    try 2
    try 3
    -- stderr
    err 1
    attempt 1 of 3 failed (exit 1); the next begins [ago]
    err 2
    attempt 2 of 3 failed (exit 1); the next begins [ago]
    err 3
    ");
    let job = orx.job("last");
    assert_eq!((&job["attempt"], &job["failures"], &job["state"]), (&3.into(), &2.into(), &"done".into()));
    assert_eq!(job["attempts"].as_array().unwrap().len(), 3);
}

#[test]
fn run_exits_as_the_last_attempt_when_all_are_used_up() {
    let orx = Orx::new();
    let out = orx.run(&["run", "--max-attempts", "2", "--backoff", "0s", "--", "sh", "-c", THIRD_TIME]);
    assert_eq!((out.code, out.stdout()), (Some(1), "try 1\ntry 2\n".into()));
    assert_eq!(orx.job("last")["reason"], "attempts used up");
}

#[test]
fn exit_codes_decide_what_is_tried_again() {
    let orx = Orx::new();
    let run = |option: &str, codes: &str| {
        let args = ["run", "--max-attempts", "3", "--backoff", "0s", option, codes, "--", "sh", "-c", "echo x; exit 4"];
        let out = orx.run(&args);
        assert_eq!(out.code, Some(4), "{out}");
        out.stdout().lines().count()
    };
    assert_eq!(run("--fatal-codes", "4"), 1);
    assert_eq!(run("--fatal-codes", "5"), 3);
    assert_eq!(run("--retry-codes", "5-9"), 1);
    assert_eq!(run("--retry-codes", "1,4"), 3);
}

#[test]
fn s5_exit_75_is_tried_again_without_counting_a_failure() {
    let orx = Orx::new();
    let script = "echo again; [ -e seen ] && exit 0; touch seen; exit 75";
    let out = orx.run(&["run", "--backoff", "0s", "--", "sh", "-c", script]);
    assert_eq!((out.code, out.stdout()), (Some(0), "again\nagain\n".into()));
    let job = orx.job("last");
    assert_eq!((&job["attempt"], &job["failures"]), (&2.into(), &0.into()));
    assert_eq!(job["attempts"][0]["outcome"], "snoozed");
}

#[test]
fn s33_run_leaves_the_job_to_a_live_worker_of_its_queue() {
    let orx = Orx::new();
    let _worker = orx.worker(&["--name", "w1", "--queues", "build"]);
    let who = |queue: &str| {
        let out = orx.run(&["run", "--queue", queue, "--", "sh", "-c", "echo $ORX_WORKER; exit 3"]);
        assert_eq!(out.code, Some(3), "{out}");
        out.stdout().trim().to_owned()
    };
    assert_eq!(who("build"), "w1");
    assert_ne!(who("other"), "w1", "w1 does not serve this queue");
}

#[test]
fn s33_run_takes_the_job_over_when_the_worker_dies() {
    let orx = Orx::new();
    let worker = orx.worker(&["--name", "w1", "--slots", "1", "--lease", "1s"]);
    orx.sh(&[], "echo up > busy; sleep 300");
    orx.wait_line("busy");
    let run = orx.spawn(&["run", "--", "echo", "mine"]);
    orx.wait_state("2", "pending");
    worker.kill();
    let out = run.wait();
    assert_eq!((out.code, out.stdout()), (Some(0), "mine\n".into()), "{out}");
}

#[test]
fn run_refuses_a_name_that_is_taken_with_125() {
    let orx = Orx::new();
    orx.add(&["--name", "deploy", "--", "true"]);
    orx.run(&["run", "--name", "deploy", "--", "true"]).expect(125, &["the name deploy is taken by job 1"]);
}

#[test]
fn run_cancelled_by_somebody_else_is_130() {
    let orx = Orx::new();
    let run = orx.spawn(&["run", "--", "sh", "-c", "echo up > up; sleep 300"]);
    orx.wait_line("up");
    orx.ok(&["cancel", "last"]);
    run.wait().expect(130, &[]);
}

#[test]
fn run_in_memory_leaves_nothing_behind() {
    let orx = Orx::file();
    let out = orx.run(&["--store", "memory:", "run", "--", "sh", "-c", "echo here; exit 9"]);
    assert_eq!((out.code, out.stdout()), (Some(9), "here\n".into()), "{out}");
    assert_eq!(std::fs::read_dir(orx.path("")).unwrap().count(), 0);
}

#[test]
fn run_goes_on_to_the_end_of_the_job_though_nobody_reads_its_output() {
    let orx = Orx::file();
    let bin = env!("CARGO_BIN_EXE_orx");
    let job = format!("echo y; {UNTIL_GO}; seq 1 50000; exit 7");
    let line =
        format!("{{ timeout -k 5 30 {bin} run -- sh -c '{job}'; echo $? > code; }} | (head -n 1; exec <&-; touch go)");
    let mut shell = std::process::Command::new("sh");
    let out = shell
        .args(["-c", &line])
        .env("HOME", orx.path(""))
        .env("ORX_STORE", orx.url())
        .current_dir(orx.path(""))
        .output()
        .unwrap();
    assert_eq!(out.stdout, b"y\n", "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(orx.wait_line("code"), "7");
    assert_eq!(orx.state("1"), "failed");
}

#[test]
fn a_job_that_is_left_pending_can_be_run_by_nobody_twice() {
    // Two runs at once: each runs its own job only.
    let orx = Orx::new();
    let first = orx.spawn(&["run", "--", "sh", "-c", &format!("echo up > up; {UNTIL_GO}; echo first")]);
    orx.wait_line("up");
    let second = orx.run(&["run", "--", "echo", "second"]);
    assert_eq!((second.code, second.stdout()), (Some(0), "second\n".into()), "{second}");
    orx.write("go", "");
    let first = first.wait();
    assert_eq!((first.code, first.stdout()), (Some(0), "first\n".into()), "{first}");
    assert_eq!(orx.states(), "done done");
}

#[test]
fn run_never_takes_another_job_that_waits() {
    let orx = Orx::new();
    orx.add(&["--", "echo", "not asked for"]);
    orx.run(&["run", "--", "true"]).expect(0, &[]);
    assert_eq!(orx.states(), "pending done");
    let interrupted = orx.spawn(&["run", "--", "sleep", "300"]);
    orx.wait_state("3", "running");
    interrupted.signal(Signal::INT);
    interrupted.wait().expect(130, &[]);
    assert_eq!(orx.states(), "pending done cancelled");
}

#[test]
fn s33_run_waits_for_a_worker_where_its_token_may_not_run_jobs() {
    let mut orx = Orx::file();
    orx.serve();
    let token = orx.ok(&["token", "create", "--scope", "submit,read,exec"]).trim().to_owned();
    let run = orx.spawn(&["--token", &token, "run", "--", "sh", "-c", "echo $ORX_WORKER; exit 3"]);
    run.wait_stderr("waiting for a worker");
    assert_eq!(orx.state("1"), "pending");
    let _worker = orx.worker(&["--name", "w1"]);
    let out = run.wait();
    assert_eq!((out.code, out.stdout()), (Some(3), "w1\n".into()), "{out}");
}

#[test]
fn what_goes_wrong_after_the_job_was_stored_names_it() {
    let mut orx = Orx::file();
    orx.serve();
    let token = orx.ok(&["token", "create", "--scope", "submit,exec"]).trim().to_owned();
    orx.run(&["--token", &token, "run", "--", "true"]).expect(125, &["orx: stored as job 1: the token may not"]);
}

#[test]
fn run_says_what_it_does_between_attempts() {
    let orx = Orx::new();
    let out = orx.run(&[
        "run",
        "--max-attempts",
        "3",
        "--backoff",
        "1s..1s",
        "--",
        "sh",
        "-c",
        "echo $ORX_ATTEMPT; exit $((3 - ORX_ATTEMPT))",
    ]);
    out.expect(0, &["attempt 1 of 3 failed (exit 2); the next ", "attempt 2 of 3 failed (exit 1); the next "]);
    assert_eq!(out.stdout(), "1\n2\n3\n");
    assert_eq!(out.stderr().matches("failed").count(), 2, "{out}");
    assert!(!out.stderr().contains("attempt 1 of 3 begins"), "{out}");
    let later = ["run", "--max-attempts", "2", "--backoff", "2s..2s", "--", "sh", "-c", "exit $((ORX_ATTEMPT < 2))"];
    orx.run(&later).expect(0, &["attempt 1 of 2 failed (exit 1); the next begins in ", "\nattempt 2 of 2 begins\n"]);
    let slow = ["--timeout", "100ms", "--kill-grace", "0s", "--", "sh", "-c", "test $ORX_ATTEMPT = 2 || sleep 60"];
    let out = orx.run(&[&["run", "--max-attempts", "2", "--backoff", "10ms"], &slow[..]].concat());
    out.expect(0, &["attempt 1 of 2 timed out; the next "]);
    let quiet =
        orx.run(&["-q", "run", "--max-attempts", "2", "--backoff", "10ms", "--", "sh", "-c", "test $ORX_ATTEMPT = 2"]);
    quiet.expect(0, &[]);
    assert!(!quiet.stderr().contains("attempt"), "{quiet}");
}

#[test]
fn run_says_once_why_its_job_does_not_start() {
    let orx = Orx::new();
    orx.ok(&["queue", "pause", "held"]);
    let run = orx.spawn(&["run", "--queue", "held", "--", "true"]);
    run.wait_stderr("job 1 is pending: queue held is paused (orx queue resume held)");
    orx.ok(&["queue", "resume", "held"]);
    let out = run.wait();
    out.expect(0, &[]);
    assert!(!out.stderr().contains("no worker"), "this process is one: {out}");
}

#[test]
fn s17_run_obeys_the_requirements_of_its_job_and_says_what_it_waits_for() {
    let orx = Orx::new();
    let run = orx.spawn(&["run", "--require", "gpu=1", "--", "sh", "-c", "echo $ORX_WORKER"]);
    run.wait_stderr("job 1 is pending: no worker carries gpu=1 (orx worker --labels gpu=1)");
    assert_eq!(orx.state("1"), "pending");
    let worker = orx.worker(&["--name", "w1", "--labels", "gpu=1"]);
    let out = run.wait();
    assert_eq!((out.code, out.stdout()), (Some(0), "w1\n".into()), "{out}");
    worker.stop().expect(0, &[]);
    // The labels of this machine are those of its configuration.
    orx.write(".config/orx/config.toml", "[worker]\nlabels = { gpu = \"1\" }\n");
    orx.run(&["run", "--require", "gpu=1", "--", "true"]).expect(0, &[]);
    let other = orx.spawn(&["run", "--require", "gpu=2", "--deadline", "3s", "--", "true"]);
    other.wait().expect(125, &["no worker carries gpu=2", "expired"]);
    assert_eq!(orx.story("3"), "enqueued expired", "it never ran");
}
