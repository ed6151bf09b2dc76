//! `--after`, end to end (S9).

use super::support::*;

fn note(name: &str) -> String {
    format!("echo {name} >> order")
}

#[test]
fn s9_jobs_run_in_the_order_of_their_edges() {
    let orx = Orx::new();
    orx.sh(&["--delay", "100ms"], &note("build"));
    orx.sh(&["--after", "1"], &note("test"));
    orx.sh(&["--after", "1,2", "--priority", "100"], &note("ship"));
    orx.sh(&["--after", "3", "--after", "last"], &note("tell"));
    assert_eq!(orx.states(), "scheduled blocked blocked blocked");
    let worker = orx.worker(&["--slots", "4"]);
    orx.run(&["wait", "1-4"]).expect(0, &[]);
    assert_eq!(orx.read("order"), "build\ntest\nship\ntell\n");
    worker.stop().expect(0, &[]);
    assert_eq!(orx.story("3"), "enqueued unblocked leased started settled");
}

#[test]
fn s9_what_needs_a_failed_job_is_skipped_with_the_reason_and_what_waits_for_its_end_runs() {
    let orx = Orx::new();
    orx.add(&["--", "false"]);
    orx.add(&["--after", "1", "--", "true"]);
    orx.add(&["--after", "2", "--", "true"]);
    orx.sh(&["--after", "1:ended"], &note("tidy"));
    orx.burst();
    assert_eq!(orx.states(), "failed skipped skipped done");
    assert_eq!(orx.job("2")["reason"], "needs job 1, which is failed");
    assert_eq!(orx.job("3")["reason"], "needs job 2, which is skipped");
    // The order does not matter.
    orx.add(&["--after", "1", "--", "true"]);
    orx.add(&["--after", "1:ended", "--after", "4", "--", "true"]);
    assert_eq!((orx.state("5"), orx.state("6")), ("skipped".into(), "pending".into()));
}

#[test]
fn s9_a_cancelled_job_skips_what_needs_it() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    orx.add(&["--after", "1", "--", "true"]);
    orx.ok(&["cancel", "1"]);
    assert_eq!(orx.states(), "cancelled skipped");
}

#[test]
fn a_retry_holds_back_what_waits_until_it_succeeds() {
    let orx = Orx::new();
    let script = "n=$(($(cat n 2>/dev/null || echo 0) + 1)); echo $n > n; echo try $n >> order; [ $n -ge 2 ]";
    orx.sh(&["--max-attempts", "2", "--backoff", "0s"], script);
    orx.sh(&["--after", "1"], &note("then"));
    orx.burst();
    assert_eq!(orx.read("order"), "try 1\ntry 2\nthen\n");
}

#[test]
fn after_takes_several_jobs() {
    let orx = Orx::new();
    for args in [&["--after", "1", "2", "--"][..], &["--after", "1,2", "--"], &["--after", "1", "--after", "2", "--"]] {
        for _ in 0..2 {
            orx.add(&["--", "true"]);
        }
        let job = orx.add(&[args, &["echo", "--", "x"]].concat());
        let job = orx.job(&job);
        assert_eq!(
            (&job["command"], job["after"].as_array().unwrap().len()),
            (&serde_json::json!(["echo", "--", "x"]), 2)
        );
    }
}
