//! `orx retry`: an operator's second chance (S10).

use super::support::*;

/// Fails until the file `fixed` is there.
const FLAKY: &str = "[ -e fixed ]";

#[test]
fn a_failed_job_runs_again_with_its_history_kept() {
    let orx = Orx::new();
    orx.sh(&["--max-attempts", "2", "--backoff", "0s"], FLAKY);
    orx.burst();
    assert_eq!(orx.state("1"), "failed");
    orx.write("fixed", "");
    snapshot!(orx.run(&["retry", "1"]), @r"
    exit 0
    -- stdout
    JOB  STATE  DID
    1  pending  retried
    ");
    orx.burst();
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["failures"], &job["attempt"]), (&"done".into(), &0.into(), &3.into()));
    assert_eq!(job["attempts"].as_array().unwrap().len(), 3);
    assert!(job["reason"].is_null(), "{job}");
}

#[test]
fn s10_jobs_that_were_skipped_because_of_it_come_back() {
    let orx = Orx::new();
    orx.sh(&[], FLAKY);
    orx.add(&["--after", "1", "--", "true"]);
    orx.add(&["--after", "2", "--", "true"]);
    orx.burst();
    assert_eq!(orx.states(), "failed skipped skipped");
    orx.ok(&["retry", "--only", "1"]);
    assert_eq!(orx.states(), "pending skipped skipped");
    orx.burst();
    orx.write("fixed", "");
    snapshot!(orx.run(&["retry", "1"]), @r"
    exit 0
    -- stdout
    JOB  STATE  DID
    1  pending  retried
    2  blocked  revived with the job that it needs
    3  blocked  revived with the job that it needs
    ");
    orx.burst();
    assert_eq!(orx.states(), "done done done");
}

#[test]
fn only_what_failed_or_was_cancelled_can_be_retried() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    snapshot!(orx.run(&["retry", "1"]), @r"
    exit 5
    -- stderr
    orx: job 1: a pending job cannot be retried
    hint: it has not ended
    ");
    orx.burst();
    orx.run(&["retry", "1"]).expect(5, &["job 1", "enqueue it again"]);
    orx.add(&["--", "true"]);
    orx.ok(&["cancel", "2"]);
    orx.ok(&["retry", "2"]);
    orx.burst();
    assert_eq!(orx.states(), "done done");
}

#[test]
fn s10_a_name_that_is_taken_by_now_is_a_conflict() {
    let orx = Orx::new();
    orx.add(&["--name", "n", "--", "false"]);
    orx.burst();
    orx.add(&["--name", "n", "--", "true"]);
    orx.run(&["retry", "1"]).expect(5, &["its name n is taken by job 2"]);
    assert_eq!(orx.states(), "failed pending");
}

#[test]
fn all_failed_jobs_of_a_queue_are_retried_at_once() {
    let orx = Orx::new();
    for queue in ["a", "a", "b"] {
        orx.sh(&["--queue", queue], FLAKY);
    }
    orx.burst();
    orx.run(&["retry", "--all", "--queue", "a"]).expect(2, &["Retry 2 jobs?", "--yes"]);
    orx.ok(&["retry", "--all", "--queue", "a", "--yes"]);
    assert_eq!(orx.states(), "pending pending failed");
}

#[test]
fn ranges_and_labels_mean_what_failed_or_was_cancelled_and_all_what_failed() {
    let orx = Orx::new();
    for program in ["false", "true", "true"] {
        orx.add(&["--label", "team=web", "--", program]);
    }
    orx.ok(&["cancel", "3"]);
    let again = |args: &[&str]| {
        orx.burst();
        orx.ok(&[&["retry"], args, &["--yes", "--format", "{{number}}"]].concat())
    };
    assert_eq!(again(&["1-3"]), "1\n3\n");
    orx.ok(&["cancel", "3"]);
    assert_eq!(again(&["@team=web"]), "1\n3\n");
    orx.ok(&["cancel", "3"]);
    assert_eq!(again(&["--all"]), "1\n");
    assert_eq!(orx.states(), "pending done cancelled");
}
