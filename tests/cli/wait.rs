//! `orx wait`.

use super::support::*;

#[test]
fn wait_on_one_job_exits_as_the_job_did() {
    let orx = Orx::new();
    for (options, script, code) in [
        (vec![], "exit 0", 0),
        (vec![], "exit 7", 7),
        (vec![], "kill -9 $$", 137),
        (vec!["--timeout", "100ms"], "sleep 60", 124),
        (vec!["--cwd", "/nowhere"], "true", 126),
    ] {
        let job = orx.sh(&options, script);
        orx.burst();
        orx.run(&["wait", &job]).expect(code, &[]);
    }
    orx.add(&["--", "no-such-program"]);
    orx.burst();
    orx.run(&["wait", "last"]).expect(127, &[]);
    orx.add(&["--", "true"]);
    orx.ok(&["cancel", "last"]);
    orx.run(&["wait", "last"]).expect(130, &[]);
    orx.add(&["--after", "2", "--", "true"]);
    orx.run(&["wait", "last"]).expect(125, &[]);
}

#[test]
fn wait_for_all_waits_for_what_has_not_ended_and_says_what_went_wrong() {
    let orx = Orx::new();
    orx.run(&["run", "--", "false"]).expect(1, &[]);
    orx.run(&["wait", "--all"]).expect(0, &["no job to wait for"]);
    orx.add(&["--", "true"]);
    orx.run(&["wait", "--all", "--timeout", "1ms"]).expect(75, &["job 2 is pending still"]);
    orx.add(&["--after", "2", "--", "false"]);
    let wait = orx.spawn(&["wait", "--all"]);
    orx.burst();
    wait.wait().expect(1, &["1 of 2 not done: 3"]);
    orx.run(&["wait", "--all", "2"]).expect(125, &["cannot be used with"]);
}

#[test]
fn s25_wait_wakes_when_the_job_ends() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    orx.sh(&[], &format!("{UNTIL_GO}; exit 5"));
    let wait = orx.spawn(&["wait", "1"]);
    orx.wait_state("1", "running");
    assert!(wait.is_alive());
    orx.write("go", "");
    wait.wait().expect(5, &[]);
}

#[test]
fn wait_on_several_is_0_if_all_are_done_else_1() {
    let orx = Orx::new();
    for program in ["true", "true", "false"] {
        orx.add(&["--", program]);
    }
    let both = orx.spawn(&["wait", "1-2"]);
    let all = orx.spawn(&["wait", "1", "2", "3"]);
    orx.burst();
    both.wait().expect(0, &[]);
    all.wait().expect(1, &["1 of 3 not done: 3"]);
}

#[test]
fn wait_any_ends_with_the_first() {
    let orx = Orx::new();
    orx.add(&["--delay", "1h", "--", "true"]);
    orx.add(&["--", "true"]);
    let any = orx.spawn(&["wait", "--any", "1", "2"]);
    orx.burst();
    any.wait().expect(0, &[]);
    orx.add(&["--", "false"]);
    orx.burst();
    orx.run(&["wait", "--any", "1", "3"]).expect(1, &[]);
}

#[test]
fn wait_is_75_when_its_time_is_over_and_the_job_lives_on() {
    let orx = Orx::new();
    orx.add(&["--delay", "1h", "--", "true"]);
    orx.run(&["wait", "--timeout", "100ms", "1"]).expect(75, &["job 1 is scheduled still"]);
    orx.add(&["--delay", "1h", "--", "true"]);
    orx.run(&["wait", "--timeout", "0s", "1-2"]).expect(75, &["2 jobs have not ended"]);
    assert_eq!(orx.states(), "scheduled scheduled");
    orx.ok(&["cancel", "1"]);
    orx.run(&["wait", "--timeout", "0s", "1-2"]).expect(75, &["1 job has not ended"]);
}

#[test]
fn errors_of_orx_itself_are_125_usage_included() {
    let orx = Orx::file();
    orx.make();
    orx.run(&["wait", "--bogus", "1"]).expect(125, &["--bogus"]);
    orx.run(&["wait"]).expect(125, &["no job is named"]);
    orx.run(&["wait", "99"]).expect(125, &["no job 99"]);
    orx.run(&["wait", "--store", "/dev/null/x", "1"]).expect(125, &["/dev/null/x"]);
    orx.run(&["-o", "json", "wait", "99"]).expect(125, &["\"kind\":\"not_found\""]);
}

#[test]
fn enqueue_that_waits_fails_with_125_once_the_job_is_stored() {
    let mut orx = Orx::file();
    orx.serve();
    let token = orx.ok(&["token", "create", "--scope", "submit,exec"]).trim().to_owned();
    for (flag, number) in [("--wait", "1"), ("--follow", "2")] {
        let out = orx.run(&["--token", &token, "enqueue", flag, "--", "true"]);
        out.expect(125, &[&format!("orx: stored as job {number}: the token may not")]);
    }
    orx.run(&["--token", &token, "enqueue", "--wait", "--bogus", "--", "true"]).expect(2, &["--bogus"]);
}

#[test]
fn whoever_waits_is_told_once_why_nothing_happens() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    orx.add(&["--", "true"]);
    let told = "job 1 is pending: no worker runs (orx worker)";
    for (args, words) in [
        (&["wait", "1"][..], &[told][..]),
        (&["wait", "1-2"], &[told, "; 1 more waits"]),
        (&["tail", "-f", "1"], &[told]),
        (&["enqueue", "--wait", "--", "true"], &[" is pending: no worker runs"]),
        (&["enqueue", "--follow", "--", "true"], &[" is pending: no worker runs"]),
    ] {
        let waits = orx.spawn(args);
        words.iter().for_each(|words| waits.wait_stderr(words));
        // A change, after which it is the same.
        orx.add(&["--queue", "other", "--", "true"]);
        orx.ok(&["-q", "cancel", "last"]);
        assert_eq!(waits.stderr().matches(" is pending: ").count(), 1, "{args:?} {}", waits.stderr());
        waits.kill();
    }
    let quiet = orx.run(&["-q", "wait", "1", "--timeout", "3s"]);
    assert!(!quiet.stderr().contains("no worker runs"), "{quiet}");
}

#[test]
fn whoever_waits_for_what_runs_is_told_nothing() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    orx.sh(&[], &format!("echo up > up; {UNTIL_GO}"));
    orx.add(&["--after", "1", "--", "true"]);
    orx.wait_line("up");
    let wait = orx.spawn(&["wait", "1-2"]);
    let blocked = orx.spawn(&["wait", "2"]);
    blocked.wait_stderr("job 2 is blocked: it waits for job 1 (running) to be done");
    orx.write("go", "");
    blocked.wait().expect(0, &[]);
    let out = wait.wait();
    out.expect(0, &[]);
    assert!(!out.stderr().contains("job 2 is"), "{out}");
}
