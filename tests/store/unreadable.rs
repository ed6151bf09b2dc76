//! Rows that cannot be read: they stop nobody, are told apart by why, and are put aside where no orx can read them (S29).

use orx::error::Kind;
use orx::job::ids::RunName;
use orx::job::lanes::Offer;
use orx::job::plan::{CatchUp, Overlap};
use orx::job::reading::Misread;
use orx::job::{
    Attempt, Definition, Event, EventKind, Number, Rule, RuleKind, RunId, RunState, ScheduleId, State, Submission,
    Target,
};
use orx::ops::cancel::{Cancel, Did};
use orx::ops::dead_letters::ListLetters;
use orx::ops::events::ReadEvents;
use orx::ops::jobs::ListJobs;
use orx::ops::lease::Leased;
use orx::ops::quarantine::{GetQuarantine, MOST, ResumeQuarantine};
use orx::ops::retry::Retry;
use orx::ops::runs::submit::SubmitRun;
use orx::ops::runs::view::{GetRun, ListRuns};
use orx::ops::schedules::Named;
use orx::ops::schedules::change::AddSchedule;
use orx::ops::schedules::life::RemoveSchedule;
use orx::ops::schedules::look::ListSchedules;
use orx::ops::schedules::tick::{Tick, Ticked};
use orx::ops::status::Status;
use orx::ops::sweep::{SweepDue, Swept};
use orx::ops::why::{Cause, CauseKind, Why, WhySchedule};
use orx::store::Finding;
use orx::time::{Clock as _, Span};
use serde_json::json;
use uuid::Uuid;

use super::support::*;

/// Runs a case on a file and on PostgreSQL: a store in memory cannot be damaged from outside.
macro_rules! on_damaged_stores {
    ($(async fn $name:ident($f:ident: Fixture) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn case($f: Fixture) $body

            #[tokio::test]
            async fn sqlite_file() {
                case(Fixture::file()).await;
            }

            #[tokio::test]
            async fn postgres() {
                case(Fixture::postgres()).await;
            }
        }
    )*};
}

/// What happens to a row that nobody can read afterwards.
const DAMAGES: [(&str, &str); 8] = [
    ("spec", "UPDATE job_specs SET spec = substr(spec, 1, 12) WHERE number = "),
    ("spec", "UPDATE job_specs SET spec = '' WHERE number = "),
    ("spec", "UPDATE job_specs SET spec = '[]' WHERE number = "),
    ("spec", "UPDATE job_specs SET spec = '{}' WHERE number = "),
    ("spec", "DELETE FROM job_specs WHERE number = "),
    ("captured", "UPDATE job_specs SET captured = '{\"cwd\"' WHERE number = "),
    ("origin", "UPDATE job_specs SET origin = '{\"run_id\":1}' WHERE number = "),
    ("losses", "UPDATE jobs SET losses = -1 WHERE number = "),
];

impl Fixture {
    /// What a newer orx may have stored.
    fn renew(&self, number: Number) {
        let newer = "UPDATE job_specs SET spec = replace(spec, '{\"command\"', '{\"sandbox\":true,\"command\"')";
        self.damage(&format!("{newer} WHERE number = {number}"));
    }

    async fn listed(&self) -> Vec<Number> {
        let op = ListJobs { limit: 1000, ..ListJobs::default() };
        self.queue.call(op).await.unwrap().jobs.iter().map(|job| job.number).collect()
    }

    async fn cause(&self, number: Number) -> Cause {
        self.queue.call(Why { number }).await.unwrap().causes.remove(0)
    }

    async fn quarantined(&self) -> Vec<Number> {
        match self.sweep().await {
            Swept::Done { quarantined, .. } => quarantined,
            Swept::Deposed => panic!("deposed"),
        }
    }

    async fn found(&self) -> Vec<Finding> {
        self.queue.check().await.unwrap()
    }

    async fn dead(&self) -> Vec<(Number, String)> {
        let op = ListLetters { limit: 1000, ..ListLetters::default() };
        self.queue.call(op).await.unwrap().into_iter().map(|letter| (letter.job.number, letter.reason)).collect()
    }
}

/// What a newer coordinator answers is read as far as it is understood; what it is asked with a word too many it refuses.
#[test]
fn s29_answers_are_read_as_far_as_they_are_understood() {
    let spec = json!({ "command": ["true"], "priority": 4, "sandbox": true });
    let fence = json!({ "number": 1, "attempt": 1 });
    let id = "01a22f76-d62d-7374-ad66-99c54dfa8568";
    let leased = json!({ "fence": fence, "id": id, "queue": "q", "tenant": "t", "spec": spec, "captured": { "umask": 2 },
        "origin": { "shard": 1 }, "lost": false, "results": [], "gift": 1 });
    let leased: Leased = serde_json::from_value(leased).unwrap();
    assert_eq!(leased.spec.priority(), 4);
    assert!(leased.unread.is_some_and(|unread| unread.why == Misread::Newer && unread.what.contains("sandbox")));
    let attempt = json!({ "number": 1, "outcome": "beamed_up", "gift": 1 });
    assert_eq!(serde_json::from_value::<Attempt>(attempt).unwrap().outcome, None);
    let event = json!({ "seq": 1, "at": "2026-01-01T00:00:00Z", "kind": "admired", "data": {} });
    assert_eq!(serde_json::from_value::<Event>(event).unwrap().kind, EventKind::Unknown);
    let cause = json!({ "kind": "mercury", "message": "it is retrograde", "jobs": [] });
    assert_eq!(serde_json::from_value::<Cause>(cause).unwrap().kind, CauseKind::Unknown);
    let asked = json!({ "id": id, "spec": spec });
    assert!(serde_json::from_value::<Submission>(asked).unwrap_err().to_string().contains("sandbox"));
}

/// A schedule and a run of which nobody can read what they are to do.
#[tokio::test]
async fn s29_schedules_and_runs_that_cannot_be_read_stop_no_others() {
    for f in [Fixture::file(), Fixture::postgres()] {
        let definition = |command: &str| Definition {
            rule: Rule {
                kind: RuleKind::Every,
                expression: "1m".into(),
                tz: "UTC".into(),
                start: None,
                end: None,
                created_at: f.clock.now(),
            },
            overlap: Overlap::Allow,
            catch_up: CatchUp::Last,
            jitter: Span::ZERO,
            target: Target::Job(Box::new(serde_json::from_value(json!({ "command": [command] })).unwrap())),
            captured: Default::default(),
        };
        for name in ["broken", "newer", "plain"] {
            let op = AddSchedule { id: ScheduleId(Uuid::now_v7()), name: name.into(), definition: definition(name) };
            f.queue.call(op).await.unwrap();
        }
        let of = |name: &str| format!("WHERE schedule = (SELECT id FROM schedules WHERE name = '{name}')");
        f.damage(&format!("UPDATE schedule_versions SET definition = substr(definition, 1, 30) {}", of("broken")));
        let newer =
            "UPDATE schedule_versions SET definition = replace(definition, '\"jitter\"', '\"moon\":1,\"jitter\"')";
        f.damage(&format!("{newer} {}", of("newer")));
        f.clock.pass(Span::from_secs(60));
        let Ticked::Done { fired, unreadable, next, .. } = f.queue.call(Tick::default()).await.unwrap() else {
            panic!()
        };
        assert_eq!((fired, unreadable.len(), next), (1, 2, Some(Span::from_secs(60))));
        let page = f.queue.call(ListSchedules::default()).await.unwrap();
        let why = |name: &str| page.schedules.iter().find(|s| s.name == name).unwrap().unread.as_ref().map(|u| u.why);
        assert_eq!(why("broken"), Some(Misread::Unreadable));
        assert_eq!((why("newer"), why("plain")), (Some(Misread::Newer), None));
        let named = |name: &str| Named { tenant: None, name: name.into() };
        for (name, kind) in [("broken", CauseKind::Unreadable), ("newer", CauseKind::Newer)] {
            let causes = f.queue.call(WhySchedule { schedule: named(name) }).await.unwrap().causes;
            assert_eq!(causes[0].kind, kind);
            f.queue.call(RemoveSchedule { schedule: named(name) }).await.unwrap();
        }
        assert!(f.found().await.iter().all(|finding| finding.check == "every schedule can be read"));

        let task = |name: &str| json!({ "name": name, "command": ["true"] });
        let workflow = json!({ "name": "flow", "task": [task("a")], "on_complete": { "command": ["true"] } });
        let id = RunId(Uuid::now_v7());
        let op = SubmitRun { id, workflow: workflow.into(), captured: Default::default(), behind: None };
        f.queue.call(op).await.unwrap();
        f.damage("UPDATE run_specs SET spec = substr(spec, 1, 30)");
        let w = f.worker("w", Offer::default()).await;
        for job in w.lease(8).await {
            w.exit(job.fence, 0).await;
        }
        let run = f.queue.call(GetRun { run: RunName::Id(id), options: false }).await.unwrap();
        assert_eq!((run.state, run.tasks.len()), (RunState::Done, 1));
        assert!(run.unread.unwrap().is_unreadable());
        assert_eq!(f.queue.call(ListRuns { limit: 9, ..ListRuns::default() }).await.unwrap().len(), 1);
    }
}

on_damaged_stores! {
    async fn s29_the_run_of_a_task_that_cannot_be_read_ends(f: Fixture) {
        for (part, damage) in DAMAGES {
            let task = |name: &str| json!({ "name": name, "command": ["true"] });
            let workflow = json!({ "name": "flow", "task": [task("a"), task("b")], "on_failure": "continue" });
            let id = RunId(Uuid::now_v7());
            f.queue.call(SubmitRun { id, workflow: workflow.into(), captured: Default::default(), behind: None }).await.unwrap();
            let run = || f.queue.call(GetRun { run: RunName::Id(id), options: false });
            let bad = run().await.unwrap().tasks[0].job.unwrap();
            f.damage(&format!("{damage}{bad}"));
            let w = f.worker("w", Offer::default()).await;
            w.exit(w.take().await, 0).await;
            assert_eq!(run().await.unwrap().state, RunState::Running, "{damage}");
            assert!(w.lease(8).await.is_empty());
            assert_eq!(f.quarantined().await, [bad], "{part}");
            assert_eq!(run().await.unwrap().state, RunState::Failed, "{damage}");
        }
        assert_eq!(f.audit().await, []);
    }

    async fn s29_a_row_that_cannot_be_read_stops_no_other(f: Fixture) {
        for (_, damage) in DAMAGES {
            let (bad, good) = (f.add("").await, f.add("").await);
            f.damage(&format!("{damage}{bad}"));
            let w = f.worker("w", Offer::default()).await;
            let fence = w.take().await;
            assert_eq!(fence.number, good, "{damage}");
            assert_eq!(f.listed().await[..2], [good, bad], "{damage}");
            assert_eq!(f.states(&[bad, good]).await, "pending running", "{damage}");
            w.exit(fence, 0).await;
            assert!(w.lease(8).await.is_empty(), "{damage}");
            let op = Cancel { numbers: vec![bad], ..Cancel::default() };
            assert_eq!(f.queue.call(op).await.unwrap()[0].did, Did::Cancelled, "{damage}");
            assert_eq!(f.states(&[bad, good]).await, "cancelled done", "{damage}");
            f.queue.call(Status {}).await.unwrap();
        }
    }

    async fn s29_the_leader_puts_aside_what_no_orx_can_read(f: Fixture) {
        for (part, damage) in DAMAGES {
            let bad = f.add(r#""name":"n","idempotency_key":"k""#).await;
            let waits = f.add(&format!(r#""after":["{bad}"]"#)).await;
            f.damage(&format!("{damage}{bad}"));
            assert_eq!(f.quarantined().await, [0; 0], "nobody came to it");
            let w = f.worker("w", Offer::default()).await;
            assert!(w.lease(8).await.is_empty(), "{damage}");
            assert!(f.queue.call(SweepDue {}).await.unwrap().any(), "{damage}");
            assert_eq!(f.quarantined().await, [bad], "{damage}");
            assert!(!f.queue.call(SweepDue {}).await.unwrap().unreadable, "{damage}");
            let job = f.job(bad).await;
            assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("unreadable")), "{damage}");
            assert_eq!(f.state(waits).await, State::Skipped, "{damage}");
            assert_eq!(f.story(bad).await, "enqueued→pending quarantined→failed", "{damage}");
            assert!(f.dead().await.contains(&(bad, "unreadable".into())), "{damage}");
            // Its name is free.
            let again = f.add(r#""name":"n""#).await;
            f.queue.call(Cancel { numbers: vec![again], ..Cancel::default() }).await.unwrap();
            if part != "losses" {
                // Its text is as it was: nobody can run it. A count begins anew.
                let unread = job.unread.unwrap();
                assert!(unread.why == Misread::Unreadable && unread.what.starts_with(part), "{damage}: {unread}");
                let retried = f.queue.call(Retry { numbers: vec![bad], only: false }).await.unwrap_err();
                assert_eq!(retried.kind(), Kind::Conflict, "{damage}: {retried}");
                let (told, wanted) = (f.found().await, format!("job {bad} cannot be read: {part}"));
                assert!(told.iter().any(|finding| finding.message.starts_with(&wanted)), "{damage}: {told:?}");
            }
            f.damage("DELETE FROM idempotency");
        }
        assert_eq!(f.audit().await, []);
    }

    async fn s29_a_newer_row_is_left_to_a_newer_orx(f: Fixture) {
        let (newer, good) = (f.add(r#""priority":5,"label":{"a":"b"}"#).await, f.add("").await);
        f.renew(newer);
        let w = f.worker("w", Offer::default()).await;
        assert_eq!(w.take().await.number, good);
        assert!(w.lease(8).await.is_empty());
        assert_eq!(f.quarantined().await, [0; 0]);
        let job = f.job(newer).await;
        assert_eq!((job.state, job.priority, job.labels["a"].as_str()), (State::Pending, 5, "b"));
        assert_eq!(job.command.as_deref(), Some(&["true".to_owned()][..]));
        let unread = job.unread.unwrap();
        assert!(unread.why == Misread::Newer && unread.what.contains("spec.sandbox"), "{unread}");
        let cause = f.cause(newer).await;
        assert!(cause.kind == CauseKind::Newer && cause.message.contains("spec.sandbox"), "{cause:?}");
        assert_eq!(f.found().await, [], "what is new is sound");
        let op = Cancel { numbers: vec![newer], ..Cancel::default() };
        assert_eq!(f.queue.call(op).await.unwrap()[0].did, Did::Cancelled);
        let retried = f.queue.call(Retry { numbers: vec![newer], only: false }).await.unwrap_err();
        assert!(retried.kind() == Kind::Conflict && retried.to_string().contains("newer"), "{retried}");
        assert_eq!(f.audit().await, []);
    }

    async fn s29_many_newer_rows_before_others_are_stepped_over(f: Fixture) {
        let mut newer = Vec::new();
        for _ in 0..20 {
            newer.push(f.add(r#""priority":9"#).await);
        }
        // Lanes that have no other jobs come before the one that has.
        for n in 0..6 {
            newer.push(f.add(&format!(r#""queue":"q{n}""#)).await);
        }
        for number in &newer {
            f.renew(*number);
        }
        let good = [f.add("").await, f.add(r#""queue":"z""#).await];
        let w = f.worker("w", Offer::default()).await;
        let mut taken = [w.take().await.number, w.take().await.number];
        taken.sort_unstable();
        assert_eq!(taken, good);
        assert!(w.lease(4).await.is_empty());
    }

    async fn s29_a_hundred_are_put_aside_before_somebody_says_go_on(f: Fixture) {
        for _ in 0..MOST + 3 {
            f.add("").await;
        }
        f.damage("UPDATE job_specs SET spec = substr(spec, 1, 12)");
        let w = f.worker("w", Offer::default()).await;
        assert!(w.lease(8).await.is_empty());
        assert_eq!(f.quarantined().await.len(), MOST as usize);
        assert!(w.lease(8).await.is_empty());
        assert_eq!(f.quarantined().await, [0; 0]);
        assert!(!f.queue.call(SweepDue {}).await.unwrap().unreadable, "the leader waits for a word");
        let found = f.queue.call(GetQuarantine {}).await.unwrap();
        assert_eq!((found.put_aside, found.waiting, found.is_stopped()), (MOST, 3, true));
        let cause = f.cause(i64::from(MOST) + 3).await;
        assert_eq!(cause.kind, CauseKind::Unreadable);
        assert!(cause.remedy.unwrap().contains("orx db quarantine --go-on"));
        f.queue.call(ResumeQuarantine {}).await.unwrap();
        assert_eq!(f.quarantined().await.len(), 3);
        assert_eq!(f.dead().await.len(), MOST as usize + 3);
    }

    async fn s29_an_old_leader_puts_nothing_aside(f: Fixture) {
        f.sweep().await;
        let bad = f.add("").await;
        f.damage("DELETE FROM job_specs");
        let w = f.worker("w", Offer::default()).await;
        assert!(w.lease(8).await.is_empty());
        f.another_leads().await;
        assert!(matches!(f.sweep().await, Swept::Deposed));
        assert_eq!(f.state(bad).await, State::Pending);
    }

    async fn s29_a_job_that_runs_when_its_row_is_damaged_ends_as_its_process_does(f: Fixture) {
        let (a, b, c) = (f.add("").await, f.add("").await, f.add(r#""max_attempts":3"#).await);
        let w = f.worker("w", Offer::default()).await;
        let fences: Vec<_> = w.lease(3).await.into_iter().map(|job| job.fence).collect();
        f.damage("UPDATE job_specs SET spec = substr(spec, 1, 12)");
        w.exit(fences[0], 0).await;
        w.end(fences[1], orx::job::state::Cause::Drain, None).await;
        w.exit(fences[2], 1).await;
        assert_eq!(f.states(&[a, b, c]).await, "done pending failed");
        assert!(w.lease(3).await.is_empty());
        assert_eq!(f.quarantined().await, [b]);
        assert_eq!(f.audit().await, []);
    }

    async fn s29_what_the_trail_says_unreadably_is_a_breach_and_stops_no_reader(f: Fixture) {
        let number = f.add("").await;
        f.add("").await;
        f.damage("UPDATE events SET data = '{\"by' WHERE number = 1");
        assert_eq!(f.story(2).await, "enqueued→pending");
        let breaches = f.audit().await;
        assert!(breaches.iter().any(|b| b.invariant == "every event can be read" && b.number == Some(number)), "{breaches:?}");
        assert!(f.found().await.iter().any(|finding| finding.check == "every event can be read"));
        // A kind that is not known here is shown as far as it is understood.
        f.damage("UPDATE events SET data = NULL, kind = 'admired' WHERE number = 2");
        let events = f.queue.call(ReadEvents { after: 0, limit: 100 }).await.unwrap();
        let event = events.iter().find(|event| event.number == Some(2)).unwrap();
        assert_eq!(event.kind, EventKind::Unknown);
        assert_eq!(event.data, json!({ "state": "pending", "unread": "the kind \"admired\" is not known here" }));
    }

    async fn s29_what_jobs_and_workers_said_unreadably_stops_no_list(f: Fixture) {
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.take().await;
        f.damage("INSERT INTO job_said (number, attempt, result) VALUES (1, 1, '{\"v')");
        f.damage("UPDATE workers SET offer = '{'");
        assert_eq!(f.job(number).await.result, None);
        assert_eq!(f.queue.call(Status {}).await.unwrap().workers.len(), 1);
        let mut checks: Vec<String> = f.found().await.into_iter().map(|finding| finding.check).collect();
        checks.sort_unstable();
        assert_eq!(checks, ["what jobs said can be read", "workers and coordinators can be read"]);
    }
}
