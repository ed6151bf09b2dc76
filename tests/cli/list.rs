//! `orx list`.

use super::support::*;

fn numbers(orx: &Orx, args: &[&str]) -> String {
    let text = orx.ok(&[&["list", "--format", "{{number}}"], args].concat());
    text.lines().collect::<Vec<_>>().join(" ")
}

/// 1 done, 2 failed, 3 scheduled in build with a name, 4 pending of acme, 5 pending with labels.
fn some() -> Orx {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    orx.sh(&[], "echo broken >&2; exit 7");
    orx.burst();
    orx.add(&["--queue", "build", "--name", "nightly", "--delay", "1h", "--", "make", "all"]);
    orx.add(&["--tenant", "acme", "--", "true"]);
    orx.add(&["--label", "team=web", "--label", "env=ci", "--", "echo", "it's"]);
    orx
}

#[test]
fn a_list_for_people_is_newest_first() {
    let orx = some();
    snapshot!(orx.run(&["list"]), @r"
    exit 0
    -- stdout
    JOB  STATE  QUEUE  NAME  AGE  TOOK  COMMAND  NOTE
    5  pending  default  [ago]  echo 'it'\''s'
    4  pending  default  [ago]  true
    3  scheduled  build  nightly  [ago]  make all  [in]
    2  failed  default  [ago]  [took]  sh -c 'echo broken >&2; exit 7'  exit 7
    1  done  default  [ago]  [took]  true
    ");
}

#[test]
fn an_empty_list_is_an_empty_list() {
    let orx = Orx::new();
    orx.make();
    assert_eq!(orx.ok(&["list", "-o", "json"]), "[]\n");
    assert_eq!(orx.ok(&["list", "-o", "ndjson"]), "");
    assert_eq!(orx.ok(&["ls", "-o", "id"]), "");
}

#[test]
fn filters_choose() {
    let orx = some();
    for (args, found) in [
        (vec![], "5 4 3 2 1"),
        (vec!["--state", "done"], "1"),
        (vec!["--state", "pending,failed"], "5 4 2"),
        (vec!["-s", "pending", "-s", "done"], "5 4 1"),
        (vec!["--queue", "build"], "3"),
        (vec!["--queue", "none"], ""),
        (vec!["--tenant", "acme"], "4"),
        (vec!["--name", "nightly"], "3"),
        (vec!["--label", "team=web"], "5"),
        (vec!["-l", "team=web", "-l", "env=prod"], ""),
        (vec!["-l", "team=web", "-l", "env=ci", "--state", "pending"], "5"),
        (vec!["--since", "1h"], "5 4 3 2 1"),
        (vec!["--since", "2099-01-01T00:00:00Z"], ""),
    ] {
        assert_eq!(numbers(&orx, &args), found, "{args:?}");
    }
    orx.run(&["list", "--state", "odd"]).expect(2, &["no such state; there are blocked, scheduled"]);
    orx.run(&["list", "--since", "noon"]).expect(2, &["noon"]);
    orx.run(&["list", "--label", "team"]).expect(2, &["KEY=VALUE"]);
}

#[test]
fn pages_follow_one_another_without_gap_or_overlap() {
    let orx = Orx::new();
    orx.call(&["enqueue", "--from", "-"]).stdin("{\"command\":[\"true\"]}\n".repeat(60)).run().expect(0, &[]);
    assert_eq!(numbers(&orx, &[]).split(' ').count(), 50, "the default limit");
    assert_eq!(numbers(&orx, &["--limit", "0"]).split(' ').count(), 60);
    assert_eq!(numbers(&orx, &["-n", "3"]), "60 59 58");
    assert_eq!(numbers(&orx, &["-n", "3", "--cursor", "58"]), "57 56 55");
    assert_eq!(numbers(&orx, &["--cursor", "3"]), "2 1");
    assert_eq!(numbers(&orx, &["--cursor", "1"]), "");
}

/// The fields of a job in docs/reference/json.md.
pub const FIELDS: &str = "id number queue tenant name state priority command handler payload labels attempt failures
    losses interruptions max_attempts due_at created_at started_at finished_at worker outcome exit_code signal error
    run_id task schedule_id occurrence_id idempotency_key cancel_requested_at trace_id progress result
    reason";

#[test]
fn json_is_an_array_of_jobs_with_exactly_the_fields_of_the_reference() {
    let orx = some();
    let list = orx.json(&["list"]);
    let jobs = list.as_array().unwrap();
    assert_eq!(jobs.len(), 5);
    for job in jobs {
        assert_eq!(keys(job), sorted(FIELDS));
    }
    assert_eq!(lines_of_json(&orx.ok(&["list", "-o", "ndjson"])), *jobs);
    let ids: Vec<&str> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(orx.ok(&["list", "-o", "id"]).lines().collect::<Vec<_>>(), ids);
}

#[test]
fn watch_is_for_people() {
    let orx = Orx::new();
    orx.run(&["list", "--watch", "-o", "json"]).expect(2, &["--watch draws a table", "orx events -f"]);
}
