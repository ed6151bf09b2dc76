use std::time::Duration;

use orx::error::Kind;
use orx::job::State;
use orx::job::lanes::Offer;
use orx::ops::enqueue::{Enqueue, Enqueued};
use orx::ops::policies::{LimitChange, ListPolicies, PauseQueue, SetLimit, SetQueue, SetTenant};
use orx::ops::retry::Retry;
use orx::ops::status::Status;
use orx::store::NEW_TENANTS;
use orx::time::Span;

use super::support::*;

on_every_store! {
    async fn s14_tenants_take_turns(f: Fixture) {
        for _ in 0..5 {
            f.add(r#""tenant":"big""#).await;
        }
        let small = f.add(r#""tenant":"small""#).await;
        let w = f.worker("w", Offer::default()).await;
        let first = w.lease_numbers(2).await;
        assert!(first.contains(&small), "{first:?}");
    }

    async fn s14_a_new_tenant_comes_behind_those_that_were_served(f: Fixture) {
        let mut all = Vec::new();
        for tenant in ["a", "a", "b"] {
            all.push(f.add(&format!(r#""tenant":"{tenant}""#)).await);
        }
        let w = f.worker("w", Offer::default()).await;
        let mut taken = w.lease_numbers(1).await;
        all.push(f.add(r#""tenant":"c""#).await);
        for _ in 0..3 {
            taken.extend(w.lease_numbers(1).await);
        }
        let [a, again, b, c] = all[..] else { panic!("{all:?}") };
        assert_eq!(taken, [a, b, again, c]);
    }

    async fn s16_at_most_n_jobs_share_a_key(f: Fixture) {
        for _ in 0..5 {
            f.add(r#""limit":"db=2""#).await;
        }
        f.add(r#""limit":"db=2","tenant":"t""#).await;
        let w = f.worker("w", Offer::default()).await;
        let got = w.lease(9).await;
        assert_eq!(got.len(), 3, "two of one tenant, one of the other");
        let again = w.lease(9).await;
        assert!(again.is_empty());
        let mine = got.iter().find(|j| j.tenant == "default").unwrap().fence;
        w.exit(mine, 1).await;
        assert_eq!(w.lease(9).await.len(), 1);
        let other = f.enqueue(&command(r#""limit":"db=3""#)).await.unwrap_err();
        assert_eq!(other.kind(), Kind::Conflict);
        assert!(other.hint_text().unwrap().contains("orx limit set"));
    }

    async fn s17_a_job_runs_only_where_its_requirements_are_met(f: Fixture) {
        let gpu = f.add(r#""require":{"gpu":"1"}"#).await;
        let handled = f.enqueue(r#"{"handler":"mail","payload":{"to":1}}"#).await.unwrap().number;
        let plain = f.worker("plain", Offer::default()).await;
        assert!(plain.lease(9).await.is_empty());
        let mut offer = Offer::default();
        offer.labels.insert("gpu".into(), "1".into());
        assert_eq!(f.worker("gpu", offer).await.lease_numbers(9).await, [gpu]);
        let mailer = Offer { handlers: vec!["mail".into()], ..Offer::default() };
        assert_eq!(f.worker("mailer", mailer).await.lease_numbers(9).await, [handled]);
    }

    async fn s31_totals_follow_every_change(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        let a = f.add("").await;
        f.add(&format!(r#""after":{a}"#)).await;
        f.add(r#""delay":"1h""#).await;
        f.add(r#""queue":"other""#).await;
        let fence = w.take().await;
        w.exit(fence, 0).await;
        let queues = f.queue.call(Status {}).await.unwrap().queues;
        let of = |name: &str| {
            let q = queues.iter().find(|q| q.name == name).unwrap();
            State::ALL.map(|s| q.counts[&s])
        };
        //                          blocked scheduled pending running done …
        assert_eq!(of("default"), [0, 1, 1, 0, 1, 0, 0, 0]);
        assert_eq!(of("other"), [0, 0, 1, 0, 0, 0, 0, 0]);
    }
}

on_every_store! {
    async fn a_paused_queue_hands_out_nothing(f: Fixture) {
        f.add(r#""queue":"q""#).await;
        let other = f.add("").await;
        let pause = |paused| PauseQueue { queue: "q".into(), paused };
        f.queue.call(pause(true)).await.unwrap();
        let w = f.worker("w", Offer::default()).await;
        assert_eq!(w.lease_numbers(9).await, [other]);
        f.queue.call(pause(false)).await.unwrap();
        assert_eq!(w.lease(9).await.len(), 1);
    }

    async fn s15_limits_of_queues_and_tenants_hold_and_running_jobs_are_left_alone(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        for _ in 0..4 {
            f.add("").await;
            f.add(r#""tenant":"t","queue":"other""#).await;
        }
        let change = LimitChange { max_running: Some(2), max_queued: None, ..LimitChange::default() };
        f.queue.call(SetQueue { queue: "default".into(), change: change.clone() }).await.unwrap();
        f.queue.call(SetTenant { tenant: "t".into(), change }).await.unwrap();
        let got = w.lease(9).await;
        assert_eq!(got.len(), 4);
        let fewer = LimitChange { max_running: Some(1), max_queued: Some(4), ..LimitChange::default() };
        f.queue.call(SetQueue { queue: "default".into(), change: fewer }).await.unwrap();
        w.exit(got.iter().find(|j| j.queue == "default").unwrap().fence, 0).await;
        assert_eq!(w.lease(9).await.len(), 0, "one runs still, and one may");
        f.add("").await;
        let refused = f.enqueue(&command("")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Limit);
        let lifted = LimitChange { max_running: Some(0), max_queued: Some(0), ..LimitChange::default() };
        f.queue.call(SetQueue { queue: "default".into(), change: lifted }).await.unwrap();
        assert_eq!(w.lease(9).await.len(), 3);
    }

    async fn s16_a_named_limit_can_be_changed(f: Fixture) {
        f.add(r#""limit":"db=1""#).await;
        let set = SetLimit { tenant: "default".into(), key: "db".into(), max_running: 2 };
        f.queue.call(set).await.unwrap();
        f.add(r#""limit":"db=2""#).await;
        assert_eq!(f.worker("w", Offer::default()).await.lease(9).await.len(), 2);
        // More run than it allows now, and nothing is wrong with that.
        let set = SetLimit { tenant: "default".into(), key: "db".into(), max_running: 1 };
        f.queue.call(set).await.unwrap();
        assert_eq!(f.queue.check().await.unwrap(), []);
    }
}

fn rate(per_minute: u32) -> LimitChange {
    LimitChange { per_minute: Some(per_minute), ..LimitChange::default() }
}

on_every_store! {
    async fn a_tenant_submits_exactly_its_rate_through_whichever_process(f: Fixture) {
        f.queue.call(SetTenant { tenant: "t".into(), change: rate(3) }).await.unwrap();
        let job = || Enqueue { jobs: vec![submission(&command(r#""tenant":"t""#))] };
        let (one, other) = (f.another(), f.another());
        one.call(job()).await.unwrap();
        f.clock.pass(Span::from_secs(20));
        other.call(job()).await.unwrap();
        one.call(job()).await.unwrap();
        for queue in [&one, &other, &f.another()] {
            let refused = queue.call(job()).await.unwrap_err();
            assert_eq!(refused.kind(), Kind::Limit, "{refused}");
            assert_eq!(refused.retry_after_time(), Some(Duration::from_secs(40)));
        }
        f.add(r#""tenant":"free""#).await;
        f.clock.pass(Span::from_millis(39_999));
        assert!(one.call(job()).await.is_err());
        // The window slides: the first of the three is a minute ago now, the others are not.
        f.clock.pass(Span::from_millis(1));
        other.call(job()).await.unwrap();
        assert!(one.call(job()).await.is_err());
        f.clock.pass(Span::from_secs(20));
        one.call(job()).await.unwrap();
        other.call(job()).await.unwrap();
        let refused = one.call(job()).await.unwrap_err();
        assert_eq!(refused.retry_after_time(), Some(Duration::from_secs(40)));
        f.queue.call(SetTenant { tenant: "t".into(), change: rate(0) }).await.unwrap();
        one.call(job()).await.unwrap();
    }

    async fn a_call_over_the_rate_stores_and_counts_nothing(f: Fixture) {
        f.queue.call(SetQueue { queue: "q".into(), change: rate(3) }).await.unwrap();
        let jobs = |n: usize| Enqueue { jobs: (0..n).map(|_| submission(&command(r#""queue":"q""#))).collect() };
        let refused = f.queue.call(jobs(4)).await.unwrap_err();
        assert_eq!((refused.kind(), refused.retry_after_time()), (Kind::Limit, None));
        f.queue.call(jobs(2)).await.unwrap();
        assert!(f.queue.call(jobs(2)).await.is_err());
        f.queue.call(jobs(1)).await.unwrap();
        // A job that is done again is not submitted again.
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        w.exit(fence, 1).await;
        f.queue.call(Retry { numbers: vec![fence.number], only: false }).await.unwrap();
        // A clock that is set back far keeps nobody out for longer than a window.
        f.clock.jump(-3_600_000);
        f.queue.call(jobs(3)).await.unwrap();
        assert!(f.queue.call(jobs(1)).await.is_err());
    }

    async fn s32_a_load_is_finished_though_what_is_stored_of_it_fills_the_limits(f: Fixture) {
        let full = LimitChange { max_queued: Some(5), ..LimitChange::default() };
        f.queue.call(SetQueue { queue: "default".into(), change: full }).await.unwrap();
        f.queue.call(SetTenant { tenant: "t".into(), change: rate(3) }).await.unwrap();
        let more = |i| if i % 2 == 0 { r#""tenant":"t""# } else { r#""tenant":"t","limit":"db=1""# };
        let jobs: Vec<_> = (0..5).map(|i| submission(&command(more(i)))).collect();
        let load = |n: usize| f.queue.call(Enqueue { jobs: jobs[..n].to_vec() });
        let existing = |stored: Vec<Enqueued>| stored.iter().map(|job| job.existing).collect::<Vec<_>>();
        assert_eq!(existing(load(3).await.unwrap()), [false; 3]);
        assert_eq!(existing(load(3).await.unwrap()), [true; 3], "its rate is used up");
        f.clock.pass(Span::from_secs(60));
        assert_eq!(existing(load(5).await.unwrap()), [true, true, true, false, false]);
        assert_eq!(existing(load(5).await.unwrap()), [true; 5], "the queue is full");
        let lifted = LimitChange { max_queued: Some(0), ..LimitChange::default() };
        f.queue.call(SetQueue { queue: "default".into(), change: lifted }).await.unwrap();
        f.add(r#""tenant":"t""#).await;
        let refused = f.enqueue(&command(r#""tenant":"t""#)).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Limit, "two of the load and this one were new");
    }

    async fn a_payload_over_the_limit_is_refused_for_good(f: Fixture) {
        let change = LimitChange { max_payload: Some(10), ..LimitChange::default() };
        f.queue.call(SetTenant { tenant: "t".into(), change }).await.unwrap();
        let with = |payload: &str| format!(r#"{{"handler":"h","tenant":"t","payload":"{payload}"}}"#);
        f.enqueue(&with("12345678")).await.unwrap();
        let refused = f.enqueue(&with("123456789")).await.unwrap_err();
        assert_eq!((refused.kind(), refused.retry_after_time()), (Kind::Limit, None));
        let stdin = f.enqueue(&command(r#""tenant":"t","stdin":"12345678901""#)).await.unwrap_err();
        assert_eq!(stdin.kind(), Kind::Limit);
    }

    async fn new_tenants_begin_with_the_limits_of_new_tenants(f: Fixture) {
        f.add(r#""tenant":"old""#).await;
        let change = LimitChange { max_queued: Some(1), per_minute: Some(5), ..LimitChange::default() };
        f.queue.call(SetTenant { tenant: NEW_TENANTS.into(), change }).await.unwrap();
        f.add(r#""tenant":"old""#).await;
        f.add(r#""tenant":"new""#).await;
        assert_eq!(f.enqueue(&command(r#""tenant":"new""#)).await.unwrap_err().kind(), Kind::Limit);
        let more = LimitChange { max_queued: Some(7), ..LimitChange::default() };
        f.queue.call(SetTenant { tenant: "made".into(), change: more }).await.unwrap();
        let tenants = f.queue.call(ListPolicies {}).await.unwrap().tenants;
        let of = |name: &str| {
            let limits = &tenants.iter().find(|t| t.name == name).unwrap().limits;
            (limits.max_queued, limits.per_minute)
        };
        assert_eq!(of("old"), (None, None));
        assert_eq!(of("new"), (Some(1), Some(5)));
        assert_eq!(of("made"), (Some(7), Some(5)));
        let refused = f.enqueue(&command(&format!(r#""tenant":"{NEW_TENANTS}""#))).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Usage, "no job is of it");
    }
}
