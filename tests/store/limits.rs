use orx::error::Kind;
use orx::job::State;
use orx::job::lanes::Offer;
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
