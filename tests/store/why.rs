//! Each cause for which a job or schedule waits has an answer of its own, and the first one is the real blocker.

use orx::job::lanes::Offer;
use orx::job::schedule::Definition;
use orx::job::state::Cause as EndCause;
use orx::job::{Fence, ScheduleId};
use orx::ops::heartbeat::Heartbeat;
use orx::ops::lead::{Lead, Right};
use orx::ops::policies::{LimitChange, PauseQueue, SetQueue, SetTenant};
use orx::ops::register::Deregister;
use orx::ops::schedules::Named;
use orx::ops::schedules::change::AddSchedule;
use orx::ops::schedules::life::{PauseSchedule, RemoveSchedule};
use orx::ops::schedules::tick::Tick;
use orx::ops::settle::Settle;
use orx::ops::why::{Cause, CauseKind, Explanation, Why, WhySchedule};
use orx::ops::workers::ListWorkers;
use orx::time::Span;
use serde_json::json;
use uuid::Uuid;

use super::support::*;

impl Fixture {
    async fn why(&self, number: i64) -> Vec<Cause> {
        self.queue.call(Why { number }).await.unwrap().causes
    }

    /// The kinds of causes, the first one first.
    async fn kinds(&self, number: i64) -> Vec<CauseKind> {
        self.why(number).await.into_iter().map(|cause| cause.kind).collect()
    }

    async fn why_schedule(&self) -> Explanation {
        self.queue.call(WhySchedule { schedule: nightly() }).await.unwrap()
    }
}

fn nightly() -> Named {
    Named { tenant: None, name: "nightly".into() }
}

fn running(max: u32) -> LimitChange {
    LimitChange { max_running: Some(max), ..LimitChange::default() }
}

on_every_store! {
    async fn s36_a_job_that_did_not_start_and_workers_that_can_start_none(f: Fixture) {
        let (w, number) = (f.worker("w", Offer::default()).await, f.add("").await);
        let mut not_started = report(w.take().await, EndCause::NotStarted, None);
        not_started.ending.error = Some("making a pipe".into());
        f.queue.call(Settle { worker: w.key.clone(), reports: vec![not_started] }).await.unwrap();
        let causes = f.why(number).await;
        assert_eq!((causes[0].kind, causes[0].until), (CauseKind::Backoff, f.job(number).await.due_at));
        assert!(causes[0].message.contains("attempt 1 did not start on w: making a pipe"), "{causes:?}");
        f.clock.pass(Span::from_secs(60));
        w.register(&[]).await;
        let trouble = Some("cannot start jobs: making a pipe".to_owned());
        f.queue.call(Heartbeat { trouble: trouble.clone(), ..w.heartbeat(&[]) }).await.unwrap();
        assert_eq!(f.queue.call(ListWorkers {}).await.unwrap()[0].trouble, trouble);
        assert_eq!(f.kinds(number).await, [CauseKind::CannotStart]);
        let well = f.worker("well", Offer::default()).await;
        assert_eq!(f.kinds(number).await, [CauseKind::Nothing], "the other can");
        f.queue.call(Deregister { worker: well.key.clone(), name: well.name.clone() }).await.unwrap();
        w.renew(Fence { number, attempt: 1 }).await;
        assert_eq!(f.kinds(number).await, [CauseKind::Nothing], "it is over");
    }

    async fn not_due_and_back_off(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        let later = f.add(r#""delay":"1h""#).await;
        let cause = f.why(later).await.remove(0);
        assert_eq!((cause.kind, cause.until), (CauseKind::NotDue, f.job(later).await.due_at));
        let failing = f.add(r#""max_attempts":3"#).await;
        let fence = w.take().await;
        w.exit(fence, 1).await;
        let causes = f.why(failing).await;
        assert_eq!((causes[0].kind, causes.len()), (CauseKind::Backoff, 1));
        assert!(causes[0].message.contains("1 of 3"), "{causes:?}");
        assert_eq!(causes[0].until, f.job(failing).await.due_at);
        let snoozing = f.add(r#""max_attempts":1"#).await;
        let fence = w.take().await;
        w.exit(fence, 75).await;
        assert_eq!(f.kinds(snoozing).await, [CauseKind::Backoff]);
        f.clock.pass(Span::from_secs(3601));
        w.register(&[]).await;
        assert_eq!(f.kinds(later).await, [CauseKind::Nothing], "it is due, and a worker waits");
    }

    async fn blocked_by_which_jobs(f: Fixture) {
        let _w = f.worker("w", Offer::default()).await;
        let (a, b) = (f.add("").await, f.add("").await);
        let waits = f.add(&format!(r#""after":[{a},"{b}:ended"]"#)).await;
        let causes = f.why(waits).await;
        assert_eq!((causes.len(), causes[0].kind), (1, CauseKind::Blocked));
        assert_eq!(causes[0].jobs, [a, b]);
        assert_eq!(causes[0].message, format!("it waits for job {a} (pending) to be done, job {b} (pending) to end"));
        assert_eq!(causes[0].remedy, Some(format!("orx why {a}")));
    }

    async fn a_paused_queue(f: Fixture) {
        let _w = f.worker("w", Offer::default()).await;
        let job = f.add(r#""queue":"q""#).await;
        assert_eq!(f.kinds(job).await, [CauseKind::Nothing]);
        f.queue.call(PauseQueue { queue: "q".into(), paused: true }).await.unwrap();
        let causes = f.why(job).await;
        assert_eq!((causes.len(), causes[0].kind), (1, CauseKind::Paused));
        assert_eq!(causes[0].remedy.as_deref(), Some("orx queue resume q"));
    }

    async fn which_limit_and_who_holds_its_slots(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        f.queue.call(SetQueue { queue: "q".into(), change: running(1) }).await.unwrap();
        f.queue.call(SetTenant { tenant: "t".into(), change: running(1) }).await.unwrap();
        let held = [
            f.add(r#""queue":"q""#).await,
            f.add(r#""tenant":"t""#).await,
            f.add(r#""limit":"db=1""#).await,
        ];
        assert_eq!(w.lease(3).await.len(), 3);
        let free = f.add("").await;
        let waiting = [
            (f.add(r#""queue":"q""#).await, held[0], "queue q lets 1 run, and 1 do"),
            (f.add(r#""tenant":"t""#).await, held[1], "tenant t lets 1 run, and 1 do"),
            (f.add(r#""limit":"db=1""#).await, held[2], "limit db lets 1 run, and 1 do"),
        ];
        for (job, holder, message) in waiting {
            let causes = f.why(job).await;
            assert_eq!((causes.len(), causes[0].kind), (1, CauseKind::Limit), "{causes:?}");
            assert_eq!((causes[0].message.as_str(), causes[0].jobs.as_slice()), (message, &[holder][..]));
        }
        assert_eq!(f.kinds(free).await, [CauseKind::Nothing]);
        assert_eq!(f.kinds(held[0]).await, [CauseKind::Running]);
    }

    async fn no_worker_for_its_queue_handler_or_labels(f: Fixture) {
        let job = f.add("").await;
        let says = async |number: i64| {
            let cause = f.why(number).await.remove(0);
            assert_eq!(cause.kind, CauseKind::NoWorker, "{cause:?}");
            cause.message
        };
        assert_eq!(says(job).await, "no worker runs");
        let _w = f.worker("w", Offer { queues: vec!["other".into()], ..Offer::default() }).await;
        assert_eq!(says(job).await, "no worker serves queue default");
        let _all = f.worker("all", Offer::default()).await;
        assert_eq!(f.kinds(job).await, [CauseKind::Nothing]);
        let handled = f.enqueue(r#"{"handler":"mail","payload":1}"#).await.unwrap().number;
        assert_eq!(says(handled).await, "no worker has the handler mail");
        let gpu = f.add(r#""require":{"gpu":"1"}"#).await;
        assert_eq!(says(gpu).await, "no worker carries gpu=1");
        f.clock.pass(Span::from_secs(3600));
        assert_eq!(says(job).await, "no worker runs", "those that are lost count for nothing");
    }

    async fn no_free_slot_and_jobs_that_come_first(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        for _ in 0..8 {
            f.add("").await;
        }
        let first = f.add("").await;
        let second = f.add("").await;
        let held = w.lease_numbers(8).await;
        let cause = f.why(first).await.remove(0);
        assert_eq!((cause.kind, &cause.jobs), (CauseKind::NoSlot, &held));
        let _more = f.worker("more", Offer::default()).await;
        assert_eq!(f.kinds(first).await, [CauseKind::Nothing]);
        let behind = f.why(second).await.remove(0);
        assert_eq!((behind.kind, behind.jobs), (CauseKind::Behind, vec![first]));
    }

    async fn jobs_that_have_ended(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        let job = f.add("").await;
        let fence = w.take().await;
        w.exit(fence, 3).await;
        let cause = f.why(job).await.remove(0);
        assert_eq!((cause.kind, cause.remedy), (CauseKind::Ended, Some(format!("orx retry {job}"))));
    }

    async fn why_a_schedule_does_not_fire(f: Fixture) {
        let rule = json!({ "kind": "every", "expression": "1h", "tz": "UTC", "created_at": "1970-01-01T00:00:00Z" });
        let target = json!({ "job": { "command": ["true"], "tenant": "default" } });
        let definition: Definition = serde_json::from_value(
            json!({ "rule": rule, "overlap": "allow", "catch_up": "last", "jitter": 0, "target": target }),
        )
        .unwrap();
        let add = AddSchedule { id: ScheduleId(Uuid::now_v7()), name: "nightly".into(), definition };
        f.queue.call(add).await.unwrap();
        let kinds = async || f.why_schedule().await.causes.into_iter().map(|c| c.kind).collect::<Vec<_>>();
        f.queue.call(Tick::default()).await.unwrap();
        assert_eq!(kinds().await, [CauseKind::NotDue, CauseKind::NoLeader]);
        f.queue.call(Lead { name: "leader".into(), right: Right::Lock }).await.unwrap();
        assert_eq!(kinds().await, [CauseKind::NotDue]);
        f.clock.pass(Span::from_secs(3601));
        assert_eq!(kinds().await, [CauseKind::NoLeader], "it is due, and the leader was silent for an hour");
        f.queue.call(Tick::default()).await.unwrap();
        f.queue.call(Lead { name: "leader".into(), right: Right::Lock }).await.unwrap();
        f.clock.jump(-1_800_000);
        assert_eq!(kinds().await[0], CauseKind::ClockSetBack, "nothing fires below the last instant");
        f.clock.jump(1_800_000);
        let change = LimitChange { per_minute: Some(1), ..LimitChange::default() };
        f.queue.call(SetTenant { tenant: "default".into(), change }).await.unwrap();
        f.add("").await;
        let rate = f.why_schedule().await.causes.into_iter().find(|c| c.kind == CauseKind::Rate).unwrap();
        assert_eq!(rate.until, Some(orx::time::Clock::now(&*f.clock).plus(Span::from_secs(60))));
        f.queue.call(PauseSchedule { schedule: nightly(), paused: true }).await.unwrap();
        assert_eq!(kinds().await, [CauseKind::Paused]);
        f.queue.call(RemoveSchedule { schedule: nightly() }).await.unwrap();
        assert_eq!(kinds().await, [CauseKind::Ended]);
    }
}
