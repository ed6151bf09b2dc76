use orx::error::Kind;
use orx::job::State;
use orx::job::lanes::Offer;
use orx::ops::cancel::Cancel;
use orx::ops::retry::Retry;
use orx::time::Span;

use super::support::*;

on_every_store! {
    async fn s7_jobs_that_expire_at_once_may_wait_for_each_other(f: Fixture) {
        let first = f.add(r#""deadline":"5s""#).await;
        let second = f.add(&format!(r#""deadline":"5s","after":{first}"#)).await;
        let third = f.add(&format!(r#""after":{second}"#)).await;
        f.clock.pass(Span::from_secs(5));
        f.sweep().await;
        assert_eq!(f.states(&[first, second, third]).await, "cancelled cancelled skipped");
        assert_eq!(f.job(second).await.reason.as_deref(), Some("expired"));
    }

    async fn a_chain_runs_in_order(f: Fixture) {
        let a = f.add("").await;
        let b = f.add(&format!(r#""after":{a}"#)).await;
        let c = f.add(&format!(r#""after":["{b}","{a}"]"#)).await;
        let w = f.worker("w", Offer::default()).await;
        for (n, states) in [(a, "done pending blocked"), (b, "done done pending"), (c, "done done done")] {
            let fence = w.take().await;
            assert_eq!(fence.number, n);
            w.exit(fence, 0).await;
            assert_eq!(f.states(&[a, b, c]).await, states);
        }
    }

    async fn s9_failure_skips_what_needs_success_and_frees_what_needs_the_end(f: Fixture) {
        let a = f.add("").await;
        let b = f.add(&format!(r#""after":{a}"#)).await;
        let c = f.add(&format!(r#""after":{b}"#)).await;
        let d = f.add(&format!(r#""after":"{a}:ended""#)).await;
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 1).await;
        assert_eq!(f.states(&[a, b, c, d]).await, "failed skipped skipped pending");
        assert_eq!(f.job(c).await.reason.unwrap(), format!("needs job {b}, which is skipped"));
        let late = f.add(&format!(r#""after":{a}"#)).await;
        assert_eq!(f.state(late).await, State::Skipped, "order does not matter");
        let missing = f.enqueue(&command(r#""after":999"#)).await.unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
    }

    async fn s10_a_retry_revives_what_was_skipped_because_of_it(f: Fixture) {
        let a = f.add("").await;
        let b = f.add(&format!(r#""after":{a}"#)).await;
        let c = f.add(&format!(r#""after":{a}"#)).await;
        let d = f.add(&format!(r#""after":[{b},{c}]"#)).await;
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 1).await;
        assert_eq!(f.states(&[a, b, c, d]).await, "failed skipped skipped skipped");
        f.queue.call(Retry { numbers: vec![a], only: false }).await.unwrap();
        assert_eq!(f.states(&[a, b, c, d]).await, "pending blocked blocked blocked");
        for _ in 0..4 {
            w.exit(w.take().await, 0).await;
        }
        assert_eq!(f.states(&[a, b, c, d]).await, "done done done done");
    }

    async fn s10_another_broken_edge_keeps_it_skipped(f: Fixture) {
        let (a, b) = (f.add("").await, f.add("").await);
        let c = f.add(&format!(r#""after":[{a},{b}]"#)).await;
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 1).await;
        w.exit(w.take().await, 1).await;
        f.queue.call(Retry { numbers: vec![a], only: false }).await.unwrap();
        assert_eq!(f.states(&[a, b, c]).await, "pending failed skipped");
        f.queue.call(Retry { numbers: vec![b], only: false }).await.unwrap();
        assert_eq!(f.states(&[a, b, c]).await, "pending pending blocked");
        w.exit(w.take().await, 0).await;
        assert_eq!(f.state(c).await, State::Blocked);
        w.exit(w.take().await, 0).await;
        assert_eq!(f.state(c).await, State::Pending);
    }

    async fn only_leaves_dependants_skipped(f: Fixture) {
        let a = f.add("").await;
        let b = f.add(&format!(r#""after":{a}"#)).await;
        f.queue.call(Cancel { numbers: vec![a], ..Default::default() }).await.unwrap();
        assert_eq!(f.states(&[a, b]).await, "cancelled skipped");
        f.queue.call(Retry { numbers: vec![a], only: true }).await.unwrap();
        assert_eq!(f.states(&[a, b]).await, "pending skipped");
    }
}
