//! What a worker does between two jobs, as one transaction.

use orx::error::{Kind, Result};
use orx::job::lanes::Offer;
use orx::job::output::{Chunk, Stream};
use orx::job::state::Cause;
use orx::job::{Fence, State, WorkerKey};
use orx::ops::lease::{Lease, Leased};
use orx::ops::metrics::Measure;
use orx::ops::output::ReadOutput;
use orx::ops::policies::{LimitChange, PauseQueue, SetQueue};
use orx::ops::register::Deregister;
use orx::ops::settle::{Report, Settled};
use orx::ops::status::Status;
use orx::ops::turn::{Turn, TurnReply};
use orx::time::Timestamp;

use super::support::*;

/// Ends an attempt with `code`, and asks for one job.
async fn turn(f: &Fixture, key: &WorkerKey, ended: Fence, code: i32) -> Result<TurnReply> {
    let chunk = Chunk { seq: 0, stream: Stream::Stdout, at: Timestamp(0), place: 0, bytes: b"said\n".to_vec() };
    let report = Report { output: vec![chunk], in_run: false, ..report(ended, Cause::Itself, Some(code)) };
    let worker = key.clone();
    let lease = Lease { worker, name: "w".into(), offer: Offer::default(), slots: 1, ttl: TTL, only: None };
    f.queue.call(Turn { worker: key.clone(), reports: vec![report], lease: Some(lease), pass_over: false }).await
}

/// The same, and there is a job.
async fn next(f: &Fixture, worker: &TestWorker<'_>, ended: Fence, code: i32) -> Leased {
    let mut reply = turn(f, &worker.key, ended, code).await.unwrap();
    assert!(matches!(reply.settled.as_slice(), [Settled::Accepted(_)]), "{:?}", reply.settled);
    reply.leased.as_mut().unwrap().jobs.remove(0)
}

on_every_store! {
    async fn one_job_ends_and_the_next_begins(f: Fixture) {
        let (a, b, c) = (f.add("").await, f.add("").await, f.add("").await);
        let w = f.worker("w", Offer::default()).await;
        let first = w.take().await;
        let second = next(f, &w, first, 0).await.fence;
        assert_eq!((second.number, second.attempt), (b, 1));
        assert_eq!(f.states(&[a, b, c]).await, "done running pending");
        assert_eq!(f.story(a).await, "enqueued→pending leased→running settled→done");
        let output = f.queue.call(ReadOutput { number: a, attempt: None, after: None }).await.unwrap();
        assert_eq!(output.chunks.iter().map(|c| c.bytes.as_slice()).collect::<Vec<_>>(), [b"said\n"]);
        let queues = f.queue.call(Status {}).await.unwrap().queues;
        let counts = [State::Done, State::Running, State::Pending].map(|state| queues[0].counts[&state]);
        assert_eq!(counts, [1, 1, 1]);
        assert_eq!(f.queue.call(Measure {}).await.unwrap().attempts["done"], 1);
        // A second time it is too late, and the turn goes on all the same.
        let late = turn(f, &w.key, first, 0).await.unwrap();
        assert_eq!((late.settled, late.leased.unwrap().jobs[0].fence.number), (vec![Settled::Stale], c));
    }

    async fn one_waits_for_its_next_try_and_one_of_another_lane_begins(f: Fixture) {
        let a = f.add(r#""max_attempts":2,"backoff":"1h""#).await;
        let b = f.add(r#""queue":"other""#).await;
        let w = f.worker("w", Offer::default()).await;
        let first = w.take().await;
        assert_eq!(first.number, a);
        assert_eq!(next(f, &w, first, 1).await.fence.number, b);
        assert_eq!(f.states(&[a, b]).await, "scheduled running");
        assert_eq!(f.job(a).await.failures, 1);
    }

    async fn lanes_take_turns_also_one_by_one(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        for _ in 0..6 {
            f.add("").await;
        }
        let first = w.take().await;
        let mut fence = next(f, &w, first, 0).await.fence; // used to the one lane by now
        for _ in 0..3 {
            f.add(r#""queue":"other""#).await;
        }
        let mut queues = Vec::new();
        for _ in 0..4 {
            let job = next(f, &w, fence, 0).await;
            (fence, queues) = (job.fence, [queues, vec![job.queue]].concat());
        }
        assert!(queues.windows(2).all(|two| two[0] != two[1]), "{queues:?}");
    }

    async fn the_lane_that_is_served_first_of_all_goes_behind_the_others(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        for queue in ["a", "b", "a", "b"] {
            f.add(&format!(r#""queue":"{queue}""#)).await;
        }
        let mut queues = Vec::new();
        for _ in 0..4 {
            queues.push(w.lease(1).await.remove(0).queue);
        }
        assert!(queues.windows(2).all(|two| two[0] != two[1]), "{queues:?}");
    }

    async fn many_lanes_that_have_run_dry_hide_none_that_has_jobs(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        for n in 0..70 {
            f.add(&format!(r#""queue":"q{n}""#)).await;
        }
        assert_eq!(w.lease(70).await.len(), 70);
        let last = f.add("").await;
        assert_eq!(w.take().await.number, last);
    }

    async fn what_a_worker_took_before_gives_it_no_right_to_more(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        let numbers = [f.add("").await, f.add("").await, f.add("").await, f.add("").await];
        let first = w.take().await;
        let second = next(f, &w, first, 0).await.fence;
        f.queue.call(PauseQueue { queue: "default".into(), paused: true }).await.unwrap();
        let reply = turn(f, &w.key, second, 0).await.unwrap();
        assert!(reply.leased.unwrap().jobs.is_empty(), "the queue is paused");
        f.queue.call(PauseQueue { queue: "default".into(), paused: false }).await.unwrap();
        // What was held in vain is there for others.
        let other = f.worker("other", Offer::default()).await;
        let third = other.take().await;
        assert_eq!(third.number, numbers[2]);
        let change = LimitChange { max_running: Some(1), ..LimitChange::default() };
        f.queue.call(SetQueue { queue: "default".into(), change }).await.unwrap();
        assert!(w.lease(1).await.is_empty(), "one runs already");
        other.exit(third, 0).await;
        assert_eq!(w.lease_numbers(1).await, [numbers[3]]);
    }

    async fn s23_a_worker_that_is_not_registered_settles_nothing_by_its_turn(f: Fixture) {
        let (a, b) = (f.add("").await, f.add("").await);
        let w = f.worker("w", Offer::default()).await;
        let first = w.take().await;
        f.queue.call(Deregister { worker: w.key.clone(), name: "w".into() }).await.unwrap();
        let refused = turn(f, &w.key, first, 0).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict, "{refused}");
        assert_eq!(f.states(&[a, b]).await, "running pending");
        assert_eq!(f.story(a).await, "enqueued→pending leased→running");
    }
}
