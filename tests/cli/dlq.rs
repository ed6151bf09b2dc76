//! `orx dlq`.

use super::support::*;

/// Jobs of one team: 1 and 2 are dead letters, 3 is done, 4 is cancelled.
fn four() -> Orx {
    let orx = Orx::new();
    for program in ["false", "false", "true", "true"] {
        orx.add(&["--label", "team=web", "--", program]);
    }
    orx.ok(&["cancel", "4"]);
    orx.burst();
    assert_eq!(orx.states(), "failed failed done cancelled");
    orx
}

fn letters(orx: &Orx) -> String {
    orx.ok(&["dlq", "list", "--format", "{{job.number}}"]).split_whitespace().rev().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_label_asks_before_letters_are_discarded() {
    let orx = four();
    orx.run(&["dlq", "discard", "@team=web"]).expect(2, &["Discard 2 dead letters?", "hint: say --yes"]);
    assert_eq!(letters(&orx), "1 2");
    orx.run(&["dlq", "discard", "@team=web", "--yes"]).expect(0, &["2 dead letters discarded"]);
    assert_eq!(letters(&orx), "");
}

#[test]
fn groups_are_limited_as_letters_are_and_it_is_said() {
    let orx = Orx::new();
    for code in 1..=3 {
        orx.sh(&[], &format!("exit {code}"));
    }
    orx.burst();
    let groups = |limit: &str| orx.run(&["dlq", "list", "--group", "--limit", limit, "-o", "ndjson"]);
    assert_eq!(groups("0").stdout().lines().count(), 3);
    let two = groups("2");
    two.expect(0, &["1 group more; --limit 0 shows all"]);
    assert_eq!(two.stdout().lines().count(), 2);
}

#[test]
fn labels_and_ranges_choose_among_dead_letters() {
    let orx = four();
    orx.run(&["dlq", "requeue", "@team=web", "--yes"]).expect(0, &["2 jobs requeued"]);
    assert_eq!(orx.states(), "pending pending done cancelled");
    orx.burst();
    orx.run(&["dlq", "discard", "2-4"]).expect(0, &["1 dead letter discarded"]);
    orx.run(&["dlq", "requeue", "1-4"]).expect(0, &["1 job requeued"]);
    assert_eq!(orx.states(), "pending failed done cancelled");
}

#[test]
fn a_job_that_is_named_must_have_a_dead_letter() {
    let orx = four();
    orx.ok(&["dlq", "discard", "2"]);
    for (job, state) in [("2", "failed"), ("3", "done"), ("4", "cancelled")] {
        for command in ["requeue", "discard", "show"] {
            let said = format!("job {job} has no dead letter: it is {state}");
            orx.run(&["dlq", command, "1", job]).expect(5, &[&said]);
        }
    }
    assert_eq!((orx.states(), letters(&orx)), ("failed failed done cancelled".into(), "1".into()));
}

#[test]
fn a_range_shows_the_dead_letters_in_it() {
    let orx = four();
    assert_eq!(orx.ok(&["dlq", "show", "1-4", "--format", "{{number}}"]), "1\n2\n");
}

#[test]
fn the_others_are_requeued_if_the_canaries_succeed() {
    let orx = four();
    orx.run(&["dlq", "requeue", "--all", "--canary", "0", "--yes"]).expect(2, &["--canary"]);
    let canary = orx.spawn(&["dlq", "requeue", "--all", "--canary", "1", "--yes"]);
    orx.wait_state("1", "pending");
    orx.burst();
    canary.wait().expect(1, &["job 1 is failed again; the other 1 stay dead"]);
    assert_eq!(orx.states(), "failed failed done cancelled");
}
