use orx::job::lanes::Offer;
use orx::job::output::{Chunk, Stream};
use orx::job::{EventKind, State};
use orx::ops::append_output::AppendOutput;
use orx::ops::cancel::Cancel;
use orx::ops::dead_letters::DiscardLetters;
use orx::ops::events::ReadEvents;
use orx::ops::output::ReadOutput;
use orx::ops::policies::SetLimit;
use orx::ops::prune::{DropOutput, Prunable, Prune};
use orx::ops::retention::PruneEvents;
use orx::ops::retry::Retry;
use orx::ops::settle::Settled;
use orx::ops::status::Status;
use orx::time::{Clock as _, Span, Timestamp};

use super::support::*;

async fn prune(f: &Fixture, dead: bool) -> Vec<i64> {
    let before = Timestamp(f.clock.now().0 + 1);
    let numbers = f.queue.call(Prunable { after: 0, before, dead }).await.unwrap();
    f.queue.call(DropOutput { numbers: numbers.clone(), before, dead, epoch: None }).await.unwrap();
    let count = f.queue.call(Prune { numbers: numbers.clone(), before, dead, epoch: None }).await.unwrap();
    assert_eq!(count, numbers.len());
    numbers
}

on_every_store! {
    async fn output_goes_only_of_what_may_be_forgotten_and_for_who_leads(f: Fixture) {
        let (number, again) = (f.add("").await, f.add("").await);
        let w = f.worker("w", Offer::default()).await;
        for _ in 0..2 {
            let fence = w.take().await;
            let chunk = Chunk { seq: 0, stream: Stream::Stdout, at: Timestamp(0), place: 0, bytes: b"x".to_vec() };
            f.queue.call(AppendOutput { worker: w.key.clone(), fence, chunks: vec![chunk], cut: None }).await.unwrap();
            w.exit(fence, i32::from(fence.number == again)).await;
        }
        f.sweep().await; // epoch 1 leads
        f.clock.pass(Span::from_secs(60));
        let before = f.clock.now();
        // Somebody retries one after it was found, and another process leads after this one found them.
        f.queue.call(Retry { numbers: vec![again], only: false }).await.unwrap();
        let numbers = vec![number, again];
        let drop = |epoch| f.queue.call(DropOutput { numbers: numbers.clone(), before, dead: true, epoch });
        let chunks = async |number| {
            let read = ReadOutput { number, attempt: Some(1), after: None };
            f.queue.call(read).await.unwrap().chunks.len()
        };
        drop(Some(7)).await.unwrap();
        assert_eq!((chunks(number).await, chunks(again).await), (1, 1), "of another epoch");
        drop(Some(1)).await.unwrap();
        assert_eq!((chunks(number).await, chunks(again).await), (0, 1), "a job that goes on keeps what it wrote");
    }

    async fn s11_only_finished_jobs_that_nobody_waits_for_are_forgotten(f: Fixture) {
        let (a, b) = (f.add("").await, f.add("").await);
        let waits = f.add(&format!(r#""after":["{a}:ended",{b}]"#)).await;
        let failed = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 0).await;
        let running = w.take().await;
        assert_eq!(running.number, b);
        let third = w.take().await;
        w.exit(third, 1).await;
        assert_eq!(third.number, failed);
        assert_eq!(prune(f, false).await, [a], "its edge is satisfied; the dead letter stays");
        assert_eq!(prune(f, true).await, [failed]);
        w.exit(running, 0).await;
        assert_eq!(f.state(waits).await, State::Pending);
    }

    async fn s26_what_is_told_of_a_job_after_its_end_goes_with_it(f: Fixture) {
        let failed = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        w.exit(fence, 1).await;
        assert_eq!(f.add(&format!(r#""after":[{failed}]"#)).await, failed + 1, "skipped at once");
        f.queue.call(DiscardLetters { numbers: vec![failed] }).await.unwrap();
        w.renew(fence).await; // it is told that it lost
        let stays = f.add("").await;
        assert_eq!(prune(f, false).await, [failed, failed + 1]);
        assert_eq!(w.exit(fence, 0).await, Settled::Stale);
        let told = async || {
            let events = f.queue.call(ReadEvents { after: 0, limit: 100 }).await.unwrap();
            events.into_iter().filter(|e| e.number.is_some_and(|n| n != stays)).map(|e| e.kind).collect::<Vec<_>>()
        };
        assert_eq!(told().await, [], "nor is there anything of a job that is no more");
    }

    async fn the_key_of_a_pruned_job_says_how_it_ended(f: Fixture) {
        let key = command(r#""idempotency_key":"k""#);
        let number = f.enqueue(&key).await.unwrap().number;
        f.queue.call(Cancel { numbers: vec![number], ..Default::default() }).await.unwrap();
        assert_eq!(prune(f, false).await, [number]);
        let again = f.enqueue(&key).await.unwrap();
        assert_eq!((again.number, again.existing, again.state), (number, true, State::Cancelled));
    }

    async fn a_change_of_a_named_limit_is_told_of_while_jobs_are_judged_by_it(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        let set = |max_running| SetLimit { tenant: "default".into(), key: "db".into(), max_running };
        for _ in 0..3 {
            f.add(r#""limit":"db=1""#).await;
        }
        for max in [9, 2] {
            f.queue.call(set(max)).await.unwrap();
        }
        assert_eq!(w.lease(9).await.len(), 2); // by the last of the two
        for max in [7, 3] {
            f.queue.call(set(max)).await.unwrap();
        }
        f.sweep().await; // epoch 1 leads
        f.clock.pass(Span::from_secs(1));
        f.queue.call(PruneEvents { after: 0, before: f.clock.now(), epoch: 1 }).await.unwrap();
        let events = f.queue.call(ReadEvents { after: 0, limit: 100 }).await.unwrap();
        let changes = events.iter().filter(|e| e.kind == EventKind::PolicyChanged);
        assert_eq!(changes.map(|e| e.data["max_running"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(w.lease(9).await.len(), 1); // and the audit finds nothing
    }

    async fn everything_of_a_pruned_job_goes_and_the_totals_stay_right(f: Fixture) {
        let number = f.add(r#""label":{"a":"b"},"idempotency_key":"k""#).await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        let chunk = Chunk { seq: 0, stream: Stream::Stdout, at: Timestamp(0), place: 0, bytes: b"x".to_vec() };
        f.queue.call(AppendOutput { worker: w.key.clone(), fence, chunks: vec![chunk], cut: None }).await.unwrap();
        w.exit(fence, 0).await;
        let stays = f.add("").await;
        assert_eq!(prune(f, false).await, [number]);
        let events = f.queue.call(ReadEvents { after: 0, limit: 100 }).await.unwrap();
        assert!(events.iter().all(|e| e.number != Some(number)));
        let queue = f.queue.call(Status {}).await.unwrap().queues.remove(0);
        assert_eq!((queue.counts[&State::Done], queue.counts[&State::Pending]), (0, 1));
        assert_eq!(f.queue.check().await.unwrap(), []);
        let again = f.enqueue(&command(r#""label":{"a":"b"},"idempotency_key":"k""#)).await.unwrap();
        assert_eq!((again.number, again.existing), (number, true), "S13: a key outlives its job for a day");
        f.clock.pass(Span::from_secs(24 * 3600));
        let new = f.enqueue(&command(r#""label":{"a":"b"},"idempotency_key":"k""#)).await.unwrap();
        assert!(new.number > stays, "S27: numbers are never used again");
    }
}
