use serde_json::json;

use super::*;

const RUN: &str = "0190a5d2-7c1e-7000-8000-000000000001";

/// `kind number attempt data`
type Line = (&'static str, Number, u32, Value);

/// What is found in a trail with an event a second.
fn trail(lines: &[Line]) -> Vec<String> {
    let mut auditor = Auditor::default();
    for (i, (kind, number, attempt, data)) in lines.iter().enumerate() {
        auditor.event(&Event {
            seq: i as i64 + 1,
            at: Timestamp(i as i64 * 1000),
            kind: EventKind::parse(kind).unwrap(),
            job_id: None,
            number: (*number > 0).then_some(*number),
            attempt: (*attempt > 0).then_some(*attempt),
            worker: None,
            actor: None,
            data: data.clone(),
        });
    }
    auditor.finish().into_iter().map(|b| b.invariant).collect()
}

fn stored(number: Number) -> Line {
    ("enqueued", number, 0, json!({"state": "pending"}))
}

fn leased(number: Number, attempt: u32) -> Line {
    ("leased", number, attempt, json!({"state": "running"}))
}

fn settled(number: Number, attempt: u32, outcome: &str, state: &str) -> Line {
    ("settled", number, attempt, json!({"state": state, "outcome": outcome}))
}

fn limited(number: Number, max: u32) -> Line {
    ("enqueued", number, 0, json!({"state": "pending", "limit": format!("db={max}"), "tenant": "t"}))
}

#[test]
fn what_was_met_stays_met_and_a_retry_waives_what_has_ended() {
    let after = |number, after: Value| ("enqueued", number, 0, json!({"state": "blocked", "after": after}));
    let breaches = trail(&[
        stored(1),
        stored(2),
        after(3, json!(["1:ended", "2"])),
        leased(1, 1),
        settled(1, 1, "failed", "failed"),
        ("retried", 1, 1, json!({"state": "pending"})),
        leased(2, 1),
        settled(2, 1, "done", "done"),
        ("unblocked", 3, 0, json!({"state": "pending"})), // job 1 is pending again
        leased(3, 1),
        stored(4),
        after(5, json!(["4"])),
        ("cancelled", 5, 0, json!({"state": "cancelled"})),
        leased(4, 1),
        settled(4, 1, "failed", "failed"),
        ("retried", 5, 0, json!({"state": "pending"})),
        leased(5, 1),
        after(6, json!(["4:ended", "1"])),
        ("retried", 4, 1, json!({"state": "pending"})),
        leased(1, 2),
        settled(1, 2, "done", "done"),
        ("unblocked", 6, 0, json!({"state": "pending"})), // job 4 had ended when it was stored
    ]);
    assert_eq!(breaches, [""; 0]);
    let again = [after(2, json!(["1:ended"])), ("unblocked", 2, 0, json!({"state": "pending"}))];
    let ended_before =
        [stored(1), ("cancelled", 1, 0, json!({"state": "cancelled"})), ("retried", 1, 0, json!({"state": "pending"}))];
    assert_eq!(trail(&[ended_before.to_vec(), again.to_vec()].concat()), ["a job starts after what it waits for"]);
}

#[test]
fn a_named_limit_that_was_changed_is_another_for_all_its_jobs() {
    let changed = |max: u32| ("policy_changed", 0, 0, json!({"tenant": "t", "limit": "db", "max_running": max}));
    let raised = [limited(1, 1), changed(2), limited(2, 2), leased(2, 1), leased(1, 1)];
    assert_eq!(trail(&raised), [""; 0]);
    let lowered = [limited(1, 2), limited(2, 2), changed(1), leased(2, 1), leased(1, 1)];
    assert_eq!(trail(&lowered), ["running jobs never exceed a limit"]);
}

#[test]
fn s36_the_wait_of_what_did_not_start_is_a_minute_at_most_and_no_failure() {
    let not_started = |due: &str| {
        trail(&[
            ("enqueued", 1, 0, json!({"state": "pending", "backoff": "5m..1h"})),
            leased(1, 1),
            ("settled", 1, 1, json!({"state": "scheduled", "outcome": "not_started", "due_at": due})),
            leased(1, 2),
            settled(1, 2, "failed", "failed"),
        ])
    };
    let at = |seconds: i64| format!("1970-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60);
    let minute = (50..80).filter(|seconds| not_started(&at(*seconds)).is_empty()).count();
    assert_eq!(minute, 1, "exactly a minute where the base of the back-off is longer");
}

#[test]
fn a_sound_trail_has_no_breach() {
    let breaches = trail(&[
        ("leader_elected", 0, 0, json!({"epoch": 1})),
        ("enqueued", 1, 0, json!({"state": "pending", "max_attempts": 2, "backoff": "10s"})),
        ("enqueued", 2, 0, json!({"state": "blocked", "after": ["1"]})),
        leased(1, 1),
        ("settled", 1, 1, json!({"state": "scheduled", "outcome": "failed", "due_at": "1970-01-01T00:00:20Z"})),
        leased(1, 2),
        ("rejected_stale", 1, 1, json!({})),
        settled(1, 2, "lost", "pending"),
        leased(1, 3),
        settled(1, 3, "done", "done"),
        ("unblocked", 2, 0, json!({"state": "pending"})),
        leased(2, 1),
        settled(2, 1, "failed", "failed"),
        ("retried", 2, 1, json!({"state": "pending"})),
        ("cancelled", 2, 1, json!({"state": "cancelled"})),
        ("leader_elected", 0, 0, json!({"epoch": 2})),
        ("enqueued", 3, 0, json!({"state": "pending", "run": RUN})),
        leased(3, 1),
        settled(3, 1, "done", "done"),
        // What runs last begins when the tasks have ended, and its end says nothing about them.
        ("enqueued", 4, 0, json!({"state": "pending", "run": RUN, "last": true})),
        leased(4, 1),
        settled(4, 1, "failed", "failed"),
        ("run_ended", 0, 0, json!({"run": RUN, "result": "done"})),
    ]);
    assert_eq!(breaches, [""; 0]);
}

#[test]
fn each_breach_is_named() {
    let limit = |n| ("enqueued", n, 0, json!({"state": "pending", "limit": "db=1", "tenant": "t"}));
    let cases: Vec<(&str, Vec<Line>)> = vec![
        ("no second lease before the first has ended", vec![stored(1), leased(1, 1), leased(1, 2)]),
        ("attempt numbers rise", vec![stored(1), leased(1, 2), settled(1, 2, "lost", "pending"), leased(1, 2)]),
        ("only the current attempt is settled", vec![stored(1), leased(1, 2), settled(1, 1, "done", "done")]),
        (
            "nothing follows an end but a retry",
            vec![
                stored(1),
                leased(1, 1),
                settled(1, 1, "done", "done"),
                ("cancelled", 1, 1, json!({"state": "cancelled"})),
            ],
        ),
        (
            "a run ends as its tasks ended",
            vec![
                ("enqueued", 1, 0, json!({"state": "pending", "run": RUN})),
                leased(1, 1),
                ("run_ended", 0, 0, json!({"run": RUN, "result": "failed"})),
            ],
        ),
        (
            "a run ends as its tasks ended",
            vec![
                ("enqueued", 1, 0, json!({"state": "pending", "run": RUN})),
                leased(1, 1),
                settled(1, 1, "failed", "failed"),
                ("run_ended", 0, 0, json!({"run": RUN, "result": "done"})),
            ],
        ),
        (
            "only what may run is leased",
            vec![stored(1), ("cancelled", 1, 0, json!({"state": "cancelled"})), leased(1, 1)],
        ),
        (
            "failures stay within max_attempts",
            vec![
                stored(1),
                leased(1, 1),
                settled(1, 1, "failed", "pending"),
                leased(1, 2),
                settled(1, 2, "failed", "failed"),
            ],
        ),
        (
            "losses stay within max_losses + 1",
            vec![
                ("enqueued", 1, 0, json!({"state": "pending", "max_losses": 0})),
                leased(1, 1),
                settled(1, 1, "lost", "pending"),
                leased(1, 2),
                settled(1, 2, "lost", "failed"),
            ],
        ),
        (
            "waits lie between base and cap",
            vec![
                ("enqueued", 1, 0, json!({"state": "pending", "max_attempts": 2})),
                leased(1, 1),
                ("settled", 1, 1, json!({"state": "scheduled", "outcome": "failed", "due_at": "1970-01-01T00:00:03Z"})),
            ],
        ),
        (
            "a job starts after what it waits for",
            vec![stored(1), ("enqueued", 2, 0, json!({"state": "pending", "after": ["1"]})), leased(2, 1)],
        ),
        ("running jobs never exceed a limit", vec![limit(1), limit(2), leased(1, 1), leased(2, 1)]),
        (
            "leader epochs rise",
            vec![("leader_elected", 0, 0, json!({"epoch": 2})), ("leader_elected", 0, 0, json!({"epoch": 2}))],
        ),
        ("a job is stored once", vec![stored(1), stored(1)]),
        ("a job is stored before anything happens to it", vec![stored(1), leased(7, 1)]),
    ];
    for (invariant, lines) in cases {
        assert_eq!(trail(&lines), [invariant]);
    }
}

/// A schedule that is due every ten seconds.
fn every_ten(version: u32, after: &str) -> Line {
    let rule = json!({"kind": "every", "expression": "10s", "tz": "UTC", "start": "1970-01-01T00:00:00Z",
        "created_at": "1970-01-01T00:00:00Z"});
    let data = json!({"schedule_id": SCHEDULE, "did": "added", "version": version, "rule": rule, "after": at(after)});
    ("schedule_changed", 0, 0, data)
}

const SCHEDULE: &str = "0190a5d2-7c1e-7000-8000-000000000001";

fn at(seconds: &str) -> String {
    format!("1970-01-01T00:0{seconds}.000Z")
}

fn fired(version: u32, due: &str) -> Line {
    ("occurrence_fired", 0, 0, json!({"schedule_id": SCHEDULE, "version": version, "due_at": at(due)}))
}

fn skipped(from: &str, to: &str, count: u64) -> Line {
    let data = json!({"schedule_id": SCHEDULE, "version": 1, "due_at": at(from), "until": at(to), "count": count});
    ("occurrence_skipped", 0, 0, data)
}

fn backfilled(due: &str) -> Line {
    let (kind, number, attempt, mut data) = fired(1, due);
    data["backfilled"] = json!(true);
    (kind, number, attempt, data)
}

#[test]
fn each_instant_of_a_schedule_is_recorded_once() {
    let once = "each instant of a schedule is recorded once";
    let sound =
        [every_ten(1, "0:05"), fired(1, "0:10"), skipped("0:20", "0:50", 4), backfilled("0:30"), fired(1, "1:00")];
    assert_eq!(trail(&sound), [""; 0]);
    for wrong in [
        vec![every_ten(1, "0:05"), fired(1, "0:10"), fired(1, "0:10")],
        vec![every_ten(1, "0:05"), fired(1, "0:10"), fired(1, "0:30")],
        vec![every_ten(1, "0:05"), fired(1, "0:20")],
        vec![every_ten(1, "0:05"), fired(1, "0:13")],
        vec![every_ten(1, "0:05"), skipped("0:10", "0:30", 2)],
        vec![every_ten(1, "0:05"), skipped("0:10", "0:30", 3), fired(1, "0:20")],
        vec![every_ten(1, "0:05"), skipped("0:10", "0:30", 3), backfilled("0:20"), backfilled("0:20")],
        vec![every_ten(1, "0:05"), every_ten(2, "0:35"), fired(2, "0:40")],
    ] {
        assert_eq!(trail(&wrong), [once], "{wrong:?}");
    }
    assert_eq!(trail(&[every_ten(1, "0:05"), fired(1, "0:10"), every_ten(2, "0:15"), fired(2, "0:20")]), [""; 0]);
}
