use orx::error::Kind;
use orx::job::State;
use orx::job::lanes::Offer;
use orx::ops::policies::{LimitChange, PauseQueue, SetLimit, SetQueue, SetTenant};
use orx::ops::status::Status;

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
        let change = LimitChange { max_running: Some(2), max_queued: None };
        f.queue.call(SetQueue { queue: "default".into(), change: change.clone() }).await.unwrap();
        f.queue.call(SetTenant { tenant: "t".into(), change }).await.unwrap();
        let got = w.lease(9).await;
        assert_eq!(got.len(), 4);
        let fewer = LimitChange { max_running: Some(1), max_queued: Some(4) };
        f.queue.call(SetQueue { queue: "default".into(), change: fewer }).await.unwrap();
        w.exit(got.iter().find(|j| j.queue == "default").unwrap().fence, 0).await;
        assert_eq!(w.lease(9).await.len(), 0, "one runs still, and one may");
        f.add("").await;
        let refused = f.enqueue(&command("")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Limit);
        let lifted = LimitChange { max_running: Some(0), max_queued: Some(0) };
        f.queue.call(SetQueue { queue: "default".into(), change: lifted }).await.unwrap();
        assert_eq!(w.lease(9).await.len(), 3);
    }

    async fn s16_a_named_limit_can_be_changed(f: Fixture) {
        f.add(r#""limit":"db=1""#).await;
        let set = SetLimit { tenant: "default".into(), key: "db".into(), max_running: 2 };
        f.queue.call(set).await.unwrap();
        f.add(r#""limit":"db=2""#).await;
        assert_eq!(f.worker("w", Offer::default()).await.lease(9).await.len(), 2);
    }
}
