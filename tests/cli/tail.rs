//! `orx tail`.

use super::support::*;

/// Stops after each line until the file of that name is there.
const STEPS: &str = "for n in 1 2 3; do echo line $n; echo err $n >&2; until [ -e go$n ]; do sleep 0.02; done; done";

#[test]
fn tail_prints_what_there_is_each_stream_on_its_own() {
    let orx = Orx::new();
    orx.sh(&[], "echo out; echo err >&2");
    assert_eq!(orx.ok(&["tail", "1"]), "", "before it starts there is nothing");
    orx.burst();
    snapshot!(orx.run(&["logs", "1"]), @r"
    exit 0
    -- stdout
    out
    -- stderr
    err
    ");
    let only = |flag: &str| orx.run(&["tail", flag, "1"]);
    assert_eq!((only("--stdout").stdout(), only("--stdout").stderr()), ("out\n".into(), String::new()));
    assert_eq!((only("--stderr").stdout(), only("--stderr").stderr()), (String::new(), "err\n".into()));
}

#[test]
fn tail_prints_several_jobs_one_after_the_other() {
    let orx = Orx::new();
    for word in ["one", "two"] {
        orx.add(&["--", "echo", word]);
    }
    orx.burst();
    assert_eq!(orx.ok(&["tail", "1-2"]), "==> job 1 <==\none\n\n==> job 2 <==\ntwo\n");
    assert_eq!(orx.ok(&["tail", "-q", "-f", "2", "1"]), "two\none\n");
}

#[test]
fn tail_f_attaches_before_the_start_and_follows_to_the_end() {
    let orx = Orx::new();
    orx.sh(&[], STEPS);
    let tail = orx.spawn(&["tail", "-f", "1"]);
    let _worker = orx.worker(&[]);
    for n in ["1", "2", "3"] {
        tail.wait_stdout(&format!("line {n}\n"));
        tail.wait_stderr(&format!("err {n}\n"));
        assert!(tail.is_alive());
        orx.write(&format!("go{n}"), "");
    }
    let out = tail.wait();
    assert_eq!((out.code, out.stdout()), (Some(0), "line 1\nline 2\nline 3\n".into()));
    assert_eq!(out.stderr(), "err 1\nerr 2\nerr 3\n");
}

#[test]
fn tail_f_goes_on_through_retries() {
    let orx = Orx::new();
    let script = "n=$(($(cat n 2>/dev/null || echo 0) + 1)); echo $n > n; echo try $n; [ $n -ge 3 ]";
    orx.sh(&["--max-attempts", "3", "--backoff", "0s"], script);
    let tail = orx.spawn(&["tail", "-f", "1"]);
    orx.burst();
    let out = tail.wait();
    assert_eq!((out.code, out.stdout()), (Some(0), "try 1\ntry 2\ntry 3\n".into()), "{out}");
    assert_eq!(orx.ok(&["tail", "1"]), "try 3\n", "the last one, unless told otherwise");
    assert_eq!(orx.ok(&["tail", "--attempt", "2", "1"]), "try 2\n");
    orx.run(&["tail", "--attempt", "4", "1"]).expect(3, &["job 1 has no attempt 4"]);
    orx.run(&["tail", "--attempt", "0", "1"]).expect(3, &["no attempt 0"]);
    assert_eq!(orx.ok(&["tail", "-f", "1"]), "try 3\n", "what has ended is not waited for");
}

#[test]
fn tail_f_ends_with_a_job_that_never_starts() {
    let orx = Orx::new();
    orx.add(&["--delay", "1h", "--", "true"]);
    let tail = orx.spawn(&["tail", "-f", "1"]);
    orx.ok(&["cancel", "1"]);
    let out = tail.wait();
    assert_eq!((out.code, out.stdout()), (Some(0), String::new()), "{out}");
}

#[test]
fn tail_n_prints_the_last_lines() {
    let orx = Orx::new();
    orx.sh(&[], "seq 1 100000; echo warning >&2; printf 'no end'");
    orx.burst();
    let tail = |args: &[&str]| orx.ok(&[&["tail", "1"], args].concat());
    assert_eq!(tail(&["-n", "3", "--stdout"]), "99999\n100000\nno end");
    assert_eq!(tail(&["-n", "1", "--stdout"]), "no end");
    assert_eq!(tail(&["-n", "0", "--stdout"]), "");
    assert_eq!(tail(&["-n", "200000", "--stdout"]).lines().count(), 100_001);
    assert_eq!(orx.run(&["tail", "1", "-n", "5", "--stderr"]).stderr(), "warning\n");
}

#[test]
fn tail_n_f_goes_on_from_there() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    orx.sh(&[], &format!("seq 1 10; echo up > up; {UNTIL_GO}; seq 11 12"));
    orx.wait_line("up");
    eventually("the output to be stored", || orx.ok(&["tail", "1"]).ends_with("\n10\n"));
    let tail = orx.spawn(&["tail", "-n", "2", "-f", "1"]);
    tail.wait_stdout("9\n10\n");
    orx.write("go", "");
    assert_eq!(tail.wait().stdout(), "9\n10\n11\n12\n");
}

#[test]
fn timestamps_stand_before_each_line() {
    let orx = Orx::new();
    orx.run(&["run", "--", "sh", "-c", "printf 'one\ntwo\nthree'; echo err >&2"]);
    snapshot!(orx.run(&["tail", "--timestamps", "last"]), @r"
    exit 0
    -- stdout
    [time] one
    [time] two
    [time] three
    -- stderr
    [time] err
    ");
}
