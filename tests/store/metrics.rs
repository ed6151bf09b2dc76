use orx::job::State;
use orx::job::lanes::Offer;
use orx::ops::lead::{Lead, Right};
use orx::ops::metrics::{Measure, text};
use orx::ops::retry::Retry;
use orx::time::Span;

use super::support::*;

on_every_store! {
    async fn figures_follow_what_happens(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        f.add(r#""max_attempts":2"#).await;
        let fence = w.take().await;
        w.exit(fence, 1).await;
        f.sweep().await;
        f.clock.pass(Span::from_secs(3600));
        w.register(&[]).await;
        let second = w.take().await;
        w.exit(fence, 0).await; // with an old fence
        w.exit(second, 1).await;
        let dead = f.queue.call(Measure {}).await.unwrap();
        assert_eq!(dead.dead_letters, 1);
        f.queue.call(Retry { numbers: vec![second.number], only: false }).await.unwrap();
        let third = w.take().await;
        w.exit(third, 0).await;
        let waiting = f.add(r#""queue":"other""#).await;
        f.clock.pass(Span::from_secs(7));
        w.register(&[]).await;
        f.queue.call(Lead { name: "leader".into(), right: Right::Lock }).await.unwrap();
        f.sweep().await; // what others left to be counted is added up, and counted once
        let m = f.queue.call(Measure {}).await.unwrap();
        assert_eq!((m.attempts["done"], m.attempts["failed"], m.attempts["lost"]), (1, 2, 0));
        assert_eq!((m.retries, m.operator_retries, m.dead_letters, m.stale_writes), (1, 1, 0, 1));
        let of = |name: &str| m.queues.iter().find(|q| q.name == name).unwrap();
        assert_eq!((of("default").jobs[&State::Done], of("default").oldest_pending), (1, None));
        assert_eq!((of("other").jobs[&State::Pending], of("other").oldest_pending), (1, Some(Span::from_secs(7))));
        assert_eq!((m.leader_epoch, m.schedule_lag), (2, Span::ZERO));
        assert!(m.leader_age.is_some() && m.store_bytes > 10_000, "{m:?}");
        assert_eq!((m.workers["active"], m.slots, m.slots_used), (1, 8, 0));
        assert!(text(&m).finish().contains("orx_attempts_total{outcome=\"failed\"} 2\n"));
        assert_eq!(f.state(waiting).await, State::Pending);
    }
}
