use std::time::Duration;

use orx::error::Kind;
use orx::job::lanes::Offer;
use orx::job::state::Cause;
use orx::job::{Job, Outcome, State};
use orx::ops::cancel::{Cancel, Did};
use orx::ops::jobs::GetJobs;
use orx::ops::metrics::Measure;
use orx::ops::retry::Retry;
use orx::ops::say::Say;
use orx::ops::settle::{Report, Settle, Settled};
use orx::store::Topics;
use orx::time::{Clock as _, Span};
use serde_json::json;
use tokio::time::Instant;

use super::support::*;

on_every_store! {
    async fn failures_wait_and_end_as_a_dead_letter(f: Fixture) {
        let number = f.add(r#""max_attempts":2,"backoff":"10s..20s""#).await;
        let w = f.worker("w", Offer::default()).await;
        assert_eq!(w.exit(w.take().await, 1).await, Settled::Accepted(State::Scheduled));
        let wait = f.job(number).await.due_at.unwrap().0 - f.job(number).await.attempts.unwrap()[0].finished_at.unwrap().0;
        assert!((10_000..=20_000).contains(&wait), "{wait}");
        f.clock.pass(Span::from_secs(20));
        assert_eq!(w.exit(w.take().await, 1).await, Settled::Accepted(State::Failed));
        let job = f.job(number).await;
        assert_eq!((job.failures, job.reason.as_deref()), (2, Some("attempts used up")));
    }

    async fn s26_an_end_is_stamped_when_it_happened_however_late_it_is_told(f: Fixture) {
        let last = f.add("").await;
        let again = f.add(r#""max_attempts":2,"backoff":"10s..20s""#).await;
        let w = f.worker("w", Offer::default()).await;
        let fences: Vec<_> = w.lease(2).await.iter().map(|job| job.fence).collect();
        let leased_at = f.clock.now();
        f.clock.pass(Span::from_secs(9)); // the store was away for most of it
        let after = Span::from_secs(2);
        let reports = [0, 1].map(|n| Report { after, ..report(fences[n], Cause::Itself, Some(n as i32)) }).into();
        f.queue.call(Settle { worker: w.key.clone(), reports }).await.unwrap();
        let ended = Some(leased_at.plus(after));
        let job = f.job(last).await;
        assert_eq!((job.finished_at, job.attempts.unwrap()[0].finished_at), (ended, ended));
        // The wait before the next attempt begins when the end is known.
        let job = f.job(again).await;
        assert_eq!(job.attempts.unwrap()[0].finished_at, ended);
        assert!(job.due_at.unwrap() >= f.clock.now().plus(Span::from_secs(10)), "{:?}", job.due_at);
        // Never later than now, whatever a worker believes.
        f.add("").await;
        let fence = w.take().await;
        assert_eq!(w.exit(fence, 0).await, Settled::Accepted(State::Done));
        assert_eq!(f.job(fence.number).await.finished_at, Some(f.clock.now()));
        assert!(f.audit().await.is_empty());
    }

    async fn what_an_attempt_said_is_not_said_by_the_next(f: Fixture) {
        let number = f.add(r#""max_attempts":2,"backoff":"1s..1s""#).await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        let progress = Some((90.0, None));
        f.queue.call(Say { worker: w.key.clone(), fence, progress, result: Some(json!({ "v": 1 }).into()), result_is_text: false }).await.unwrap();
        w.exit(fence, 1).await;
        assert_eq!(f.job(number).await.result, Some(json!({ "v": 1 }).into()), "the last that was said");
        f.clock.pass(Span::from_secs(1));
        let fence = w.take().await;
        assert!(f.job(number).await.progress.is_none());
        f.queue.call(Say { worker: w.key.clone(), fence, progress: Some((10.0, None)), result: None, result_is_text: false }).await.unwrap();
        w.exit(fence, 0).await;
        let job = f.job(number).await;
        assert_eq!((job.progress.unwrap().percent, job.result), (10.0, None));
    }

    async fn a_drain_spends_no_retry(f: Fixture) {
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        for n in 1..=5 {
            let fence = w.take().await;
            assert_eq!(w.end(fence, Cause::Drain, None).await, Settled::Accepted(State::Pending));
            assert_eq!((f.job(number).await.interruptions, f.job(number).await.failures), (n, 0));
        }
    }

    async fn s36_what_did_not_start_waits_counts_as_nothing_and_gives_its_slot_back(f: Fixture) {
        let terms = r#""max_losses":0,"deadline":"1h","limit":"k=1","backoff":"1s..1s""#;
        let (number, other) = (f.add(terms).await, f.add(r#""limit":"k=1""#).await);
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        assert_eq!((fence.number, w.lease(1).await.len()), (number, 0));
        assert_eq!(w.end(fence, Cause::NotStarted, None).await, Settled::Accepted(State::Scheduled));
        let job = f.job(number).await;
        assert_eq!((job.failures, job.losses, job.interruptions), (0, 0, 0));
        assert_eq!(job.attempts.unwrap()[0].outcome, Some(Outcome::NotStarted));
        let fence = w.take().await;
        assert_eq!(fence.number, other, "the limit has room again");
        w.exit(fence, 0).await;
        f.clock.pass(Span::from_secs(1));
        let fence = w.take().await;
        assert_eq!((fence.number, fence.attempt), (number, 2));
        w.end(fence, Cause::NotStartedAlone, None).await;
        f.clock.pass(Span::from_secs(3600));
        w.register(&[]).await;
        assert_eq!(w.lease(1).await.len(), 0);
        assert_eq!(f.job(number).await.reason.as_deref(), Some("expired"), "it has never started");
        let told = f.queue.call(Measure {}).await.unwrap().attempts["not_started"];
        assert_eq!(told, 2);
    }

    async fn s36_a_job_that_never_starts_where_others_do_fails_at_the_hundredth_attempt(f: Fixture) {
        let number = f.add(r#""backoff":"0s..0s""#).await;
        let w = f.worker("w", Offer::default()).await;
        for n in 1..100 {
            let settled = w.end(w.take().await, Cause::NotStartedAlone, None).await;
            assert_eq!(settled, Settled::Accepted(State::Pending), "attempt {n}");
        }
        assert_eq!(w.end(w.take().await, Cause::NotStartedAlone, None).await, Settled::Accepted(State::Failed));
        let job = f.job(number).await;
        assert_eq!((job.reason.as_deref(), job.failures, job.attempt), (Some("cannot start"), 0, 100));
        f.queue.call(Retry { numbers: vec![number], only: false }).await.unwrap();
        let settled = w.end(w.take().await, Cause::NotStartedAlone, None).await;
        assert_eq!(settled, Settled::Accepted(State::Pending), "it begins anew");
    }

    async fn a_retry_is_a_new_generation_and_keeps_the_history(f: Fixture) {
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 9).await;
        let retry = || Retry { numbers: vec![number], only: false };
        f.queue.call(retry()).await.unwrap();
        assert_eq!(f.queue.call(retry()).await.unwrap_err().kind(), Kind::Conflict);
        w.exit(w.take().await, 0).await;
        let job = f.job(number).await;
        assert_eq!((job.state, job.attempt, job.failures), (State::Done, 2, 0));
        assert_eq!(job.attempts.unwrap().len(), 2);
        assert_eq!(f.queue.call(retry()).await.unwrap_err().kind(), Kind::Conflict, "done is done");
    }

    async fn cancelling_what_waits_is_at_once_and_what_ended_is_too_late(f: Fixture) {
        let (waits, done) = (f.add(r#""delay":"1h""#).await, f.add("").await);
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 0).await;
        let op = Cancel { numbers: vec![waits, done], reason: Some("because".into()), ..Default::default() };
        let did: Vec<_> = f.queue.call(op).await.unwrap().into_iter().map(|r| (r.state, r.did)).collect();
        assert_eq!(did, [(State::Cancelled, Did::Cancelled), (State::Done, Did::TooLate)]);
        assert_eq!(f.job(waits).await.reason.as_deref(), Some("because"));
    }

    async fn s3_done_counts_against_a_cancel_only_if_unforced(f: Fixture) {
        let (a, b) = (f.add("").await, f.add("").await);
        let w = f.worker("w", Offer::default()).await;
        let (fa, fb) = (w.take().await, w.take().await);
        f.queue.call(Cancel { numbers: vec![a, b], ..Default::default() }).await.unwrap();
        assert_eq!(w.exit(fa, 0).await, Settled::Accepted(State::Done));
        assert_eq!(w.exit(fb, 75).await, Settled::Accepted(State::Cancelled));
    }

    async fn s4_a_job_that_must_not_run_twice_is_lost_for_good(f: Fixture) {
        let number = f.add(r#""max_losses":0"#).await;
        let w = f.worker("w", Offer::default()).await;
        w.take().await;
        f.clock.pass(TTL);
        f.sweep().await;
        let job = f.job(number).await;
        assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("lost")));
    }

    async fn s6_a_service_runs_again_after_any_end(f: Fixture) {
        let number = f.add(r#""restart":"always","backoff":"1s..1s""#).await;
        let w = f.worker("w", Offer::default()).await;
        for code in [0, 1, 0] {
            assert_eq!(w.exit(w.take().await, code).await, Settled::Accepted(State::Scheduled));
            f.clock.pass(Span::from_secs(1));
        }
        let burst = Offer { no_services: true, ..Offer::default() };
        assert!(f.worker("b", burst).await.lease(1).await.is_empty(), "a burst ignores services");
        f.queue.call(Cancel { numbers: vec![number], ..Default::default() }).await.unwrap();
        assert_eq!(f.state(number).await, State::Cancelled);
    }

    async fn s25_whoever_waits_for_an_end_asks_again_when_something_changed(f: Fixture) {
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let look = GetJobs { numbers: vec![number], detail: false };
        let ended = |jobs: &Vec<Job>| jobs[0].state.is_terminal();
        let now = f.queue.call_until(look.clone(), Topics::JOBS, Some(Instant::now()), ended).await.unwrap();
        assert_eq!(now[0].state, State::Pending, "no Op waits by itself");
        let (other, mut asked) = (f.another(), 0);
        let deadline = Instant::now() + Duration::from_secs(20);
        let counted = |jobs: &Vec<Job>| {
            asked += 1;
            ended(jobs)
        };
        let (seen, ()) = tokio::join!(biased; other.call_until(look, Topics::JOBS, Some(deadline), counted), async {
            w.exit(w.take().await, 0).await;
        });
        assert_eq!(seen.unwrap()[0].state, State::Done);
        assert!(Instant::now() < deadline && asked < 10, "asked {asked} times");
    }
}
