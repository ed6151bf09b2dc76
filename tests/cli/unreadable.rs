//! Rows that cannot be read: what people meet (S29).

use super::support::*;
use crate::proxy::Proxy;

/// Three jobs, of which the first is as a disk or a person has left it.
fn damaged(orx: &Orx) {
    for _ in 0..3 {
        orx.add(&["--", "true"]);
    }
    orx.damage("UPDATE job_specs SET spec = substr(spec, 1, 15) WHERE number = 1");
}

/// Everything that a person may do about a damaged row, and the others go on.
fn a_damaged_row_stops_nobody(orx: &Orx) {
    damaged(orx);
    orx.burst();
    assert_eq!(orx.state("2") + " " + &orx.state("3"), "done done");
    // One that stays leads, where no coordinator does.
    let worker = orx.worker(&[]);
    orx.wait_state("1", "failed");
    drop(worker);
    assert_eq!(orx.states(), "failed done done");
    let listed = orx.ok(&["list"]);
    assert!(listed.contains("(unreadable)") && listed.lines().count() == 4, "{listed}");
    assert_eq!(orx.ok(&["dlq", "list", "--reason", "unreadable", "--format", "{{job.number}}"]), "1\n");
    let job = orx.job("1");
    assert_eq!((&job["reason"], &job["unread"]["why"]), (&"unreadable".into(), &"unreadable".into()));
    assert!(orx.ok(&["status", "1"]).contains("it cannot be read: spec: EOF while parsing"));
    let why = orx.ok(&["why", "1"]);
    assert!(why.contains("it cannot be read: spec") && !why.contains("orx retry"), "{why}");
    orx.run(&["retry", "1"]).expect(5, &["job 1: it cannot be read: spec", "hint: enqueue it anew"]);
    orx.run(&["dlq", "requeue", "1"]).expect(5, &["job 1: it cannot be read"]);
    let doctor = orx.run(&["doctor"]);
    assert!(doctor.code == Some(1) && doctor.stdout().contains("1 job put aside"), "{doctor}");
    let check = orx.check();
    assert!(check.code == Some(1) && check.stdout().contains("job 1 cannot be read: spec: EOF"), "{check}");
    assert!(orx.story("1").ends_with("quarantined"), "{}", orx.story("1"));
    orx.run(&["audit"]).expect(0, &["nothing is wrong, and 1 job put aside as unreadable"]);
    assert!(orx.ok(&["db", "quarantine", "--format", "{{put_aside}} of {{most}}"]).starts_with("1 of 100"));
    orx.run(&["db", "quarantine", "--go-on"]).expect(0, &["up to 100 jobs more"]);
    orx.ok(&["dlq", "discard", "1"]);
    assert!(orx.run(&["doctor"]).stdout().lines().all(|line| !line.starts_with("unreadable")));
    // The store can be backed up, damaged row and all.
    if orx.url() == orx.store().to_str().unwrap() {
        orx.ok(&["db", "backup", "copy.db"]);
    }
}

#[test]
fn s29_a_damaged_row_stops_nobody() {
    a_damaged_row_stops_nobody(&Orx::new());
}

#[test]
fn s29_a_damaged_row_stops_nobody_over_http() {
    let mut orx = Orx::file();
    orx.serve();
    a_damaged_row_stops_nobody(&orx);
}

#[test]
fn s29_a_job_of_a_newer_orx_waits_for_that_and_stops_nobody() {
    let orx = Orx::new();
    for _ in 0..2 {
        orx.add(&["--priority", "5", "--", "true"]);
    }
    orx.damage(
        "UPDATE job_specs SET spec = replace(spec, '{\"command\"', '{\"sandbox\":1,\"command\"') WHERE number = 1",
    );
    orx.burst();
    assert_eq!(orx.states(), "pending done");
    let job = orx.job("1");
    assert_eq!((&job["command"][0], &job["priority"]), (&"true".into(), &5.into()));
    assert_eq!(job["unread"], serde_json::json!({ "why": "newer", "what": "spec.sandbox is not known here" }));
    assert!(orx.ok(&["list"]).contains("a newer orx made it"));
    let why = orx.ok(&["why", "1"]);
    assert!(why.contains("a newer orx made it: spec.sandbox is not known here"), "{why}");
    assert_eq!(orx.check().code, Some(0));
    orx.ok(&["cancel", "1"]);
    orx.run(&["retry", "1"]).expect(5, &["a newer orx made it", "hint: retry it with the orx that made it"]);
}

/// An older worker at a newer coordinator: the answers have an option that it does not know.
#[test]
fn s29_what_a_newer_coordinator_hands_out_is_not_run_without_what_is_new() {
    let mut orx = Orx::file();
    orx.serve();
    let url = orx.url();
    let token = orx.token().unwrap().to_owned();
    let proxy = Proxy::start(url.strip_prefix("http://").unwrap(), 0);
    proxy.rewrite("\"kill_grace\"", "\"kill_gravy\"");
    orx.add(&["--kill-grace", "3s", "--backoff", "1h", "--", "touch", "ran"]);
    orx.add(&["--", "touch", "other"]);
    orx.reach(proxy.url(), &token);
    orx.burst();
    assert!(orx.path("other").exists() && !orx.path("ran").exists());
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["outcome"], &job["failures"]), (&"scheduled".into(), &"snoozed".into(), &0.into()));
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("a newer orx made it: spec.kill_gravy is not known here"), "{error}");
}
